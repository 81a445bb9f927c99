//! The laws of flows over real endpoints, each lane and both orders of the ends.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tidegate::AbortReason;
use tidegate_io::endpoint::{tcp, unix};
use tidegate_io::laws::{self, Cut, Ends, Feed, Pair};
use tidegate_io::{Buffers, Confirmation, EndpointError, Held, LaneChoice, Sink, Source};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// What a side is made of.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Tcp,
    Unix,
}

struct Over {
    from: Side,
    to: Side,
    lane: LaneChoice,
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    (near.unwrap(), far.unwrap().0)
}

impl Side {
    async fn source(self) -> (Box<dyn Source + Send>, Feed) {
        match self {
            Self::Tcp => {
                let (near, far) = tcp_pair().await;
                // A feed that is dropped unfinished resets, so that `cut` is a drop.
                socket2::SockRef::from(&far)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                (Box::new(tcp::source(near)), Box::pin(far))
            }
            Self::Unix => {
                let (near, far) = UnixStream::pair().unwrap();
                (Box::new(unix::source(near, Path::new("pair"))), Box::pin(far))
            }
        }
    }

    async fn sink(self) -> (Box<dyn Sink + Send>, laws::Drain) {
        match self {
            Self::Tcp => {
                let (near, far) = tcp_pair().await;
                (Box::new(tcp::sink(near)), Box::pin(far))
            }
            Self::Unix => {
                let (near, far) = UnixStream::pair().unwrap();
                (Box::new(unix::sink(near, Path::new("pair"))), Box::pin(far))
            }
        }
    }

    fn cut(self) -> Cut {
        match self {
            Self::Tcp => Cut::Shown,
            Self::Unix => Cut::NotShown,
        }
    }
}

impl Pair for Over {
    async fn make(&self) -> Ends {
        let (source, feed) = self.from.source().await;
        let (sink, drain) = self.to.sink().await;
        Ends {
            source,
            sink,
            feed,
            drain,
        }
    }

    fn cut(&self, feed: Feed) -> Cut {
        drop(feed);
        self.from.cut()
    }

    fn abort_shows(&self) -> Cut {
        self.to.cut()
    }

    fn slack_bytes(&self) -> u64 {
        16 << 20
    }

    fn lane(&self) -> LaneChoice {
        self.lane
    }
}

async fn all(from: Side, to: Side, lane: LaneChoice) {
    laws::flow(&Over { from, to, lane }).await;
}

#[tokio::test]
async fn tcp_to_tcp() {
    all(Side::Tcp, Side::Tcp, LaneChoice::Copy).await;
}

#[tokio::test]
async fn tcp_to_tcp_spliced() {
    all(Side::Tcp, Side::Tcp, LaneChoice::Splice).await;
}

#[tokio::test]
async fn tcp_to_unix() {
    all(Side::Tcp, Side::Unix, LaneChoice::Copy).await;
}

#[tokio::test]
async fn unix_to_tcp() {
    all(Side::Unix, Side::Tcp, LaneChoice::Copy).await;
}

#[tokio::test]
async fn unix_to_tcp_spliced() {
    all(Side::Unix, Side::Tcp, LaneChoice::Splice).await;
}

#[tokio::test]
async fn unix_to_unix() {
    all(Side::Unix, Side::Unix, LaneChoice::Auto).await;
}

/// A pair with one of its ends behind a wrapper that breaks a law.
struct Broken {
    over: Over,
    source: fn(Box<dyn Source + Send>) -> Box<dyn Source + Send>,
    sink: fn(Box<dyn Sink + Send>) -> Box<dyn Sink + Send>,
}

impl Pair for Broken {
    async fn make(&self) -> Ends {
        let ends = self.over.make().await;
        Ends {
            source: (self.source)(ends.source),
            sink: (self.sink)(ends.sink),
            ..ends
        }
    }

    fn cut(&self, feed: Feed) -> Cut {
        self.over.cut(feed)
    }

    fn abort_shows(&self) -> Cut {
        self.over.abort_shows()
    }

    fn slack_bytes(&self) -> u64 {
        self.over.slack_bytes()
    }
}

/// Takes a failure for an end.
struct Gullible(Box<dyn Source + Send>);

impl Source for Gullible {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        self.0
            .poll_read(cx, buffers, max)
            .map(|read| Ok(read.unwrap_or(None)))
    }

    fn name(&self) -> String {
        "gullible".into()
    }
}

/// Claims a byte more than it took, now and then.
struct Careless(Box<dyn Sink + Send>);

impl Sink for Careless {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        self.0
            .poll_write(cx, held)
            .map_ok(|taken| if taken < held.len() { taken + 1 } else { taken })
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        self.0.poll_finish(cx)
    }

    fn abort(&mut self, reason: &AbortReason) {
        self.0.abort(reason);
    }

    fn name(&self) -> String {
        "careless".into()
    }
}

/// Ends in good order what was to be cut.
struct Smooth(Box<dyn Sink + Send>);

impl Sink for Smooth {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        self.0.poll_write(cx, held)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        self.0.poll_finish(cx)
    }

    fn abort(&mut self, _reason: &AbortReason) {
        let waker = std::task::Waker::noop();
        let _ = self.0.poll_finish(&mut Context::from_waker(waker));
    }

    fn name(&self) -> String {
        "smooth".into()
    }
}

async fn caught(broken: Broken, law: &str) {
    let ended = tokio::spawn(async move { laws::flow(&broken).await }).await;
    let panic = ended.expect_err("the suite let it pass").into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    let text = text
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap();
    assert!(text.contains(law), "{text}");
}

fn broken() -> Broken {
    let over = Over {
        from: Side::Tcp,
        to: Side::Tcp,
        lane: LaneChoice::Copy,
    };
    Broken {
        over,
        source: |source| source,
        sink: |sink| sink,
    }
}

#[tokio::test]
async fn a_source_that_takes_a_failure_for_an_end_is_caught() {
    caught(
        Broken {
            source: |source| Box::new(Gullible(source)),
            ..broken()
        },
        "law 10",
    )
    .await;
}

#[tokio::test]
async fn a_sink_that_claims_more_than_it_took_is_caught() {
    caught(
        Broken {
            sink: |sink| Box::new(Careless(sink)),
            ..broken()
        },
        "law ",
    )
    .await;
}

#[tokio::test]
async fn a_sink_that_ends_in_good_order_on_an_abort_is_caught() {
    caught(
        Broken {
            sink: |sink| Box::new(Smooth(sink)),
            ..broken()
        },
        "law 10",
    )
    .await;
}
