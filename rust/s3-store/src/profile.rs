//! How slow the store pretends to be.

use clap::ValueEnum;
use serde::Serialize;

// What can be paced and told: beyond these a clock of nanoseconds or a rate in whole bytes a second is off or overflows.
const DELAYS_MS: (f64, f64) = (0.001, 3_600_000.0);
const RATES: (f64, f64) = (0.001, 1_000_000.0);
const REQUESTS: (f64, f64) = (0.001, 1_000_000_000.0);
const IDLE_SECONDS: (f64, f64) = (0.001, 86_400.0);

/// A named service time, as `--profile` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// No delay and no limit.
    Loopback,
    /// 20 ms to the first byte, 90 MB/s per connection, 2 Gbit/s for the whole link.
    S3,
    /// As `s3`, but the first byte is log-normal: median 20 ms, 99th percentile 100 ms.
    S3Tail,
}

/// The service time in force, and its form in the ready line. `None` is "no delay" or "no limit".
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// The preset's name, or `custom` when a flag changed one of its values.
    pub name: &'static str,
    /// Median time to the first byte, milliseconds.
    pub first_byte_ms: Option<f64>,
    /// 99th percentile of the same; `None` makes the median a constant.
    pub first_byte_p99_ms: Option<f64>,
    /// What one connection carries towards the client, 10^6 bytes per second.
    pub connection_mb_s: Option<f64>,
    /// What all connections carry together, bodies of both directions, 10^9 bits per second.
    pub link_gbit_s: Option<f64>,
    /// GETs and HEADs a second of one prefix, above which the answer is 503 `SlowDown`.
    pub requests_per_second_per_prefix: Option<f64>,
    /// After how long a connection without a request is closed, seconds.
    pub idle_seconds: Option<f64>,
    /// Seed of the first-byte times.
    pub seed: u64,
}

/// Values given beside a preset; `Some(0.0)` switches one off.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overrides {
    pub first_byte_ms: Option<f64>,
    pub first_byte_p99_ms: Option<f64>,
    pub connection_mb_s: Option<f64>,
    pub link_gbit_s: Option<f64>,
    pub requests_per_second_per_prefix: Option<f64>,
    pub idle_seconds: Option<f64>,
}

impl Profile {
    /// The preset with the overrides applied.
    ///
    /// # Errors
    /// One line, when a value makes no sense.
    pub fn new(preset: Preset, overrides: Overrides, seed: u64) -> Result<Self, String> {
        let mut profile = Self::preset(preset, seed);
        let mut changed = false;
        for (value, given, flag, bounds) in [
            (&mut profile.first_byte_ms, overrides.first_byte_ms, "--first-byte-ms", DELAYS_MS),
            (&mut profile.first_byte_p99_ms, overrides.first_byte_p99_ms, "--first-byte-p99-ms", DELAYS_MS),
            (&mut profile.connection_mb_s, overrides.connection_mb_s, "--connection-mb-s", RATES),
            (&mut profile.link_gbit_s, overrides.link_gbit_s, "--link-gbit-s", RATES),
            (
                &mut profile.requests_per_second_per_prefix,
                overrides.requests_per_second_per_prefix,
                "--requests-per-second-per-prefix",
                REQUESTS,
            ),
            (&mut profile.idle_seconds, overrides.idle_seconds, "--idle-seconds", IDLE_SECONDS),
        ] {
            let Some(given) = given else { continue };
            if given != 0.0 && !(bounds.0..=bounds.1).contains(&given) {
                return Err(format!("{flag} must be between {} and {}, or 0 for none", bounds.0, bounds.1));
            }
            *value = (given > 0.0).then_some(given);
            changed = true;
        }
        if changed {
            profile.name = "custom";
        }
        profile.check()?;
        Ok(profile)
    }

    fn preset(preset: Preset, seed: u64) -> Self {
        let none = Self {
            name: "loopback",
            first_byte_ms: None,
            first_byte_p99_ms: None,
            connection_mb_s: None,
            link_gbit_s: None,
            requests_per_second_per_prefix: None,
            idle_seconds: None,
            seed,
        };
        let s3 =
            Self { name: "s3", first_byte_ms: Some(20.0), connection_mb_s: Some(90.0), link_gbit_s: Some(2.0), ..none };
        match preset {
            Preset::Loopback => none,
            Preset::S3 => s3,
            Preset::S3Tail => Self { name: "s3-tail", first_byte_p99_ms: Some(100.0), ..s3 },
        }
    }

    fn check(&self) -> Result<(), String> {
        match (self.first_byte_ms, self.first_byte_p99_ms) {
            (None, Some(_)) => Err("--first-byte-p99-ms needs --first-byte-ms, the median".into()),
            (Some(median), Some(p99)) if p99 < median => {
                Err(format!("--first-byte-p99-ms {p99} lies below the median of {median} ms"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_makes_a_profile_custom() {
        let overrides = Overrides { first_byte_ms: Some(5.0), link_gbit_s: Some(0.0), ..Overrides::default() };
        let profile = Profile::new(Preset::S3, overrides, 7).unwrap();
        assert_eq!(profile.name, "custom");
        assert_eq!(profile.first_byte_ms, Some(5.0));
        assert_eq!(profile.connection_mb_s, Some(90.0));
        assert_eq!(profile.link_gbit_s, None);
    }

    #[test]
    fn nonsense_is_refused() {
        let overrides =
            |median, p99| Overrides { first_byte_ms: median, first_byte_p99_ms: p99, ..Overrides::default() };
        assert!(Profile::new(Preset::S3, overrides(Some(-1.0), None), 0).is_err());
        assert!(Profile::new(Preset::S3, overrides(Some(f64::NAN), None), 0).is_err());
        assert!(Profile::new(Preset::S3, overrides(None, Some(10.0)), 0).is_err());
        assert!(Profile::new(Preset::Loopback, overrides(None, Some(10.0)), 0).is_err());
        let idle = |seconds| Overrides { idle_seconds: Some(seconds), ..Overrides::default() };
        assert!(Profile::new(Preset::S3, idle(1e300), 0).is_err());
        assert_eq!(Profile::new(Preset::S3, idle(5.0), 0).unwrap().name, "custom");
    }

    #[test]
    fn what_could_not_be_paced_is_refused() {
        let connection = |rate| Overrides { connection_mb_s: Some(rate), ..Overrides::default() };
        let link = |rate| Overrides { link_gbit_s: Some(rate), ..Overrides::default() };
        let first_byte = |ms| Overrides { first_byte_ms: Some(ms), ..Overrides::default() };
        for overrides in [connection(1e-9), connection(1e300), link(1e-300), link(1e7), first_byte(1e12)] {
            assert!(Profile::new(Preset::Loopback, overrides, 0).unwrap_err().contains("must be between"));
        }
        for overrides in [connection(0.001), link(1e6), first_byte(3_600_000.0)] {
            assert!(Profile::new(Preset::Loopback, overrides, 0).is_ok());
        }
    }
}
