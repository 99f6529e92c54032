//! Stored bytes that a reader may hold: a request is sent only when its bytes fit, and they count until they are decoded.

use std::sync::Arc;

use parking_lot::Mutex as Lock;
use tokio::sync::{Mutex, Notify};

/// A bound on bytes that are on their way, or have come and wait to be decoded.
#[derive(Debug)]
pub struct Buffer {
    bytes: u64,
    used: Lock<u64>,
    freed: Notify,
    /// Whoever has it is the next whose bytes will fit: so a large request is not overtaken for ever.
    turn: Mutex<()>,
}

/// A part of a buffer, given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    buffer: Arc<Buffer>,
    bytes: u64,
}

impl Buffer {
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { bytes, used: Lock::new(0), freed: Notify::new(), turn: Mutex::new(()) })
    }

    /// Waits until so many bytes fit, first come, first served. More than there are in all fit once nobody holds any.
    pub async fn reserve(self: &Arc<Self>, bytes: u64) -> Held {
        let _turn = self.turn.lock().await;
        while !self.takes(bytes) {
            self.freed.notified().await;
        }
        Held { buffer: Arc::clone(self), bytes }
    }

    fn takes(&self, bytes: u64) -> bool {
        let mut used = self.used.lock();
        let fits = *used == 0 || used.saturating_add(bytes) <= self.bytes;
        if fits {
            *used += bytes;
        }
        fits
    }
}

impl Held {
    /// Counts what there really is, which is known once an answer has begun. It does not wait: whoever waited here with a
    /// request under way could wait for ever. What is too much makes others wait.
    pub fn resize(&mut self, bytes: u64) {
        let mut used = self.buffer.used.lock();
        *used = used.saturating_sub(self.bytes).saturating_add(bytes);
        self.bytes = bytes;
        drop(used);
        self.buffer.freed.notify_one();
    }

    /// Hands a part over, as far as there is so much.
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { buffer: Arc::clone(&self.buffer), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.resize(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::future::try_join_all;
    use proptest::prelude::*;
    use tokio::runtime::Runtime;
    use tokio::task::yield_now;

    #[tokio::test]
    async fn bytes_wait_until_they_fit_and_keep_their_order() {
        let buffer = Buffer::new(10);
        let (first, mut second) = (buffer.reserve(4).await, buffer.reserve(4).await);
        let mut large = Box::pin(buffer.reserve(7));
        assert!((&mut large).now_or_never().is_none());
        let mut small = Box::pin(buffer.reserve(1));
        assert!((&mut small).now_or_never().is_none(), "it would fit, but is not the next");
        drop(first);
        assert!((&mut large).now_or_never().is_none());
        drop(second.split(1));
        let large = (&mut large).now_or_never().expect("3 + 7 fit");
        assert!((&mut small).now_or_never().is_none());
        drop(large);
        assert!((&mut small).now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_is_larger_than_all_goes_alone() {
        let buffer = Buffer::new(10);
        let mut alone = buffer.reserve(u64::MAX).await;
        assert!(buffer.reserve(0).now_or_never().is_none());
        alone.resize(3);
        let beside = buffer.reserve(7).now_or_never().expect("less came than was expected");
        alone.resize(30); // more than was expected
        drop(beside);
        assert!(buffer.reserve(1).now_or_never().is_none());
        drop(alone);
        assert!(buffer.reserve(10).now_or_never().is_some());
    }

    #[tokio::test]
    async fn whoever_gives_up_waiting_holds_nobody_up() {
        let buffer = Buffer::new(10);
        let held = buffer.reserve(10).await;
        let mut waiting = Box::pin(buffer.reserve(5));
        assert!((&mut waiting).now_or_never().is_none());
        drop(held); // it is told, and gone before it hears
        drop(waiting);
        assert!(buffer.reserve(10).now_or_never().is_some());
    }

    proptest! {
        /// Whatever is asked for: everybody gets it, never more than fits unless one alone has it, all is given back.
        #[test]
        fn no_more_is_held_than_fits(asked in proptest::collection::vec(0u64..30, 0..20), bytes in 1u64..20) {
            let buffer = Buffer::new(bytes);
            let runtime = Runtime::new().expect("threads");
            let request = |asked| {
                let buffer = Arc::clone(&buffer);
                async move {
                    let mut held = buffer.reserve(asked).await;
                    let used = *buffer.used.lock();
                    assert!(used <= bytes.max(asked), "{used} of {bytes}");
                    yield_now().await;
                    drop(held.split(asked / 3));
                    yield_now().await;
                }
            };
            let tasks: Vec<_> = asked.into_iter().map(|asked| runtime.spawn(request(asked))).collect();
            runtime.block_on(try_join_all(tasks)).expect("all of them");
            prop_assert_eq!(*buffer.used.lock(), 0);
        }
    }
}
