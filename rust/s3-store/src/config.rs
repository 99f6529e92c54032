//! The command line.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;

use crate::profile::{Overrides, Preset, Profile};

const EXAMPLE: &str = "\
Example:
  s3-store --root /tmp/data --profile s3 --port 9000
  curl -r -16 http://127.0.0.1:9000/bucket/key

When it is ready, one line of JSON on stdout names the endpoint and the control address.
Exit codes: 0 stopped by a signal, 2 bad use, 3 a port is taken.";

/// An S3 server over a directory, with a set service time and exact counters.
#[derive(Debug, Parser)]
#[command(name = "s3-store", version, after_help = EXAMPLE)]
struct Flags {
    /// Directory that holds the buckets; it must exist and be writable
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// Port of the S3 endpoint; 0 picks a free one
    #[arg(long, value_name = "N", default_value_t = 0)]
    port: u16,
    /// Address of the control endpoint
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    control_bind: IpAddr,
    /// Port of the control endpoint; 0 picks a free one
    #[arg(long, value_name = "N", default_value_t = 0)]
    control_port: u16,
    /// Service time
    #[arg(long, value_enum, default_value_t = Preset::Loopback)]
    profile: Preset,
    /// Median time to the first byte, milliseconds; 0 for none
    #[arg(long, value_name = "F")]
    first_byte_ms: Option<f64>,
    /// 99th percentile of the time to the first byte, milliseconds; 0 for a constant
    #[arg(long, value_name = "F")]
    first_byte_p99_ms: Option<f64>,
    /// Rate of each connection, 10^6 bytes per second; 0 for no limit
    #[arg(long, value_name = "F")]
    connection_mb_s: Option<f64>,
    /// Rate of all connections together, 10^9 bits per second; 0 for no limit
    #[arg(long, value_name = "F")]
    link_gbit_s: Option<f64>,
    /// GETs and HEADs a second of one prefix, more get 503 SlowDown; 0 for no limit
    #[arg(long, value_name = "N")]
    requests_per_second_per_prefix: Option<f64>,
    /// Seconds after which a connection without a request is closed; 0 for never
    #[arg(long, value_name = "F")]
    idle_seconds: Option<f64>,
    /// Seconds that a client may stop in the middle of a request, or of taking its answer; 0 for ever
    #[arg(long, value_name = "F", default_value_t = 300.0)]
    stall_seconds: f64,
    /// The network itself keeps the rate of all connections (tc, say), so that the store must not keep it a second time
    #[arg(long)]
    link_kept_by_network: bool,
    /// Seed of the first-byte times
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Ask for signatures: keys from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    #[arg(long)]
    auth: bool,
    /// Serve by TLS; DIR keeps the certificate authority (ca.pem is what clients have to trust), which is made if missing
    #[arg(long, value_name = "DIR")]
    tls: Option<PathBuf>,
    /// Write the cause of every answer of status 500 and above to stderr
    #[arg(long)]
    log_errors: bool,
    /// Allow an address other than loopback: everybody who reaches it can write
    #[arg(long)]
    i_know: bool,
}

/// A reason to stop: one line for stderr and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    /// Exit code 2.
    pub fn bad_use(message: impl fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// Exit code 3.
    pub fn port_taken(message: impl fmt::Display) -> Self {
        Self { code: 3, message: message.to_string() }
    }
}

/// The two keys that `--auth` accepts.
#[derive(Debug, Clone)]
pub struct Keys {
    pub access_key: String,
    pub secret_key: String,
}

/// A command line that makes sense.
#[derive(Debug)]
pub struct Config {
    pub root: PathBuf,
    pub bind: IpAddr,
    pub port: u16,
    pub control_bind: IpAddr,
    pub control_port: u16,
    pub profile: Profile,
    /// How long a client may stop in the middle of something.
    pub patience: Duration,
    pub logs_errors: bool,
    /// Whether the store keeps the rate of the link, and not the network it serves on.
    pub paces_link: bool,
    /// `None` accepts every request, signed or not.
    pub keys: Option<Keys>,
    /// Folder of the certificate authority; `None` serves plain HTTP.
    pub tls: Option<PathBuf>,
}

