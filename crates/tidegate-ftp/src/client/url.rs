//! `ftp://` and `ftps://` URLs.
//!
//! Pure. RFC 1738 §3.2, with `ftps` for explicit TLS on the same port: a path is relative to where a login ends up, and
//! `%2F` at its beginning makes it absolute.

use std::fmt;
use std::str::FromStr;

const PORT: u16 = 21;

/// Whether the connection is protected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Security {
    /// `ftp://`
    None,
    /// `ftps://`: `AUTH TLS` before anything else.
    Explicit,
}

/// Where a remote file is.
#[derive(Clone, Eq, PartialEq)]
pub struct FtpUrl {
    /// By scheme.
    pub security: Security,
    /// Anonymous without it.
    pub user: Option<String>,
    /// A password does not belong into a URL; whoever takes one should warn.
    pub password: Option<String>,
    /// A name or an address, without brackets.
    pub host: String,
    /// 21 unless given.
    pub port: u16,
    /// As it is sent.
    pub path: String,
}

/// Why a URL was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Neither `ftp://` nor `ftps://`.
    #[error("not an ftp:// or ftps:// URL")]
    Scheme,
    /// No host.
    #[error("the URL has no host")]
    Host,
    /// A port that is no number below 65536.
    #[error("the URL's port is wrong")]
    Port,
    /// No path, or one that names a directory.
    #[error("the URL names no file")]
    Path,
    /// A percent sign without two hex digits, or what they give is no UTF-8 or holds a control character.
    #[error("the URL is encoded wrongly")]
    Encoding,
}

impl FtpUrl {
    /// `host:port`, with brackets around an IPv6 address.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for FtpUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let security = match scheme.to_ascii_lowercase().as_str() {
            "ftp" => Security::None,
            "ftps" => Security::Explicit,
            _ => return Err(UrlError::Scheme),
        };
        let (authority, path) = rest.split_once('/').ok_or(UrlError::Path)?;
        let path = path.strip_suffix(";type=i").unwrap_or(path);
        let path = decode(path)?;
        if path.is_empty() || path.ends_with('/') {
            return Err(UrlError::Path);
        }
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').ok_or(login)) {
            None => (None, None),
            Some(Ok((user, password))) => (Some(decode(user)?), Some(decode(password)?)),
            Some(Err(user)) => (Some(decode(user)?), None),
        };
        let (host, port) = split_port(place)?;
        Ok(Self {
            security,
            user: user.filter(|user| !user.is_empty()),
            password,
            host,
            port,
            path,
        })
    }
}

/// For people and logs: never with the password.
impl fmt::Display for FtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.security {
            Security::None => "ftp://",
            Security::Explicit => "ftps://",
        })?;
        if let Some(user) = &self.user {
            write!(f, "{}@", encode(user))?;
        }
        match self.port {
            PORT if self.host.contains(':') => write!(f, "[{}]", self.host)?,
            PORT => f.write_str(&self.host)?,
            _ => f.write_str(&self.address())?,
        }
        write!(f, "/{}", encode_path(&self.path))
    }
}

impl fmt::Debug for FtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FtpUrl({self})")
    }
}

fn split_port(place: &str) -> Result<(String, u16), UrlError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, tail) = rest.split_once(']').ok_or(UrlError::Host)?;
            match tail.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if tail.is_empty() => (host, None),
                None => return Err(UrlError::Host),
            }
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let host = decode(host)?;
    if host.is_empty() {
        return Err(UrlError::Host);
    }
    let port = match port {
        None | Some("") => PORT,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse() {
            Ok(0) | Err(_) => return Err(UrlError::Port),
            Ok(port) => port,
        },
        Some(_) => return Err(UrlError::Port),
    };
    Ok((host, port))
}

fn decode(text: &str) -> Result<String, UrlError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| {
            byte.and_then(|byte| char::from(byte).to_digit(16))
                .ok_or(UrlError::Encoding)
        };
        let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
        out.push(u8::try_from(value).map_err(|_| UrlError::Encoding)?);
    }
    let text = String::from_utf8(out).map_err(|_| UrlError::Encoding)?;
    // A line end would be a second command.
    if text.chars().any(char::is_control) {
        return Err(UrlError::Encoding);
    }
    Ok(text)
}

fn encode(text: &str) -> String {
    encode_but(text, b"-._~")
}

fn encode_path(path: &str) -> String {
    match path.strip_prefix('/') {
        Some(rest) => format!("%2F{}", encode_but(rest, b"-._~/")),
        None => encode_but(path, b"-._~/"),
    }
}

fn encode_but(text: &str, kept: &[u8]) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || kept.contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_are_read() {
        let url: FtpUrl = "ftps://anna:s%40c@[::1]:2121/a%20b/c".parse().unwrap();
        assert_eq!(url.security, Security::Explicit);
        assert_eq!(
            (url.user.as_deref(), url.password.as_deref()),
            (Some("anna"), Some("s@c"))
        );
        assert_eq!(
            (url.address().as_str(), url.path.as_str()),
            ("[::1]:2121", "a b/c")
        );
        assert_eq!(url.to_string(), "ftps://anna@[::1]:2121/a%20b/c");
        let url: FtpUrl = "FTP://host/%2Fetc/x".parse().unwrap();
        assert_eq!((url.user, url.port, url.path.as_str()), (None, 21, "/etc/x"));
    }

    #[test]
    fn what_is_wrong_says_how() {
        for (text, error) in [
            ("http://x/y", UrlError::Scheme),
            ("ftp:/x", UrlError::Scheme),
            ("ftp://host", UrlError::Path),
            ("ftp://host/", UrlError::Path),
            ("ftp://host/dir/", UrlError::Path),
            ("ftp:///x", UrlError::Host),
            ("ftp://[::1/x", UrlError::Host),
            ("ftp://h:0/x", UrlError::Port),
            ("ftp://h:99999/x", UrlError::Port),
            ("ftp://h:a/x", UrlError::Port),
            ("ftp://h/%0d%0aQUIT", UrlError::Encoding),
            ("ftp://h/%f", UrlError::Encoding),
            ("ftp://h/%ff", UrlError::Encoding),
        ] {
            assert_eq!(text.parse::<FtpUrl>().unwrap_err(), error, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(user in "[a-z@:/ ]{1,8}", path in "/?[a-zA-Z%/ äö]{0,12}[a-z]") {
            let url = FtpUrl {
                security: Security::None,
                user: Some(user),
                password: None,
                host: "h".to_owned(),
                port: 21,
                path,
            };
            prop_assert_eq!(url.to_string().parse::<FtpUrl>(), Ok(url));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}", tail in "[a-z0-9:@/%\\[\\]]{0,30}") {
            let _ = text.parse::<FtpUrl>();
            if let Ok(url) = format!("ftp://{tail}").parse::<FtpUrl>() {
                prop_assert!(!url.host.is_empty());
            }
        }
    }
}
