//! TCP on both sides: half-closes in each order, resets from each side, peers that do not read or hardly read.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::relay::Relay;
use crate::talk::{self, Errand, check_from, send};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The client ends its direction first; the origin answers with as many bytes, then ends.
    ClientEndsFirst,
    /// The origin ends its direction first; the client goes on, then ends.
    OriginEndsFirst,
    /// Both send, and both end without waiting for the other.
    BothAtOnce,
    /// The client resets midway: the origin must not see an end.
    ClientResets,
    /// The origin resets midway: the client must not see an end.
    OriginResets,
    /// The origin reads nothing while the client fills every buffer, then resets.
    OriginNeverReads,
    /// The origin reads a byte at a time for a while, then all.
    OriginHardlyReads,
}

pub(crate) const FAULTS: [Fault; 7] = [
    Fault::ClientEndsFirst,
    Fault::OriginEndsFirst,
    Fault::BothAtOnce,
    Fault::ClientResets,
    Fault::OriginResets,
    Fault::OriginNeverReads,
    Fault::OriginHardlyReads,
];

pub(crate) fn reset(peer: TcpStream) {
    let peer = peer.into_std().unwrap();
    socket2::SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(peer);
}

/// The far side.
pub(crate) async fn origin(mut peer: TcpStream) -> io::Result<()> {
    let errand = Errand::read(&mut peer).await?;
    let (ours, theirs) = (errand.back(), errand.there());
    match FAULTS[usize::from(errand.fault)] {
        Fault::ClientEndsFirst => talk::second(peer, ours, theirs).await?,
        Fault::OriginEndsFirst => talk::first(peer, ours, theirs).await?,
        Fault::BothAtOnce => talk::at_once(peer, ours, theirs).await?,
        Fault::ClientResets => theirs.hear_cut(&mut peer).await,
        Fault::OriginResets => {
            send(&mut peer, ours.0, ours.1).await?;
            reset(peer);
        }
        Fault::OriginNeverReads => {
            let mut space = vec![0; 64 * 1024];
            // Woken by nothing but the reset: it reads only after the client has given up.
            sleep(Duration::from_millis(300)).await;
            while peer.read(&mut space).await? != 0 {}
            panic!("origin: a reset looked like an end");
        }
        Fault::OriginHardlyReads => {
            for at in 0..20 {
                let (got, end) = check_from(&mut (&mut peer).take(1), errand.seed, at).await;
                assert_eq!((got, end.is_ok()), (at + 1, true));
                sleep(Duration::from_millis(5)).await;
            }
            let (got, end) = check_from(&mut peer, errand.seed, 20).await;
            assert_eq!((got, end.is_ok()), (errand.count, true));
            peer.shutdown().await?;
        }
    }
    Ok(())
}

/// The near side.
pub(crate) async fn client(relay: &Relay, fault: Fault, seed: u64, count: u64) {
    let mut peer = relay.connect().await;
    let errand = Errand {
        fault: fault as u8,
        seed,
        count,
    };
    errand.write(&mut peer).await.unwrap();
    let (ours, theirs) = (errand.there(), errand.back());
    match fault {
        Fault::ClientEndsFirst => talk::first(peer, ours, theirs).await.unwrap(),
        Fault::OriginEndsFirst => talk::second(peer, ours, theirs).await.unwrap(),
        Fault::BothAtOnce => talk::at_once(peer, ours, theirs).await.unwrap(),
        Fault::OriginHardlyReads => {
            let nothing = talk::Words(theirs.0, 0);
            talk::first(peer, ours, nothing).await.unwrap();
        }
        Fault::ClientResets => {
            send(&mut peer, seed, count).await.unwrap();
            reset(peer);
        }
        Fault::OriginResets => theirs.hear_cut(&mut peer).await,
        Fault::OriginNeverReads => {
            let filled = timeout(Duration::from_millis(200), send(&mut peer, seed, u64::MAX)).await;
            assert!(filled.is_err(), "client: the relay swallowed everything");
            reset(peer);
        }
    }
}
