//! The one table of address schemes and their options: the parser, `--help addresses`, the man page and
//! `docs/addresses.md` all come from here.
//!
//! Knows nothing of how an address is opened.

/// The kinds of endpoint an address can name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Scheme {
    Stdio,
    File,
    Tcp,
    TcpListen,
    Unix,
    UnixListen,
    Tls,
    TlsListen,
    Pipe,
    NamedPipe,
    NamedPipeListen,
    Fd,
    Exec,
    Shell,
    Http,
    Https,
    HttpListen,
    Ftp,
    Ftps,
    Maildir,
    Pb,
    PbListen,
}

/// What stands behind the scheme.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// Nothing: `-`.
    Dash,
    /// A path in the file system.
    Path,
    /// `host:port` to connect to.
    Connect,
    /// `addr:port` to listen on; the address may be empty.
    Listen,
    /// A number.
    Number,
    /// A command, split as a shell would quote.
    Command,
    /// A line for `sh -c`.
    Line,
    /// A URL, kept as it is.
    Url,
    /// `host:port/NAME` to connect to.
    ConnectName,
    /// `addr:port/NAME` to listen on.
    ListenName,
}

/// Where an address may stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    Source,
    Sink,
    Relay,
}

impl Role {
    /// The word users see for the place.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink => "sink",
            Self::Relay => "relay end",
        }
    }
}

/// One row: a scheme and all there is to say about it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scheme: Scheme,
    /// As written before the colon.
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) roles: &'static [Role],
    /// How it is written, for people.
    pub(crate) form: &'static str,
    /// An address that parses.
    pub(crate) example: &'static str,
    pub(crate) about: &'static str,
    pub(crate) options: &'static [OptionRow],
}

/// One `,name=value` an endpoint knows.
#[derive(Debug)]
pub(crate) struct OptionRow {
    pub(crate) name: &'static str,
    /// The value, for people; empty when the option takes none.
    pub(crate) value: &'static str,
    pub(crate) about: &'static str,
}

const BOTH: &[Role] = &[Role::Source, Role::Sink];
const ALL: &[Role] = &[Role::Source, Role::Sink, Role::Relay];
const SINK: &[Role] = &[Role::Sink];
const SOURCE_OR_SINK_ONCE: &[Role] = &[Role::Source, Role::Sink];

const TLS_CLIENT: &[OptionRow] = &[
    option(
        "ca",
        "FILE",
        "trust these certificates (PEM) instead of the system's roots",
    ),
    option(
        "cert",
        "FILE",
        "our own certificate chain (PEM), for servers that ask for one",
    ),
    option("key", "FILE", "the key of `cert` (PEM)"),
    option(
        "name",
        "HOST",
        "the name to ask for (SNI) and to find in the certificate",
    ),
    option("alpn", "PROTO", "application protocol to offer, as `http/1.1`"),
    option("insecure", "", "accept any certificate; said loudly on stderr"),
];

const TLS_SERVER: &[OptionRow] = &[
    option("cert", "FILE", "certificate chain (PEM); needed"),
    option("key", "FILE", "its key (PEM); needed"),
    option(
        "ca",
        "FILE",
        "ask clients for a certificate signed by one of these (PEM)",
    ),
    option("alpn", "PROTO", "application protocol to accept"),
];

const MAILDIR: &[OptionRow] = &[
    option("create", "yes|no", "make a missing mailbox (default: yes)"),
    option(
        "flags",
        "FLAGS",
        "file the message in `cur/` with these flags, as `S` for seen, instead of in `new/`",
    ),
    option("folder", "NAME", "a subfolder (Maildir++), as `Archive/2026`"),
    option("max", "SIZE", "refuse a larger message; nothing of it is left"),
    option("eol", "keep|lf|crlf", "what to do with line ends (default: keep)"),
];

