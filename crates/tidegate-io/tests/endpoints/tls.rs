//! TLS over real sockets: certificates good and bad, half-close, truncation, bounds, and openssl as the peer.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tidegate_io::endpoint::tcp::{self, Listener};
use tidegate_io::endpoint::tls::{Client, Identity, Options, Server, Tls, Verification};
use tidegate_io::endpoint::{process::Process, unix};
use tidegate_io::{Confirmation, Duplex, EndpointError, ErrorKind, Flow, Sink};

use crate::support::{
    MemorySink, MemorySource, finish, pattern, peer, read_all, read_some, within, write_all,
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// An authority and what it has signed, as files.
pub(crate) struct Papers {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Papers {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority for tests");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            folder,
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(name, &certificate.pem(), &key)
    }

    fn self_signed(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "signed by its own hand");
        let certificate = params.self_signed(&key).unwrap();
        self.write("self", &certificate.pem(), &key)
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) -> Identity {
        let identity = Identity {
            certificates: self.folder.path().join(format!("{name}.pem")),
            key: self.folder.path().join(format!("{name}.key")),
        };
        std::fs::write(&identity.certificates, certificate).unwrap();
        std::fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            authorities: vec![self.authority()],
            ..Options::default()
        }
    }
}

pub(crate) async fn sockets() -> (Duplex, Duplex) {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (near, far) = tokio::join!(tcp::connect(&address, TIMEOUT), listener.accept());
    (tcp::duplex(near.unwrap()), tcp::duplex(far.unwrap().0))
}

async fn shake(client: &Client, server: &Server) -> (Result<Tls, EndpointError>, Result<Tls, EndpointError>) {
    let (near, far) = sockets().await;
    within(async { tokio::join!(client.connect(near, "localhost"), server.accept(far)) }).await
}

pub(crate) async fn pair() -> (Tls, Tls) {
    let papers = Papers::new();
    let server = Server::new(&papers.sign("localhost", |_| ()), &Options::default()).unwrap();
    let client = Client::new(&papers.options()).unwrap();
    let (near, far) = shake(&client, &server).await;
    (near.unwrap(), far.unwrap())
}

/// CASES 85, D38: far more than a record in one write, both ways at once.
#[tokio::test]
async fn megabytes_go_both_ways_at_once() {
    let (near, far) = pair().await;
    let (near, far) = (near.into_duplex(), far.into_duplex());
    let bytes = pattern(10 << 20);
    let back = pattern(3 << 20);
    let (there_sink, there) = MemorySink::new();
    let (back_sink, returned) = MemorySink::new();
    let results = within(async {
        tokio::join!(
            Flow::new(MemorySource::new(bytes.clone()), near.sink).run(),
            Flow::new(far.source, there_sink).run(),
            Flow::new(MemorySource::new(back.clone()), far.sink).run(),
            Flow::new(near.source, back_sink).run(),
        )
    })
    .await;
    results.0.unwrap();
    results.1.unwrap();
    results.2.unwrap();
    results.3.unwrap();
    assert!(there.bytes() == bytes && returned.bytes() == back);
}

/// CASES 73 and 84 as half-close: our end is told, reading goes on.
#[tokio::test]
async fn writing_ends_while_reading_goes_on() {
    let (near, far) = pair().await;
    let (mut near, mut far) = (near.into_duplex(), far.into_duplex());
    write_all(&mut *near.sink, &b"question"[..]).await.unwrap();
    finish(&mut *near.sink).await.unwrap();
    assert_eq!(read_all(&mut *far.source).await.unwrap(), b"question");
    write_all(&mut *far.sink, &b"answer"[..]).await.unwrap();
    finish(&mut *far.sink).await.unwrap();
    assert_eq!(read_all(&mut *near.source).await.unwrap(), b"answer");
}

#[tokio::test]
async fn a_lone_sink_is_confirmed_by_the_peers_end() {
    let (near, far) = pair().await;
    let mut far = far.into_duplex();
    let flow = Flow::new(MemorySource::new(pattern(300_000)), near.into_sink());
    let reading = async {
        let all = read_all(&mut *far.source).await.unwrap();
        finish(&mut *far.sink).await.unwrap();
        all
    };
    let (report, all) = within(async { tokio::join!(flow.run(), reading) }).await;
    assert_eq!(report.unwrap().confirmation, Some(Confirmation::Confirmed));
    assert!(all == pattern(300_000));
}

