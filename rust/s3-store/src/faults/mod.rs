//! What goes wrong between a reader and a real store, made to happen: a layer, off unless the control endpoint asks for it.
//!
//! A fault spoils a good answer, after its service time: so the store behind it knows which kind of request it was.

mod body;
mod layer;
mod rules;

pub use body::CutOff;
pub use layer::Spoiled;
pub use rules::{Faults, Rule};