/// Every scheme there is, in the order the documentation shows them.
pub(crate) const TABLE: &[Row] = &[
    Row {
        scheme: Scheme::Stdio,
        name: "-",
        shape: Shape::Dash,
        roles: ALL,
        form: "-",
        example: "-",
        about: "standard input as a source, standard output as a sink, both in a relay",
        options: &[],
    },
    Row {
        scheme: Scheme::File,
        name: "file",
        shape: Shape::Path,
        roles: BOTH,
        form: "PATH or file:PATH",
        example: "file:big.iso",
        about: "a file; as a sink it is written beside the target and renamed when complete; \
                what exists and is not a regular file is written in place",
        options: &[],
    },
    Row {
        scheme: Scheme::Tcp,
        name: "tcp",
        shape: Shape::Connect,
        roles: ALL,
        form: "tcp://HOST:PORT",
        example: "tcp://127.0.0.1:9000",
        about: "a TCP connection, IPv4 or IPv6 (`[::1]:9000`)",
        options: &[],
    },
    Row {
        scheme: Scheme::TcpListen,
        name: "tcp-listen",
        shape: Shape::Listen,
        roles: ALL,
        form: "tcp-listen://ADDR:PORT",
        example: "tcp-listen://127.0.0.1:9000",
        about: "listens and takes one connection, then stops listening (in a relay: takes many); \
                an empty ADDR means every address, port 0 a free one",
        options: &[],
    },
    Row {
        scheme: Scheme::Unix,
        name: "unix",
        shape: Shape::Path,
        roles: ALL,
        form: "unix:PATH",
        example: "unix:/run/app.sock",
        about: "a connection to a Unix stream socket",
        options: &[],
    },
    Row {
        scheme: Scheme::UnixListen,
        name: "unix-listen",
        shape: Shape::Path,
        roles: ALL,
        form: "unix-listen:PATH",
        example: "unix-listen:/tmp/app.sock",
        about: "listens on a Unix stream socket, as tcp-listen does; the socket file is removed at the end",
        options: &[],
    },
    Row {
        scheme: Scheme::Tls,
        name: "tls",
        shape: Shape::Connect,
        roles: ALL,
        form: "tls://HOST:PORT",
        example: "tls://example.org:443",
        about: "a TLS connection, checked against the system's roots",
        options: TLS_CLIENT,
    },
    Row {
        scheme: Scheme::TlsListen,
        name: "tls-listen",
        shape: Shape::Listen,
        roles: ALL,
        form: "tls-listen://ADDR:PORT",
        example: "tls-listen://:8443,cert=cert.pem,key=key.pem",
        about: "tcp-listen with TLS",
        options: TLS_SERVER,
    },
    Row {
        scheme: Scheme::Pipe,
        name: "pipe",
        shape: Shape::Path,
        roles: BOTH,
        form: "pipe:PATH",
        example: "pipe:/tmp/fifo",
        about: "a named pipe (FIFO); a source waits for its first writer, a sink for its reader",
        options: &[],
    },
    Row {
        scheme: Scheme::NamedPipe,
        name: "npipe",
        shape: Shape::Path,
        roles: ALL,
        form: "npipe:NAME",
        example: r"npipe:\\.\pipe\app",
        about: "a named pipe of Windows that somebody listens on; NAME alone means one of this machine",
        options: &[],
    },
    Row {
        scheme: Scheme::NamedPipeListen,
        name: "npipe-listen",
        shape: Shape::Path,
        roles: ALL,
        form: "npipe-listen:NAME",
        example: r"npipe-listen:\\.\pipe\app",
        about: "listens on a named pipe of Windows, as tcp-listen does; clients of other machines are refused",
        options: &[],
    },
    Row {
        scheme: Scheme::Fd,
        name: "fd",
        shape: Shape::Number,
        roles: ALL,
        form: "fd:N",
        example: "fd:3",
        about: "a descriptor this program was started with",
        options: &[],
    },
    Row {
        scheme: Scheme::Exec,
        name: "exec",
        shape: Shape::Command,
        roles: ALL,
        form: "exec:CMD ARGS…",
        example: "exec:gzip -9c",
        about: "a program's output as a source, its input as a sink; one argument, split with shell quoting, \
                nothing expanded, no shell",
        options: &[],
    },
    Row {
        scheme: Scheme::Shell,
        name: "sh",
        shape: Shape::Line,
        roles: ALL,
        form: "sh:LINE",
        example: "sh:tar c . | gzip",
        about: "the same through `sh -c`",
        options: &[],
    },
    Row {
        scheme: Scheme::Http,
        name: "http",
        shape: Shape::Url,
        roles: BOTH,
        form: "http://HOST/PATH",
        example: "http://127.0.0.1:8080/big.iso",
        about: "GET as a source (resumed after a broken connection), PUT as a sink",
        options: &[],
    },
    Row {
        scheme: Scheme::Https,
        name: "https",
        shape: Shape::Url,
        roles: BOTH,
        form: "https://HOST/PATH",
        example: "https://example.org/big.iso",
        about: "the same over TLS",
        options: &[],
    },
    Row {
        scheme: Scheme::HttpListen,
        name: "http-listen",
        shape: Shape::Listen,
        roles: SOURCE_OR_SINK_ONCE,
        form: "http-listen://ADDR:PORT",
        example: "http-listen://127.0.0.1:8080",
        about: "takes one upload as a source, serves one download as a sink",
        options: &[],
    },
    Row {
        scheme: Scheme::Ftp,
        name: "ftp",
        shape: Shape::Url,
        roles: BOTH,
        form: "ftp://[USER@]HOST[:PORT]/PATH",
        example: "ftp://ftp.example.org/big.iso",
        about: "RETR as a source, STOR as a sink; no user means anonymous",
        options: &[],
    },
    Row {
        scheme: Scheme::Ftps,
        name: "ftps",
        shape: Shape::Url,
        roles: BOTH,
        form: "ftps://[USER@]HOST[:PORT]/PATH",
        example: "ftps://me@ftp.example.org/big.iso",
        about: "the same with explicit TLS (AUTH TLS) on both connections",
        options: &[],
    },
    Row {
        scheme: Scheme::Maildir,
        name: "maildir",
        shape: Shape::Path,
        roles: SINK,
        form: "maildir:PATH",
        example: "maildir:Mail/inbox",
        about: "appends one message; done means durable",
        options: MAILDIR,
    },
    Row {
        scheme: Scheme::Pb,
        name: "pb",
        shape: Shape::ConnectName,
        roles: &[Role::Source],
        form: "pb://HOST:PORT/NAME",
        example: "pb://127.0.0.1:8787/big.iso",
        about: "fetches NAME from a Perspective Broker server, page by page",
        options: &[],
    },
    Row {
        scheme: Scheme::PbListen,
        name: "pb-listen",
        shape: Shape::ListenName,
        roles: SINK,
        form: "pb-listen://ADDR:PORT/NAME",
        example: "pb-listen://127.0.0.1:8787/big.iso",
        about: "serves the source as NAME, page by page, to one Perspective Broker client",
        options: &[],
    },
];

