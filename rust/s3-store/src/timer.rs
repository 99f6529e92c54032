//! Sleeping to the tenth of a millisecond.
//!
//! tokio's own timers tick every millisecond and round up, which is 5 % of a 20 ms service time. A `timerfd` expires
//! within tens of microseconds and wakes the same epoll loop, without spinning on a core that a reader needs.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;

use crate::sys::{self, Timer};

thread_local! {
    /// Timers of this thread's runtime that nobody waits for; creating one costs three system calls.
    static IDLE: RefCell<Vec<Timer>> = const { RefCell::new(Vec::new()) };
}

/// A sleep that a body may hold.
pub type Sleep = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// [`sleep_until`], begun when it is first polled.
pub fn sleep(deadline_ns: u64) -> Sleep {
    Box::pin(sleep_until(deadline_ns))
}

/// Returns at `deadline_ns` of the monotonic clock, or at once when that has passed.
///
/// # Errors
/// When the process is out of file descriptors.
pub async fn sleep_until(deadline_ns: u64) -> io::Result<()> {
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
    IDLE.with_borrow_mut(|idle| idle.push(timer));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn never_wakes_early_and_reuses_timers() {
        for _ in 0..3 {
            let deadline = sys::monotonic_ns() + 2_300_000;
            sleep_until(deadline).await.unwrap();
            assert!(sys::monotonic_ns() >= deadline);
        }
        assert_eq!(IDLE.with_borrow(Vec::len), 1);
    }
}