#[tokio::test]
async fn a_missing_close_notify_is_a_truncation() {
    let papers = Papers::new();
    let server = Server::new(&papers.sign("localhost", |_| ()), &Options::default()).unwrap();
    let client = Client::new(&papers.options()).unwrap();
    let (near, far) = sockets().await;
    // What the server writes passes through a hand that closes in good order below TLS.
    let (cut_near, cut_far) = sockets().await;
    let cutting = async {
        let Duplex { mut source, mut sink } = far;
        let Duplex {
            source: mut back,
            sink: mut forth,
        } = cut_near;
        let up = async {
            let mut all = 0;
            while let Ok(Some(bytes)) = read_some(&mut *source).await {
                all += bytes.len();
                let _ = write_all(&mut *forth, bytes).await;
            }
            all
        };
        let down = async {
            // The handshake and one record, and then an end that nobody announced.
            while let Ok(Some(bytes)) = read_some(&mut *back).await {
                let last = bytes.len() > 5_000;
                write_all(&mut *sink, bytes).await.unwrap();
                if last {
                    break;
                }
            }
            finish(&mut *sink).await.unwrap();
        };
        tokio::join!(up, down)
    };
    let talking = async {
        let (near, far) = tokio::join!(client.connect(near, "localhost"), server.accept(cut_far));
        let (mut near, mut far) = (near.unwrap().into_duplex(), far.unwrap().into_duplex());
        write_all(&mut *far.sink, pattern(6_000)).await.unwrap();
        assert!(!read_some(&mut *near.source).await.unwrap().unwrap().is_empty());
        let mut error = read_some(&mut *near.source).await;
        while let Ok(Some(_)) = error {
            error = read_some(&mut *near.source).await;
        }
        drop(near);
        error.unwrap_err()
    };
    let error = within(async {
        tokio::select! {
            error = talking => error,
            _ = async { cutting.await; std::future::pending::<()>().await } => unreachable!(),
        }
    })
    .await;
    assert_eq!(error.kind, ErrorKind::Truncated, "{error}");
}

#[tokio::test]
async fn an_abort_is_seen_as_no_end() {
    let (near, far) = pair().await;
    let (mut near, mut far) = (near.into_duplex(), far.into_duplex());
    write_all(&mut *near.sink, &b"half"[..]).await.unwrap();
    assert_eq!(&read_some(&mut *far.source).await.unwrap().unwrap()[..], b"half");
    near.sink.abort(&tidegate::AbortReason::Requested);
    drop(near);
    let error = read_some(&mut *far.source).await.unwrap_err();
    assert!(
        matches!(error.kind, ErrorKind::Failed | ErrorKind::Truncated),
        "{error}"
    );
}

#[tokio::test]
async fn wrong_certificates_are_told_apart() {
    let papers = Papers::new();
    let past = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    };
    let future = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
        params.not_after = rcgen::date_time_ymd(2091, 1, 1);
    };
    let cases = [
        (papers.sign("localhost", past), "has expired"),
        (papers.sign("localhost2", |_| ()), "is for another name"),
        (papers.self_signed("localhost"), "signed by nobody we trust"),
    ];
    let client = Client::new(&papers.options()).unwrap();
    for (identity, expected) in cases {
        let server = Server::new(&identity, &Options::default()).unwrap();
        let (near, far) = shake(&client, &server).await;
        let error = near.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Open);
        assert!(error.to_string().contains(expected), "{error}");
        let error = far.err().unwrap();
        assert!(
            error.to_string().contains("alert"),
            "the server is told why: {error}"
        );
    }
    let server = Server::new(&papers.sign("localhost", future), &Options::default()).unwrap();
    let error = shake(&client, &server).await.0.err().unwrap();
    assert!(error.to_string().contains("not valid yet"), "{error}");
}

#[tokio::test]
async fn insecure_takes_anybody() {
    let papers = Papers::new();
    let server = Server::new(&papers.self_signed("elsewhere"), &Options::default()).unwrap();
    let options = Options {
        verification: Verification::None,
        ..Options::default()
    };
    let (near, _far) = shake(&Client::new(&options).unwrap(), &server).await;
    assert!(near.unwrap().peer_has_certificate());
}

