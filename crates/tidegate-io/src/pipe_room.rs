//! Room in pipes: those that carry bulk are widened, within what the system lets one user have.
//!
//! Knows nothing of what travels in them.

use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

/// Wanted for bulk.
pub(crate) const PIPE_BYTES: usize = 1024 * 1024;

/// The smallest page there is: where pages are larger, we stay further below the limit.
const PAGE_BYTES_MIN: usize = 4096;

/// What a pipe carries before it counts as bulk.
const BULK_BYTES: u64 = 512 * 1024;

/// The most all our pipes together are widened to. The kernel enforces the user's soft limit only on the unprivileged,
/// so we do: half of it, because other programs of the same user have pipes, too.
fn budget_bytes() -> usize {
    static BUDGET: OnceLock<usize> = OnceLock::new();
    *BUDGET.get_or_init(|| {
        let pages = std::fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft")
            .ok()
            .and_then(|text| text.trim().parse::<usize>().ok());
        match pages {
            // No limit.
            Some(0) => usize::MAX,
            Some(pages) => pages.saturating_mul(PAGE_BYTES_MIN) / 2,
            None => 0,
        }
    })
}

static TAKEN: Taken = Taken(AtomicUsize::new(0));

#[derive(Debug)]
struct Taken(AtomicUsize);

impl Taken {
    fn take(&self, bytes: usize, budget: usize) -> bool {
        let add = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= budget);
        self.0.fetch_update(Relaxed, Relaxed, add).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Relaxed);
    }
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct PipeRoom {
    bytes: usize,
}

impl PipeRoom {
    /// Widens a pipe to [`PIPE_BYTES`]. `None` where it stays as it is: it is as wide already, the budget is spent, or the
    /// system refuses.
    pub(crate) fn widen(pipe: BorrowedFd<'_>) -> Option<Self> {
        let has = fcntl_getpipe_size(pipe).ok()?;
        if has >= PIPE_BYTES || !TAKEN.take(PIPE_BYTES, budget_bytes()) {
            return None;
        }
        let room = Self { bytes: PIPE_BYTES };
        fcntl_setpipe_size(pipe, PIPE_BYTES).ok().map(|_| room)
    }
}

impl Drop for PipeRoom {
    fn drop(&mut self) {
        TAKEN.give_back(self.bytes);
    }
}

/// Widens somebody else's pipe once it has shown that it carries bulk.
#[derive(Debug, Default)]
pub(crate) struct Widening {
    carried: u64,
    room: Option<PipeRoom>,
}

impl Widening {
    /// So many more bytes went through `pipe`.
    pub(crate) fn carried(&mut self, pipe: BorrowedFd<'_>, bytes: u64) {
        let before = self.carried;
        self.carried = before.saturating_add(bytes);
        if before < BULK_BYTES && self.carried >= BULK_BYTES {
            self.room = PipeRoom::widen(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_budget_is_never_passed_and_comes_back() {
        let taken = Taken(AtomicUsize::new(0));
        assert!(taken.take(3, 5));
        assert!(!taken.take(3, 5));
        taken.give_back(3);
        assert!(taken.take(5, 5));
        assert!(!taken.take(usize::MAX, 5));
    }

    #[test]
    fn our_share_is_half_of_the_users_soft_limit() {
        let pages = std::fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").unwrap();
        match pages.trim().parse::<usize>().unwrap() {
            0 => assert_eq!(budget_bytes(), usize::MAX),
            pages => assert_eq!(budget_bytes(), pages * PAGE_BYTES_MIN / 2),
        }
    }

    #[test]
    fn only_bulk_widens_a_pipe() {
        let (_read, write) = rustix::pipe::pipe().unwrap();
        let first = fcntl_getpipe_size(&write).unwrap();
        let mut widening = Widening::default();
        widening.carried(write.as_fd(), BULK_BYTES - 1);
        assert_eq!(fcntl_getpipe_size(&write).unwrap(), first);
        widening.carried(write.as_fd(), 1);
        let size = fcntl_getpipe_size(&write).unwrap();
        // The system may refuse; then nothing of the budget is taken.
        assert_eq!(size > first, widening.room.is_some(), "{size} bytes");
    }
}
