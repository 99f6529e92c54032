//! Executes workload files (docs/workload.md) with zarrs, and shows what that took.

mod array;
mod buffer;
mod client;
mod clocks;
mod codecs;
mod content_range;
mod cutting;
mod engines;
mod failure;
mod feeding;
mod origin;
mod output;
mod plan;
mod recording;
mod selection;
#[cfg(test)]
mod serving;
mod session;
mod shard_index;
mod sys;
mod truth;
mod worker;
mod workload;
mod zarrs_api;
mod zstd_frames;

use std::io::Write;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use tokio::runtime::Runtime;

use engines::{Arrays, Kind, Settings};
use failure::{Failure, Outcome};
use plan::Limits;
use session::{Session, Timed};
use workload::Workload;

/// Parts are what memory is asked for before they come.
const MOST_PART_BYTES: u64 = 1 << 30;
const MOST_BUFFER_MIB: u64 = 1 << 20;

#[derive(Debug, Parser)]
#[command(version, about, after_help = "Example:\n  zarrs-reader run w.json --engine planned --samples 5 --json")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Execute a workload file and print what it took.
    ///
    /// Stdout is for people, a line per sample; with --json it is for programs, one JSON document. Talk goes to stderr.
    Run {
        /// The workload file, as `zcb workload` writes it.
        workload: PathBuf,
        #[command(flatten)]
        how: How,
        /// Timed executions; each follows one that warms connections up.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        samples: u32,
        /// Print one JSON document instead of lines for people (docs/workload.md has its fields).
        #[arg(long)]
        json: bool,
        /// Write the last execution's arrays to this file, raw and one after another.
        #[arg(long, value_name = "FILE")]
        dump: Option<PathBuf>,
    },
    /// Answer the conductor's requests on stdin and stdout.
    Worker {
        #[command(flatten)]
        how: How,
    },
}

#[derive(Debug, Clone, Copy, Args)]
struct How {
    /// What executes the workload.
    #[arg(long, value_enum, default_value_t = Kind::Planned)]
    engine: Kind,
    /// Planned: bytes between two chunks up to which they share a request, where chunks outnumber requests in flight.
    #[arg(long, value_name = "BYTES", default_value_t = 32 << 10)]
    max_gap_bytes: u64,
    /// Planned: the largest request; a longer chunk is fetched in parts, and small reads make smaller requests.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 20, value_parser = clap::value_parser!(u64).range(1..=MOST_PART_BYTES))]
    part_bytes: u64,
    /// Planned: bytes that all shards of a read may have, decoded, for each to come whole with one request.
    #[arg(long, value_name = "BYTES", default_value_t = 2 << 20)]
    whole_bytes: u64,
    /// Planned: MiB of stored bytes that may come in or wait to be decoded; up to half of them are connections' own.
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=MOST_BUFFER_MIB))]
    buffer_mib: u64,
    /// Stock: settings of zarrs, as JSON (docs/tuning.md).
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = Settings::parse)]
    settings: Settings,
}

impl How {
    fn limits(self) -> Limits {
        Limits {
            max_gap_bytes: self.max_gap_bytes,
            part_bytes: self.part_bytes,
            whole_bytes: self.whole_bytes,
            buffer_bytes: self.buffer_mib << 20,
            keeps_indexes: false,
        }
    }
}

fn main() -> ExitCode {
    // Two TLS libraries could be linked by features of dependencies; this one is meant.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A panic is told as any failure: in one line, by whoever catches it.
    std::panic::set_hook(Box::new(|_| ()));
    let done = catch_unwind(|| command_line()?.map_or(Ok(()), execute));
    match done.unwrap_or_else(|panic| Err(failure::panicked(&*panic))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("zarrs-reader: {}", failure.line());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Reads the command line. `Ok(None)` means that help or the version was asked for and printed.
fn command_line() -> Outcome<Option<Cli>> {
    match Cli::try_parse() {
        Ok(cli) => Ok(Some(cli)),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            print!("{error}");
            Ok(None)
        }
        Err(error) => Err(Failure::bad_use(first_paragraph(&error))),
    }
}

/// clap explains over several lines; the first paragraph says what is wrong.
fn first_paragraph(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing: run or worker (see --help)".to_owned();
    }
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    format!("{} (see --help)", paragraph.strip_prefix("error: ").unwrap_or(paragraph))
}

