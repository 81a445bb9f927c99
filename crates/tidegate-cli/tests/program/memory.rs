//! What is held stays within the marks: peak memory of real copies, read from the system.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{MIB, Place, Running, go, tidegate};

/// What a copy may have resident at most. An unoptimised program's code alone takes some 12 MiB, so there the pages that
/// are mapped from its file do not count, and the rest is held to less.
pub(crate) const PEAK_BYTES: u64 = if cfg!(debug_assertions) { 8 } else { 16 } * MIB as u64;

/// The peak of a process that still runs; nothing for one that has ended.
pub(crate) fn peak(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.map_or(0, |line| {
            line.trim().split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        kib * 1024
    };
    let code = if cfg!(debug_assertions) {
        bytes("RssFile:")
    } else {
        0
    };
    bytes("VmHWM:").saturating_sub(code)
}

#[test]
fn a_copy_to_a_slow_reader_holds_no_more_than_allowed_and_names_the_sink() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let sending = Running::start(&mut tidegate(["--json", "/dev/zero", &format!("tcp://{at}")]));
    let mut peer = listener.accept().unwrap().0;
    let mut buffer = vec![0; MIB];
    // 10 MiB a second for three seconds.
    for _ in 0..30 {
        let began = Instant::now();
        peer.read_exact(&mut buffer).unwrap();
        thread::sleep(Duration::from_millis(100).saturating_sub(began.elapsed()));
    }
    let most = peak(sending.child.id());
    sending.signal("INT");
    drop(peer);
    let run = sending.end();
    let last: serde_json::Value = serde_json::from_str(run.last()).unwrap();
    assert_eq!(last["slow_side"], "sink", "{last}");
    assert!((1..=PEAK_BYTES).contains(&most), "{most} bytes at the peak");
}

#[test]
fn a_file_to_a_slow_reader_ends_with_a_line_that_names_the_sink() {
    let place = Place::new(40 * MIB);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let sending = Running::start(&mut tidegate([place.text("big"), format!("tcp://{at}")]));
    let mut peer = listener.accept().unwrap().0;
    let mut buffer = vec![0; MIB];
    let mut most = 0;
    for _ in 0..40 {
        let began = Instant::now();
        peer.read_exact(&mut buffer).unwrap();
        most = most.max(peak(sending.child.id()));
        thread::sleep(Duration::from_millis(100).saturating_sub(began.elapsed()));
    }
    drop(peer);
    let run = sending.end().expect(0);
    assert!(
        run.last().contains("40.0 MiB in ") && run.last().contains("slow side: sink"),
        "{}",
        run.err
    );
    assert!((1..=PEAK_BYTES).contains(&most), "{most} bytes at the peak");
}

#[test]
fn a_large_file_through_tcp_stays_small_at_both_ends() {
    let place = Place::new(200 * MIB);
    let mut receiving = Running::start(&mut tidegate(["tcp-listen://127.0.0.1:0", &place.text("copy")]));
    let port = receiving.port();
    let sending = Running::start(&mut tidegate([
        place.text("big"),
        format!("tcp://127.0.0.1:{port}"),
    ]));
    let ids = (sending.child.id(), receiving.child.id());
    let watching = thread::spawn(move || {
        let (mut most, mut alive) = (0, true);
        while alive {
            let now = (peak(ids.0), peak(ids.1));
            most = most.max(now.0).max(now.1);
            alive = now.0 > 0 || now.1 > 0;
            thread::sleep(Duration::from_millis(5));
        }
        most
    });
    sending.end().expect(0);
    receiving.end().expect(0);
    place.holds_all("copy");
    let most = watching.join().unwrap();
    assert!((1..=PEAK_BYTES).contains(&most), "{most} bytes at the peak");
}

#[test]
fn the_demo_proves_itself_without_a_terminal() {
    let run = go(["demo", "--time", "2s"]).expect(0);
    for part in [
        "every byte arrived",
        "peak memory",
        " moved (budget ",
        "slow side: ",
    ] {
        assert!(run.err.contains(part), "{part} is missing in {}", run.err);
    }
}

#[test]
fn a_reader_of_one_byte_at_a_time_gets_every_byte() {
    let place = Place::new(20_000);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let sending = Running::start(&mut tidegate([place.text("big"), format!("tcp://{at}")]));
    let mut peer = listener.accept().unwrap().0;
    let (mut got, mut byte) = (Vec::new(), [0]);
    while peer.read(&mut byte).unwrap() > 0 {
        got.push(byte[0]);
    }
    let _ = peer.flush();
    drop(peer);
    sending.end().expect(0);
    assert!(got == place.bytes);
}
