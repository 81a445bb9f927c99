//! The four numbers that bound what is held: `low`, `high`, `max` and `chunk`.
//!
//! Knows nothing of what is counted.

use std::error::Error;
use std::fmt;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Bounds in bytes: pause above `high`, resume at or below `low`, refuse what would pass `max`; `chunk` is the
/// largest single read of a flow.
///
/// ```
/// let marks = tidegate::Marks::new(0, 65_536).unwrap();
/// assert_eq!((marks.low(), marks.high()), (0, 65_536));
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Marks {
    low: usize,
    high: usize,
    max: usize,
    chunk: usize,
}

impl Marks {
    /// Twisted's own marks, which its scenarios assume: low 0, high 65,536.
    pub const TWISTED: Self = Self {
        low: 0,
        high: 64 * KIB,
        max: 8 * MIB,
        chunk: 64 * KIB,
    };

    /// Marks with `low` and `high` given, `max` and `chunk` by default.
    ///
    /// # Errors
    /// [`MarksError`] unless `low <= high` and `high >= 1`.
    pub const fn new(low: usize, high: usize) -> Result<Self, MarksError> {
        let max = if high > 8 * MIB { high } else { 8 * MIB };
        Self {
            low,
            high,
            max,
            chunk: MIB,
        }
        .checked()
    }

    /// The same marks with another `max`.
    ///
    /// # Errors
    /// [`MarksError`] unless `max >= high`.
    pub const fn with_max(self, max: usize) -> Result<Self, MarksError> {
        Self { max, ..self }.checked()
    }

    /// The same marks with another `chunk`.
    ///
    /// # Errors
    /// [`MarksError`] unless `chunk >= 1`.
    pub const fn with_chunk(self, chunk: usize) -> Result<Self, MarksError> {
        Self { chunk, ..self }.checked()
    }

    const fn checked(self) -> Result<Self, MarksError> {
        if self.high == 0 {
            Err(MarksError::HighZero)
        } else if self.low > self.high {
            Err(MarksError::LowAboveHigh)
        } else if self.max < self.high {
            Err(MarksError::MaxBelowHigh)
        } else if self.chunk == 0 {
            Err(MarksError::ChunkZero)
        } else {
            Ok(self)
        }
    }

    /// Resume at or below this many bytes held.
    pub const fn low(&self) -> usize {
        self.low
    }

    /// Pause above this many bytes held.
    pub const fn high(&self) -> usize {
        self.high
    }

    /// Refuse a write that would hold more than this, unless nothing is held.
    pub const fn max(&self) -> usize {
        self.max
    }

    /// The largest single read of a flow.
    pub const fn chunk(&self) -> usize {
        self.chunk
    }
}

impl Default for Marks {
    /// low 16 KiB, high 64 KiB, max 8 MiB, chunk 1 MiB.
    fn default() -> Self {
        Self {
            low: 16 * KIB,
            high: 64 * KIB,
            max: 8 * MIB,
            chunk: MIB,
        }
    }
}

/// Marks that contradict each other. The caller's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MarksError {
    /// `high` is 0: nothing could ever be held.
    HighZero,
    /// `low` is above `high`.
    LowAboveHigh,
    /// `max` is below `high`.
    MaxBelowHigh,
    /// `chunk` is 0: nothing could ever be read.
    ChunkZero,
}

impl fmt::Display for MarksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HighZero => "the high mark must be at least 1 byte",
            Self::LowAboveHigh => "the low mark must not be above the high mark",
            Self::MaxBelowHigh => "the max mark must not be below the high mark",
            Self::ChunkZero => "a chunk must be at least 1 byte",
        })
    }
}

impl Error for MarksError {}
