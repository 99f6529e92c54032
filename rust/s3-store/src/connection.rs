//! What the parts of one connection tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The state of a connection, shared by its socket, its requests and the task that serves it.
#[derive(Debug, Default)]
pub struct Connection {
    resets: AtomicBool,
    /// Requests whose head was there.
    begun: AtomicU64,
    /// Requests that have been answered, or given up.
    ended: AtomicU64,
    /// How many requests had begun when bytes last came, and 1 more; 0 at first.
    heard: AtomicU64,
}

impl Connection {
    /// From now on, closing the connection resets it, which loses what is on its way.
    pub fn reset_when_closed(&self) {
        self.resets.store(true, Relaxed);
    }

    pub fn resets(&self) -> bool {
        self.resets.load(Relaxed)
    }

    pub fn request_began(&self) {
        self.begun.fetch_add(1, Relaxed);
    }

    pub fn request_ended(&self) {
        self.ended.fetch_add(1, Relaxed);
    }

    /// Bytes came in, or the end.
    pub fn heard(&self) {
        // A body's bytes say nothing of the next head.
        let begun = self.begun.load(Relaxed);
        if begun == self.ended.load(Relaxed) {
            self.heard.store(begun + 1, Relaxed);
        }
    }

    /// Returns once a request's head has been unfinished for `patience`, and for twice as long at most.
    pub async fn head_is_overdue(&self, patience: Duration) {
        let mut before = None;
        loop {
            let unfinished = self.unfinished_head();
            if unfinished.is_some() && unfinished == before {
                return;
            }
            before = unfinished;
            tokio::time::sleep(patience).await;
        }
    }

    /// The number of the request whose head has begun and is not whole.
    fn unfinished_head(&self) -> Option<u64> {
        let begun = self.begun.load(Relaxed);
        (begun == self.ended.load(Relaxed) && self.heard.load(Relaxed) == begun + 1).then_some(begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_unfinished_from_its_first_byte_until_it_is_a_request() {
        let connection = Connection::default();
        assert_eq!(connection.unfinished_head(), None);
        for number in 0..3 {
            connection.heard();
            assert_eq!(connection.unfinished_head(), Some(number));
            connection.request_began();
            assert_eq!(connection.unfinished_head(), None);
            connection.heard();
            connection.request_ended();
            assert_eq!(connection.unfinished_head(), None, "an idle connection is no unfinished request");
        }
    }
}
