//! How far a source may run ahead of a slow sink: the kernel's receive queue is bounded, and given back.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use common::tcp_pair;
use socket2::SockRef;
use tidegate::AbortReason;
use tidegate_io::endpoint::tcp;
use tidegate_io::{Confirmation, EndpointError, Flow, Held, RunAhead, Sink, Source};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Takes 8 KiB each millisecond while it is slow, and everything at once when it is not.
struct Paced {
    slow: Arc<AtomicBool>,
    rest: Pin<Box<Sleep>>,
}

impl Sink for Paced {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        if !self.slow.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(held.len()));
        }
        ready!(self.rest.as_mut().poll(cx));
        self.rest
            .as_mut()
            .reset(tokio::time::Instant::now() + Duration::from_millis(1));
        Poll::Ready(Ok(held.len().min(8 * 1024)))
    }
    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        Poll::Ready(Ok(Confirmation::Confirmed))
    }
    fn abort(&mut self, _reason: &AbortReason) {}
    fn name(&self) -> String {
        "paced".into()
    }
}

/// Whether this system lets a receive queue be given back once it was bounded; says so where it does not.
fn can_be_given_back() -> bool {
    let text = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
    let can = text.trim().parse::<usize>().unwrap() >= 4 << 20;
    if !can {
        eprintln!(
            "SKIPPED: net.core.rmem_max is {}, so nothing is bounded",
            text.trim()
        );
    }
    can
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn queue_bytes(look: &std::os::fd::OwnedFd) -> usize {
    SockRef::from(look).recv_buffer_size().unwrap()
}

#[tokio::test]
async fn a_slow_sink_bounds_the_sources_queue_and_a_fast_one_gets_it_back() {
    if !can_be_given_back() {
        return;
    }
    let (mut near, from) = tcp_pair().await;
    let look = std::os::fd::AsFd::as_fd(&from).try_clone_to_owned().unwrap();
    // As after a while at full speed: the kernel has let the queue grow.
    SockRef::from(&look).set_recv_buffer_size(3 << 20).unwrap();
    let grown = queue_bytes(&look);
    let slow = Arc::new(AtomicBool::new(true));
    let sink = Paced {
        slow: Arc::clone(&slow),
        rest: Box::pin(sleep(Duration::ZERO)),
    };
    let running = tokio::spawn(Flow::new(tcp::source(from), sink).run());
    let fast = Arc::new(AtomicBool::new(true));
    let sender = tokio::spawn({
        let fast = Arc::clone(&fast);
        async move {
            let mut sent = 0_u64;
            while fast.load(Ordering::Relaxed) {
                near.write_all(&[7; 64 * 1024]).await.unwrap();
                sent += 64 * 1024;
            }
            // The source becomes the slow side.
            for _ in 0..100 {
                near.write_all(&[7; 1024]).await.unwrap();
                sent += 1024;
                sleep(Duration::from_millis(1)).await;
            }
            (near, sent)
        }
    });
    until("the queue is bounded", || queue_bytes(&look) < grown / 2).await;
    slow.store(false, Ordering::Relaxed);
    fast.store(false, Ordering::Relaxed);
    until("the queue is given back", || queue_bytes(&look) >= grown).await;
    let (near, sent) = sender.await.unwrap();
    drop(near);
    assert_eq!(running.await.unwrap().unwrap().bytes_sent, sent);
}

#[tokio::test]
async fn what_could_not_be_given_back_is_not_taken_and_a_unix_socket_is_left_alone() {
    let (_near, from) = tcp_pair().await;
    let look = std::os::fd::AsFd::as_fd(&from).try_clone_to_owned().unwrap();
    let before = queue_bytes(&look);
    let mut source = tcp::source(from);
    source.set_run_ahead(RunAhead::Limited(100_000));
    if can_be_given_back() {
        assert_eq!(
            queue_bytes(&look),
            200_000,
            "the kernel doubles what it is asked for"
        );
        source.set_run_ahead(RunAhead::Free);
        assert!(queue_bytes(&look) >= 8 << 20);
    } else {
        assert_eq!(queue_bytes(&look), before);
    }
    let (near, _far) = tokio::net::UnixStream::pair().unwrap();
    let look = std::os::fd::AsFd::as_fd(&near).try_clone_to_owned().unwrap();
    let before = queue_bytes(&look);
    let mut source = tidegate_io::endpoint::unix::source(near, std::path::Path::new("pair"));
    source.set_run_ahead(RunAhead::Limited(100_000));
    assert_eq!(queue_bytes(&look), before);
}

#[tokio::test]
async fn connections_are_writable_only_while_little_is_unsent() {
    let listener = tcp::Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (dialled, taken) = tokio::join!(tcp::connect(&address, Duration::from_secs(5)), listener.accept());
    let lowat = |stream: &TcpStream| SockRef::from(stream).tcp_notsent_lowat().unwrap();
    assert_eq!(lowat(&dialled.unwrap()), 256 * 1024);
    assert_eq!(lowat(&taken.unwrap().0), 256 * 1024);
}
