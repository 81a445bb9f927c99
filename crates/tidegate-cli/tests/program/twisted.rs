//! A live Twisted process as listener of our connecting side and as connector to our listening side: its push and pull
//! producers into us, us into its transport, over TCP and TLS, by copies and through a relay between two of it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::protocols::certificate;
use crate::support::{Place, Running, clean, tidegate, twisted};

const LENGTH: usize = 3_000_000;

#[derive(Clone, Copy, Eq, PartialEq)]
enum Over {
    Tcp,
    Tls,
}

/// Where it connects to; it listens where there is none.
type To = Option<u16>;

struct Stage {
    python: std::path::PathBuf,
    place: Place,
    sha256: String,
}

impl Stage {
    fn new(test: &str) -> Option<Self> {
        let python = twisted(test)?;
        let place = Place::new(LENGTH);
        certificate(&place);
        let mut sha256 = String::new();
        for byte in Sha256::digest(&place.bytes) {
            write!(sha256, "{byte:02x}").unwrap();
        }
        Some(Self {
            python,
            place,
            sha256,
        })
    }

    fn peer(&self, role: &str, over: Over, to: To) -> Running {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/twisted_peer.py");
        let mut command = Command::new(&self.python);
        clean(&mut command);
        command.arg(script).arg(role);
        match to {
            Some(port) => command.arg("connect").arg(port.to_string()),
            None => command.args(["listen", "0"]),
        };
        if over == Over::Tls {
            command.args(["cert.pem", "key.pem"]);
        }
        command
            .current_dir(self.place.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Running::start(&mut command)
    }

    fn ours(&self, args: &[&str]) -> Running {
        let mut command = tidegate(args);
        command.current_dir(self.place.path(""));
        Running::start(&mut command)
    }

    /// It has ended well, and as a sink has heard every byte.
    fn is_content(&self, mut peer: Running, role: &str) {
        let line = peer.line("over: ");
        if role == "sink" {
            assert!(line.contains(&format!("{LENGTH} {}", self.sha256)), "{line}");
        }
        assert!(line.ends_with(" ConnectionDone"), "{role}: {line}");
        peer.end().expect(0);
    }
}

fn listen(over: Over) -> &'static str {
    match over {
        Over::Tcp => "tcp-listen://127.0.0.1:0",
        Over::Tls => "tls-listen://127.0.0.1:0,cert=cert.pem,key=key.pem",
    }
}

fn connect(over: Over, port: u16) -> String {
    match over {
        Over::Tcp => format!("tcp://127.0.0.1:{port}"),
        Over::Tls => format!("tls://localhost:{port},ca=cert.pem"),
    }
}

const ROLES: [&str; 3] = ["push", "pull", "sink"];

#[test]
fn twisted_listens_and_we_connect() {
    let Some(stage) = Stage::new("twisted_listens_and_we_connect") else {
        return;
    };
    for over in [Over::Tcp, Over::Tls] {
        for role in ROLES {
            let mut peer = stage.peer(role, over, None);
            let at = connect(over, peer.port());
            let args = if role == "sink" {
                ["big", &at]
            } else {
                [&at, "copy"]
            };
            stage.ours(&args).end().expect(0);
            stage.is_content(peer, role);
            taken(&stage, role);
        }
    }
}

#[test]
fn we_listen_and_twisted_connects() {
    let Some(stage) = Stage::new("we_listen_and_twisted_connects") else {
        return;
    };
    for over in [Over::Tcp, Over::Tls] {
        for role in ROLES {
            let at = listen(over);
            let args = if role == "sink" { ["big", at] } else { [at, "copy"] };
            let mut ours = stage.ours(&args);
            let peer = stage.peer(role, over, Some(ours.port()));
            ours.end().expect(0);
            stage.is_content(peer, role);
            taken(&stage, role);
        }
    }
}

fn taken(stage: &Stage, role: &str) {
    if role != "sink" {
        stage.place.holds_all("copy");
        std::fs::remove_file(stage.place.path("copy")).unwrap();
    }
}

#[test]
fn twisted_talks_to_twisted_through_a_relay() {
    let Some(stage) = Stage::new("twisted_talks_to_twisted_through_a_relay") else {
        return;
    };
    for (near, far) in [(Over::Tcp, Over::Tls), (Over::Tls, Over::Tcp)] {
        for (client, origin) in [
            ("push", "sink"),
            ("pull", "sink"),
            ("sink", "push"),
            ("sink", "pull"),
        ] {
            let mut listening = stage.peer(origin, far, None);
            let to = connect(far, listening.port());
            let mut relay = stage.ours(&["relay", listen(near), &to]);
            let connecting = stage.peer(client, near, Some(relay.port()));
            stage.is_content(connecting, client);
            stage.is_content(listening, origin);
            let line = relay.line("connection ");
            assert!(line.contains("connection ended"), "{client} to {origin}: {line}");
            relay.signal("TERM");
            relay.end().expect(0);
        }
    }
}
