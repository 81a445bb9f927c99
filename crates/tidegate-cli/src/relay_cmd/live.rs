//! The table of connections under way, and how it is shown on SIGUSR1.
//!
//! Knows nothing of how a connection comes or goes; it also keeps the count that the limit is checked by.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tidegate_io::{FlowHandle, RelayHandle, Snapshot};
use tokio::sync::Notify;

use crate::display;
use crate::open::Peer;
use crate::report;
use crate::size::show_size;

/// Connections by number, at most so many.
pub(super) struct Live {
    table: Mutex<Table>,
    most: usize,
    emptied: Notify,
}

#[derive(Default)]
struct Table {
    /// Taken places: connections that are being dialled and those under way.
    taken: usize,
    joined: HashMap<u64, (Peer, RelayHandle)>,
}

/// A connection, as a snapshot shows it.
pub(super) struct Seen {
    pub(super) id: u64,
    pub(super) peer: String,
    pub(super) handle: RelayHandle,
}

impl Live {
    pub(super) fn new(most: usize) -> Self {
        Self {
            table: Mutex::default(),
            most,
            emptied: Notify::new(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most there may be.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Takes a place, if one is left. Whoever has it gives it back with [`leave`](Self::leave).
    pub(super) fn try_take(&self) -> bool {
        let mut table = self.table();
        let fits = table.taken < self.most;
        table.taken += usize::from(fits);
        fits
    }

    /// A connection that has taken a place is under way now.
    pub(super) fn join(&self, id: u64, peer: Peer, handle: RelayHandle) {
        self.table().joined.insert(id, (peer, handle));
    }

    /// Who is at the other end of a connection under way.
    pub(super) fn peer(&self, id: u64) -> Option<Peer> {
        self.table().joined.get(&id).map(|(peer, _)| peer.clone())
    }

    /// Gives a place back.
    pub(super) fn leave(&self, id: u64) {
        let mut table = self.table();
        let left = table.joined.remove(&id);
        table.taken -= 1;
        if table.taken == 0 {
            // Thousands came and went: their room goes too.
            table.joined.shrink_to_fit();
            self.emptied.notify_waiters();
        }
        drop(table);
        // Not under the lock: the last handle frees what the flows shared.
        drop(left);
    }

    /// How many places are taken.
    pub(super) fn count(&self) -> usize {
        self.table().taken
    }

    /// Resolves once no place is taken.
    pub(super) async fn emptied(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Those under way, in the order they came.
    pub(super) fn list(&self) -> Vec<Seen> {
        let mut list: Vec<Seen> = self
            .table()
            .joined
            .iter()
            .map(|(id, (peer, handle))| Seen {
                id: *id,
                peer: peer.to_string(),
                handle: handle.clone(),
            })
            .collect();
        list.sort_by_key(|seen| seen.id);
        list
    }
}

/// Answers SIGUSR1: every live flow.
pub(super) fn look(live: &[Seen], json: bool) {
    if !json {
        display::print_line(&format!("tidegate: {} connections", live.len()));
    }
    for Seen { id, peer, handle } in live {
        let (there, back) = (handle.a_to_b.snapshot(), handle.b_to_a.snapshot());
        if json {
            display::print_json(&json!({
                "version": report::SCHEMA_VERSION,
                "event": "connection",
                "connection": id,
                "peer": peer,
                "there": flow_json(&handle.a_to_b),
                "back": flow_json(&handle.b_to_a),
            }));
        } else {
            display::print_line(&format!(
                "  {id} {peer}: there {}; back {}",
                flow_line(&there),
                flow_line(&back)
            ));
        }
    }
}

fn flow_line(now: &Snapshot) -> String {
    format!(
        "{} sent, {} held ({:.0}%), {}, lane {}, slow side: {}",
        show_size(now.bytes_sent),
        show_size(now.held as u64),
        now.fill() * 100.0,
        now.state,
        now.lane,
        now.slow_side()
    )
}

fn flow_json(handle: &FlowHandle) -> Value {
    let now = handle.snapshot();
    json!({
        "bytes_read": now.bytes_read,
        "bytes_sent": now.bytes_sent,
        "held": now.held,
        "high": now.high,
        "state": now.state.name(),
        "lane": now.lane.name(),
        "slow_side": now.slow_side().name(),
        "seconds": now.elapsed.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_counted_exactly_and_the_last_one_back_is_told() {
        let live = Live::new(2);
        assert!(live.try_take() && live.try_take());
        assert!(!live.try_take(), "a third place of two");
        live.leave(1);
        assert!(live.try_take() && !live.try_take());
        let empty = std::pin::pin!(live.emptied());
        let others = async {
            tokio::task::yield_now().await;
            live.leave(2);
            live.leave(3);
        };
        tokio::join!(empty, others);
        assert_eq!(live.count(), 0);
    }
}
