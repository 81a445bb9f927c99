//! Whether a file takes writes so promptly that the thread of the flow may do them itself.
//!
//! Knows file systems and how long a write took; nothing of streams or runtimes.

use std::fs::File;
use std::time::Duration;

use crate::page_cache;

/// A write that took longer has waited for a disk, or for somebody far away.
const PROMPT: Duration = Duration::from_millis(20);

/// Who does the writes to a file, each of which may wait for a disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WritesOn {
    /// The runtime's threads for blocking work: the right thing where the runtime has other work.
    #[default]
    Threads,
    /// The thread that polls the sink, as long as the file is a regular one on a file system of this machine and has taken
    /// each write at once; then threads. For a runtime that runs one flow and little else: changing threads twice costs
    /// about as much as a write into the page cache.
    Caller,
}

impl WritesOn {
    /// What is left of the wish for this file.
    pub(super) fn allowed_by(self, file: &File) -> Self {
        if page_cache::takes_writes_at_once(file) {
            self
        } else {
            Self::Threads
        }
    }

    /// Who does the next write after one that took so long.
    pub(super) fn after(self, took: Duration) -> Self {
        if took > PROMPT { Self::Threads } else { self }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_slow_write_is_the_last_that_the_caller_does() {
        let on = WritesOn::Caller.after(Duration::from_millis(1));
        assert_eq!(on, WritesOn::Caller);
        let on = on.after(Duration::from_millis(100));
        assert_eq!(on, WritesOn::Threads);
        assert_eq!(on.after(Duration::ZERO), WritesOn::Threads);
    }

    #[test]
    fn what_is_no_disk_of_this_machine_gets_a_thread() {
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(WritesOn::Caller.allowed_by(&file), WritesOn::Threads);
    }
}
