//! What is said on a soaked connection, and how both sides check it: the same bytes on both sides without sending them
//! twice, ends in each order.
//!
//! Knows nothing of faults, nor of what carries the bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const PIECE_BYTES: u64 = 64 * 1024;

fn byte(seed: u64, at: u64) -> u8 {
    let mixed = (seed ^ (at / 8))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(31)
        .wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed.to_le_bytes()[(at % 8) as usize]
}

pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), seed: u64, count: u64) -> io::Result<()> {
    let mut at = 0;
    while at < count {
        let len = (count - at).min(PIECE_BYTES);
        let piece: Vec<u8> = (at..at + len).map(|at| byte(seed, at)).collect();
        to.write_all(&piece).await?;
        at += len;
    }
    to.flush().await
}

/// Reads to the end and checks every byte; returns how many came, and how it ended.
pub(crate) async fn check(from: &mut (impl AsyncRead + Unpin), seed: u64) -> (u64, io::Result<()>) {
    check_from(from, seed, 0).await
}

/// The same for a stream of which some bytes were read before.
pub(crate) async fn check_from(
    from: &mut (impl AsyncRead + Unpin),
    seed: u64,
    mut at: u64,
) -> (u64, io::Result<()>) {
    let mut buffer = vec![0; PIECE_BYTES as usize];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => return (at, Ok(())),
            Ok(got) => {
                for found in &buffer[..got] {
                    assert_eq!(*found, byte(seed, at), "byte {at} differs");
                    at += 1;
                }
            }
            Err(error) => return (at, Err(error)),
        }
    }
}

/// What a connection is for: which fault, whose bytes, how many. The client's first words.
#[derive(Clone, Copy)]
pub(crate) struct Errand {
    pub(crate) fault: u8,
    pub(crate) seed: u64,
    pub(crate) count: u64,
}

impl Errand {
    pub(crate) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut header = [self.fault; 17];
        header[1..9].copy_from_slice(&self.seed.to_le_bytes());
        header[9..].copy_from_slice(&self.count.to_le_bytes());
        to.write_all(&header).await?;
        to.flush().await
    }

    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut header = [0; 17];
        from.read_exact(&mut header).await?;
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
        Ok(Self {
            fault: header[0],
            seed: number(1),
            count: number(9),
        })
    }

    /// What the client says.
    pub(crate) fn there(&self) -> Words {
        Words(self.seed, self.count)
    }

    /// What the origin says.
    pub(crate) fn back(&self) -> Words {
        Words(!self.seed, self.count)
    }
}

/// A side's bytes: their seed and how many there are.
#[derive(Clone, Copy)]
pub(crate) struct Words(pub(crate) u64, pub(crate) u64);

impl Words {
    /// Says them all and ends this direction.
    pub(crate) async fn say(self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        send(to, self.0, self.1).await?;
        to.shutdown().await
    }

    /// Hears them all, and an end.
    pub(crate) async fn hear(self, from: &mut (impl AsyncRead + Unpin)) {
        let (got, end) = check(from, self.0).await;
        assert!(
            got == self.1 && end.is_ok(),
            "{got} of {} bytes, then {end:?}",
            self.1
        );
    }

    /// Hears some of them, and no end: whatever came is right.
    pub(crate) async fn hear_cut(self, from: &mut (impl AsyncRead + Unpin)) {
        let (got, end) = check(from, self.0).await;
        assert!(
            end.is_err(),
            "cut after {got} of {} bytes, it looked like an end",
            self.1
        );
    }
}

/// Says all, then hears all.
pub(crate) async fn first(
    mut peer: impl AsyncRead + AsyncWrite + Unpin,
    ours: Words,
    theirs: Words,
) -> io::Result<()> {
    ours.say(&mut peer).await?;
    theirs.hear(&mut peer).await;
    Ok(())
}

/// Hears all, then says all.
pub(crate) async fn second(
    mut peer: impl AsyncRead + AsyncWrite + Unpin,
    ours: Words,
    theirs: Words,
) -> io::Result<()> {
    theirs.hear(&mut peer).await;
    ours.say(&mut peer).await
}

/// Says all and hears all at the same time.
pub(crate) async fn at_once(
    peer: impl AsyncRead + AsyncWrite + Unpin,
    ours: Words,
    theirs: Words,
) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(peer);
    tokio::join!(ours.say(&mut to), theirs.hear(&mut from)).0
}
