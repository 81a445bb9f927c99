//! A port for a program that cannot choose one itself: included by path wherever tests need one.
//!
//! Knows only what is free here and now.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// It lies below the ports that the system gives to outgoing connections and for port 0, so that none of the tests beside this one
/// is given it in the meantime.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = std::process::id()
            .wrapping_mul(61)
            .wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (next % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
