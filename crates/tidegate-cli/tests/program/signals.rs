//! Signals: the first ends gently, the second at once; looking and stopping for a while.

use std::io::Read;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use crate::support::{Place, Running, tidegate, until};

#[test]
fn the_first_interrupt_delivers_what_is_held_and_leaves_the_target_alone() {
    let place = Place::new(10);
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        std::fs::write(place.path("copy"), "old").unwrap();
        let copying = Running::start(&mut tidegate([
            "--force",
            "--rate",
            "1MiB/s",
            "/dev/zero",
            &place.text("copy"),
        ]));
        until("it writes", || place.names().len() == 3);
        copying.signal(name);
        let run = copying.end().expect(code);
        assert!(run.err.contains("delivering what is held"), "{}", run.err);
        assert!(run.last().contains("nothing confirmed"), "{}", run.err);
        assert_eq!(std::fs::read(place.path("copy")).unwrap(), b"old");
        assert_eq!(place.names(), ["big", "copy"]);
    }
}

#[test]
fn what_is_held_reaches_a_peer_before_its_connection_is_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let place = Place::new(10);
    let line = "sh:printf held; exec sleep 60";
    let sending = Running::start(&mut tidegate([line, &format!("tcp://{at}"), "--drain", "1s"]));
    let mut peer = listener.accept().unwrap().0;
    let mut got = [0; 4];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"held");
    sending.signal("INT");
    let end = peer.read(&mut [0; 1]);
    assert!(end.is_err(), "a cut stream looked finished: {end:?}");
    sending.end().expect(130);
    assert_eq!(place.names(), ["big"]);
}

#[test]
fn the_second_interrupt_does_not_wait_and_says_what_was_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let mut sending = Running::start(&mut tidegate(["/dev/zero", &format!("tcp://{at}")]));
    let peer = listener.accept().unwrap().0;
    // The peer reads nothing: everything between fills up.
    thread::sleep(Duration::from_millis(500));
    sending.signal("INT");
    sending.line("once more aborts at once");
    let began = std::time::Instant::now();
    sending.signal("INT");
    let run = sending.end().expect(130);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(run.last().contains("lost on the way"), "{}", run.err);
    drop(peer);
}

#[test]
fn a_signal_before_both_ends_are_open_ends_the_program() {
    let place = Place::new(10);
    let mut waiting = Running::start(&mut tidegate(["tcp-listen://127.0.0.1:0", &place.text("copy")]));
    waiting.port();
    waiting.signal("TERM");
    waiting.end().expect(143);
    assert_eq!(place.names(), ["big"]);
}

#[test]
fn sigusr1_prints_a_snapshot() {
    let place = Place::new(10);
    let mut copying = Running::start(&mut tidegate([
        "--rate",
        "1MiB/s",
        "/dev/zero",
        &place.text("copy"),
    ]));
    until("it writes", || place.names().len() == 2);
    copying.signal("USR1");
    let line = copying.line("slow side: ");
    for part in ["/dev/zero -> ", " read, ", " sent, ", " held of ", "lane "] {
        assert!(line.contains(part), "{line}");
    }
    copying.signal("INT");
    copying.end().expect(130);
}

#[test]
fn a_stop_for_a_while_is_no_stall_and_spoils_no_rate() {
    let place = Place::new(10);
    let line = "sh:for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.15; done";
    let copying = Running::start(&mut tidegate([
        "--json",
        "--stall",
        "800ms",
        line,
        &place.text("copy"),
    ]));
    until("it writes", || place.names().len() == 2);
    thread::sleep(Duration::from_millis(200));
    copying.signal("TSTP");
    let id = copying.child.id();
    until("it stops", || {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    });
    thread::sleep(Duration::from_millis(1500));
    copying.signal("CONT");
    let run = copying.end().expect(0);
    let last: serde_json::Value = serde_json::from_str(run.last()).unwrap();
    assert!(last["paused_seconds"]["user"].as_f64().unwrap() > 1.0, "{last}");
}

#[test]
fn an_interrupted_append_is_cut_back() {
    let place = Place::new(10);
    for signals in [1, 2] {
        std::fs::write(place.path("log"), "start").unwrap();
        let mut copying = Running::start(&mut tidegate([
            "--append",
            "--rate",
            "1MiB/s",
            "/dev/zero",
            &place.text("log"),
        ]));
        until("it appends", || {
            std::fs::metadata(place.path("log")).unwrap().len() > 5
        });
        copying.signal("INT");
        copying.line("once more aborts at once");
        if signals == 2 {
            copying.signal("INT");
        }
        copying.end().expect(130);
        assert_eq!(std::fs::read(place.path("log")).unwrap(), b"start");
    }
    assert_eq!(place.names(), ["big", "log"]);
}

#[test]
fn an_interrupted_copy_to_standard_output_delivers_what_it_holds() {
    let mut copying = tidegate(["sh:printf held; exec sleep 60", "-"]).spawn().unwrap();
    let mut stdout = copying.stdout.take().unwrap();
    let mut got = [0; 4];
    stdout.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"held");
    let mut copying = Running::start_with(copying);
    copying.signal("TERM");
    copying.line("terminated: delivering what is held");
    copying.end().expect(143);
    assert_eq!(stdout.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_second_interrupt_leaves_a_file_target_alone_too() {
    let place = Place::new(10);
    std::fs::write(place.path("copy"), "old").unwrap();
    let mut copying = Running::start(&mut tidegate([
        "--force",
        "sh:printf some; exec sleep 60",
        &place.text("copy"),
    ]));
    until("it writes", || place.names().len() == 3);
    copying.signal("INT");
    copying.line("once more aborts at once");
    copying.signal("INT");
    let run = copying.end().expect(130);
    assert!(run.last().contains("nothing confirmed"), "{}", run.err);
    assert_eq!(std::fs::read(place.path("copy")).unwrap(), b"old");
    assert_eq!(place.names(), ["big", "copy"]);
}