impl Row {
    /// The row of a scheme.
    pub(crate) fn of(scheme: Scheme) -> &'static Self {
        TABLE.iter().find(|row| row.scheme == scheme).unwrap_or(&TABLE[0])
    }

    /// Whether it may stand in a place.
    pub(crate) fn plays(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether it takes connections.
    pub(crate) fn listens(&self) -> bool {
        matches!(self.shape, Shape::Listen | Shape::ListenName)
            || matches!(self.scheme, Scheme::UnixListen | Scheme::NamedPipeListen)
    }

    fn roles_text(&self) -> String {
        let words: Vec<&str> = self
            .roles
            .iter()
            .map(|role| match role {
                Role::Source => "source",
                Role::Sink => "sink",
                Role::Relay => "relay",
            })
            .collect();
        words.join(", ")
    }
}

/// What every address shares, for help and documentation.
const RULES: &[&str] = &[
    "A bare path is literal: commas, colons and percent signs are part of it. A path that looks like an address is \
     written `./tcp:x` or `file:tcp:x`.",
    "Every scheme that connects or listens is taken as `scheme://rest` and as `scheme:rest`.",
    "With a scheme, options follow as `,name=value` where the endpoint has any; `%2C` is a comma that is no \
     separator, `%25` a percent sign. URLs (http, https, ftp, ftps) are kept as they are, and so are the commands of \
     exec: and sh:.",
    "`@NAME` is an endpoint from the configuration file.",
];

/// The table for `--help addresses`.
pub(crate) fn help() -> String {
    let mut text = String::from("Addresses\n\n");
    for rule in RULES {
        wrap(&mut text, rule, "", 78);
        text.push('\n');
    }
    for row in TABLE {
        text.push_str(&format!("  {}  ({})\n", row.form, row.roles_text()));
        wrap(&mut text, row.about, "      ", 78);
        for option in row.options {
            wrap(
                &mut text,
                &format!(",{}  {}", option.form(), option.about),
                "        ",
                78,
            );
        }
    }
    text
}

/// `docs/addresses.md`, which a test compares and writes.
#[cfg(test)]
pub(crate) fn markdown() -> String {
    let mut text = String::from(
        "# Addresses\n\nGenerated from the program's own table (`crates/tidegate-cli/src/address/table.rs`); a test \
         keeps the two equal. `tidegate --help addresses` prints the same.\n\n",
    );
    for rule in RULES {
        text.push_str(&format!("- {rule}\n"));
    }
    text.push_str("\n| address | may be | what it is | example |\n|---|---|---|---|\n");
    for row in TABLE {
        text.push_str(&format!(
            "| `{}` | {} | {} | `{}` |\n",
            row.form.replace('|', "\\|"),
            row.roles_text(),
            row.about,
            row.example.replace('|', "\\|")
        ));
    }
    text.push_str("\n## Options\n\n| address | option | meaning |\n|---|---|---|\n");
    for row in TABLE {
        for option in row.options {
            text.push_str(&format!(
                "| `{}:` | `,{}` | {} |\n",
                row.name,
                option.form().replace('|', "\\|"),
                option.about
            ));
        }
    }
    text
}

impl OptionRow {
    fn form(&self) -> String {
        if self.value.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}={}", self.name, self.value)
        }
    }
}

const fn option(name: &'static str, value: &'static str, about: &'static str) -> OptionRow {
    OptionRow { name, value, about }
}

fn wrap(into: &mut String, text: &str, indent: &str, width: usize) {
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column == 0 {
            into.push_str(indent);
            column = indent.len();
        } else if column + 1 + length > width {
            into.push('\n');
            into.push_str(indent);
            column = indent.len();
        } else {
            into.push(' ');
            column += 1;
        }
        into.push_str(word);
        column += length;
    }
    into.push('\n');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_document_is_what_the_table_generates() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/addresses.md");
        if std::env::var_os("TIDEGATE_BLESS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs")).unwrap();
            std::fs::write(path, markdown()).unwrap();
        }
        let document = std::fs::read_to_string(path).unwrap();
        assert_eq!(document, markdown(), "run the tests once with TIDEGATE_BLESS=1");
    }

    #[test]
    fn help_fits_a_terminal_and_names_every_scheme() {
        let help = help();
        assert!(help.lines().all(|line| line.chars().count() <= 79), "{help}");
        assert!(TABLE.iter().all(|row| help.contains(row.form)));
    }
}
