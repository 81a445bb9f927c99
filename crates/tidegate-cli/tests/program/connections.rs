//! Connections at fault, and how they end: peers that hardly read, names nobody knows, handshakes nobody answers, ends in
//! each order and at once, over TCP, Unix sockets and TLS.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::exits::{Deaf, one_line};
use crate::memory::{PEAK_BYTES, peak};
use crate::protocols::certificate;
use crate::support::{MIB, Place, Running, go, go_with, noise, tidegate};

/// The marks of the slow runs.
const MARKS: [&str; 4] = ["--high", "64KiB", "--chunk", "64KiB"];
const HELD_MAX: u64 = 128 * 1024;

/// A listener whose connections take in little before they are read.
fn narrow() -> (TcpListener, String) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(16).unwrap();
    let listener = TcpListener::from(socket);
    let to = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, to)
}

/// Reads a byte a second for a while, then all there is.
fn hardly_read(peer: &mut TcpStream, mut each_second: impl FnMut()) -> Vec<u8> {
    let (mut got, mut byte) = (Vec::new(), [0]);
    for _ in 0..4 {
        peer.read_exact(&mut byte).unwrap();
        got.push(byte[0]);
        thread::sleep(Duration::from_secs(1));
        each_second();
    }
    peer.read_to_end(&mut got).unwrap();
    got
}

#[test]
fn a_peer_that_reads_a_byte_a_second_is_named_and_fills_no_memory() {
    let place = Place::new(8 * MIB);
    let (listener, to) = narrow();
    let big = place.text("big");
    let args = [&["--json", &big, &to], &MARKS[..]].concat();
    let mut sending = Running::start(&mut tidegate(args));
    let mut peer = listener.accept().unwrap().0;
    let id = sending.child.id();
    let mut most = 0;
    let got = hardly_read(&mut peer, || {
        let line = sending.line("\"snapshot\"");
        let seen: Value = serde_json::from_str(&line).unwrap();
        assert!(seen["held"].as_u64().unwrap() <= HELD_MAX, "{line}");
        most = most.max(peak(id));
    });
    drop(peer);
    assert!(got == place.bytes);
    let run = sending.end().expect(0);
    let last: Value = serde_json::from_str(run.last()).unwrap();
    assert_eq!(last["slow_side"], "sink", "{last}");
    assert!((1..=PEAK_BYTES).contains(&most), "{most} bytes at the peak");
}

#[test]
fn a_peer_behind_a_relay_that_reads_a_byte_a_second_is_named_and_fills_no_memory() {
    let bytes = noise(8 * MIB);
    let (listener, to) = narrow();
    let args = [&["relay", "--json", "tcp-listen://127.0.0.1:0", &to], &MARKS[..]].concat();
    let mut relay = Running::start(&mut tidegate(args));
    let port = relay.port();
    let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut peer = listener.accept().unwrap().0;
    let sent = bytes.clone();
    let writer = thread::spawn(move || {
        near.write_all(&sent).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        near
    });
    let mut most = 0;
    let got = hardly_read(&mut peer, || {
        relay.signal("USR1");
        let line = relay.line("\"event\":\"connection\"");
        let seen: Value = serde_json::from_str(&line).unwrap();
        assert!(seen["there"]["held"].as_u64().unwrap() <= HELD_MAX, "{line}");
        assert_eq!(seen["there"]["slow_side"], "sink", "{line}");
        most = most.max(peak(relay.child.id()));
    });
    assert!(got == bytes);
    drop((peer, writer.join().unwrap()));
    assert!((1..=PEAK_BYTES).contains(&most), "{most} bytes at the peak");
    let line = relay.line("connection ended");
    assert!(line.contains("\"slow_there\":\"sink\""), "{line}");
}

/// What a relay with a listener does when it cannot reach the other side: its client is reset, a line says why, and the
/// next client is served all the same.
#[track_caller]
fn cannot_reach(to: &str, words: &str) {
    let args = [
        "relay",
        "--connect-timeout",
        "300ms",
        "tcp-listen://127.0.0.1:0",
        to,
    ];
    let mut relay = Running::start(&mut tidegate(args));
    let port = relay.port();
    for _ in 0..2 {
        let mut near = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // The reset is told once, to whoever asks first.
        let sent = near.write_all(b"anybody there?");
        let end = near.read(&mut [0]);
        assert!(sent.is_err() || end.is_err(), "looked like an end");
        let line = relay.line("cannot reach the other side");
        assert!(line.contains(words), "{line}");
    }
    relay.signal("TERM");
    relay.end().expect(0);
}

