//! socat on the other side of every address it shares with us: as source and as sink, we connecting and we listening,
//! over standard streams, descriptors, FIFOs and terminals, as our child and as our parent, and on both sides of a relay.
//!
//! Every byte is compared.

use std::net::TcpListener;

use crate::protocols::certificate;
use crate::support::{Place, Running, free_port, listening, noise, peer, run, shell, tidegate, until};

const LENGTH: usize = 1_500_000;

/// An address of socat's and the one of ours it meets. `PORT` is filled in.
struct Pair {
    theirs: &'static str,
    ours: &'static str,
}

/// socat listens, we connect.
const THEY_LISTEN: [Pair; 4] = [
    Pair {
        theirs: "TCP-LISTEN:PORT,reuseaddr,bind=127.0.0.1",
        ours: "tcp://127.0.0.1:PORT",
    },
    Pair {
        theirs: "TCP6-LISTEN:PORT,reuseaddr,bind=[::1]",
        ours: "tcp://[::1]:PORT",
    },
    Pair {
        theirs: "UNIX-LISTEN:sPORT",
        ours: "unix:sPORT",
    },
    Pair {
        theirs: "OPENSSL-LISTEN:PORT,reuseaddr,cert=cert.pem,key=key.pem,verify=0",
        ours: "tls://localhost:PORT,ca=cert.pem",
    },
];

/// We listen, socat connects.
const WE_LISTEN: [Pair; 4] = [
    Pair {
        theirs: "TCP:127.0.0.1:PORT",
        ours: "tcp-listen://127.0.0.1:0",
    },
    Pair {
        theirs: "TCP6:[::1]:PORT",
        ours: "tcp-listen://[::1]:0",
    },
    Pair {
        theirs: "UNIX-CONNECT:socket",
        ours: "unix-listen:socket",
    },
    Pair {
        theirs: "OPENSSL:localhost:PORT,cafile=cert.pem",
        ours: "tls-listen://127.0.0.1:0,cert=cert.pem,key=key.pem",
    },
];

/// Machines without IPv6 are left alone, and say so.
fn is_possible(pair: &Pair, test: &str) -> bool {
    let possible = !pair.ours.contains("::1") || TcpListener::bind("[::1]:0").is_ok();
    if !possible {
        eprintln!("SKIPPED: {test}: no IPv6: {}", pair.ours);
    }
    possible
}

fn with_port(text: &str, port: u16) -> String {
    text.replace("PORT", &port.to_string())
}

/// Until a listener of socat's can be connected to.
fn ready(theirs: &str, place: &Place, port: u16) {
    match theirs.split_once("UNIX-LISTEN:") {
        Some((_, rest)) => {
            let name = rest.split([',', ' ']).next().unwrap();
            until("the socket is there", || place.path(name).exists());
        }
        None => listening(port),
    }
}

/// The address where one of ours listens, in a place of its own.
fn ours_at(pair: &Pair, running: &mut Running) -> String {
    let port = match pair.ours.starts_with("unix") {
        true => {
            running.line("listening on");
            0
        }
        false => running.port(),
    };
    with_port(pair.theirs, port)
}

fn in_place(place: &Place, args: &[&str]) -> Running {
    let mut command = tidegate(args);
    command.current_dir(place.path(""));
    Running::start(&mut command)
}

fn arrived(place: &Place, how: &str) {
    let copy = std::fs::read(place.path("copy")).unwrap_or_default();
    assert!(copy == place.bytes, "{how}: {} of {LENGTH} bytes", copy.len());
    std::fs::remove_file(place.path("copy")).unwrap();
}

#[test]
fn socat_listens_and_takes_or_gives_every_byte() {
    let test = "socat_listens_and_takes_or_gives_every_byte";
    if peer("socat", test).is_none() {
        return;
    }
    let place = Place::new(LENGTH);
    certificate(&place);
    for pair in THEY_LISTEN.iter().filter(|pair| is_possible(pair, test)) {
        for sends in [false, true] {
            let port = free_port();
            let (theirs, ours) = (with_port(pair.theirs, port), with_port(pair.ours, port));
            let line = match sends {
                true => format!("exec socat -u OPEN:big {theirs}"),
                false => format!("exec socat -u {theirs} CREATE:copy"),
            };
            let socat = Running::start(&mut shell(&line, &place));
            ready(&theirs, &place, port);
            let args = if sends { [&ours, "copy"] } else { ["big", &ours] };
            in_place(&place, &args).end().expect(0);
            socat.end().expect(0);
            arrived(&place, &line);
        }
    }
}

