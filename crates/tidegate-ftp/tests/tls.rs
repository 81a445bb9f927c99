//! `AUTH TLS`, `PBSZ`, `PROT`, and what must not pass where TLS is required.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{Certificate, Control, PATIENCE, Served, certificate, with_tls, writable};
use tidegate_ftp::grammar::{Replies, Reply, address};
use tidegate_ftp::server::{ServeOptions, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

struct Secured {
    stream: TlsStream<TcpStream>,
    replies: Replies,
}

async fn handshake(certificate: &Certificate, stream: TcpStream) -> TlsStream<TcpStream> {
    let connector = TlsConnector::from(Arc::clone(&certificate.client));
    connector
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap()
}

impl Secured {
    async fn start(served: &Served, certificate: &Certificate) -> Self {
        let mut control = Control::connect(served.address).await;
        assert_eq!(control.code("AUTH TLS").await, 234);
        Self {
            stream: handshake(certificate, control.stream).await,
            replies: Replies::default(),
        }
    }

    async fn reply(&mut self) -> Reply {
        loop {
            if let Some(reply) = self.replies.next_reply() {
                return reply.unwrap();
            }
            let mut buffer = [0; 1024];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await;
            let count = read.expect("a reply in time").unwrap();
            assert!(count > 0, "the server closed");
            self.replies.push(&buffer[..count]);
        }
    }

    async fn code(&mut self, command: &str) -> u16 {
        self.stream
            .write_all(format!("{command}\r\n").as_bytes())
            .await
            .unwrap();
        self.reply().await.code
    }

    async fn login(&mut self) {
        assert_eq!(self.code("USER anonymous").await, 331);
        assert_eq!(self.code("PASS x").await, 230);
        assert_eq!(self.code("TYPE I").await, 200);
    }

    async fn protect(&mut self) {
        assert_eq!(self.code("PBSZ 0").await, 200);
        assert_eq!(self.code("PROT P").await, 200);
    }

    async fn data(&mut self, served: &Served) -> TcpStream {
        self.stream.write_all(b"EPSV\r\n").await.unwrap();
        let reply = self.reply().await;
        let port = address::parse_extended_passive_text(&reply.lines[0]).unwrap();
        TcpStream::connect((served.address.ip(), port)).await.unwrap()
    }
}

fn required(certificate: &Certificate) -> ServeOptions {
    ServeOptions {
        tls: Tls::Required(Arc::clone(&certificate.server)),
        ..writable()
    }
}

#[tokio::test]
async fn nothing_passes_in_plain_where_tls_is_required() {
    let certificate = certificate();
    let served = Served::start(required(&certificate)).await;
    served.put("a", b"x");
    let mut control = Control::connect(served.address).await;
    assert_eq!(control.code("USER anonymous").await, 530);
    assert_eq!(control.code("PASS x").await, 530);
    assert_eq!(control.code("PROT P").await, 503);
    let mut secured = Secured::start(&served, &certificate).await;
    assert_eq!(secured.code("AUTH TLS").await, 503);
    assert_eq!(secured.code("PROT P").await, 503, "PBSZ comes first");
    secured.login().await;
    assert_eq!(secured.code("RETR a").await, 521);
    assert_eq!(secured.code("LIST").await, 521);
    assert_eq!(secured.code("PBSZ 0").await, 200);
    assert_eq!(secured.code("PROT C").await, 534);
    assert_eq!(secured.code("PROT E").await, 536);
    assert_eq!(secured.code("CCC").await, 534);
}

#[tokio::test]
async fn commands_sent_behind_auth_in_plain_are_forgotten() {
    let certificate = certificate();
    let served = Served::start(with_tls(&certificate)).await;
    let mut control = Control::connect(served.address).await;
    // Somebody between us adds a command to the plain part.
    control.send("AUTH TLS\r\nUSER anonymous\r\nPASS x\r\n").await;
    assert_eq!(control.reply().await.code, 234);
    let stream = handshake(&certificate, control.stream).await;
    let mut secured = Secured {
        stream,
        replies: Replies::default(),
    };
    assert_eq!(secured.code("PWD").await, 530);
}

#[tokio::test]
async fn files_travel_protected_both_ways() {
    let certificate = certificate();
    let served = Served::start(with_tls(&certificate)).await;
    let mut secured = Secured::start(&served, &certificate).await;
    secured.protect().await;
    secured.login().await;
    let data = secured.data(&served).await;
    assert_eq!(secured.code("STOR a").await, 150);
    let mut data = handshake(&certificate, data).await;
    data.write_all(b"protected").await.unwrap();
    data.shutdown().await.unwrap();
    assert_eq!(secured.reply().await.code, 226);
    assert_eq!(served.content("a"), b"protected");
    let data = secured.data(&served).await;
    assert_eq!(secured.code("RETR a").await, 150);
    let mut data = handshake(&certificate, data).await;
    let mut got = Vec::new();
    data.read_to_end(&mut got).await.unwrap();
    data.shutdown().await.unwrap();
    drop(data);
    assert_eq!(got, b"protected");
    assert_eq!(secured.reply().await.code, 226);
}

/// Whoever sits between us can end a TCP stream, but not with the alert of TLS.
#[tokio::test]
async fn an_upload_that_ends_without_the_closing_alert_is_cut_short() {
    let certificate = certificate();
    let served = Served::start(with_tls(&certificate)).await;
    served.put("a", b"old");
    let mut secured = Secured::start(&served, &certificate).await;
    secured.protect().await;
    secured.login().await;
    let data = secured.data(&served).await;
    assert_eq!(secured.code("STOR a").await, 150);
    let mut data = handshake(&certificate, data).await;
    data.write_all(b"half").await.unwrap();
    data.flush().await.unwrap();
    let (mut plain, _) = data.into_inner();
    plain.shutdown().await.unwrap();
    assert_eq!(secured.reply().await.code, 426);
    assert_eq!(served.content("a"), b"old");
}

#[tokio::test]
async fn a_plain_data_connection_where_tls_was_agreed_is_425() {
    let certificate = certificate();
    let served = Served::start(with_tls(&certificate)).await;
    served.put("a", b"x");
    let mut secured = Secured::start(&served, &certificate).await;
    secured.protect().await;
    secured.login().await;
    let mut data = secured.data(&served).await;
    assert_eq!(secured.code("RETR a").await, 150);
    data.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert_eq!(secured.reply().await.code, 425);
    let mut got = Vec::new();
    let _ = data.read_to_end(&mut got).await;
    assert!(!got.contains(&b'x') || got.len() < 20, "{got:?}");
}

/// Clients resume the session of their control connection, as servers that guard their data connections demand.
#[tokio::test]
async fn data_connections_resume_the_session_more_than_once() {
    let certificate = certificate();
    let served = Served::start(with_tls(&certificate)).await;
    served.put("a", b"x");
    let mut secured = Secured::start(&served, &certificate).await;
    secured.protect().await;
    secured.login().await;
    let mut resumed = 0;
    for _ in 0..2 {
        let data = secured.data(&served).await;
        assert_eq!(secured.code("RETR a").await, 150);
        let mut data = handshake(&certificate, data).await;
        let kind = data.get_ref().1.handshake_kind();
        resumed += usize::from(kind == Some(rustls::HandshakeKind::Resumed));
        let mut got = Vec::new();
        data.read_to_end(&mut got).await.unwrap();
        data.shutdown().await.unwrap();
        drop(data);
        assert_eq!(secured.reply().await.code, 226);
    }
    assert_eq!(resumed, 2);
}
