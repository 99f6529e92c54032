//! `s3-store`: an S3 server over a directory for benchmarks of readers. See `docs/store.md`.

mod anonymous;
mod answers;
mod api;
mod backend;
mod config;
mod control;
mod counters;
mod exchange;
mod fault;
mod faults;
mod kind;
mod layer;
mod named;
mod pacing;
mod profile;
mod server;
mod service_time;
mod sys;
mod throttle;
mod timer;
mod zero_copy;

use std::process::ExitCode;

use config::{Config, Failure};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("s3-store: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn run() -> Result<(), Failure> {
    match Config::from_command_line()? {
        Some(config) => server::run(config),
        None => Ok(()),
    }
}
