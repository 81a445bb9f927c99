//! A read-only or writable anonymous FTP server on a directory: `ftp_server DIR ADDR [--writable]`.
//!
//! Leaves out users, TLS and limits of its own; the program `tidegate serve ftp` has them.

use std::path::PathBuf;

use tidegate_ftp::server::{Anonymous, ServeOptions, serve};
use tidegate_ftp::storage::Access;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| ".".to_owned()));
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:2121".to_owned());
    let access = match arguments.next().as_deref() {
        Some("--writable") => Access::Writable,
        _ => Access::ReadOnly,
    };
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("ftp://{}/", listener.local_addr()?);
    let options = ServeOptions {
        anonymous: Anonymous::Allowed,
        access,
        ..ServeOptions::default()
    };
    let interrupted = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    serve(&directory, listener, options, interrupted).await?;
    Ok(())
}
