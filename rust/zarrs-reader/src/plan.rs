//! Which byte ranges to ask for: chunks that lie close together share a request, large ones are split.

use std::ops::Range;

/// How ranges are merged and split.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest gap between two chunks of a request.
    pub max_gap_bytes: u64,
    /// Largest request: a longer range is fetched in several parts.
    pub part_bytes: u64,
    /// What the shards of which a read wants chunks may have together, decoded, for each to come whole.
    pub whole_bytes: u64,
    /// Whether shard indexes are kept from one read to the next; a benchmark of reads never does.
    pub keeps_indexes: bool,
    /// Stored bytes that connections read ahead, that come in, or that have come and are not yet decoded.
    pub buffer_bytes: u64,
}

/// What a chunk of a shard takes while its shard is read: its entry in the index, stored and decoded, and in the plan.
const PLAN_BYTES_PER_CHUNK: u64 = 64;

/// What the HTTP client may hold of an answer that nobody takes from it: what it reads at once is up to 0.4 MB (hyper's
/// default), some of it twice. Measured (docs/zarrs-reader.md).
const READ_AHEAD_BYTES: u64 = 640 << 10;

/// Up to here adjacent chunks share a request, however few requests that makes.
const SHARED_BYTES: u64 = 256 << 10;

/// Which shards come with one GET that brings the index along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    None,
    /// Those of which all chunks are wanted.
    Wanted,
    All,
}

/// Which chunks of a shard share a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouping {
    /// Bytes between two chunks up to which they share a request.
    pub max_gap_bytes: u64,
    /// Bytes of a request up to which further chunks join it.
    pub most_bytes: u64,
}

impl Grouping {
    /// Whether a request for `span` takes `next` too, which begins no earlier.
    fn joins(&self, span: &Range<u64>, next: &Range<u64>) -> bool {
        next.start <= span.end.saturating_add(self.max_gap_bytes)
            && next.end.max(span.end) - span.start <= self.most_bytes
    }
}

/// How the chunks of a read are shared out among its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    max_gap_bytes: u64,
    /// Chunks of a request, where it has no more than `most_bytes` then.
    chunks: u64,
    least_bytes: u64,
    most_bytes: u64,
}

impl Sharing {
    /// How to group chunks of one shard: bytes count, and what a chunk takes is known by now.
    pub fn grouping<T>(&self, stored: &[Stored<T>]) -> Grouping {
        let bytes = stored.iter().fold(0u64, |sum, chunk| sum.saturating_add(chunk.span.end - chunk.span.start));
        // Half a chunk more: with `chunks` of them a request is not to lack one because they are a little long.
        let share = bytes.saturating_mul(2 * self.chunks + 1) / (2 * stored.len() as u64).max(1);
        Grouping { max_gap_bytes: self.max_gap_bytes, most_bytes: share.clamp(self.least_bytes, self.most_bytes) }
    }
}

impl Limits {
    /// How to share out the `chunks` of a read that may have `permits` requests under way, others like it beside it.
    ///
    /// Where there is a request for each chunk at once, bridging gaps would only cost bytes. And a connection has its own
    /// top speed, so few long requests are slower than many. But requests that are all under way at once end at once too,
    /// and what ends last is decoded last. So they grow as far as half of the permits stay in use, at least to
    /// `SHARED_BYTES` (docs/zarrs-reader.md).
    pub fn sharing(&self, chunks: u64, permits: usize) -> Sharing {
        let permits = (permits as u64).max(1);
        Sharing {
            max_gap_bytes: if chunks <= permits { 0 } else { self.max_gap_bytes },
            chunks: chunks.div_ceil(permits.div_ceil(2)),
            least_bytes: SHARED_BYTES.min(self.part_bytes),
            most_bytes: self.part_bytes,
        }
    }

    /// How much of the buffer is for what connections read ahead, with `in_flight` of them: at most half.
    pub fn ahead_bytes(&self, in_flight: usize) -> u64 {
        (in_flight as u64).saturating_mul(READ_AHEAD_BYTES).min(self.buffer_bytes / 2)
    }

    /// Decoded bytes that are kept for other reads under way.
    pub fn kept_bytes(&self) -> u64 {
        self.buffer_bytes / 2
    }

    /// How many objects, of `chunks` chunks each, a read has under way at once, decoding included.
    ///
    /// Twice as many as requests, so that there is a request to send while others are being decoded; and no more than
    /// whose plans fit into half of the buffer.
    pub fn objects_at_once(&self, chunks: u64, in_flight: usize) -> usize {
        let planned = self.buffer_bytes / 2 / chunks.saturating_mul(PLAN_BYTES_PER_CHUNK).max(1);
        planned.clamp(1, 2 * in_flight as u64) as usize
    }

