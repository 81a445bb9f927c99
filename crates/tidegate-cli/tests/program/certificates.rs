//! What can be wrong with a certificate, ours or theirs, and with TLS's end: each with its exit code, its words and its log
//! line. openssl is the other side of what concerns certificates.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::exits::one_line;
use crate::support::{MIB, Place, Running, clean, free_port, go, go_with, listening, noise, peer, tidegate};

/// Authorities, and what they and others have signed, as `NAME.pem` and `NAME.key` in a place.
struct Papers {
    place: Place,
}

/// An authority that nobody but itself has signed.
fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, Issuer::new(params, key))
}

impl Papers {
    fn new() -> Self {
        let papers = Self {
            place: Place::new(3 * MIB),
        };
        let (pem, ours) = authority("ours");
        std::fs::write(papers.place.path("ca.pem"), pem).unwrap();
        let (_, theirs) = authority("somebody else's");
        let nothing = |_: &mut CertificateParams| ();
        papers.sign("good", "localhost", Some(&ours), nothing);
        papers.sign("unknown", "localhost", Some(&theirs), nothing);
        papers.sign("misnamed", "elsewhere.test", Some(&ours), nothing);
        papers.sign("self", "localhost", None, nothing);
        papers.sign("expired", "localhost", Some(&ours), |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        });
        papers.sign("authority", "localhost", Some(&ours), |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        papers
    }

