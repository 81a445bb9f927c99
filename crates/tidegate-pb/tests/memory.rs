//! 200 MiB to Twisted and from Twisted, by the two example programs: hashes equal, and less than 16 MiB of memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::{PATIENCE, Twisted, pattern};
use md5::{Digest, Md5};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const MEBIBYTES: usize = 200;
const RSS_KIB_MAX: u64 = 16 * 1024;

fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples")
        .join(name);
    assert!(
        program.exists(),
        "cargo test builds {}; so does cargo build --examples",
        program.display()
    );
    program
}

fn big_file(path: &Path) {
    let mut file = File::create(path).unwrap();
    let mut block = pattern(1 << 20).to_vec();
    for number in 0..MEBIBYTES {
        block[..8].copy_from_slice(&(number as u64).to_be_bytes());
        file.write_all(&block).unwrap();
    }
}

fn hash(path: &Path) -> String {
    let mut file = File::open(path).unwrap();
    let mut hash = Md5::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block).unwrap();
        if read == 0 {
            return hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        }
        hash.update(&block[..read]);
    }
}

/// The most memory the process ever had, asked again and again until it is gone.
async fn peak_rss_kib(child: &mut Child) -> u64 {
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut peak = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            exited = child.wait() => {
                assert!(exited.unwrap().success());
                return peak;
            }
            _ = tick.tick() => {
                let text = std::fs::read_to_string(&status).unwrap_or_default();
                let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
                peak = kib.unwrap_or(peak);
            }
        }
    }
}

#[tokio::test]
async fn two_hundred_mebibytes_each_way_in_little_memory() {
    if common::python("pb memory").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (big, copy) = (directory.path().join("big"), directory.path().join("copy"));
    big_file(&big);
    let expected = hash(&big);

    let mut serve = Command::new(example("serve"));
    let mut serve = serve
        .args(["127.0.0.1:0", "big"])
        .arg(&big)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(serve.stdout.take().unwrap()).lines();
    let port = lines.next_line().await.unwrap().unwrap().replace("port ", "");
    let mut twisted = Twisted::start("pb memory", &["fetch", &port, "big"]).unwrap();
    let peak = tokio::time::timeout(PATIENCE, peak_rss_kib(&mut serve))
        .await
        .unwrap();
    assert_eq!(twisted.line().await, "answered");
    assert_eq!(
        twisted.after("ended").await,
        format!("big {} {expected}", MEBIBYTES << 20)
    );
    assert!((1..RSS_KIB_MAX).contains(&peak), "serving took {peak} KiB");

    let mut twisted = Twisted::start("pb memory", &["serve", big.to_str().unwrap()]).unwrap();
    let port = twisted.after("port").await;
    let mut fetch = Command::new(example("fetch"));
    let mut fetch = fetch
        .args(["127.0.0.1", &port, "file"])
        .arg(&copy)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let fetched = tokio::time::timeout(PATIENCE, peak_rss_kib(&mut fetch))
        .await
        .unwrap();
    assert_eq!(hash(&copy), expected);
    assert!((1..RSS_KIB_MAX).contains(&fetched), "fetching took {fetched} KiB");
    eprintln!("peak memory: serving {peak} KiB, fetching {fetched} KiB");
}
