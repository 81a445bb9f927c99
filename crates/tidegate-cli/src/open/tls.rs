//! TLS for addresses and servers: from options and files to what the driver takes.
//!
//! Knows which option of an address goes before which of the command line.

use std::path::PathBuf;
use std::sync::Arc;

pub(super) use tidegate_io::endpoint::tls::Client;
use tidegate_io::endpoint::tls::{self, Identity, Options, Server, Verification};
use tidegate_io::{Blame, EndpointError, ErrorKind};

use crate::address::Address;
use crate::args::TlsArgs;

/// The options of an address, with those of the command line behind them.
fn merged(address: &Address, args: &TlsArgs) -> TlsArgs {
    let file = |name: &str, otherwise: &Option<PathBuf>| {
        address
            .option(name)
            .map(PathBuf::from)
            .or_else(|| otherwise.clone())
    };
    TlsArgs {
        ca: file("ca", &args.ca),
        cert: file("cert", &args.cert),
        key: file("key", &args.key),
        insecure: args.insecure || address.option("insecure").is_some(),
    }
}

fn alpn(address: &Address) -> Vec<Vec<u8>> {
    address
        .option("alpn")
        .map(|name| name.as_bytes().to_vec())
        .into_iter()
        .collect()
}

fn options(args: &TlsArgs, alpn: &[Vec<u8>]) -> Result<Options, EndpointError> {
    Ok(Options {
        authorities: args.ca.iter().cloned().collect(),
        identity: identity(args)?,
        alpn: alpn.to_vec(),
        verification: if args.insecure {
            Verification::None
        } else {
            Verification::Full
        },
    })
}

fn identity(args: &TlsArgs) -> Result<Option<Identity>, EndpointError> {
    match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => Ok(Some(Identity {
            certificates: cert.clone(),
            key: key.clone(),
        })),
        (None, None) => Ok(None),
        _ => Err(wrong("a certificate needs its key, and a key its certificate")),
    }
}

fn needed(args: &TlsArgs) -> Result<Identity, EndpointError> {
    identity(args)?
        .ok_or_else(|| wrong("a TLS listener needs a certificate and its key: ,cert=FILE,key=FILE"))
}

/// The client of a `tls:` address.
pub(super) fn client(address: &Address, args: &TlsArgs) -> Result<Client, EndpointError> {
    Client::new(&options(&merged(address, args), &alpn(address))?)
}

/// The server of a `tls-listen:` address. What `--cert` gives proves us; `ca` asks clients for theirs.
pub(super) fn server(address: &Address, args: &TlsArgs) -> Result<Server, EndpointError> {
    let args = merged(address, args);
    let options = Options {
        identity: None,
        ..options(&args, &alpn(address))?
    };
    Server::new(&needed(&args)?, &options)
}

/// The configuration of a client that speaks TLS itself.
#[cfg(any(feature = "http", feature = "ftp"))]
pub(super) fn client_config(args: &TlsArgs) -> Result<Arc<rustls::ClientConfig>, EndpointError> {
    tls::client_config(&options(args, &[])?)
}

/// The configuration of a server that speaks TLS itself.
#[cfg(any(feature = "http", feature = "ftp"))]
pub(crate) fn server_config(args: &TlsArgs) -> Result<Arc<rustls::ServerConfig>, EndpointError> {
    let options = Options {
        authorities: args.ca.iter().cloned().collect(),
        ..Options::default()
    };
    tls::server_config(&needed(args)?, &options)
}

fn wrong(what: &str) -> EndpointError {
    EndpointError::new(ErrorKind::Open, Blame::Caller, what)
}
