//! The options of `tidegate serve`.
//!
//! Knows what can be written, and nothing of what it does.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{DurabilityArg, OutputArgs};
use crate::size::parse_duration;

/// `tidegate serve …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Serve {
    /// A directory over HTTP/1.1 and HTTP/2
    Http(ServeHttpArgs),
    /// A directory over FTP
    Ftp(Box<ServeFtpArgs>),
}

/// `tidegate serve http DIR`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeHttpArgs {
    /// The directory to share; no request leaves it
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where to listen
    #[arg(
        long,
        env = "TIDEGATE_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) listen: String,
    /// Take uploads by PUT
    #[arg(long)]
    pub(crate) writable: bool,
    /// With --writable: answer an upload when the disk has it (synced, the default) or when it is in its place (cached)
    #[arg(
        long,
        env = "TIDEGATE_DURABILITY",
        value_name = "HOW",
        value_enum,
        hide_possible_values = true
    )]
    pub(crate) durability: Option<DurabilityArg>,
    /// Give up a connection on which nothing moves for this long [default: 60s]
    #[arg(long, env = "TIDEGATE_STALL", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) stall: Option<Duration>,
    /// After the first signal, wait this long for transfers under way [default: 30s]
    #[arg(long, env = "TIDEGATE_DRAIN", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) drain: Option<Duration>,
    /// Take at most this many connections at once
    #[arg(long, env = "TIDEGATE_MAX_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: Option<u32>,
    /// Our certificate chain (PEM): serve TLS
    #[arg(long, env = "TIDEGATE_CERT", value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, env = "TIDEGATE_KEY", value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `tidegate serve ftp DIR`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeFtpArgs {
    /// The directory to share; no path leaves it
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where to listen
    #[arg(
        long,
        env = "TIDEGATE_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:2121"
    )]
    pub(crate) listen: String,
    /// Let anyone log in as `anonymous`
    #[arg(long)]
    pub(crate) anonymous: bool,
    /// Let everyone who may log in write
    #[arg(long)]
    pub(crate) writable: bool,
    /// The file of users, one line each, made with `tidegate ftp-user`
    #[arg(long, env = "TIDEGATE_USERS", value_name = "FILE")]
    pub(crate) users: Option<PathBuf>,
    /// Ports for passive data connections
    #[arg(long, env = "TIDEGATE_PASSIVE_PORTS", value_name = "FIRST-LAST", value_parser = parse_ports)]
    pub(crate) passive_ports: Option<(u16, u16)>,
    /// The address to name in replies to PASV, behind address translation
    #[arg(long, env = "TIDEGATE_PASSIVE_ADDRESS", value_name = "IPV4")]
    pub(crate) passive_address: Option<std::net::Ipv4Addr>,
    /// Take at most this many connections at once [default: 1024]
    #[arg(long, env = "TIDEGATE_MAX_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: Option<u32>,
    /// Take at most this many connections at once from one address [default: 64]
    #[arg(long, env = "TIDEGATE_MAX_PER_ADDRESS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_per_address: Option<u32>,
    /// Refuse logins and transfers without TLS
    #[arg(long, requires = "cert")]
    pub(crate) tls_required: bool,
    /// Our certificate chain (PEM): offer AUTH TLS
    #[arg(long, env = "TIDEGATE_CERT", value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, env = "TIDEGATE_KEY", value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Close a control connection idle for this long [default: 5m]
    #[arg(long, env = "TIDEGATE_IDLE", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) idle: Option<Duration>,
    /// Give up a transfer on which nothing moves for this long [default: 60s]
    #[arg(long, env = "TIDEGATE_STALL", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) stall: Option<Duration>,
    /// After the first signal, wait this long for transfers under way [default: 30s]
    #[arg(long, env = "TIDEGATE_DRAIN", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) drain: Option<Duration>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let wrong = || "write two ports, as in 40000-40100".to_owned();
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let (first, last) = (
        first.parse().map_err(|_| wrong())?,
        last.parse().map_err(|_| wrong())?,
    );
    if first == 0 || last < first {
        Err(wrong())
    } else {
        Ok((first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ports_are_read() {
        assert_eq!(parse_ports("40000-40100"), Ok((40_000, 40_100)));
        assert!(parse_ports("2-1").is_err());
    }
}
