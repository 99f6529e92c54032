//! A limit on requests per prefix, as a layer: what exceeds it is answered with 503 `SlowDown` at once, as S3 does.

use std::collections::HashMap;
use std::sync::Arc;

use http::{Method, Request, StatusCode};
use parking_lot::Mutex;
use s3s::Body;

use crate::answers::error_answer;
use crate::kind::{bucket_and_key, decoded_path};
use crate::layer::{Answer, Layer, Service};
use crate::sys;

/// How much of a second's requests may come at once.
const BURST_SECONDS: f64 = 0.1;

/// A token bucket for each prefix: the bucket and the first part of the key. S3 draws its partitions by itself; one per
/// data set's folder is what a benchmark meets.
pub struct Throttle {
    ns_per_request: f64,
    burst_ns: f64,
    full_at_ns: Mutex<HashMap<String, f64>>,
}

impl Throttle {
    pub fn new(requests_per_second: f64) -> Self {
        let ns_per_request = 1e9 / requests_per_second;
        Self { ns_per_request, burst_ns: ns_per_request.max(BURST_SECONDS * 1e9), full_at_ns: Mutex::default() }
    }

    /// Whether a request of a prefix may pass now, nanoseconds of the monotonic clock; one that may not costs nothing.
    fn admits(&self, path: &str, now_ns: u64) -> bool {
        let now = now_ns as f64;
        let mut prefixes = self.full_at_ns.lock();
        let full_at = prefixes.entry(prefix(&decoded_path(path))).or_insert(now);
        let after = full_at.max(now) + self.ns_per_request;
        // Half a nanosecond: sums of fractions of a second are not exact.
        let admitted = after - now <= self.burst_ns + 0.5;
        if admitted {
            *full_at = after;
        }
        admitted
    }
}

fn prefix(path: &str) -> String {
    let (bucket, key) = bucket_and_key(path);
    let first = key.split_once('/').map_or("", |(first, _)| first);
    format!("{bucket}/{first}")
}

impl Layer for Arc<Throttle> {
    async fn answer(&self, request: Request<Body>, inside: &impl Service) -> Answer {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if is_read && !self.admits(request.uri().path(), sys::monotonic_ns()) {
            return Ok(error_answer(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate."));
        }
        inside.call(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn admitted(throttle: &Throttle, path: &str, at_ns: u64, count: usize) -> usize {
        (0..count).filter(|_| throttle.admits(path, at_ns)).count()
    }

    #[test]
    fn a_prefix_gets_its_rate_and_a_burst_of_a_tenth_of_a_second() {
        let throttle = Throttle::new(1000.0);
        assert_eq!(admitted(&throttle, "/b/demo/small/c/0", SECOND, 500), 100);
        assert_eq!(admitted(&throttle, "/b/demo/large/c/1", SECOND, 500), 0, "it is the same prefix");
        let later: usize =
            (1..=100).map(|ms| admitted(&throttle, "/b/demo/small/c/0", SECOND + ms * 1_000_000, 5)).sum();
        assert_eq!(later, 100);
        assert_eq!(admitted(&throttle, "/b/demo/small/c/0", 100 * SECOND, 500), 100, "no more is saved up");
    }

    #[test]
    fn prefixes_and_buckets_are_limited_apart() {
        let throttle = Throttle::new(10.0);
        for path in ["/b/demo/x", "/b/tiny/x", "/other/demo/x", "/b/top"] {
            assert_eq!(admitted(&throttle, path, SECOND, 5), 1, "{path}");
        }
    }
}