    fn sign(
        &self,
        file: &str,
        host: &str,
        issuer: Option<&Issuer<'static, KeyPair>>,
        change: impl FnOnce(&mut CertificateParams),
    ) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = match issuer {
            Some(issuer) => params.signed_by(&key, issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        let path = |ending: &str| self.place.path(&format!("{file}.{ending}"));
        std::fs::write(path("pem"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
    }

    fn text(&self, name: &str) -> String {
        self.place.text(name)
    }

    /// A server of openssl's that answers HTTP.
    fn openssl(&self, program: &PathBuf, certificate: &str, more: &[&str]) -> (Running, u16) {
        let port = free_port();
        let mut command = Command::new(program);
        clean(&mut command);
        command
            .args(["s_server", "-www", "-accept", &format!("127.0.0.1:{port}")])
            .args(["-cert", &self.text(&format!("{certificate}.pem"))])
            .args(["-key", &self.text(&format!("{certificate}.key"))])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let server = Running::start(&mut command);
        listening(port);
        (server, port)
    }
}

#[test]
fn what_is_wrong_with_a_servers_certificate_is_told_and_nothing_is_sent() {
    let test = "what_is_wrong_with_a_servers_certificate_is_told_and_nothing_is_sent";
    let Some(openssl) = peer("openssl", test) else {
        return;
    };
    let papers = Papers::new();
    for (certificate, words) in [
        ("expired", "has expired"),
        ("misnamed", "is for another name"),
        ("self", "is signed by nobody we trust"),
        ("unknown", "is signed by nobody we trust"),
        ("authority", "is an authority's"),
    ] {
        let (_server, port) = papers.openssl(&openssl, certificate, &[]);
        let address = format!("tls://localhost:{port},ca={}", papers.text("ca.pem"));
        let told = |run: crate::support::Run, code, side| {
            let run = run.expect(code);
            one_line(&run.err, side, &address);
            assert!(run.err.contains(words), "{certificate}: {}", run.err);
        };
        told(go([&address, &papers.text("copy")]), 3, "source");
        told(go([&papers.text("big"), &address]), 4, "sink");
        assert!(!papers.place.path("copy").exists());
        // Under HTTP the same words, at once: what is wrong with a certificate does not pass.
        let url = format!("https://localhost:{port}/");
        let run = go(["--ca", &papers.text("ca.pem"), &url, &papers.text("copy")]).expect(3);
        one_line(&run.err, "source", &url);
        assert!(run.err.contains(words), "{certificate}: {}", run.err);
        // In a relay, whichever end it is.
        for (ends, code) in [(["-", &address], 4), ([&address, "-"], 3)] {
            let run = go_with(b"x", ["relay", ends[0], ends[1]]).expect(code);
            assert_eq!(run.err.lines().count(), 1, "{}", run.err);
            assert!(run.err.contains(words) && run.out.is_empty(), "{}", run.err);
        }
        // One that listens goes on; its client sees no end.
        let mut relay = Running::start(&mut tidegate(["relay", "tcp-listen://127.0.0.1:0", &address]));
        let at = relay.port();
        for _ in 0..2 {
            let mut near = TcpStream::connect(("127.0.0.1", at)).unwrap();
            let end = near.read(&mut [0]);
            let line = relay.line("cannot reach the other side");
            assert!(line.contains(words) && line.contains("warning: "), "{line}");
            assert!(end.is_err(), "{certificate}: looked like an end");
        }
        relay.signal("TERM");
        let run = relay.end().expect(0);
        assert!(!run.err.contains("rustls"), "{}", run.err);
    }
}

#[test]
fn a_client_certificate_that_is_missing_or_refused_is_told() {
    let test = "a_client_certificate_that_is_missing_or_refused_is_told";
    let Some(openssl) = peer("openssl", test) else {
        return;
    };
    let papers = Papers::new();
    let ca = papers.text("ca.pem");
    // With TLS 1.3 a client has long begun when it hears of it.
    for (version, source, sink) in [("-tls1_2", 3, 4), ("-tls1_3", 5, 6)] {
        let asks = ["-Verify", "1", "-verify_return_error", "-CAfile", &ca, version];
        let (_server, port) = papers.openssl(&openssl, "good", &asks);
        for certificate in ["", "unknown", "expired", "good"] {
            let ours = match certificate {
                "" => String::new(),
                name => format!(",cert={0}.pem,key={0}.key", papers.text(name)),
            };
            let address = format!("tls://localhost:{port},ca={ca}{ours}");
            if certificate == "good" {
                let answer = go_with(b"GET / HTTP/1.0\r\n\r\n", ["relay", "-", &address]).expect(0);
                assert!(answer.out.starts_with(b"HTTP/1.0 200"), "{:?}", answer.err);
                continue;
            }
            for (run, code, side) in [
                (go([&address, &papers.text("copy")]), source, "source"),
                (go([&papers.text("big"), &address]), sink, "sink"),
                (go(["/dev/null", &address]), sink, "sink"),
            ] {
                let run = run.expect(code);
                one_line(&run.err, side, &address);
                assert!(run.err.contains("it sent the TLS alert"), "{}", run.err);
            }
            assert!(!papers.place.path("copy").exists());
        }
    }
}

#[test]
fn we_refuse_a_client_without_a_certificate_of_our_authority_and_go_on() {
    let papers = Papers::new();
    let ca = papers.text("ca.pem");
    let good = papers.text("good");
    let listen = format!("tls-listen://127.0.0.1:0,cert={good}.pem,key={good}.key,ca={ca}");
    let mut relay = Running::start(&mut tidegate(["relay", &listen, "exec:cat"]));
    let port = relay.port();
    for (certificate, words) in [
        ("", "presented no certificate"),
        ("unknown", "is signed by nobody we trust"),
        ("expired", "has expired"),
    ] {
        let ours = match certificate {
            "" => String::new(),
            name => format!(",cert={0}.pem,key={0}.key", papers.text(name)),
        };
        let address = format!("tls://localhost:{port},ca={ca}{ours}");
        for source in [papers.text("big"), "/dev/null".to_owned()] {
            let run = go([&source, &address]).expect(6);
            one_line(&run.err, "sink", &address);
            assert!(run.err.contains("it sent the TLS alert"), "{}", run.err);
            let line = relay.line("connection failed before it began");
            assert!(line.contains(words), "{line}");
        }
    }
    let address = format!("tls://localhost:{port},ca={ca},cert={good}.pem,key={good}.key");
    let echo = go_with(&papers.place.bytes, ["relay", "-", &address]).expect(0);
    assert!(echo.out == papers.place.bytes);
    relay.signal("TERM");
    let run = relay.end().expect(0);
    assert!(!run.err.contains("rustls"), "{}", run.err);
}

/// A TLS server that sends some bytes and then ends the connection below TLS, in good order.
fn cutting_server(papers: &Papers, bytes: Vec<u8>) -> u16 {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let certificate = CertificateDer::from_pem_file(papers.place.path("good.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(papers.place.path("good.key")).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, socket);
            if stream.write_all(&bytes).is_ok() && stream.flush().is_ok() {
                let _ = stream.sock.shutdown(Shutdown::Write);
                while stream.sock.read(&mut [0; 1000]).is_ok_and(|got| got > 0) {}
            }
        }
    });
    port
}

#[test]
fn a_missing_close_notify_in_a_relay_is_exit_7_or_a_log_line_and_never_an_end() {
    let papers = Papers::new();
    let bytes = noise(500_000);
    let port = cutting_server(&papers, bytes.clone());
    let address = format!("tls://localhost:{port},ca={}", papers.text("ca.pem"));
    for ends in [["-", &address], [&address, "-"]] {
        let mut relay = tidegate(["relay", ends[0], ends[1]]);
        relay.stdin(Stdio::piped());
        // Its input stays open: it is the missing end alone that ends it.
        let mut relay = Running::start(&mut relay);
        let input = relay.child.stdin.take();
        let run = relay.end().expect(7);
        drop(input);
        assert!(
            run.last().contains("without TLS's end (close_notify)"),
            "{}",
            run.err
        );
        assert!(run.last().contains(&address), "{}", run.err);
        assert!(bytes.starts_with(&run.out), "other bytes");
    }
    let mut relay = Running::start(&mut tidegate(["relay", "tcp-listen://127.0.0.1:0", &address]));
    let at = relay.port();
    for _ in 0..2 {
        let mut near = TcpStream::connect(("127.0.0.1", at)).unwrap();
        let mut got = Vec::new();
        let end = near.read_to_end(&mut got);
        assert!(
            end.is_err(),
            "a cut stream looked finished after {} bytes",
            got.len()
        );
        assert!(bytes.starts_with(&got), "other bytes");
        let line = relay.line("connection failed");
        for part in ["close_notify", "direction=back", "side=source"] {
            assert!(line.contains(part), "{line}");
        }
    }
    relay.signal("TERM");
    relay.end().expect(0);
}

/// The same the other way: a client of our listener goes without a word.
#[test]
fn a_client_that_leaves_without_close_notify_does_not_look_finished_to_the_other_side() {
    let papers = Papers::new();
    let good = papers.text("good");
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("tcp://{}", origin.local_addr().unwrap());
    let listen = format!("tls-listen://127.0.0.1:0,cert={good}.pem,key={good}.key");
    let mut relay = Running::start(&mut tidegate(["relay", &listen, &to]));
    // A middle that ends the TCP stream in good order when the client has gone: a client killed outright may reset.
    let port = relay.port();
    let middle = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = middle.local_addr().unwrap().port();
    let address = format!("tls://localhost:{at},ca={}", papers.text("ca.pem"));
    let mut client = tidegate(["-", &address]);
    client.stdin(Stdio::piped());
    let mut client = Running::start(&mut client);
    let mut input = client.child.stdin.take().unwrap();
    let near = middle.accept().unwrap().0;
    let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (back_from, back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
    let back = thread::spawn(move || std::io::copy(&mut &back_from, &mut &back_to));
    let forth = thread::spawn(move || {
        let _ = std::io::copy(&mut &near, &mut &far);
        far.shutdown(Shutdown::Write)
    });
    input.write_all(&[0; 100_000]).unwrap();
    let mut peer = origin.accept().unwrap().0;
    let mut got = vec![1; 100_000];
    peer.read_exact(&mut got).unwrap();
    assert!(got.iter().all(|byte| *byte == 0));
    client.signal("KILL");
    assert!(peer.read(&mut [0]).is_err(), "a cut stream looked finished");
    let line = relay.line("connection failed");
    for part in ["close_notify", "direction=there", "side=source"] {
        assert!(line.contains(part), "{line}");
    }
    let _ended = (forth.join(), back.join());
}
