//! The program as its users meet it: started as a process, judged by its exit code, its streams and the files it leaves.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod certificates;
mod checksums;
mod children;
mod clock;
mod config;
mod connections;
mod copies;
mod exits;
mod faults;
mod ftp;
mod help;
mod http_relays;
mod mail;
mod memory;
mod output;
mod pages;
mod peers;
mod protocols;
mod refusals;
mod relays;
mod signals;
mod socat;
mod support;
mod terminal;
mod twisted;
mod usage;
mod web;
