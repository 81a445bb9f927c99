//! The program as its users meet it: started as a process, judged by its exit code, its streams and the files it leaves.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod checksums;
mod clock;
mod config;
mod copies;
mod exits;
mod faults;
mod help;
mod mail;
mod memory;
mod output;
mod pages;
mod peers;
mod protocols;
mod relays;
mod signals;
mod support;
mod terminal;
mod usage;
mod web;
