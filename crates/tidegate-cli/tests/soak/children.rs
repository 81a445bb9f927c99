//! A child as the other side: one that echoes, that reads little, that fails or is killed, that is deaf to SIGTERM, that
//! leaves somebody behind who holds its output.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::sleep;

use crate::relay::Relay;
use crate::talk::{self, Words};
use crate::tcp::reset;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Echoes,
    ReadsLittle,
    Fails,
    IsKilled,
    IsDeaf,
    LeavesSomebody,
}

pub(crate) const FAULTS: [Fault; 6] = [
    Fault::Echoes,
    Fault::ReadsLittle,
    Fault::Fails,
    Fault::IsKilled,
    Fault::IsDeaf,
    Fault::LeavesSomebody,
];

/// What the child does is the client's first line.
pub(crate) const ADDRESS: &str = "sh:read what; case $what in \
    Echoes) exec cat ;; \
    ReadsLittle) head -c 10; head -c 300000 /dev/zero ;; \
    Fails) head -c 300000 /dev/zero; exit 3 ;; \
    IsKilled) head -c 300000 /dev/zero; kill -KILL $$ ;; \
    IsDeaf) trap '' TERM; echo $$; while :; do sleep 1; done ;; \
    LeavesSomebody) sleep 600 & head -c 300000 /dev/zero ;; \
    esac";
const ZEROS: usize = 300_000;

/// Whether a process is no more, or only waits to be reaped.
fn is_gone(id: &str) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(id).join("stat"))
        .map_or(true, |stat| stat.rsplit(") ").next().unwrap().starts_with('Z'))
}

/// The near side; what the child does is known.
pub(crate) async fn client(relay: &Relay, fault: Fault, seed: u64, count: u64) {
    let mut peer = relay.connect().await;
    peer.write_all(format!("{fault:?}\n").as_bytes()).await.unwrap();
    match fault {
        Fault::Echoes => {
            let words = Words(seed, count);
            talk::at_once(peer, words, words).await.unwrap();
        }
        Fault::ReadsLittle => {
            peer.write_all(&[0; 50_000]).await.unwrap();
            let mut all = Vec::new();
            peer.read_to_end(&mut all).await.expect("the client saw a reset");
            assert_eq!(all, vec![0; 10 + ZEROS]);
        }
        // Everything it wrote comes, and no end.
        Fault::Fails | Fault::IsKilled | Fault::LeavesSomebody => {
            let mut all = Vec::new();
            let end = peer.read_to_end(&mut all).await;
            assert!(all == vec![0; ZEROS], "{fault:?}: {} of {ZEROS} bytes", all.len());
            assert!(end.is_err(), "{fault:?}: it looked like an end");
        }
        Fault::IsDeaf => {
            let mut id = String::new();
            let mut lines = BufReader::new(peer);
            lines.read_line(&mut id).await.unwrap();
            reset(lines.into_inner());
            while !is_gone(id.trim()) {
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