    /// Which of the shards of a read come whole, where it may have `permits` requests under way and others go on beside
    /// it.
    ///
    /// That saves a round trip for each, but nothing can be decoded before its end. So it pays where shards have to take
    /// turns anyway: then the one before is decoded while the next comes. And it pays where all of them come in less
    /// than a round trip, however little of them is wanted; not where their indexes may be known.
    pub fn whole(&self, shards: usize, shard_bytes: u64, permits: usize, reads_at_once: usize) -> Whole {
        let together = (shards as u64).saturating_mul(shard_bytes).saturating_mul(reads_at_once as u64);
        if together <= self.whole_bytes && !self.keeps_indexes {
            Whole::All
        } else if shards >= 2 * permits.max(1) && shard_bytes <= self.part_bytes {
            Whole::Wanted
        } else {
            Whole::None
        }
    }
}

/// Stored bytes of a wanted chunk, with whatever belongs to it.
#[derive(Debug, Clone)]
pub struct Stored<T> {
    pub span: Range<u64>,
    pub item: T,
}

/// Chunks that come with one range.
#[derive(Debug)]
pub struct Group<T> {
    pub span: Range<u64>,
    pub chunks: Vec<Stored<T>>,
}

impl<T> Group<T> {
    /// Whether no two of the chunks share bytes.
    pub fn is_disjoint(&self) -> bool {
        self.chunks.windows(2).all(|pair| pair[0].span.end <= pair[1].span.start)
    }
}

/// Groups chunks of one shard, which may come in any order and may overlap; a group is made when it is asked for.
pub fn groups<T>(mut chunks: Vec<Stored<T>>, grouping: Grouping) -> impl Iterator<Item = Group<T>> {
    chunks.sort_by_key(|chunk| chunk.span.start);
    let mut chunks = chunks.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = chunks.next()?;
        let mut group = Group { span: first.span.clone(), chunks: vec![first] };
        while let Some(chunk) = chunks.next_if(|next| grouping.joins(&group.span, &next.span)) {
            group.span.end = group.span.end.max(chunk.span.end);
            group.chunks.push(chunk);
        }
        Some(group)
    })
}

/// What is read ahead of an answer of so many bytes at most.
pub fn read_ahead(bytes: u64) -> u64 {
    bytes.min(READ_AHEAD_BYTES)
}

