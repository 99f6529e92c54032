//! The server as a client sees it: real processes, real sockets, free ports.

mod below;
mod control;
mod crash;
mod failing_disk;
mod faults;
mod fuzz;
mod harness;
mod lifecycle;
mod listing;
mod multipart;
mod objects;
mod resources;
mod signatures;