#[test]
fn socat_connects_and_takes_or_gives_every_byte() {
    let test = "socat_connects_and_takes_or_gives_every_byte";
    if peer("socat", test).is_none() {
        return;
    }
    let place = Place::new(LENGTH);
    certificate(&place);
    for pair in WE_LISTEN.iter().filter(|pair| is_possible(pair, test)) {
        for sends in [false, true] {
            let args = if sends {
                [pair.ours, "copy"]
            } else {
                ["big", pair.ours]
            };
            let mut ours = in_place(&place, &args);
            let theirs = ours_at(pair, &mut ours);
            let line = match sends {
                true => format!("exec socat -u OPEN:big {theirs}"),
                false => format!("exec socat -u {theirs} CREATE:copy"),
            };
            run(shell(&line, &place)).expect(0);
            ours.end().expect(0);
            arrived(&place, &line);
        }
    }
}

/// Each line brings `big` to `copy`; `$T` is the program.
const LINES: [&str; 16] = [
    // Standard streams and descriptors, joined by the shell's pipes.
    "socat -u OPEN:big STDIO | $T -q - copy",
    "$T -q big - | socat -u STDIN CREATE:copy",
    "socat -u OPEN:big FD:7 7>&1 | $T -q fd:8 copy 8<&0",
    "$T -q big fd:7 7>&1 | socat -u FD:8 CREATE:copy 8<&0",
    // A FIFO.
    "$T -q pipe:fifo copy & socat -u OPEN:big PIPE:fifo && wait $!",
    "$T -q big pipe:fifo & socat -u PIPE:fifo CREATE:copy && wait $!",
    // We are socat's child, over a socket pair, pipes of chosen numbers, a terminal.
    "socat -t 60 - \"EXEC:$T -q - copy\" <big",
    "socat -u \"EXEC:$T -q big -\" CREATE:copy",
    "socat -t 60 - 'SYSTEM:$T -q - copy' <big",
    "socat -u 'SYSTEM:$T -q big -' CREATE:copy",
    "socat -t 60 - \"EXEC:$T -q fd\\:6 copy,fdin=6\" <big",
    "socat -u \"EXEC:$T -q big fd\\:5,fdout=5\" CREATE:copy",
    "socat -u \"EXEC:$T -q big -,pty,raw,echo=0\" CREATE:copy",
    // socat is ours.
    "$T -q big 'exec:socat -u STDIN CREATE:copy'",
    "$T -q 'exec:socat -u OPEN:big STDOUT' copy",
    "$T -q 'sh:socat -u OPEN:big STDIO' 'sh:socat -u STDIO CREATE:copy'",
];

#[test]
fn socat_over_streams_descriptors_and_fifos_as_child_and_as_parent() {
    if peer(
        "socat",
        "socat_over_streams_descriptors_and_fifos_as_child_and_as_parent",
    )
    .is_none()
    {
        return;
    }
    let place = Place::new(LENGTH);
    run(shell("mkfifo fifo", &place)).expect(0);
    for line in LINES {
        run(shell(line, &place)).expect(0);
        arrived(&place, line);
    }
}

/// Lines of text, and what types them at a terminal: with an end of file after the last.
fn typed(place: &Place, length: usize) -> Vec<u8> {
    let mut text: Vec<u8> = noise(length)
        .iter()
        .enumerate()
        .map(|(at, byte)| if at % 70 == 69 { b'\n' } else { b'a' + byte % 26 })
        .collect();
    text.push(b'\n');
    std::fs::write(place.path("typed"), [&text[..], b"\x04"].concat()).unwrap();
    text
}

/// A pseudo-terminal of socat's under a name, from or to a file.
fn terminal(place: &Place, line: &str) -> Running {
    let socat = Running::start(&mut shell(&format!("exec socat {line}"), place));
    until("the terminal is there", || place.path("tty").exists());
    socat
}

