//! Sleeping to the tenth of a millisecond.
//!
//! tokio's own timers tick every millisecond and round up, which is 5 % of a 20 ms service time. A `timerfd` expires
//! within tens of microseconds and wakes the same epoll loop, without spinning on a core that a reader needs.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use crate::sys::{self, Timer};

/// How many descriptors a thread keeps for timers that nobody waits for.
const MAX_IDLE: usize = 1024;

thread_local! {
    /// Timers of this thread's runtime that nobody waits for, [`MAX_IDLE`] at most; creating one costs three system calls.
    static IDLE: RefCell<Vec<Timer>> = const { RefCell::new(Vec::new()) };
}

/// A sleep that a body may hold.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// [`sleep_until`], begun when it is first polled.
pub fn sleep(deadline_ns: u64) -> Sleep {
    Box::pin(sleep_until(deadline_ns))
}

/// Returns at `deadline_ns` of the monotonic clock, or at once when that has passed. Without a file descriptor for a timer
/// tokio's own have to do, and it returns up to a millisecond late.
pub async fn sleep_until(deadline_ns: u64) {
    if sleep_exactly_until(deadline_ns).await.is_err() {
        let left_ns = deadline_ns.saturating_sub(sys::monotonic_ns());
        tokio::time::sleep(Duration::from_nanos(left_ns)).await;
    }
}

async fn sleep_exactly_until(deadline_ns: u64) -> io::Result<()> {
    if deadline_ns <= sys::monotonic_ns() {
        return Ok(());
    }
    let timer = match IDLE.with_borrow_mut(Vec::pop) {
        Some(timer) => timer,
        None => sys::timer()?,
    };
    sys::arm(timer.get_ref(), deadline_ns)?;
    loop {
        let mut ready = timer.readable().await?;
        let expired = sys::take_expiry(timer.get_ref()).is_ok();
        ready.clear_ready();
        if expired {
            break;
        }
    }
    IDLE.with_borrow_mut(|idle| {
        if idle.len() < MAX_IDLE {
            idle.push(timer);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn never_wakes_early_and_reuses_timers() {
        for _ in 0..3 {
            let deadline = sys::monotonic_ns() + 2_300_000;
            sleep_until(deadline).await;
            assert!(sys::monotonic_ns() >= deadline);
        }
        assert_eq!(IDLE.with_borrow(Vec::len), 1);
    }
}