#[tokio::test]
async fn clients_prove_themselves_when_asked() {
    let papers = Papers::new();
    let server = Server::new(&papers.sign("localhost", |_| ()), &papers.options()).unwrap();
    let nobody = Client::new(&papers.options()).unwrap();
    let (near, far) = shake(&nobody, &server).await;
    assert!(
        far.err()
            .unwrap()
            .to_string()
            .contains("presented no certificate")
    );
    // With TLS 1.3 a client learns it only by reading: also one that only writes.
    let mut sink = near.unwrap().into_sink();
    let error = within(std::future::poll_fn(|cx| sink.poll_hangup(cx))).await;
    assert!(error.to_string().contains("CertificateRequired"), "{error}");

    let somebody = Options {
        identity: Some(papers.sign("somebody", |_| ())),
        ..papers.options()
    };
    let (near, far) = shake(&Client::new(&somebody).unwrap(), &server).await;
    near.unwrap();
    assert!(far.unwrap().peer_has_certificate());
}

#[tokio::test]
async fn application_protocols_are_agreed_on() {
    let papers = Papers::new();
    let alpn = |names: &[&str]| Options {
        alpn: names.iter().map(|name| name.as_bytes().to_vec()).collect(),
        ..papers.options()
    };
    let client = |names| Client::new(&alpn(names)).unwrap();
    let server = Options {
        authorities: Vec::new(),
        ..alpn(&["tide/1", "x"])
    };
    let server = Server::new(&papers.sign("localhost", |_| ()), &server).unwrap();
    let (near, far) = shake(&client(&["y", "tide/1"]), &server).await;
    assert_eq!(
        (near.unwrap().alpn(), far.unwrap().alpn()),
        (Some(&b"tide/1"[..]), Some(&b"tide/1"[..]))
    );
    let (near, _) = shake(&client(&["z"]), &server).await;
    assert!(near.err().unwrap().to_string().contains("NoApplicationProtocol"));
}

#[tokio::test]
async fn what_does_not_speak_tls_is_told() {
    let (near, mut far) = sockets().await;
    let client = Client::new(&Options::default()).unwrap();
    let (near, ()) = within(async {
        tokio::join!(client.connect(near, "localhost"), async {
            write_all(&mut *far.sink, &b"220 hello, this is a mail server\r\n"[..])
                .await
                .unwrap();
            let _ = read_some(&mut *far.source).await;
        })
    })
    .await;
    assert!(near.err().unwrap().to_string().contains("does not speak TLS"));
    let (near, far) = sockets().await;
    drop(far);
    let error = within(client.connect(near, "localhost")).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Open.max_reset(error.kind), "{error}");
    let (near, _far) = sockets().await;
    let hasty = client.handshake_timeout(Duration::from_millis(50));
    assert_eq!(
        hasty.connect(near, "localhost").await.err().unwrap().kind,
        ErrorKind::TimedOut
    );
}

/// A reset may come before the end does.
trait MaxReset {
    fn max_reset(self, seen: Self) -> Self;
}

impl MaxReset for ErrorKind {
    fn max_reset(self, seen: Self) -> Self {
        if seen == Self::Failed { seen } else { self }
    }
}

/// Back-pressure acts through TLS: with a peer that does not read, nothing is accepted beyond what the kernel takes.
#[tokio::test]
async fn a_peer_that_does_not_read_holds_the_writer() {
    let (near, far) = pair().await;
    let mut near = near.into_duplex();
    let mut far = far.into_duplex();
    let mut held = tidegate_io::Held::default();
    held.push(pattern(64 << 20).into());
    let total = held.len();
    // The kernel's buffers grow for a while.
    let mut pending = 0;
    while pending < 10 {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match near.sink.poll_write(&mut context, &held) {
            std::task::Poll::Ready(taken) => {
                held.advance(taken.unwrap());
                pending = 0;
            }
            std::task::Poll::Pending => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                pending += 1;
            }
        }
    }
    let accepted = total - held.len();
    assert!(accepted < 32 << 20, "{accepted} accepted");
    // What was accepted and the one record in flight arrive; the rest was never ours.
    let mut got = 0;
    while got < accepted {
        got += read_some(&mut *far.source).await.unwrap().unwrap().len();
    }
    assert!(got - accepted <= 16 * 1024, "{got} of {accepted}");
}

