//! What several reads want at the same moment: asked for and decoded once, and forgotten when nobody wants it any more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OnceCell, oneshot};

/// Coordinates of a chunk or a shard in its grid.
pub type Coordinates = Vec<u64>;

/// Chunks that some read fetches, with the places of other reads that wait for them.
#[derive(Debug)]
pub struct Claims<P>(Mutex<HashMap<Coordinates, Vec<Waiting<P>>>>);

/// A place that a chunk is to be put into, and whom to tell then.
pub type Waiting<P> = (P, oneshot::Sender<()>);

impl<P> Claims<P> {
    pub fn new() -> Self {
        Self(Mutex::default())
    }

    /// Who is the first to want a chunk is to fetch it, and gets None; others wait with a `place` for it.
    pub fn claim(&self, chunk: Coordinates, place: impl FnOnce() -> P) -> Option<oneshot::Receiver<()>> {
        match self.0.lock().entry(chunk) {
            Entry::Vacant(free) => {
                free.insert(Vec::new());
                None
            }
            Entry::Occupied(mut claimed) => {
                let (tell, told) = oneshot::channel();
                claimed.get_mut().push((place(), tell));
                Some(told)
            }
        }
    }

    /// Who waits for a chunk that has come, or will not come: whoever wants it after that fetches it anew.
    ///
    /// Whoever waits and is dropped untold has to fetch it too.
    pub fn release(&self, chunk: &[u64]) -> Vec<Waiting<P>> {
        self.0.lock().remove(chunk).unwrap_or_default()
    }
}

/// What is known of shards, from when the first read asks until the last one that uses it has ended, or on.
#[derive(Debug)]
pub struct InUse<T> {
    known: Mutex<HashMap<Coordinates, Arc<OnceCell<T>>>>,
    is_kept: bool,
}

/// A read's part in what is known of a shard.
pub struct Use<'a, T> {
    all: &'a InUse<T>,
    shard: Coordinates,
    pub known: Arc<OnceCell<T>>,
}

impl<T> InUse<T> {
    pub fn new(is_kept: bool) -> Self {
        Self { known: Mutex::default(), is_kept }
    }

    pub fn of(&self, shard: Coordinates) -> Use<'_, T> {
        let known = Arc::clone(self.known.lock().entry(shard.clone()).or_default());
        Use { all: self, shard, known }
    }
}

impl<T> Drop for Use<'_, T> {
    fn drop(&mut self) {
        let mut known = self.all.known.lock();
        if !self.all.is_kept && Arc::strong_count(&self.known) == 2 {
            known.remove(&self.shard); // nobody else: whoever comes needs the lock
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn the_first_fetches_a_chunk_and_others_get_it_from_there() {
        let claims = Claims::new();
        let claim = |place| claims.claim(vec![1, 2], || place);
        assert!(claim("first").is_none());
        let (second, third) = (claim("second").expect("it is claimed"), claim("third").expect("it is claimed"));
        assert!(claims.claim(vec![2, 1], || "other").is_none());
        for (place, tell) in claims.release(&[1, 2]) {
            if place == "second" {
                tell.send(()).expect("it waits");
            }
        }
        assert_eq!(second.now_or_never(), Some(Ok(())));
        assert!(third.now_or_never().expect("it was dropped").is_err(), "it fetches the chunk itself");
        assert!(claim("later").is_none() && claims.release(&[1, 2]).is_empty());
    }

    #[tokio::test]
    async fn what_is_known_is_known_as_long_as_somebody_uses_it() {
        for is_kept in [false, true] {
            let all = InUse::new(is_kept);
            let (first, second) = (all.of(vec![3]), all.of(vec![3]));
            first.known.set(7).expect("it is not known yet");
            drop(first);
            assert_eq!(second.known.get(), Some(&7));
            drop(second);
            assert_eq!(all.of(vec![3]).known.get(), is_kept.then_some(&7));
            assert_eq!(all.known.lock().len(), usize::from(is_kept));
        }
    }
}
