//! The time to the first byte, as a layer.

use std::f64::consts::TAU;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use s3s::{Body, StdError};

use crate::kind::{Call, Kind};
use crate::layer::{Answer, Layer, Service};
use crate::profile::Profile;
use crate::{sys, timer};

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874_040_841;

/// Times to the first byte. The time of the k-th request of a kind depends on the seed, the round, the kind and k alone,
/// so that every reader of a round meets the same ones, and the next round brings others.
pub struct Draws {
    seed: u64,
    round: AtomicU64,
    median_ms: f64,
    /// Standard deviation of the logarithm; 0 makes every draw the median.
    sigma: f64,
    next: [AtomicU64; Kind::ALL.len()],
}

impl Draws {
    /// `None` when the profile has no first-byte time.
    pub fn new(profile: &Profile) -> Option<Self> {
        let median_ms = profile.first_byte_ms?;
        let sigma = profile.first_byte_p99_ms.map_or(0.0, |p99| (p99 / median_ms).ln() / Z99);
        let next = std::array::from_fn(|_| AtomicU64::new(0));
        Some(Self { seed: profile.seed, round: AtomicU64::new(0), median_ms, sigma, next })
    }

    /// The next time of this kind, nanoseconds.
    pub fn next_ns(&self, kind: Kind) -> u64 {
        let k = self.next[kind as usize].fetch_add(1, Relaxed);
        (self.draw_ms(kind, k) * 1e6) as u64
    }

    /// Every kind starts again with its first draw of the round.
    pub fn reset(&self, round: u64) {
        self.round.store(round, Relaxed);
        self.next.iter().for_each(|next| next.store(0, Relaxed));
    }

    fn draw_ms(&self, kind: Kind, k: u64) -> f64 {
        if self.sigma == 0.0 {
            return self.median_ms;
        }
        let round = self.round.load(Relaxed);
        let stream = mix(self.seed ^ mix(round)).wrapping_add(mix(kind as u64 + 1));
        self.median_ms * (self.sigma * normal(mix(stream), k)).exp()
    }
}

/// The k-th standard normal number of a stream, by Box and Muller from two counters of splitmix64.
fn normal(stream: u64, k: u64) -> f64 {
    let uniform = |n: u64| (mix(stream.wrapping_add(n)) >> 11) as f64 / (1_u64 << 53) as f64;
    // 1 - u lies in (0, 1], where the logarithm is finite.
    let radius = (-2.0 * (1.0 - uniform(2 * k)).ln()).sqrt();
    radius * (TAU * uniform(2 * k + 1)).cos()
}

/// One output of splitmix64 for the given state.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Lets each answer wait for its draw.
impl Layer for Arc<Draws> {
    async fn answer(&self, request: Request<Body>, inside: &impl Service) -> Answer {
        let received_ns = sys::monotonic_ns();
        let (request, body_read) = timed(request);
        let call = Call::of(request.method(), request.uri());
        // The work comes first and counts as part of the delay: no delay could hide how long it took otherwise.
        let response = inside.call(request).await?;
        let delay_ns = self.next_ns(call.kind(response.headers()));
        // An upload's clock starts when its body is there; what is done with it then is part of the delay.
        let start_ns = body_read.map_or(received_ns, |at_ns| at_ns.load(Relaxed));
        timer::sleep_until(start_ns + delay_ns).await;
        Ok(response)
    }
}

/// A request whose body tells when it was last read from, nanoseconds of the monotonic clock; without a body it is as it
/// was.
fn timed(request: Request<Body>) -> (Request<Body>, Option<Arc<AtomicU64>>) {
    if request.body().is_end_stream() {
        return (request, None);
    }
    let at_ns = Arc::new(AtomicU64::new(sys::monotonic_ns()));
    let request = request.map(|body| Body::http_body_unsync(Timed { body, at_ns: at_ns.clone() }));
    (request, Some(at_ns))
}

struct Timed {
    body: Body,
    at_ns: Arc<AtomicU64>,
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.at_ns.store(sys::monotonic_ns(), Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Overrides, Preset};

    fn draws(preset: Preset, seed: u64) -> Draws {
        Draws::new(&Profile::new(preset, Overrides::default(), seed).unwrap()).unwrap()
    }

    fn take(draws: &Draws, kind: Kind, count: usize) -> Vec<u64> {
        (0..count).map(|_| draws.next_ns(kind)).collect()
    }

    #[test]
    fn a_reset_repeats_the_draws_of_every_kind() {
        let tail = draws(Preset::S3Tail, 1);
        let first = take(&tail, Kind::GetData, 50);
        let other = take(&tail, Kind::GetIndex, 50);
        tail.reset(0);
        // The order in which kinds alternate makes no difference.
        assert_eq!(take(&tail, Kind::GetIndex, 50), other);
        assert_eq!(take(&tail, Kind::GetData, 50), first);
        assert_ne!(first, other);
        assert_ne!(first, take(&draws(Preset::S3Tail, 2), Kind::GetData, 50));
    }

    #[test]
    fn a_round_has_draws_of_its_own_and_brings_them_again() {
        let tail = draws(Preset::S3Tail, 1);
        let rounds = [0, 1, 2, u64::MAX].map(|round| {
            tail.reset(round);
            take(&tail, Kind::GetData, 50)
        });
        assert!((1..rounds.len()).all(|later| !rounds[..later].contains(&rounds[later])));
        tail.reset(1);
        assert_eq!(take(&tail, Kind::GetData, 50), rounds[1]);
    }

    /// Reads the body and then works for a while.
    struct Slow(std::time::Duration);

    impl Service for Slow {
        async fn call(&self, request: Request<Body>) -> Answer {
            http_body_util::BodyExt::collect(request.into_body()).await.unwrap();
            tokio::time::sleep(self.0).await;
            Ok(http::Response::new(Body::empty()))
        }
    }

    #[tokio::test]
    async fn work_on_a_body_is_part_of_its_delay() {
        let overrides = Overrides { first_byte_ms: Some(400.0), ..Overrides::default() };
        let draws = Arc::new(Draws::new(&Profile::new(Preset::Loopback, overrides, 0).unwrap()).unwrap());
        let request = Request::put("/b/k").body(Body::from(Bytes::from_static(b"body"))).unwrap();
        let start_ns = sys::monotonic_ns();
        draws.answer(request, &Slow(std::time::Duration::from_millis(360))).await.unwrap();
        let delays = (sys::monotonic_ns() - start_ns) as f64 / 400e6;
        assert!((1.0..1.5).contains(&delays), "{delays} delays, not one of the delay and 0.9 of work");
    }

    #[test]
    fn the_quantiles_are_those_asked_for() {
        let mut times = take(&draws(Preset::S3Tail, 3), Kind::GetData, 100_000);
        times.sort_unstable();
        let quantile = |q: f64| times[(q * times.len() as f64) as usize] as f64 / 1e6;
        assert!((quantile(0.5) - 20.0).abs() < 0.3, "{}", quantile(0.5));
        assert!((quantile(0.99) - 100.0).abs() < 4.0, "{}", quantile(0.99));
    }

    #[test]
    fn s3_is_constant_and_loopback_has_none() {
        assert_eq!(take(&draws(Preset::S3, 1), Kind::Put, 3), [20_000_000; 3]);
        let loopback = Profile::new(Preset::Loopback, Overrides::default(), 1).unwrap();
        assert!(Draws::new(&loopback).is_none());
    }
}
