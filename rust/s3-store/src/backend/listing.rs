//! Pages of keys, as every S3 listing needs them.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use super::object::Object;

/// Which part of a bucket's keys is wanted.
#[derive(Debug)]
pub struct Query {
    pub prefix: String,
    /// Keys with the same text up to here after the prefix make one entry; empty for none.
    pub delimiter: String,
    /// Only what comes after this key or common prefix; empty for all.
    pub after: String,
    pub limit: usize,
}

/// A page in the order of UTF-8 bytes, which is that of Rust strings.
#[derive(Default)]
pub struct Page {
    pub objects: Vec<(String, Arc<Object>)>,
    pub prefixes: Vec<String>,
    /// What the page rests on: its objects, and one object of each prefix.
    pub seen: Vec<(String, Arc<Object>)>,
    /// The last entry, if more follow.
    pub next: Option<String>,
}

type Objects = BTreeMap<Box<str>, Arc<Object>>;

/// The entries that `query` asks for.
pub fn page(objects: &Objects, query: &Query) -> Page {
    let mut page = Page::default();
    let mut last = String::new();
    let mut from = first_key(query);
    while let Some((key, object)) = next(objects, &from, &query.prefix) {
        let prefix = common_prefix(key, query);
        // A page that ended with a common prefix goes on behind it.
        if prefix != Some(&query.after) {
            if page.objects.len() + page.prefixes.len() == query.limit {
                page.next = (query.limit > 0).then_some(last);
                break;
            }
            last = prefix.unwrap_or(key).to_owned();
            page.seen.push((key.to_owned(), object.clone()));
            match prefix {
                Some(prefix) => page.prefixes.push(prefix.to_owned()),
                None => page.objects.push((key.to_string(), object.clone())),
            }
        }
        from = prefix.map_or_else(|| From::Behind(key.to_string()), |prefix| From::Behind(behind_all(prefix)));
    }
    page
}

enum From {
    At(String),
    Behind(String),
}

fn first_key(query: &Query) -> From {
    if query.after < query.prefix { From::At(query.prefix.clone()) } else { From::Behind(query.after.clone()) }
}

/// The next key with the prefix.
fn next<'a>(objects: &'a Objects, from: &From, prefix: &str) -> Option<(&'a str, &'a Arc<Object>)> {
    let start = match from {
        From::At(key) if key.is_empty() => Unbounded,
        From::At(key) => Included(key.as_str()),
        From::Behind(key) => Excluded(key.as_str()),
    };
    let (key, object) = objects.range::<str, _>((start, Unbounded)).next()?;
    key.starts_with(prefix).then_some((key, object))
}

/// What the key is listed as if it has the delimiter behind the query's prefix.
fn common_prefix<'a>(key: &'a str, query: &Query) -> Option<&'a str> {
    if query.delimiter.is_empty() {
        return None;
    }
    let at = key[query.prefix.len()..].find(&query.delimiter)?;
    Some(&key[..query.prefix.len() + at + query.delimiter.len()])
}

/// A string behind every key that starts with `prefix`: no key (1,024 bytes at most) holds so many of the last character.
fn behind_all(prefix: &str) -> String {
    let mut key = String::with_capacity(prefix.len() + 4 * 256);
    key.push_str(prefix);
    key.extend(std::iter::repeat_n(char::MAX, 256));
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::object::{Attributes, Identity};
    use proptest::prelude::*;

    const KEYS: [&str; 8] = ["a", "a/1", "a/2", "b/1", "b/2/3", "c", "é/x", "\u{ffff}"];

    fn object() -> Arc<Object> {
        let identity = Identity { size: 0, modified_ns: 0, inode: 0, changed_ns: 0 };
        Arc::new(Object::new("o".into(), identity, identity.etag(), Attributes::default()))
    }

    fn objects() -> Objects {
        KEYS.map(|key| (key.into(), object())).into()
    }

    /// All entries, paged by `limit`.
    fn all(prefix: &str, delimiter: &str, limit: usize) -> Vec<String> {
        let (objects, mut after, mut entries) = (objects(), String::new(), Vec::new());
        loop {
            let query = Query { prefix: prefix.into(), delimiter: delimiter.into(), after, limit };
            let page = page(&objects, &query);
            let mut names: Vec<_> = page.objects.into_iter().map(|(key, _)| key).chain(page.prefixes).collect();
            assert!(names.len() <= limit);
            names.sort();
            entries.extend(names);
            match page.next {
                Some(next) => after = next,
                None => return entries,
            }
        }
    }

    #[test]
    fn pages_of_every_size_make_the_same_list() {
        for limit in 1..10 {
            assert_eq!(all("", "", limit), KEYS);
            assert_eq!(all("", "/", limit), ["a", "a/", "b/", "c", "é/", "\u{ffff}"]);
            assert_eq!(all("b/", "/", limit), ["b/1", "b/2/"]);
            assert_eq!(all("a", "", limit), ["a", "a/1", "a/2"]);
            assert_eq!(all("a", "/", limit), ["a", "a/"]);
            assert_eq!(all("none", "", limit), [""; 0]);
        }
    }

    proptest! {
        /// Against the plainest way to do it: group all keys, then cut.
        #[test]
        fn pages_are_those_of_the_whole_list(
            keys in prop::collection::btree_set("[ab/\u{e9}]{1,6}", 0..15),
            prefix in "[ab/]{0,2}",
            delimiter in "/?",
            after in "[ab/]{0,3}",
            limit in 1_usize..6,
        ) {
            let objects: Objects = keys.iter().map(|key| (key.as_str().into(), object())).collect();
            let query = |after| Query { prefix: prefix.clone(), delimiter: delimiter.clone(), after, limit };
            let (mut found, mut from) = (Vec::new(), after.clone());
            loop {
                let page = page(&objects, &query(from));
                let mut entries: Vec<_> = page.objects.into_iter().map(|(key, _)| key).chain(page.prefixes).collect();
                prop_assert!(entries.len() <= limit && page.seen.len() == entries.len());
                entries.sort();
                found.extend(entries);
                match page.next {
                    Some(next) => from = next,
                    None => break,
                }
            }
            let all = query(after.clone());
            let entry = |key: &String| common_prefix(key, &all).unwrap_or(key).to_owned();
            let mut expected: Vec<_> = keys
                .iter()
                .filter(|key| key.starts_with(&prefix) && **key > after)
                .map(entry)
                .filter(|entry| *entry != after)
                .collect();
            expected.dedup();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn no_keys_wanted_means_no_page_follows() {
        let query = Query { prefix: String::new(), delimiter: String::new(), after: String::new(), limit: 0 };
        let page = page(&objects(), &query);
        assert!(page.objects.is_empty() && page.next.is_none());
    }

    #[test]
    fn a_start_inside_a_common_prefix_still_shows_it() {
        let query = Query { prefix: String::new(), delimiter: "/".into(), after: "a/1".into(), limit: 1 };
        let page = page(&objects(), &query);
        assert_eq!(page.prefixes, ["a/"]);
    }
}
