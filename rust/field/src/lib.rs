//! The truth field of the data sets: every element's value follows from a seed and its coordinates.
//!
//! The same field as `setup_data/field.py`, bit for bit; `docs/data.md` defines it and
//! `tests/vectors/field.json` holds both to it. Integer arithmetic only, so no platform can differ.
//!
//! ```
//! let field = field::Field::new(7, 3);
//! assert_eq!(field.number(&[1, 2, 3]), field.number(&[1, 2, 3]));
//! let chunk = field.bytes(&[0, 0, 0], &[1, 4, 4], "uint16".parse().unwrap());
//! assert_eq!(chunk.len(), 4 * 4 * 2);
//! ```

use std::str::FromStr;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const MULTIPLIER: u64 = 0xD6E8_FEB8_6659_FD93;
/// A level is a step of a 12-bit sensor; numbers hold it left-justified in 16 bits.
const MEAN_LEVEL: i64 = 2048;
/// Noise lanes of 16 bits in one hash: neighbours along the last axis share it.
const LANES: u64 = 4;
/// Of each wave along an axis: its amplitude in levels, its least period in elements, the range of periods.
const WAVES: [(i64, u64, u64); 2] = [(60, 600, 400), (12, 40, 50)];

/// How a number is stored, always little-endian. Wider types hold the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// Unsigned integer of 1, 2, 4 or 8 bytes; one byte keeps the upper half of the number.
    Unsigned(usize),
    /// Signed integer of 1, 2, 4 or 8 bytes: the unsigned one less half its range (of 16 bits if wider).
    Signed(usize),
    /// `float32`: (number - 32768) / 64, exact.
    Float32,
    /// `float64`: (number - 32768) / 64, exact.
    Float64,
}

impl DType {
    /// Bytes of one element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Unsigned(size) | Self::Signed(size) => size,
            Self::Float32 => 4,
            Self::Float64 => 8,
        }
    }

    /// Appends the stored bytes of `number` to `out`.
    fn store(self, number: u16, out: &mut Vec<u8>) {
        let number = i64::from(number);
        match self {
            Self::Unsigned(1) => out.extend(&(number >> 8).to_le_bytes()[..1]),
            Self::Signed(1) => out.extend(&((number >> 8) - (1 << 7)).to_le_bytes()[..1]),
            Self::Unsigned(size) => out.extend(&number.to_le_bytes()[..size]),
            Self::Signed(size) => out.extend(&(number - (1 << 15)).to_le_bytes()[..size]),
            Self::Float32 => out.extend((centred(number) / 64.0).to_le_bytes()),
            Self::Float64 => out.extend((f64::from(centred(number)) / 64.0).to_le_bytes()),
        }
    }
}

/// Returns `number - 32768`, which 24 bits of mantissa hold exactly.
#[expect(clippy::cast_precision_loss, reason = "17 bits fit in 24")]
fn centred(number: i64) -> f32 {
    (number - (1 << 15)) as f32
}

impl FromStr for DType {
    type Err = String;

    /// Takes numpy's name, e.g. `uint16`.
    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "uint8" => Self::Unsigned(1),
            "uint16" => Self::Unsigned(2),
            "uint32" => Self::Unsigned(4),
            "uint64" => Self::Unsigned(8),
            "int8" => Self::Signed(1),
            "int16" => Self::Signed(2),
            "int32" => Self::Signed(4),
            "int64" => Self::Signed(8),
            "float32" => Self::Float32,
            "float64" => Self::Float64,
            _ => return Err(format!("unknown dtype {name:?}")),
        })
    }
}

/// One wave along an axis: its phase and step are fractions of a turn in units of 2^-64.
#[derive(Debug, Clone, Copy)]
struct Wave {
    amplitude: i64,
    step: u64,
    phase: u64,
}

impl Wave {
    fn new(seed: u64, axis: usize, number: usize) -> Self {
        let (amplitude, least, spread) = WAVES[number];
        let draw =
            mix(seed.wrapping_add(((WAVES.len() * axis + number + 1) as u64).wrapping_mul(GOLDEN)));
        let period = least + (draw >> 32) % spread;
        Self {
            amplitude,
            step: u64::MAX / period,
            phase: mix(draw),
        }
    }

    /// Returns the wave's level at `x`: two parabolas a turn, near a sine.
    fn level(self, x: u64) -> i64 {
        let turn = x.wrapping_mul(self.step).wrapping_add(self.phase) >> 48;
        let half = (turn & 0x7FFF).cast_signed();
        let height = (((half * (0x8000 - half)) >> 13) * self.amplitude) >> 15;
        if turn & 0x8000 == 0 { height } else { -height }
    }
}

