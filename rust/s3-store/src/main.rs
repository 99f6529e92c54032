//! `s3-store`: an S3 server over a directory for benchmarks of readers. See `docs/store.md`.

mod anonymous;
mod answers;
mod api;
mod backend;
mod config;
mod connection;
mod control;
mod counters;
mod exchange;
mod fault;
mod faults;
mod headers;
mod kind;
mod layer;
mod named;
mod pacing;
mod profile;
mod request_body;
mod request_id;
mod server;
mod service_time;
mod socket;
mod sys;
mod throttle;
mod timer;
mod tls;
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
        Some(config) => {
            if config.logs_errors {
                log_errors();
            }
            server::run(config)
        }
        None => Ok(()),
    }
}

/// Tells the cause of each error on stderr: s3s's own words, in the request that they belong to.
fn log_errors() {
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
    lines.with_max_level(tracing::Level::ERROR).init();
}