impl Config {
    /// Reads the command line and the environment. `Ok(None)` means that help or the version was asked for and printed.
    ///
    /// # Errors
    /// Bad use.
    pub fn from_command_line() -> Result<Option<Self>, Failure> {
        match Flags::try_parse() {
            Ok(flags) => Self::from_flags(flags).map(Some),
            Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
                print!("{error}");
                Ok(None)
            }
            Err(error) => Err(Failure::bad_use(one_line(&error))),
        }
    }

    fn from_flags(flags: Flags) -> Result<Self, Failure> {
        for (flag, address) in [("--bind", flags.bind), ("--control-bind", flags.control_bind)] {
            if !address.is_loopback() && !flags.i_know {
                return Err(Failure::bad_use(format!(
                    "{flag} {address} is not loopback, so others could read and write: add --i-know if that is meant"
                )));
            }
        }
        let overrides = Overrides {
            first_byte_ms: flags.first_byte_ms,
            first_byte_p99_ms: flags.first_byte_p99_ms,
            connection_mb_s: flags.connection_mb_s,
            link_gbit_s: flags.link_gbit_s,
            requests_per_second_per_prefix: flags.requests_per_second_per_prefix,
            idle_seconds: flags.idle_seconds,
        };
        Ok(Self {
            root: flags.root,
            bind: flags.bind,
            port: flags.port,
            control_bind: flags.control_bind,
            control_port: flags.control_port,
            profile: Profile::new(flags.profile, overrides, flags.seed).map_err(Failure::bad_use)?,
            patience: patience(flags.stall_seconds)?,
            logs_errors: flags.log_errors,
            paces_link: !flags.link_kept_by_network,
            keys: if flags.auth { Some(keys_from_environment()?) } else { None },
            tls: flags.tls,
        })
    }
}

fn patience(stall_seconds: f64) -> Result<Duration, Failure> {
    const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);
    match Duration::try_from_secs_f64(stall_seconds) {
        Ok(Duration::ZERO) => Ok(FOR_EVER),
        Ok(patience) => Ok(patience.min(FOR_EVER)),
        Err(_) => Err(Failure::bad_use("--stall-seconds must be a positive number, or 0 for ever")),
    }
}

fn keys_from_environment() -> Result<Keys, Failure> {
    let variable = |name: &str| match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(value),
        _ => Err(Failure::bad_use(format!("--auth needs {name} in the environment"))),
    };
    Ok(Keys { access_key: variable("AWS_ACCESS_KEY_ID")?, secret_key: variable("AWS_SECRET_ACCESS_KEY")? })
}

/// clap explains over several lines; the first paragraph says what is wrong.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    let line = words.join(" ");
    format!("{} (see --help)", line.strip_prefix("error: ").unwrap_or(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, Failure> {
        let all = ["s3-store", "--root", "/tmp"].iter().chain(arguments);
        Config::from_flags(Flags::try_parse_from(all).unwrap())
    }

    #[test]
    fn an_open_address_needs_a_confirmation() {
        for flag in ["--bind", "--control-bind"] {
            let failure = config(&[flag, "0.0.0.0"]).unwrap_err();
            assert_eq!((failure.code, failure.message.starts_with(flag)), (2, true));
            assert!(config(&[flag, "0.0.0.0", "--i-know"]).is_ok());
            assert!(config(&[flag, "127.0.0.2"]).is_ok());
        }
    }

    #[test]
    fn a_link_kept_by_the_network_stays_in_the_profile() {
        let asked = config(&["--profile", "s3", "--link-kept-by-network"]).unwrap();
        assert!(!asked.paces_link);
        assert_eq!(asked.profile, config(&["--profile", "s3"]).unwrap().profile);
    }

    #[test]
    fn errors_take_one_line() {
        let error = Flags::try_parse_from(["s3-store"]).unwrap_err();
        let line = one_line(&error);
        assert!(line.contains("--root") && !line.contains('\n'), "{line}");
    }
}