/// The field of one array.
#[derive(Debug, Clone)]
pub struct Field {
    seed: u64,
    waves: Vec<[Wave; WAVES.len()]>,
}

impl Field {
    /// Returns the field of an array of `dimensions` (at least 1) for `seed`.
    ///
    /// # Panics
    /// When `dimensions` is 0.
    #[must_use]
    pub fn new(seed: u64, dimensions: usize) -> Self {
        assert!(dimensions > 0, "a field has at least one dimension");
        let waves = (0..dimensions)
            .map(|axis| [0, 1].map(|number| Wave::new(seed, axis, number)))
            .collect();
        Self { seed, waves }
    }

    /// Returns the number at the coordinates `at`: 12 bits of signal, left-justified in 16.
    ///
    /// # Panics
    /// When `at` has other dimensions than the field.
    #[must_use]
    pub fn number(&self, at: &[u64]) -> u16 {
        assert_eq!(
            at.len(),
            self.waves.len(),
            "coordinates have the field's dimensions"
        );
        let (last, leading) = at.split_last().expect("a field has at least one dimension");
        let key = self.row_key(leading);
        let level = MEAN_LEVEL + self.levels(leading) + self.level(leading.len(), *last);
        sum(level, noise(key, *last))
    }

    /// Returns the stored bytes of a box: first element at `start`, `shape` elements per axis, C order.
    ///
    /// # Panics
    /// When `start` or `shape` has other dimensions than the field.
    #[must_use]
    pub fn bytes(&self, start: &[u64], shape: &[u64], dtype: DType) -> Vec<u8> {
        assert!(start.len() == self.waves.len() && shape.len() == self.waves.len());
        let (axis, first, length) = (
            shape.len() - 1,
            start[start.len() - 1],
            shape[shape.len() - 1],
        );
        let columns: Vec<i64> = (first..first + length)
            .map(|x| self.level(axis, x))
            .collect();
        let rows: u64 = shape[..axis].iter().product();
        let mut out =
            Vec::with_capacity(usize::try_from(rows * length).unwrap_or(0) * dtype.size());
        let mut at = start[..axis].to_vec();
        for _ in 0..rows {
            let (key, row) = (self.row_key(&at), MEAN_LEVEL + self.levels(&at));
            for (x, column) in (first..).zip(&columns) {
                dtype.store(sum(row + column, noise(key, x)), &mut out);
            }
            advance(&mut at, start, shape);
        }
        out
    }

    fn levels(&self, at: &[u64]) -> i64 {
        at.iter()
            .enumerate()
            .map(|(axis, &x)| self.level(axis, x))
            .sum()
    }

    fn level(&self, axis: usize, x: u64) -> i64 {
        self.waves[axis].iter().map(|wave| wave.level(x)).sum()
    }

    /// Returns the hash key of a row: of all coordinates but the last.
    fn row_key(&self, leading: &[u64]) -> u64 {
        leading
            .iter()
            .fold(mix(self.seed), |key, x| mix(key ^ x.wrapping_mul(GOLDEN)))
    }
}

/// Returns a level and a noise as a number.
fn sum(level: i64, noise: u16) -> u16 {
    u16::try_from(level << 4).expect("waves stay within 12 bits for up to 16 axes") + noise
}

/// Returns the noise at column `x`: two 6-bit draws from its lane of the hash, in steps of a level.
fn noise(key: u64, x: u64) -> u16 {
    let hash = key.wrapping_add((x / LANES).wrapping_mul(GOLDEN));
    let hash = (hash ^ hash >> 32).wrapping_mul(MULTIPLIER);
    let lane = (hash >> (16 * (x % LANES))) as u16;
    (lane >> 6 & 0x3F0) + (lane & 0x3F0)
}

/// Returns a well-mixed hash of `value`.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 32).wrapping_mul(MULTIPLIER);
    let value = (value ^ value >> 32).wrapping_mul(MULTIPLIER);
    value ^ value >> 32
}

/// Moves `at` to the next row of the box in C order.
fn advance(at: &mut [u64], start: &[u64], shape: &[u64]) {
    for axis in (0..at.len()).rev() {
        at[axis] += 1;
        if at[axis] < start[axis] + shape[axis] {
            return;
        }
        at[axis] = start[axis];
    }
}