#[test]
fn a_name_nobody_knows_is_told_each_time() {
    let place = Place::new(10);
    for to in ["tcp://no-such-host.invalid:1", "tls://no-such-host.invalid:1"] {
        let words = "no-such-host.invalid";
        one_line(&go([to, &place.text("copy")]).expect(3).err, "source", to);
        one_line(&go([&place.text("big"), to]).expect(4).err, "sink", to);
        for (ends, code) in [(["-", to], 4), ([to, "-"], 3)] {
            let run = go_with(b"x", ["relay", ends[0], ends[1]]).expect(code);
            assert!(
                run.err.lines().count() == 1 && run.err.contains(words),
                "{}",
                run.err
            );
        }
        cannot_reach(to, words);
    }
    assert_eq!(place.names(), ["big"]);
}

#[test]
fn a_connection_or_a_handshake_nobody_answers_is_exit_8_or_a_log_line() {
    let place = Place::new(10);
    // One that does not take the connection, and one that takes it and says nothing.
    let deaf = Deaf::new();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute_at = mute.local_addr().unwrap();
    for to in [
        format!("tcp://{}", deaf.at),
        format!("tls://{}", deaf.at),
        format!("tls://{mute_at}"),
    ] {
        let hasty = ["--connect-timeout", "300ms"];
        let run = go([hasty[0], hasty[1], &to, &place.text("copy")]).expect(8);
        one_line(&run.err, "source", &to);
        let run = go([hasty[0], hasty[1], &place.text("big"), &to]).expect(8);
        one_line(&run.err, "sink", &to);
        let run = go_with(b"x", ["relay", hasty[0], hasty[1], "-", &to]).expect(8);
        assert!(
            run.err.lines().count() == 1 && run.err.contains(&to),
            "{}",
            run.err
        );
        cannot_reach(&to, " in time");
    }
    assert_eq!(place.names(), ["big"]);
}

#[test]
fn a_client_that_does_not_shake_hands_is_left_and_the_others_are_served() {
    let place = Place::new(300_000);
    let (cert, key) = certificate(&place);
    let listen = format!(
        "tls-listen://127.0.0.1:0,cert={},key={}",
        cert.display(),
        key.display()
    );
    let mut receiving = Running::start(&mut tidegate([
        "--connect-timeout",
        "300ms",
        &listen,
        &place.text("copy"),
    ]));
    let silent = TcpStream::connect(("127.0.0.1", receiving.port())).unwrap();
    let run = receiving.end().expect(8);
    assert!(run.last().contains("handshake in time"), "{}", run.err);
    drop(silent);

    let args = ["relay", "--connect-timeout", "2s", &listen, "exec:cat"];
    let mut relay = Running::start(&mut tidegate(args));
    let port = relay.port();
    let mut silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let to = format!("tls://localhost:{port},ca={}", cert.display());
    let run = go_with(&place.bytes, ["relay", "-", &to]).expect(0);
    assert!(run.out == place.bytes);
    let line = relay.line("connection failed before it began");
    assert!(line.contains("handshake in time"), "{line}");
    assert!(matches!(silent.read(&mut [0]), Err(_) | Ok(0)));
}

/// Relays in a row, and what lies between them: a client, the relays, an origin.
struct Row {
    relays: Vec<Running>,
    port: u16,
    origin: TcpListener,
    _place: Place,
}

const BETWEEN: [&str; 3] = ["nothing", "a Unix socket", "TLS"];

