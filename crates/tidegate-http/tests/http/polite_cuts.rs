//! HTTP/2 bodies that are cut politely: the stream is reset with NO_ERROR, or the connection is closed after a GOAWAY with
//! it. hyper takes both for the end of the body. The frames are written by hand.

use std::future::poll_fn;

use tidegate_http::Protocol;
use tidegate_io::{Buffers, ErrorKind, Source as _};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{client_with, partials, up_dir, within};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
    frame.extend_from_slice(payload);
    frame
}

/// Error code 0, which is NO_ERROR.
fn reset() -> Vec<u8> {
    frame(RESET, 0, 1, &[0; 4])
}

/// How a body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Marked,
    Reset,
    /// The last stream that counts is the first, and no error.
    GoAway,
}

impl End {
    fn frames(self) -> Vec<u8> {
        match self {
            Self::Marked => frame(DATA, END_STREAM, 1, b"!"),
            Self::Reset => reset(),
            Self::GoAway => frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
        }
    }
}

#[tokio::test]
async fn an_upload_whose_stream_is_reset_without_an_error_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let server = up_dir(dir.path()).await;
    for end in [End::Reset, End::GoAway, End::Marked] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let mut request = PREFACE.to_vec();
        request.extend(frame(SETTINGS, 0, 0, b""));
        // PUT http://t/x, in HPACK's literals without an index.
        request.extend(frame(
            HEADERS,
            END_HEADERS,
            1,
            b"\x02\x03PUT\x86\x04\x02/x\x01\x01t",
        ));
        request.extend(frame(DATA, 0, 1, b"half"));
        stream.write_all(&request).await.unwrap();
        within(async {
            while partials(dir.path()) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        stream.write_all(&end.frames()).await.unwrap();
        if end == End::GoAway {
            stream.shutdown().await.unwrap();
        }
        within(async {
            while partials(dir.path()) > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let stored = dir.path().join("x").exists();
        assert_eq!(stored, end == End::Marked, "{end:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_download_whose_stream_is_reset_without_an_error_is_cut_short() {
    for end in [End::Reset, End::GoAway, End::Marked] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut answer = frame(SETTINGS, 0, 0, b"");
            answer.extend(frame(HEADERS, END_HEADERS, 1, b"\x88")); // :status 200
            answer.extend(frame(DATA, 0, 1, b"half"));
            let mut asked = Vec::new();
            // Its preface, its SETTINGS and what follows: the head of the request came last.
            while !asked.windows(2).any(|bytes| bytes == b"\x01\x05") {
                assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
            }
            stream.write_all(&answer).await.unwrap();
            stream.write_all(&end.frames()).await.unwrap();
            if end == End::GoAway {
                stream.shutdown().await.unwrap();
            }
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        });
        let client = client_with(|options| {
            options.protocol = Protocol::Two;
            options.retries = 0;
        });
        let mut source = within(client.get(&url, 0)).await.unwrap();
        let mut buffers = Buffers::default();
        let mut got = Vec::new();
        let ended = loop {
            match within(poll_fn(|cx| source.poll_read(cx, &mut buffers, 1024))).await {
                Ok(Some(piece)) => got.extend_from_slice(&piece),
                Ok(None) => break None,
                Err(error) => break Some(error.kind),
            }
        };
        assert!(got.starts_with(b"half"));
        let expected = (end != End::Marked).then_some(ErrorKind::Truncated);
        assert_eq!(ended, expected, "{end:?}");
        drop((source, client));
        within(serving).await.unwrap();
    }
}
