//! What zarrs 0.23, its release, and 0.24, its main branch, do not have in common, each under the same names: how an
//! array is asked, what is known of its inner chunks, codecs with what they decode, and codecs that tell the recorder.
//!
//! build.rs sets `zarrs_0_24` by the version that the lock resolved; the rest of the reader is written once.

#[cfg(not(zarrs_0_24))]
mod v0_23;
#[cfg(zarrs_0_24)]
mod v0_24;

#[cfg(not(zarrs_0_24))]
pub use v0_23::*;
#[cfg(zarrs_0_24)]
pub use v0_24::*;
