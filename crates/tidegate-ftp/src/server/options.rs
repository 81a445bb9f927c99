//! What a server is told before it serves.
//!
//! Refuses to know of command lines and configuration files.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tidegate::Marks;
use tidegate_io::LaneChoice;
use tokio_rustls::TlsAcceptor;

use super::ServeError;
use crate::storage::{Access, Durability, Partial};
use crate::users::Users;

/// Everything a server is told. The default serves nobody: it has no users and refuses anonymous login.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Who may log in.
    pub users: Option<Users>,
    /// Whether `anonymous` may.
    pub anonymous: Anonymous,
    /// What everybody who may log in may do.
    pub access: Access,
    /// Encryption.
    pub tls: Tls,
    /// Where passive data connections are opened; any free port without it.
    pub passive_ports: Option<RangeInclusive<u16>>,
    /// What to call ourselves in replies to `PASV`, behind address translation.
    pub passive_address: Option<Ipv4Addr>,
    /// Bounds on everything.
    pub limits: Limits,
    /// Bounds on what a transfer holds.
    pub marks: Marks,
    /// How bytes may travel.
    pub lane: LaneChoice,
    /// What becomes of uploads that are cut short.
    pub partial: Partial,
    /// How sure a finished upload is. `Cached` by default, as with every other FTP server: 226 says that the file is whole
    /// and has its name, not that it survives a power failure. `Synced` says that too, at the speed of the disk.
    pub durability: Durability,
    /// Whether `SITE CHMOD` is served.
    pub site_chmod: SiteChmod,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            users: None,
            anonymous: Anonymous::default(),
            access: Access::default(),
            tls: Tls::default(),
            passive_ports: None,
            passive_address: None,
            limits: Limits::default(),
            marks: Marks::default(),
            lane: LaneChoice::default(),
            partial: Partial::default(),
            durability: Durability::Cached,
            site_chmod: SiteChmod::default(),
        }
    }
}

/// Whether anybody may log in without a password.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Anonymous {
    /// Nobody may.
    #[default]
    Refused,
    /// As `anonymous` or `ftp`.
    Allowed,
}

/// Whether `SITE CHMOD` is served.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SiteChmod {
    /// It is not.
    #[default]
    Refused,
    /// For those who may write.
    Allowed,
}

/// Encryption of control and data connections (RFC 4217).
#[derive(Clone, Default)]
pub enum Tls {
    /// `AUTH` is not served.
    #[default]
    Off,
    /// A client may ask for it.
    Offered(Arc<ServerConfig>),
    /// A client must ask for it, for both connections, before it may log in.
    Required(Arc<ServerConfig>),
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "Off",
            Self::Offered(_) => "Offered",
            Self::Required(_) => "Required",
        })
    }
}

/// Bounds on what clients may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once from one address.
    pub connections_per_address_max: usize,
    /// Wrong passwords before the connection is closed.
    pub login_attempts_max: u32,
    /// How long a session may say nothing.
    pub idle: Duration,
    /// How long a transfer may move nothing.
    pub stall: Duration,
    /// How long a data connection may take to be opened, TLS included.
    pub data_open: Duration,
    /// How long the control connection is watched after the data of a plain upload ended, before the file takes its name: a
    /// client that was killed ends both, and its data in good order.
    pub end_grace: Duration,
    /// How long transfers may go on after shutdown was asked for.
    pub shutdown_grace: Duration,
    /// The longest command line, in bytes.
    pub command_bytes_max: usize,
    /// The longest path, in bytes.
    pub path_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            connections_per_address_max: 64,
            login_attempts_max: 3,
            idle: Duration::from_secs(300),
            stall: Duration::from_secs(60),
            data_open: Duration::from_secs(20),
            end_grace: Duration::from_millis(10),
            shutdown_grace: Duration::from_secs(10),
            command_bytes_max: 4608,
            path_bytes_max: 4096,
        }
    }
}

/// TLS for the two kinds of connection.
#[derive(Clone)]
pub(crate) struct Acceptors {
    pub(crate) control: TlsAcceptor,
    pub(crate) data: TlsAcceptor,
}

impl fmt::Debug for Acceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptors")
    }
}

impl Acceptors {
    pub(crate) fn new(tls: &Tls) -> Result<Option<Self>, ServeError> {
        let config = match tls {
            Tls::Off => return Ok(None),
            Tls::Offered(config) | Tls::Required(config) => config,
        };
        // A client resumes the session of its control connection for every data connection, so a ticket must be good
        // more than once; rustls' own store forgets a ticket when it is used.
        let mut control = ServerConfig::clone(config);
        if !control.ticketer.enabled() {
            control.ticketer =
                rustls::crypto::ring::Ticketer::new().map_err(|error| ServeError::Tls(error.to_string()))?;
        }
        // No tickets on data connections: a client that only writes never reads them, and closing a socket with unread
        // bytes resets it, which loses the end of an upload (curl issue 6149).
        let mut data = control.clone();
        data.send_tls13_tickets = 0;
        Ok(Some(Self {
            control: TlsAcceptor::from(Arc::new(control)),
            data: TlsAcceptor::from(Arc::new(data)),
        }))
    }
}
