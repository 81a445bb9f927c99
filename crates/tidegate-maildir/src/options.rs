//! What may be chosen about a delivery.
//!
//! Knows nothing of how the program spells it.

use std::time::Duration;

use crate::{Flags, Folder, LineEnds};

/// Files in `tmp/` older than this belong to a delivery that crashed: 36 hours, as the format's author has it.
pub const SWEEP_AGE: Duration = Duration::from_secs(36 * 3600);

/// What to do when the mailbox (or the folder) does not exist.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Create {
    /// Create it, for its owner only.
    #[default]
    Missing,
    /// Refuse.
    Never,
}

/// Where the message appears.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Target {
    /// In `new/`, as mail that just came in.
    #[default]
    New,
    /// In `cur/` with these flags, as mail that a reader filed.
    Cur(Flags),
}

/// The choices of one delivery.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to do when the mailbox does not exist.
    pub create: Create,
    /// `new/`, or `cur/` with flags.
    pub target: Target,
    /// A Maildir++ subfolder instead of the inbox.
    pub folder: Option<Folder>,
    /// The largest message taken, as stored. A larger one is refused and leaves nothing.
    pub size_bytes_max: Option<u64>,
    /// What to do with line ends.
    pub line_ends: LineEnds,
    /// Files in `tmp/` untouched for longer are removed before the delivery. `None` leaves them.
    pub sweep_age: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create: Create::default(),
            target: Target::default(),
            folder: None,
            size_bytes_max: None,
            line_ends: LineEnds::default(),
            sweep_age: Some(SWEEP_AGE),
        }
    }
}
