//! Bare words that are file names here and something else in other programs: `host:port`, socat's addresses, a scheme
//! with a slip in it. A bare path stays literal; this only says what was perhaps meant. Pure.
//!
//! Knows how others write addresses; nothing of what ours do.

use super::slips::nearest;
use super::table::TABLE;

/// What a file name was perhaps meant to be, as an address of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Meant {
    Connection(String),
    Other(String),
}

/// socat's names before the colon, and ours. What follows the colon stays, but for the `fork` and `,options` of theirs.
const SOCAT: &[(&str, &str)] = &[
    ("tcp4", "tcp"),
    ("tcp6", "tcp"),
    ("tcp-connect", "tcp"),
    ("tcp4-connect", "tcp"),
    ("tcp6-connect", "tcp"),
    ("tcp4-listen", "tcp-listen"),
    ("tcp6-listen", "tcp-listen"),
    ("tcp-l", "tcp-listen"),
    ("tcp4-l", "tcp-listen"),
    ("tcp6-l", "tcp-listen"),
    ("unix-connect", "unix"),
    ("unix-client", "unix"),
    ("unix-l", "unix-listen"),
    ("local", "unix"),
    ("openssl", "tls"),
    ("openssl-connect", "tls"),
    ("ssl", "tls"),
    ("openssl-listen", "tls-listen"),
    ("ssl-l", "tls-listen"),
    ("open", "file"),
    ("gopen", "file"),
    ("create", "file"),
    ("creat", "file"),
    ("fifo", "pipe"),
    ("system", "sh"),
    ("shell", "sh"),
];

/// What `text`, taken as a path, was perhaps meant to be.
pub(crate) fn meant(text: &str) -> Option<Meant> {
    if text.starts_with(['/', '.', '~']) {
        return None;
    }
    if ["stdin", "stdout", "stdio"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
    {
        return Some(Meant::Other("-".to_owned()));
    }
    if let Some((name, rest)) = text.split_once("//")
        && !name.contains(':')
        && scheme(name).is_some()
    {
        return Some(Meant::Connection(format!("{name}://{rest}")));
    }
    let (name, rest) = text.split_once(':')?;
    if scheme(name).is_some() {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    if let Some((_, ours)) = SOCAT.iter().find(|(theirs, _)| *theirs == lower) {
        return Some(from_socat(ours, rest));
    }
    let schemes = TABLE.iter().map(|row| row.name).filter(|name| name.len() > 1);
    let rest = rest.trim_start_matches('/');
    match nearest(name, schemes) {
        Some(near) if is_host_port(rest) => Some(Meant::Connection(format!("{near}://{rest}"))),
        _ => is_host_port(text).then(|| Meant::Connection(format!("tcp://{text}"))),
    }
}

fn from_socat(ours: &str, rest: &str) -> Meant {
    let plain = rest.split(',').next().unwrap_or("");
    match ours {
        "file" => Meant::Other(plain.to_owned()),
        "sh" => Meant::Other(format!("sh:{rest}")),
        "unix" | "unix-listen" | "pipe" => Meant::Connection(format!("{ours}:{plain}")),
        "tcp-listen" | "tls-listen" if !plain.contains(':') => {
            Meant::Connection(format!("{ours}://:{plain}"))
        }
        _ => Meant::Connection(format!("{ours}://{plain}")),
    }
}

fn scheme(name: &str) -> Option<&'static str> {
    TABLE
        .iter()
        .map(|row| row.name)
        .find(|known| known.eq_ignore_ascii_case(name) && known.len() > 1)
}

/// `name:9000`, and no slash: nothing else looks like a port.
fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_fits = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b));
    let port_fits = port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+');
    // `12:30` is a time, and one letter a drive or a label.
    let looks_named = host.len() > 1 && !(host.bytes().all(|b| b.is_ascii_digit()));
    host_fits && port_fits && looks_named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_recognised() {
        let connection = |text: &str| Some(Meant::Connection(text.to_owned()));
        let other = |text: &str| Some(Meant::Other(text.to_owned()));
        for (text, wanted) in [
            ("localhost:9000", connection("tcp://localhost:9000")),
            ("127.0.0.1:9000", connection("tcp://127.0.0.1:9000")),
            ("[::1]:9000", connection("tcp://[::1]:9000")),
            ("tpc:host:1", connection("tcp://host:1")),
            ("tcp//host:1", connection("tcp://host:1")),
            ("https//host/x", connection("https://host/x")),
            ("TCP4:host:1", connection("tcp://host:1")),
            ("TCP4-LISTEN:9000,fork", connection("tcp-listen://:9000")),
            ("UNIX-CONNECT:/run/x", connection("unix:/run/x")),
            ("OPENSSL:host:443,verify=0", connection("tls://host:443")),
            ("OPEN:big,creat", other("big")),
            ("SYSTEM:a, b", other("sh:a, b")),
            ("STDOUT", other("-")),
            ("stdin", other("-")),
        ] {
            assert_eq!(meant(text), wanted, "{text}");
        }
        for text in [
            "big.iso",
            "a,b",
            "a:b",
            "12:30",
            "C:1",
            "./x:1",
            "/run/x:1",
            "@x",
            "50%2C",
            "file:localhost:9000",
            "notes:2026:x",
            "a b:1",
            "dir/x:9000",
            "x:0",
            "x:99999",
        ] {
            assert_eq!(meant(text), None, "{text}");
        }
    }
}