#[test]
fn a_terminal_of_socats_is_a_sink_a_source_and_both() {
    if peer("socat", "a_terminal_of_socats_is_a_sink_a_source_and_both").is_none() {
        return;
    }
    let place = Place::new(LENGTH);
    for ours in ["$T -q big tty", "$T -q big fd:3 3>tty"] {
        let socat = terminal(&place, "-u PTY,link=tty,raw,echo=0,wait-slave CREATE:copy");
        run(shell(ours, &place)).expect(0);
        socat.end().expect(0);
        arrived(&place, ours);
    }
    // It ends only where it is read line by line: by the character for it. Raw, it just hangs up, tail and all.
    let text = typed(&place, 60_000);
    let lines = "-u OPEN:typed,ignoreeof PTY,link=tty,echo=0,wait-slave";
    for ours in ["$T -q tty copy", "$T -q fd:3 copy 3<tty", "$T -q - copy <tty"] {
        let socat = terminal(&place, lines);
        run(shell(ours, &place)).expect(0);
        drop(socat);
        assert!(std::fs::read(place.path("copy")).unwrap() == text, "{ours}");
        std::fs::remove_file(place.path("copy")).unwrap();
    }
    let socat = terminal(
        &place,
        "OPEN:typed,ignoreeof!!CREATE:copy PTY,link=tty,echo=0,opost=0,wait-slave",
    );
    run(shell("$T -q relay fd:3 exec:cat 3<>tty", &place)).expect(0);
    socat.end().expect(0);
    assert!(std::fs::read(place.path("copy")).unwrap() == text);

    // A terminal is no FIFO, and said to be none.
    let _socat = terminal(&place, lines);
    let run_of = |line| run(shell(line, &place));
    let told = [
        run_of("$T pipe:tty copy2").expect(3),
        run_of("$T big pipe:tty").expect(4),
    ];
    for run in told {
        assert!(run.err.contains("pipe:tty: not a FIFO"), "{}", run.err);
    }
}

/// An echo of socat's at each kind of address, reached through a relay from each kind of address.
#[test]
fn socat_on_both_sides_of_a_relay_hears_its_own_echo() {
    let test = "socat_on_both_sides_of_a_relay_hears_its_own_echo";
    if peer("socat", test).is_none() {
        return;
    }
    let place = Place::new(LENGTH);
    certificate(&place);
    let mut echoes = Vec::new();
    let mut far: Vec<String> = vec!["exec:socat STDIO EXEC:cat".into(), "sh:socat - SYSTEM:cat".into()];
    for pair in THEY_LISTEN.iter().filter(|pair| is_possible(pair, test)) {
        let port = free_port();
        let theirs = with_port(pair.theirs, port);
        let line = format!("exec socat {theirs},fork EXEC:cat");
        echoes.push(Running::start(&mut shell(&line, &place)));
        ready(&theirs, &place, port);
        far.push(with_port(pair.ours, port));
    }
    for pair in WE_LISTEN.iter().filter(|pair| is_possible(pair, test)) {
        for far in &far {
            let mut relay = in_place(&place, &["relay", pair.ours, far]);
            let theirs = ours_at(pair, &mut relay);
            let line = format!("exec socat -t 60 - {theirs} <big >copy");
            run(shell(&line, &place)).expect(0);
            arrived(&place, &format!("{theirs} to {far}"));
            let end = relay.line("connection ended");
            let all = format!("bytes_there={LENGTH}");
            assert!(
                end.contains(&all) && end.contains(&all.replace("there", "back")),
                "{end}"
            );
            relay.signal("TERM");
            relay.end().expect(0);
        }
    }
    // As socat's child, with its end as our standard streams or as a descriptor that goes both ways.
    for near in ["-", "fd\\:0"] {
        let far = far.last().unwrap().replace(':', "\\:").replace(',', "\\,");
        let line = format!("socat -t 60 - \"EXEC:$T -q relay {near} {far}\" <big >copy");
        run(shell(&line, &place)).expect(0);
        arrived(&place, &line);
    }
}
