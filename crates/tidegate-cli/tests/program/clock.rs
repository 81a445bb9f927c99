//! A wall clock that jumps by days while bytes move: limits, rates and progress go by the steady clock.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{MIB, Place, missing, peer, run, tidegate};

/// A wall clock that is set to another day every few milliseconds, each time further away, once forward and once back.
struct Jumping {
    library: PathBuf,
    file: PathBuf,
    done: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Jumping {
    fn start(place: &Place, test: &str) -> Option<Self> {
        peer("faketime", test)?;
        let library = ["/usr/lib", "/usr/lib64"]
            .iter()
            .flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten())
            .map(|entry| entry.path())
            .flat_map(|path| {
                [
                    path.join("faketime/libfaketime.so.1"),
                    path.join("libfaketime.so.1"),
                ]
            })
            .find(|path| path.is_file());
        if library.is_none() {
            missing("libfaketime", test);
        }
        let library = library?;
        let file = place.path("clock");
        let done = Arc::new(AtomicBool::new(false));
        let (path, over) = (file.clone(), Arc::clone(&done));
        set(&path, 0);
        let thread = thread::spawn(move || {
            let mut days = 0_i64;
            while !over.load(Ordering::Relaxed) {
                days = if days > 0 { -days } else { 1 - days };
                set(&path, days);
                thread::sleep(Duration::from_millis(20));
            }
        });
        Some(Self {
            library,
            file,
            done,
            thread: Some(thread),
        })
    }

    fn within(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            // The steady clock of a machine does not jump.
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

impl Drop for Jumping {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sets the offset in one step: a reader sees the old one or the new one.
fn set(path: &std::path::Path, days: i64) {
    let new = path.with_extension("new");
    std::fs::write(&new, format!("{days:+}d\n")).unwrap();
    std::fs::rename(&new, path).unwrap();
}

#[test]
fn rates_and_progress_do_not_see_a_jump() {
    let place = Place::new(3 * MIB);
    let Some(clock) = Jumping::start(&place, "rates_and_progress_do_not_see_a_jump") else {
        return;
    };
    let began = Instant::now();
    let mut command = tidegate([
        "--json",
        "-vv",
        "--rate",
        "1MiB/s",
        &place.text("big"),
        &place.text("copy"),
    ]);
    clock.within(&mut command);
    let run = run(command).expect(0);
    let took = began.elapsed().as_secs_f64();
    place.holds_all("copy");
    let objects: Vec<Value> = run
        .err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // The program did live under that clock: its log lines carry the days.
    let mut days: Vec<&str> = objects
        .iter()
        .filter_map(|object| object["time"].as_str()?.get(..10))
        .collect();
    days.sort_unstable();
    days.dedup();
    assert!(days.len() >= 2, "no jump was seen: {days:?}");
    let report = objects.last().unwrap();
    let seconds = report["seconds"].as_f64().unwrap();
    assert!(seconds > 1.5 && seconds <= took, "{seconds} of {took}");
    for object in objects.iter().filter(|object| object["event"] != "log") {
        let rate = object["rate_average"].as_f64().unwrap();
        assert!((0.0..3.0 * MIB as f64).contains(&rate), "{object}");
        let eta = object["eta_seconds"].as_f64().unwrap_or(0.0);
        assert!((0.0..=60.0).contains(&eta), "{object}");
        for part in ["seconds", "reading_seconds", "writing_seconds"] {
            assert!(
                (0.0..=took).contains(&object[part].as_f64().unwrap()),
                "{part}: {object}"
            );
        }
    }
}

#[test]
fn limits_do_not_see_a_jump() {
    let place = Place::new(10);
    let Some(clock) = Jumping::start(&place, "limits_do_not_see_a_jump") else {
        return;
    };
    // Bytes that trickle are no stall, however many days seem to pass between them.
    let line = "sh:for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done";
    let mut command = tidegate(["--stall", "20s", line, &place.text("copy")]);
    clock.within(&mut command);
    run(command).expect(0);
    // And a stall is one after its time, neither before nor never.
    let began = Instant::now();
    let mut command = tidegate(["--stall", "500ms", "sh:exec sleep 60", &place.text("none")]);
    clock.within(&mut command);
    run(command).expect(8);
    assert!(
        began.elapsed() >= Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    // A drain that gets no answer ends after its time too.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("tcp://{}", listener.local_addr().unwrap());
    let began = Instant::now();
    let mut command = tidegate(["--drain", "300ms", &place.text("big"), &at]);
    clock.within(&mut command);
    let holding = thread::spawn(move || {
        let mut peer = listener.accept().unwrap().0;
        let _ = std::io::Read::read_to_end(&mut peer, &mut Vec::new());
        peer
    });
    let run = run(command).expect(0);
    assert!(run.last().contains("sent"), "{}", run.err);
    assert!(began.elapsed() >= Duration::from_millis(300));
    drop(holding.join().unwrap());
}