impl Row {
    fn new(between: &str) -> Self {
        let place = Place::new(10);
        let origin = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = format!("tcp://{}", origin.local_addr().unwrap());
        let mut relays = Vec::new();
        let near_to = match between {
            "nothing" => to,
            "TLS" => {
                let (cert, key) = certificate(&place);
                let (cert, key) = (cert.display(), key.display());
                let listen = format!("tls-listen://127.0.0.1:0,cert={cert},key={key}");
                let mut far = Running::start(&mut tidegate(["relay", &listen, &to]));
                let port = far.port();
                relays.push(far);
                format!("tls://localhost:{port},ca={cert}")
            }
            _ => {
                let socket = place.text("socket");
                let listen = format!("unix-listen:{socket}");
                let mut far = Running::start(&mut tidegate(["relay", &listen, &to]));
                far.line("listening on");
                relays.push(far);
                format!("unix:{socket}")
            }
        };
        let mut near = Running::start(&mut tidegate(["relay", "tcp-listen://127.0.0.1:0", &near_to]));
        let port = near.port();
        relays.push(near);
        Self {
            relays,
            port,
            origin,
            _place: place,
        }
    }

    fn connect(&self) -> (TcpStream, TcpStream) {
        let near = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        (near, self.origin.accept().unwrap().0)
    }
}

fn say(peer: &mut TcpStream, bytes: &[u8]) {
    peer.write_all(bytes).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
}

#[track_caller]
fn hear(peer: &mut TcpStream, bytes: &[u8]) {
    let mut got = Vec::new();
    peer.read_to_end(&mut got).unwrap();
    assert!(got == bytes, "{} of {} bytes", got.len(), bytes.len());
}

/// A peer that says all it has and hears the other out, at the same time.
fn at_once(mut peer: TcpStream, ours: Vec<u8>, theirs: Vec<u8>) -> thread::JoinHandle<()> {
    let mut saying = peer.try_clone().unwrap();
    thread::spawn(move || {
        let writer = thread::spawn(move || say(&mut saying, &ours));
        hear(&mut peer, &theirs);
        writer.join().unwrap();
    })
}

#[test]
fn ends_in_each_order_and_at_once_cost_no_byte() {
    let (there, back) = (noise(700_000), noise(500_001)[1..].to_vec());
    for between in BETWEEN {
        let mut row = Row::new(between);
        // The client ends first, the origin answers on.
        let (mut near, mut far) = row.connect();
        let saying = thread::spawn({
            let (mut near, there) = (near.try_clone().unwrap(), there.clone());
            move || say(&mut near, &there)
        });
        hear(&mut far, &there);
        say(&mut far, &back);
        hear(&mut near, &back);
        saying.join().unwrap();
        // The origin ends first, the client goes on.
        let (mut near, mut far) = row.connect();
        let saying = thread::spawn({
            let (mut far, back) = (far.try_clone().unwrap(), back.clone());
            move || say(&mut far, &back)
        });
        hear(&mut near, &back);
        say(&mut near, &there);
        hear(&mut far, &there);
        saying.join().unwrap();
        // Both at once, with much, with little, with nothing; a few times, for it is a race.
        let mut rounds = 2;
        for _ in 0..10 {
            for (there, back) in [
                (there.clone(), back.clone()),
                (b"x".to_vec(), b"y".to_vec()),
                (Vec::new(), Vec::new()),
            ] {
                let (near, far) = row.connect();
                let near = at_once(near, there.clone(), back.clone());
                let far = at_once(far, back, there);
                near.join().unwrap();
                far.join().unwrap();
                rounds += 1;
            }
        }
        for relay in &mut row.relays {
            for _ in 0..rounds {
                let line = relay.line("connection ");
                assert!(line.contains("connection ended"), "{between}: {line}");
            }
            relay.signal("TERM");
        }
        for relay in row.relays {
            relay.end().expect(0);
        }
    }
}

/// A Unix socket has one way to end, so no reset goes through one.
#[test]
fn a_reset_on_either_side_goes_through_tls_as_a_reset() {
    for between in ["nothing", "TLS"] {
        let mut row = Row::new(between);
        for client_resets in [true, false] {
            let (near, far) = row.connect();
            let (going, mut staying) = if client_resets { (near, far) } else { (far, near) };
            (&going).write_all(b"last words").unwrap();
            staying.read_exact(&mut [0; 10]).unwrap();
            socket2::SockRef::from(&going)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(going);
            assert!(
                staying.read(&mut [0]).is_err(),
                "{between}: a reset looked like an end"
            );
            for relay in &mut row.relays {
                relay.line("connection failed");
            }
        }
    }
}
