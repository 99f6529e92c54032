//! Which bytes of an object an answer holds.

use std::ops::Range;

use object_store::GetRange;

/// The header `Content-Range`, as in `bytes 0-9/100`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRange {
    pub span: Range<u64>,
    /// The object's length, where the server tells it.
    pub total: Option<u64>,
}

impl ContentRange {
    pub fn parse(header: &str) -> Option<Self> {
        let (span, total) = header.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = span.split_once('-')?;
        let span = first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?;
        let total = total.parse().ok();
        (span.start < span.end && total.is_none_or(|total| span.end <= total)).then_some(Self { span, total })
    }

    /// Whether these are an object's last bytes but not all of it, however the range was asked for: a shard index. The
    /// store counts by the same rule.
    pub fn is_index(&self) -> bool {
        self.span.start > 0 && self.total == Some(self.span.end)
    }

    /// Whether this is the range that was asked for.
    pub fn covers(&self, asked: &GetRange) -> bool {
        self.total.is_some_and(|total| match asked {
            GetRange::Bounded(span) => self.span == (span.start..span.end.min(total)),
            GetRange::Offset(begin) => self.span == (*begin..total),
            GetRange::Suffix(length) => self.span == (total.saturating_sub(*length)..total),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_index(header: &str) -> bool {
        ContentRange::parse(header).is_some_and(|range| range.is_index())
    }

    fn covers(header: &str, asked: &GetRange) -> bool {
        ContentRange::parse(header).is_some_and(|range| range.covers(asked))
    }

    #[test]
    fn an_index_is_whatever_ends_the_object_without_being_all_of_it() {
        assert!(is_index("bytes 900-999/1000"));
        assert!(!is_index("bytes 0-999/1000"));
        assert!(!is_index("bytes 0-99/1000"));
        assert!(!is_index("bytes */1000"));
        assert!(!is_index(""));
    }

    proptest! {
        /// Whatever a server says: an answer holds bytes, and they are the object's.
        #[test]
        fn any_header_is_a_range_or_none(first: u64, last: u64, total in proptest::option::of(any::<u64>()), noise: String) {
            let total = total.map_or("*".to_owned(), |total| total.to_string());
            for header in [format!("bytes {first}-{last}/{total}"), noise] {
                if let Some(range) = ContentRange::parse(&header) {
                    prop_assert!(range.span.start < range.span.end);
                    prop_assert!(range.total.is_none_or(|total| range.span.end <= total));
                }
            }
        }
    }

    #[test]
    fn an_answer_covers_only_the_range_that_was_asked_for() {
        let bounded = GetRange::Bounded(10..20);
        assert!(covers("bytes 10-19/100", &bounded));
        assert!(covers("bytes 10-14/15", &bounded));
        assert!(!covers("bytes 10-18/100", &bounded));
        assert!(!covers("bytes 0-9/100", &bounded));
        assert!(covers("bytes 90-99/100", &GetRange::Suffix(10)));
        assert!(covers("bytes 0-4/5", &GetRange::Suffix(10)));
        assert!(!covers("bytes 80-89/100", &GetRange::Suffix(10)));
        assert!(covers("bytes 90-99/100", &GetRange::Offset(90)));
        assert!(!covers("100", &bounded));
    }
}
