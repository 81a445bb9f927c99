//! The endpoints of Windows over real pipes, processes, standard streams and sockets.
#![cfg(windows)]
#![allow(clippy::unwrap_used)]

#[path = "../endpoints/cases.rs"]
mod cases;
mod group_c;
#[path = "../endpoints/harness.rs"]
mod harness;
mod laws;
mod npipe;
mod process;
#[path = "../endpoints/process_alike.rs"]
mod process_alike;
mod reset;
mod scenarios;
#[path = "../../../tidegate/tests/cases/script.rs"]
mod script;
mod stdio;
#[path = "../endpoints/support.rs"]
mod support;
#[path = "../../../tidegate/tests/cases/world.rs"]
mod world;

use std::path::PathBuf;

use tidegate_io::endpoint::process::{Process, Stderr};

/// The example that plays the child.
fn child_path() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().unwrap().parent().unwrap();
    let child = built.join("examples").join("child.exe");
    assert!(
        child.is_file(),
        "build the example `child` too: cargo test --example child"
    );
    child
}

/// The child, doing `what`.
fn child(what: &[&str]) -> Process {
    Process::exec(child_path(), what).stderr(Stderr::Keep)
}

/// A name for a pipe that no other test has.
fn pipe_name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};

    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(r"\\.\pipe\tidegate-test.{}.{next}", std::process::id())
}
