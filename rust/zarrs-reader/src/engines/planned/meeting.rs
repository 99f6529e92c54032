//! What several reads under way want: asked for and decoded once, and forgotten when the last of them has ended.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OnceCell, oneshot};

/// Coordinates of a chunk or a shard in its grid.
pub type Coordinates = Vec<u64>;

/// Chunks that some read fetches, or has fetched and still uses.
#[derive(Debug)]
pub struct Claims<P, C>(Mutex<HashMap<Coordinates, State<P, C>>>);

#[derive(Debug)]
enum State<P, C> {
    /// With the places of other reads that wait for it.
    UnderWay(Vec<Waiting<P>>),
    There(Arc<C>),
}

/// A place that a chunk is to be put into, and whom to tell then.
pub type Waiting<P> = (P, oneshot::Sender<()>);

/// What a read that wants a chunk has to do.
#[derive(Debug)]
pub enum Claim<C> {
    Fetch,
    Wait(oneshot::Receiver<()>),
    Take(Arc<C>),
}

impl<P, C> Claims<P, C> {
    pub fn new() -> Self {
        Self(Mutex::default())
    }

    /// Who is the first to want a chunk is to fetch it; others take it, or wait with a place for it.
    ///
    /// An object's chunks are claimed together, so that two who want all of it do not each fetch some.
    pub fn claim(&self, chunks: impl Iterator<Item = (Coordinates, P)>) -> Vec<Claim<C>> {
        let mut all = self.0.lock();
        let claim = |(chunk, place)| match all.entry(chunk) {
            Entry::Vacant(free) => {
                free.insert(State::UnderWay(Vec::new()));
                Claim::Fetch
            }
            Entry::Occupied(mut claimed) => match claimed.get_mut() {
                State::There(chunk) => Claim::Take(Arc::clone(chunk)),
                State::UnderWay(waiting) => {
                    let (tell, told) = oneshot::channel();
                    waiting.push((place, tell));
                    Claim::Wait(told)
                }
            },
        };
        chunks.map(claim).collect()
    }

    /// Who waits for a chunk that has come; others take it until all who use it have ended.
    pub fn keep(&self, chunk: Coordinates, came: &Arc<C>) -> Vec<Waiting<P>> {
        Self::waiting(self.0.lock().insert(chunk, State::There(Arc::clone(came))))
    }

    /// Who waits for a chunk that has come, or will not come: whoever wants it after that fetches it anew.
    ///
    /// Whoever waits and is dropped untold has to fetch it too.
    pub fn release(&self, chunk: &[u64]) -> Vec<Waiting<P>> {
        Self::waiting(self.0.lock().remove(chunk))
    }

    /// Ends a use of a chunk that was kept.
    pub fn end_use(&self, chunk: &[u64], used: Arc<C>) {
        let mut all = self.0.lock();
        let is_last = Arc::strong_count(&used) == 2;
        if is_last && matches!(all.get(chunk), Some(State::There(kept)) if Arc::ptr_eq(kept, &used)) {
            all.remove(chunk); // its memory is freed when others may go on
        } else {
            drop(used); // while nobody else counts
        }
    }

    fn waiting(state: Option<State<P, C>>) -> Vec<Waiting<P>> {
        match state {
            Some(State::UnderWay(waiting)) => waiting,
            Some(State::There(_)) | None => Vec::new(),
        }
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
        let mine = std::mem::take(&mut self.known);
        if !self.all.is_kept && Arc::strong_count(&mine) == 2 {
            known.remove(&self.shard); // nobody else: whoever comes needs the lock
        }
        drop(mine); // while nobody else counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const CHUNK: [u64; 2] = [1, 2];

    fn claim(claims: &Claims<&'static str, u8>, place: &'static str) -> Claim<u8> {
        claims.claim(std::iter::once((CHUNK.into(), place))).remove(0)
    }

    fn waits(claim: Claim<u8>) -> oneshot::Receiver<()> {
        match claim {
            Claim::Wait(told) => told,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_first_fetches_a_chunk_and_others_get_it_from_there() {
        let claims = Claims::new();
        assert!(matches!(claim(&claims, "first"), Claim::Fetch));
        let (second, third) = (waits(claim(&claims, "second")), waits(claim(&claims, "third")));
        let both = claims.claim([vec![2, 1], CHUNK.into()].map(|chunk| (chunk, "other")).into_iter());
        assert!(matches!(both[..], [Claim::Fetch, Claim::Wait(_)]));
        for (place, tell) in claims.release(&CHUNK) {
            if place == "second" {
                tell.send(()).expect("it waits");
            }
        }
        assert_eq!(second.now_or_never(), Some(Ok(())));
        assert!(third.now_or_never().expect("it was dropped").is_err(), "it fetches the chunk itself");
        assert!(matches!(claim(&claims, "later"), Claim::Fetch));
        assert!(claims.release(&CHUNK).is_empty());
    }

    #[tokio::test]
    async fn a_chunk_is_taken_as_long_as_a_read_uses_it() {
        let claims = Claims::new();
        assert!(matches!(claim(&claims, "first"), Claim::Fetch));
        let waiting = waits(claim(&claims, "second"));
        let first = Arc::new(7);
        let told = claims.keep(CHUNK.into(), &first);
        assert_eq!(told.iter().map(|(place, _)| *place).collect::<Vec<_>>(), ["second"]);
        drop((told, waiting));
        let Claim::Take(third) = claim(&claims, "third") else { panic!("it is there") };
        claims.end_use(&CHUNK, first);
        assert!(matches!(claim(&claims, "fourth"), Claim::Take(chunk) if *chunk == 7), "the third uses it");
        claims.end_use(&CHUNK, third);
        assert!(matches!(claim(&claims, "fifth"), Claim::Fetch), "nobody does");
        claims.end_use(&CHUNK, Arc::new(7));
        waits(claim(&claims, "sixth")); // what ends is another one
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
