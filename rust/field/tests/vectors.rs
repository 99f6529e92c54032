//! The committed vectors, which `tests/test_field.py` checks on the Python side.

use std::collections::HashSet;

use field::{DType, Field};

/// Each vector stands on a line of its own, so that no JSON parser is needed:
/// `{"seed":1,"dtype":"uint16","start":[0,0],"shape":[1,4],"hex":"00ff.."}`
fn vectors() -> Vec<&'static str> {
    include_str!("../../../tests/vectors/field.json")
        .lines()
        .filter(|line| line.contains("\"seed\""))
        .collect()
}

fn value<'a>(line: &'a str, name: &str, end: char) -> &'a str {
    let from = line
        .find(&format!("\"{name}\":"))
        .unwrap_or_else(|| panic!("{name} in {line}"))
        + name.len()
        + 3;
    line[from..]
        .trim_start_matches(['"', '['])
        .split(end)
        .next()
        .unwrap()
}

fn numbers(text: &str) -> Vec<u64> {
    text.split(',')
        .map(|number| number.parse().unwrap())
        .collect()
}

#[test]
fn every_vector_matches() {
    let mut dtypes = HashSet::new();
    for line in vectors() {
        let (start, shape) = (
            numbers(value(line, "start", ']')),
            numbers(value(line, "shape", ']')),
        );
        let dtype: DType = value(line, "dtype", '"').parse().unwrap();
        let field = Field::new(value(line, "seed", ',').parse().unwrap(), start.len());
        let hex = field
            .bytes(&start, &shape, dtype)
            .iter()
            .fold(String::new(), |hex, b| format!("{hex}{b:02x}"));
        assert_eq!(hex, value(line, "hex", '"'), "{line}");
        dtypes.insert(value(line, "dtype", '"'));
    }
    assert_eq!(dtypes.len(), 10);
}

#[test]
fn a_number_is_the_same_alone_and_in_a_box() {
    let field = Field::new(3, 3);
    let stored = field.bytes(&[5, 6, 7], &[2, 3, 5], DType::Unsigned(2));
    let mut at = stored
        .chunks_exact(2)
        .map(|two| u16::from_le_bytes([two[0], two[1]]));
    for t in 5..7 {
        for y in 6..9 {
            for x in 7..12 {
                assert_eq!(at.next(), Some(field.number(&[t, y, x])));
            }
        }
    }
}

#[test]
fn sixteen_axes_stay_within_twelve_bits() {
    for seed in 0..200 {
        let field = Field::new(seed, 16);
        for x in 0..50 {
            let _ = field.number(&[x * 37; 16]); // panics when a level leaves the range
        }
    }
}