#[tokio::test]
async fn any_two_way_endpoint_carries_tls() {
    let papers = Papers::new();
    let server = Server::new(&papers.sign("localhost", |_| ()), &Options::default()).unwrap();
    let client = Client::new(&papers.options()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = unix::Listener::bind(&path).await.unwrap();
    let (near, far) = tokio::join!(unix::connect(&path, TIMEOUT), listener.accept());
    let (near, far) = (
        unix::duplex(near.unwrap(), &path),
        unix::duplex(far.unwrap(), &path),
    );
    let (near, far) =
        within(async { tokio::join!(client.connect(near, "localhost"), server.accept(far)) }).await;
    // And TLS within TLS, for good measure.
    let (near, far) = (near.unwrap().into_duplex(), far.unwrap().into_duplex());
    let (near, far) =
        within(async { tokio::join!(client.connect(near, "localhost"), server.accept(far)) }).await;
    let (mut near, mut far) = (near.unwrap().into_duplex(), far.unwrap().into_duplex());
    write_all(&mut *near.sink, pattern(100_000)).await.unwrap();
    finish(&mut *near.sink).await.unwrap();
    assert!(read_all(&mut *far.source).await.unwrap() == pattern(100_000));
}

#[tokio::test]
async fn openssl_as_server_gets_and_sends_every_byte() {
    let test = "openssl_as_server_gets_and_sends_every_byte";
    let Some(openssl) = peer("openssl", test) else {
        return;
    };
    let papers = Papers::new();
    let identity = papers.sign("localhost", |_| ());
    for version in ["-tls1_2", "-tls1_3"] {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut child = Command::new(&openssl)
            .args([
                "s_server",
                "-quiet",
                "-naccept",
                "1",
                version,
                "-accept",
                &format!("127.0.0.1:{port}"),
            ])
            .arg("-cert")
            .arg(&identity.certificates)
            .arg("-key")
            .arg(&identity.key)
            .arg("-rev")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("127.0.0.1:{port}");
        let plain = loop {
            match tcp::connect(&address, TIMEOUT).await {
                Ok(plain) => break plain,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let client = Client::new(&papers.options()).unwrap();
        let tls = within(client.connect(tcp::duplex(plain), "localhost"))
            .await
            .unwrap();
        let mut both = tls.into_duplex();
        write_all(&mut *both.sink, &b"stressed\n"[..]).await.unwrap();
        assert_eq!(
            &read_some(&mut *both.source).await.unwrap().unwrap()[..],
            b"desserts\n"
        );
        drop(both);
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[tokio::test]
async fn openssl_as_client_gets_and_sends_every_byte() {
    let test = "openssl_as_client_gets_and_sends_every_byte";
    let Some(openssl) = peer("openssl", test) else {
        return;
    };
    let papers = Papers::new();
    let server = Server::new(&papers.sign("localhost", |_| ()), &Options::default()).unwrap();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let authority = papers.authority();
    let child = Process::exec(
        &openssl,
        [
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-servername",
            "localhost",
            "-connect",
            &address,
        ]
        .into_iter()
        .map(std::ffi::OsString::from)
        .chain(["-CAfile".into(), authority.into_os_string()]),
    )
    .stderr(tidegate_io::endpoint::process::Stderr::Keep);
    let mut child = child.into_duplex().unwrap();
    let (plain, _) = within(listener.accept()).await.unwrap();
    let tls = within(server.accept(tcp::duplex(plain))).await.unwrap();
    let mut both = tls.into_duplex();
    let bytes = pattern(2_000_000);
    let (there, back) = within(async {
        tokio::join!(
            async {
                write_all(&mut *both.sink, bytes.clone()).await.unwrap();
                let mut got = Vec::new();
                while got.len() < 5_000 {
                    got.extend_from_slice(&read_some(&mut *both.source).await.unwrap().unwrap());
                }
                finish(&mut *both.sink).await.unwrap();
                got
            },
            async {
                write_all(&mut *child.sink, pattern(5_000)).await.unwrap();
                read_all(&mut *child.source).await.unwrap()
            }
        )
    })
    .await;
    assert!(there == pattern(5_000));
    assert!(back == bytes);
}
