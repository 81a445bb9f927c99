//! Against other people's programs: socat both ways, openssl, pv in a pipeline, Twisted.

use std::process::{Command, Stdio};

use crate::support::{
    MIB, Place, Running, clean, free_port, go, listening, peer, run, shell, tidegate, twisted, until,
};

#[test]
fn socat_receives_and_sends_256_mib_whole() {
    if peer("socat", "socat_receives_and_sends_256_mib_whole").is_none() {
        return;
    }
    let place = Place::new(256 * MIB);
    let port = free_port();
    let receiving = Running::start(&mut shell(
        &format!("exec socat -u TCP-LISTEN:{port},reuseaddr CREATE:copy"),
        &place,
    ));
    listening(port);
    go([place.text("big"), format!("tcp://127.0.0.1:{port}")]).expect(0);
    receiving.end().expect(0);
    place.holds_all("copy");

    let mut receiving = Running::start(&mut tidegate([
        "--force",
        "tcp-listen://127.0.0.1:0",
        &place.text("copy"),
    ]));
    let port = receiving.port();
    run(shell(&format!("socat -u OPEN:big TCP:127.0.0.1:{port}"), &place)).expect(0);
    receiving.end().expect(0);
    place.holds_all("copy");
}

#[test]
fn socat_speaks_unix_sockets_and_through_the_relay() {
    if peer("socat", "socat_speaks_unix_sockets_and_through_the_relay").is_none() {
        return;
    }
    let place = Place::new(16 * MIB);
    let mut receiving = Running::start(&mut tidegate([
        &format!("unix-listen:{}", place.text("socket")),
        &place.text("copy"),
    ]));
    receiving.line("listening on");
    run(shell("socat -u OPEN:big UNIX-CONNECT:socket", &place)).expect(0);
    receiving.end().expect(0);
    place.holds_all("copy");

    // An echo behind the relay: what goes in comes back, after a half-close.
    let port = free_port();
    let _echo = Running::start(&mut shell(
        &format!("exec socat TCP-LISTEN:{port},reuseaddr,fork EXEC:cat"),
        &place,
    ));
    listening(port);
    let mut relay = Running::start(&mut tidegate([
        "relay",
        "tcp-listen://127.0.0.1:0",
        &format!("tcp://127.0.0.1:{port}"),
    ]));
    let at = relay.port();
    run(shell(
        &format!("socat -t 30 - TCP:127.0.0.1:{at} <big >echoed"),
        &place,
    ))
    .expect(0);
    place.holds_all("echoed");
}

#[test]
fn openssl_receives_and_sends() {
    if peer("openssl", "openssl_receives_and_sends").is_none() {
        return;
    }
    let place = Place::new(4 * MIB);
    let line = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
                -addext subjectAltName=DNS:localhost 2>/dev/null";
    run(shell(line, &place)).expect(0);
    let listen = format!(
        "tls-listen://127.0.0.1:0,cert={},key={}",
        place.text("cert.pem"),
        place.text("key.pem")
    );
    let mut sending = Running::start(&mut tidegate([&place.text("big"), &listen]));
    let port = sending.port();
    let line = format!(
        "openssl s_client -quiet -connect localhost:{port} -CAfile cert.pem 2>/dev/null >copy </dev/zero"
    );
    // s_client ends with an error code when its input goes on past the server's end; the bytes are what counts.
    let client = Running::start(&mut shell(&line.replace("</dev/zero", "< <(sleep 20)"), &place));
    sending.end().expect(0);
    drop(client);
    until("all has come", || {
        std::fs::metadata(place.path("copy")).is_ok_and(|found| found.len() == 4 << 20)
    });
    place.holds_all("copy");
}

#[test]
fn a_pipeline_with_pv_ends_well() {
    if peer("pv", "a_pipeline_with_pv_ends_well").is_none() {
        return;
    }
    let place = Place::new(32 * MIB);
    let program = env!("CARGO_BIN_EXE_tidegate");
    run(shell(
        &format!("cat big | {program} -q - - | pv -q | {program} -q - copy"),
        &place,
    ))
    .expect(0);
    place.holds_all("copy");
}

#[test]
fn twisted_receives_under_back_pressure_and_sends_by_its_file_sender() {
    let Some(python) = twisted("twisted_receives_under_back_pressure_and_sends_by_its_file_sender") else {
        return;
    };
    let place = Place::new(8 * MIB);
    std::fs::write(place.path("peer.py"), TWISTED).unwrap();
    let start = |role: &str| {
        let mut command = Command::new(&python);
        clean(&mut command);
        command
            .arg(place.path("peer.py"))
            .arg(role)
            .current_dir(place.path(""));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut peer = Running::start(&mut command);
        let port = peer.port();
        (peer, port)
    };
    let (receiver, port) = start("receive");
    let run = go([place.text("big"), format!("tcp://127.0.0.1:{port}")]).expect(0);
    assert!(run.last().contains("slow side: sink"), "{}", run.err);
    receiver.end().expect(0);
    place.holds_all("twisted");
    let (sender, port) = start("send");
    go([
        format!("tcp://127.0.0.1:{port}"),
        place.text("copy"),
        "--rate".into(),
        "20MiB/s".into(),
    ])
    .expect(0);
    sender.end().expect(0);
    place.holds_all("copy");
}

/// A receiver that pauses every mebibyte for a while, and a sender on `FileSender`.
const TWISTED: &str = r#"
import sys
from twisted.internet import protocol, reactor
from twisted.protocols.basic import FileSender

class Receive(protocol.Protocol):
    def connectionMade(self):
        self.out, self.since = open("twisted", "wb"), 0

    def dataReceived(self, data):
        self.out.write(data)
        self.since += len(data)
        if self.since > 1 << 20:
            self.since = 0
            self.transport.pauseProducing()
            reactor.callLater(0.1, self.transport.resumeProducing)

    def connectionLost(self, reason):
        self.out.close()
        reactor.stop()

class Send(protocol.Protocol):
    def connectionMade(self):
        FileSender().beginFileTransfer(open("big", "rb"), self.transport).addBoth(
            lambda _: self.transport.loseConnection())

    def connectionLost(self, reason):
        reactor.stop()

factory = protocol.Factory.forProtocol({"receive": Receive, "send": Send}[sys.argv[1]])
port = reactor.listenTCP(0, factory, interface="127.0.0.1")
sys.stderr.write("listening: tcp-listen://127.0.0.1:%d\n" % port.getHost().port)
sys.stderr.flush()
reactor.run()
"#;
