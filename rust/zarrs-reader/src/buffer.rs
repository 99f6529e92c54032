//! Stored bytes that a reader may hold: room is taken for what comes when it comes, and given back when it is decoded.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::{Failure, Outcome};

/// Room is shared out in pieces, since permits are counted by 32 bits.
const PIECE_BYTES: u64 = 1 << 10;

/// A bound on bytes that are coming in, or have come and wait to be decoded.
///
/// Whoever holds room must not wait for anything that whoever waits for room holds.
#[derive(Debug)]
pub struct Buffer {
    room: Arc<Semaphore>,
    pieces: u32,
}

/// A part of a buffer, given back when it is dropped.
#[derive(Debug)]
pub struct Held(OwnedSemaphorePermit);

impl Buffer {
    pub fn new(bytes: u64) -> Self {
        let pieces = pieces(bytes).max(1);
        Self { room: Arc::new(Semaphore::new(pieces as usize)), pieces }
    }

    /// Waits until so many bytes fit, first come, first served. More than there are in all fit once nobody holds any.
    ///
    /// # Errors
    /// None in practice: nobody closes a buffer.
    pub async fn reserve(&self, bytes: u64) -> Outcome<Held> {
        let room = Arc::clone(&self.room).acquire_many_owned(self.pieces_of(bytes));
        Ok(Held(room.await.map_err(Failure::measurement)?))
    }

    /// Takes room if so many bytes fit at once.
    pub fn try_reserve(&self, bytes: u64) -> Option<Held> {
        Arc::clone(&self.room).try_acquire_many_owned(pieces(bytes)).ok().map(Held)
    }

    fn pieces_of(&self, bytes: u64) -> u32 {
        pieces(bytes).min(self.pieces)
    }
}

impl Held {
    /// Hands a part over, as far as there is so much.
    pub fn split(&mut self, bytes: u64) -> Option<Self> {
        let pieces = (pieces(bytes) as usize).min(self.0.num_permits());
        self.0.split(pieces).map(Self)
    }
}

fn pieces(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::future::try_join_all;
    use proptest::prelude::*;
    use tokio::runtime::Runtime;
    use tokio::task::yield_now;

    const KIB: u64 = 1 << 10;

    fn now(buffer: &Buffer, bytes: u64) -> Option<Held> {
        buffer.reserve(bytes).now_or_never().map(|held| held.expect("nobody closes it"))
    }

    #[tokio::test]
    async fn bytes_wait_until_they_fit_and_keep_their_order() {
        let buffer = Buffer::new(10 * KIB);
        let (first, mut second) = (now(&buffer, 4 * KIB), now(&buffer, 4 * KIB).expect("it fits"));
        let mut large = Box::pin(buffer.reserve(7 * KIB));
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
        let buffer = Buffer::new(10 * KIB);
        let mut alone = now(&buffer, u64::MAX).expect("nobody is there");
        assert!(now(&buffer, 1).is_none());
        let part = alone.split(u64::MAX);
        drop(alone);
        assert!(now(&buffer, 1).is_none(), "all of it was handed over");
        drop(part);
        assert!(now(&buffer, 10 * KIB).is_some());
    }

    #[tokio::test]
    async fn room_that_is_not_there_at_once_may_be_done_without() {
        let buffer = Buffer::new(10 * KIB);
        let held = buffer.try_reserve(10 * KIB).expect("it fits");
        assert!(buffer.try_reserve(1).is_none());
        drop(held);
        assert!(buffer.try_reserve(11 * KIB).is_none(), "it never fits");
        assert!(buffer.try_reserve(1).is_some());
    }

    #[tokio::test]
    async fn whoever_gives_up_waiting_holds_nobody_up() {
        let buffer = Buffer::new(10 * KIB);
        let held = now(&buffer, 10 * KIB);
        let mut waiting = Box::pin(buffer.reserve(5 * KIB));
        assert!((&mut waiting).now_or_never().is_none());
        drop(held); // it is told, and gone before it hears
        drop(waiting);
        assert!(now(&buffer, 10 * KIB).is_some());
    }

    proptest! {
        /// Whatever is asked for: everybody gets it, never more than fits unless one alone has it, all is given back.
        #[test]
        fn no_more_is_held_than_fits(asked in proptest::collection::vec(0u64..30, 0..20), kib in 1u64..20) {
            let buffer = Arc::new(Buffer::new(kib * KIB));
            let runtime = Runtime::new().expect("threads");
            let request = |asked: u64| {
                let buffer = Arc::clone(&buffer);
                async move {
                    let mut held = buffer.reserve(asked * KIB).await?;
                    assert_eq!(held.0.num_permits() as u64, asked.min(kib), "all of it, or alone");
                    yield_now().await;
                    drop(held.split(asked * KIB / 3));
                    yield_now().await;
                    Outcome::Ok(())
                }
            };
            let tasks: Vec<_> = asked.into_iter().map(|asked| runtime.spawn(request(asked))).collect();
            for done in runtime.block_on(try_join_all(tasks)).expect("all of them") {
                done.expect("nobody closes it");
            }
            prop_assert_eq!(buffer.room.available_permits() as u64, kib);
        }
    }
}
