//! The end of a relay with a listener: connections under way may end by themselves for as long as they make progress.
//!
//! Knows nothing of accepting.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tidegate::AbortReason;

use super::live::{self, Live};
use crate::exit::Exit;
use crate::signals::{self, Ending, Signals, Wish};

/// How often a drain looks for progress.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long connections that were cut may take to let go.
const SETTLE: Duration = Duration::from_secs(2);

/// Waits until all connections have ended. One on which nothing moves for `limit` is cut; a second signal cuts them all.
pub(super) async fn drain(
    live: &Live,
    limit: Duration,
    json: bool,
    ending: Ending,
    signals: &mut Signals,
) -> Exit {
    let mut watch = Standstill::new(limit);
    let mut ticker = tokio::time::interval(LOOK_EVERY);
    let waiting = live.count();
    if waiting > 0 {
        tracing::info!(
            connections = waiting,
            "ending: waiting for connections; once more cuts them"
        );
    }
    loop {
        tokio::select! {
            biased;
            wish = signals.next() => match wish {
                Wish::End(_) => {
                    for seen in live.list() {
                        seen.handle.abort(AbortReason::Requested);
                    }
                    let _ = tokio::time::timeout(SETTLE, live.emptied()).await;
                    return ending.exit();
                }
                Wish::Look => live::look(&live.list(), json),
                Wish::Suspend => signals::suspend(),
                Wish::Continue => {}
            },
            () = live.emptied() => break,
            _ = ticker.tick() => watch.cut(live),
        }
    }
    if watch.lost { ending.exit() } else { Exit::Ok }
}

/// Finds connections that stand still.
struct Standstill {
    limit: Duration,
    seen: HashMap<u64, (u64, Instant)>,
    /// Whether one that was cut held bytes, which are lost so.
    lost: bool,
}

impl Standstill {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            seen: HashMap::new(),
            lost: false,
        }
    }

    /// Cuts connections that have made no progress for the limit.
    fn cut(&mut self, live: &Live) {
        for connection in live.list() {
            let handle = &connection.handle;
            let (there, back) = (handle.a_to_b.snapshot(), handle.b_to_a.snapshot());
            let moved = there.bytes_read + there.bytes_sent + back.bytes_read + back.bytes_sent;
            let (before, since) = *self.seen.entry(connection.id).or_insert((moved, Instant::now()));
            if moved != before {
                self.seen.insert(connection.id, (moved, Instant::now()));
            } else if since.elapsed() >= self.limit {
                self.lost |= there.held + back.held > 0;
                handle.abort(AbortReason::TimedOut);
            }
        }
    }
}
