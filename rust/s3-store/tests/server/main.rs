//! The server as a client sees it: real processes, real sockets, free ports.

mod control;
mod faults;
mod harness;
mod lifecycle;
mod listing;
mod multipart;
mod objects;
mod signatures;