fn execute(cli: Cli) -> Outcome<()> {
    let (Command::Run { how, .. } | Command::Worker { how }) = &cli.command;
    if how.engine == Kind::Planned {
        sys::share_arenas(); // before there are threads
    }
    let runtime = Runtime::new().map_err(Failure::measurement)?;
    match cli.command {
        Command::Worker { how } => worker::serve(how.engine, how.limits(), &runtime),
        Command::Run { workload, how, samples, json, dump } => {
            let loaded = Workload::load(&workload)?;
            let session = runtime.block_on(Session::open(how.engine, loaded, how.limits(), how.settings))?;
            let (timed, arrays) = runtime.block_on(run(&session, samples))?;
            if let Some(file) = dump {
                write_arrays(&file, &arrays)?;
            }
            report(&session, how.engine, &timed, json);
            Ok(())
        }
    }
}

/// Takes `samples` samples with the variant that was the fastest in its own warm-up.
async fn run(session: &Session, samples: u32) -> Outcome<(Vec<Timed>, Arrays)> {
    let mut best = ("", f64::INFINITY);
    for variant in session.variants() {
        session.warm_up(variant).await?;
        let (timed, _) = session.sample(variant).await?;
        if timed.seconds < best.1 {
            best = (variant, timed.seconds);
        }
    }
    let (mut all, mut last) = (Vec::new(), Arrays::new());
    for number in 1..=samples {
        drop(std::mem::take(&mut last));
        session.warm_up(best.0).await?;
        let (timed, arrays) = session.sample(best.0).await?;
        eprintln!("zarrs-reader: sample {number} of {samples}: {:.1} ms", timed.seconds * 1e3);
        all.push(timed);
        last = arrays;
    }
    Ok((all, last))
}

fn write_arrays(file: &Path, arrays: &Arrays) -> Outcome<()> {
    let cannot = |error: std::io::Error| Failure::bad_use(format!("cannot write {}: {error}", file.display()));
    let mut out = std::fs::File::create(file).map_err(cannot)?;
    arrays.iter().try_for_each(|array| out.write_all(array)).map_err(cannot)
}

fn report(session: &Session, engine: Kind, samples: &[Timed], as_json: bool) {
    if !as_json {
        for timed in samples {
            let request_counts = &timed.request_counts;
            println!(
                "{:9.1} ms  {} requests ({} index, {} HEAD)  {} bytes fetched  {:.1} ms CPU  {}",
                timed.seconds * 1e3,
                request_counts.requests,
                request_counts.index_requests,
                request_counts.head_requests,
                request_counts.fetched_bytes,
                timed.cpu_seconds * 1e3,
                if timed.verified { "verified" } else { "not verified" },
            );
        }
        return;
    }
    let workload = &session.workload;
    let suffix = |mark: &str, text: &Option<String>| text.as_ref().map(|t| format!("{mark}{t}")).unwrap_or_default();
    let target = &workload.target;
    let marks = [suffix(":", &target.profile), suffix("+", &target.link), suffix("@", &target.account)];
    let target = format!("{}{}", target.name, marks.concat());
    let samples: Vec<_> = samples.iter().map(sample_json).collect();
    let report = json!({
        "schema": workload::SCHEMA,
        "reader": reader(engine),
        "settings": session.settings,
        "versions": engines::versions(engine),
        "workload": workload.described,
        "target": target,
        "samples": samples,
        "network_limit": null,
    });
    println!("{report:#}");
}

fn sample_json(timed: &Timed) -> serde_json::Value {
    json!({
        "seconds": timed.seconds, "array_bytes": timed.array_bytes, "calls": timed.calls,
        "requests": timed.request_counts.requests, "index_requests": timed.request_counts.index_requests,
        "head_requests": timed.request_counts.head_requests, "retries": timed.request_counts.retries,
        "requests_source": "reader", "fetched_bytes": timed.request_counts.fetched_bytes,
        "nic_rx_bytes": null, "nic_rx_packets": null, "cpu_seconds": timed.cpu_seconds, "store_cpu_seconds": null,
        "peak_rss_bytes": timed.peak_rss_bytes, "windows": timed.windows, "max_in_flight": null, "new_connections": null,
        "flags": [], "verified": timed.verified,
    })
}

fn reader(engine: Kind) -> &'static str {
    match engine {
        Kind::Stock => "zarrs",
        Kind::Planned => "zarrs-planned",
        Kind::NetworkLimit => "network-limit",
        Kind::NetworkLimitThrownAway => "network-limit-thrown-away",
    }
}