/// Splits a range into parts of at most `part_bytes`, in order; an empty range has none.
pub fn parts(span: &Range<u64>, part_bytes: u64) -> Vec<Range<u64>> {
    (span.start..span.end)
        .step_by(usize::try_from(part_bytes.max(1)).unwrap_or(usize::MAX))
        .map(|start| start..start.saturating_add(part_bytes).min(span.end))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(span: Range<u64>) -> Stored<()> {
        Stored { span, item: () }
    }

    fn spans(groups: &[Group<()>]) -> Vec<Range<u64>> {
        groups.iter().map(|group| group.span.clone()).collect()
    }

    const LIMITS: Limits =
        Limits { max_gap_bytes: 0, part_bytes: 0, whole_bytes: 0, keeps_indexes: false, buffer_bytes: 128 << 20 };
    const GROUPING: Grouping = Grouping { max_gap_bytes: 10, most_bytes: 100 };

    #[test]
    fn close_chunks_share_a_request_and_distant_ones_do_not() {
        let chunks = vec![stored(40..50), stored(0..20), stored(61..70), stored(25..30)];
        let groups: Vec<_> = groups(chunks, GROUPING).collect();
        assert_eq!(spans(&groups), [0..50, 61..70]);
        assert_eq!(groups[0].chunks.len(), 3);
    }

    #[test]
    fn requests_are_long_only_where_enough_of_them_are_left() {
        let limits = Limits { part_bytes: 8 << 20, ..LIMITS };
        let chunks: Vec<_> = (0..64).map(|i| stored(i << 15..(i + 1) << 15)).collect();
        let most = |wanted, permits| limits.sharing(wanted, permits).grouping(&chunks).most_bytes;
        assert_eq!(most(350, 100), SHARED_BYTES, "7 chunks");
        assert_eq!(most(1000, 100), 20 << 15 | 1 << 14, "20 of them, and half a one");
        assert_eq!(most(1 << 30, 100), 8 << 20);
        assert_eq!(most(1 << 30, 0), 8 << 20);
        assert_eq!(limits.sharing(8, 1).grouping(&chunks[..0]).most_bytes, SHARED_BYTES);
        let short = Limits { part_bytes: 100, ..limits };
        assert_eq!(short.sharing(1 << 30, 100).grouping(&chunks).most_bytes, 100);
    }

    #[test]
    fn whole_shards_are_taken_where_they_take_turns_and_fit_a_part() {
        let limits = Limits { part_bytes: 100, ..LIMITS };
        assert_eq!(limits.whole(20, 100, 10, 1), Whole::Wanted);
        assert_eq!(limits.whole(19, 100, 10, 1), Whole::None);
        assert_eq!(limits.whole(20, 101, 10, 1), Whole::None);
        assert_eq!(limits.whole(1, 100, 0, 1), Whole::None);
    }

    #[test]
    fn shards_come_whole_where_that_takes_less_than_a_round_trip() {
        let limits = Limits { whole_bytes: 400, ..LIMITS };
        assert_eq!(limits.whole(4, 100, 10, 1), Whole::All);
        assert_eq!(limits.whole(4, 101, 10, 1), Whole::None);
        assert_eq!(limits.whole(4, 100, 10, 2), Whole::None, "reads beside it share the link");
        assert_eq!(limits.whole(usize::MAX, u64::MAX, 10, 2), Whole::None);
        let keeps = Limits { keeps_indexes: true, ..limits };
        assert_eq!(keeps.whole(4, 100, 10, 1), Whole::None, "a round trip that is made once");
    }

    #[test]
    fn few_shards_are_all_under_way_and_huge_ones_by_their_plans() {
        assert_eq!(LIMITS.objects_at_once(64, 100), 200);
        assert_eq!(LIMITS.objects_at_once(1 << 15, 100), 32);
        assert_eq!(LIMITS.objects_at_once(1 << 22, 100), 1);
        assert_eq!(LIMITS.objects_at_once(u64::MAX, 1), 1);
    }

    #[test]
    fn many_connections_leave_half_of_the_buffer_to_chunks() {
        assert_eq!(LIMITS.ahead_bytes(8), 5 << 20);
        assert_eq!(LIMITS.ahead_bytes(400), 64 << 20);
        assert_eq!(LIMITS.ahead_bytes(usize::MAX), 64 << 20);
    }

    #[test]
    fn gaps_are_bridged_only_where_requests_run_out() {
        let limits = Limits { max_gap_bytes: 7, part_bytes: 8 << 20, ..LIMITS };
        assert_eq!(limits.sharing(100, 100).max_gap_bytes, 0);
        assert_eq!(limits.sharing(101, 100).max_gap_bytes, 7);
    }

    #[test]
    fn a_request_grows_to_its_limit_only() {
        let chunks = (0..8).map(|i| stored(i * 30..i * 30 + 30)).collect();
        assert_eq!(spans(&groups(chunks, GROUPING).collect::<Vec<_>>()), [0..90, 90..180, 180..240]);
    }

    #[test]
    fn a_gap_of_exactly_the_limit_is_bridged() {
        assert_eq!(groups(vec![stored(0..10), stored(20..30)], GROUPING).count(), 1);
        assert_eq!(groups(vec![stored(0..10), stored(21..30)], GROUPING).count(), 2);
    }

    #[test]
    fn parts_cover_a_range_in_order() {
        assert_eq!(parts(&(5..25), 10), [5..15, 15..25]);
        assert_eq!(parts(&(5..26), 10), [5..15, 15..25, 25..26]);
        assert!(parts(&(5..5), 10).is_empty());
    }

    proptest! {
        /// Every chunk lies in its group's range, no group is larger than allowed unless one chunk is, none is lost.
        #[test]
        fn groups_hold_their_chunks(
            starts in proptest::collection::vec((0u64..2000, 1u64..200), 0..60),
            max_gap_bytes in 0u64..50, most_bytes in 1u64..400,
        ) {
            let chunks: Vec<_> = starts.iter().map(|(start, length)| stored(*start..start + length)).collect();
            let groups: Vec<_> = groups(chunks, Grouping { max_gap_bytes, most_bytes }).collect();
            prop_assert_eq!(groups.iter().map(|g| g.chunks.len()).sum::<usize>(), starts.len());
            for one in &groups {
                prop_assert!(one.chunks.iter().all(|c| one.span.start <= c.span.start && c.span.end <= one.span.end));
                prop_assert!(one.chunks.len() == 1 || one.span.end - one.span.start <= most_bytes);
                let split = parts(&one.span, most_bytes);
                prop_assert_eq!(split.iter().map(|p| p.end - p.start).sum::<u64>(), one.span.end - one.span.start);
            }
        }
    }
}
