//! Relays that cannot do what they are asked: the other side's name is not known, its certificate does not do, or there is no
//! descriptor left to accept or to dial with. Whoever is not served is reset, and never sees an end.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::relay::Relay;
use crate::talk::{Errand, Words, check, send};
use crate::tcp::Fault;

/// Descriptors for a relay that shall run out of them: its own, and a handful of connections.
pub(crate) const FEW: u32 = 40;
const CROWD: u64 = 60;

/// A client of a relay that cannot reach the other side.
pub(crate) async fn client(relay: &Relay) {
    let Ok(mut peer) = relay.try_connect().await else {
        return;
    };
    // The reset is told once, to whoever asks first.
    let sent = peer.write_all(b"anybody there?").await;
    let end = peer.read(&mut [0]).await;
    assert!(
        sent.is_err() || end.is_err(),
        "client: a refusal looked like an end"
    );
}

/// More clients at once than there are descriptors for: each is served to the last byte or reset. Then one that must be
/// served. Says how many were.
pub(crate) async fn crowd(relay: &std::sync::Arc<Relay>, seed: u64) -> u64 {
    let mut clients = JoinSet::new();
    for number in 0..CROWD {
        let relay = std::sync::Arc::clone(relay);
        clients.spawn(async move { served(&relay, seed + number, Duration::from_millis(200)).await });
    }
    let mut count = 0;
    while let Some(done) = clients.join_next().await {
        count += u64::from(done.unwrap().is_ok());
    }
    // The crowd's descriptors come back one by one.
    while served(relay, seed, Duration::ZERO).await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    count + 1
}

/// A client that says nothing for a while, so that the others are all there too.
async fn served(relay: &Relay, seed: u64, after: Duration) -> io::Result<()> {
    const COUNT: u64 = 50_000;
    let mut peer = relay.try_connect().await?;
    sleep(after).await;
    let errand = Errand {
        fault: Fault::ClientEndsFirst as u8,
        seed,
        count: COUNT,
    };
    errand.write(&mut peer).await?;
    send(&mut peer, seed, COUNT).await?;
    peer.shutdown().await?;
    let Words(back, count) = errand.back();
    let (got, end) = check(&mut peer, back).await;
    end?;
    assert_eq!(got, count, "client: it was cut short and looked finished");
    Ok(())
}
