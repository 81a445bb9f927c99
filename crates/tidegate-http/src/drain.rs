//! The end of a server: connections may end by themselves as long as bytes move.
//!
//! Knows nothing of connections but their tasks and what they moved. Which bytes count is theirs to say: over HTTP/1.1 what
//! is on the wire, over HTTP/2 only what is of a body, because its pings move bytes for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes that the connections of one loop have moved for their requests, either way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moved(Arc<AtomicU64>);

impl Moved {
    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Waits for every task to end by itself, and cuts the rest once nothing has moved for `limit`; says how many those were.
pub(crate) async fn finish_all(mut tasks: JoinSet<()>, limit: Duration, moved: &Moved) -> usize {
    let mut looks = tokio::time::interval((limit / 8).max(Duration::from_millis(1)));
    let (mut seen, mut since) = (moved.bytes(), Instant::now());
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                None => return 0,
                Some(_) => since = Instant::now(),
            },
            _ = looks.tick() => {
                let now = moved.bytes();
                if now != seen {
                    (seen, since) = (now, Instant::now());
                } else if since.elapsed() >= limit {
                    let cut = tasks.len();
                    tasks.shutdown().await;
                    return cut;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn progress_restarts_the_deadline_and_silence_cuts() {
        let limit = Duration::from_secs(8);
        let moved = Moved::default();
        let mut tasks = JoinSet::new();
        let mover = moved.clone();
        tasks.spawn(async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                mover.add(1);
            }
        });
        tasks.spawn(std::future::pending());
        let start = Instant::now();
        assert_eq!(finish_all(tasks, limit, &moved).await, 1, "the silent one");
        let took = start.elapsed();
        assert!(
            took >= Duration::from_secs(58) && took <= Duration::from_secs(61),
            "{took:?}"
        );
        assert_eq!(finish_all(JoinSet::new(), limit, &moved).await, 0);
    }
}
