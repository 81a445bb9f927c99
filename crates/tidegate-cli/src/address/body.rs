//! What stands behind a scheme's colon, read by the scheme's shape: paths, hosts and ports, numbers, commands, URLs. Pure.
//!
//! Knows nothing of options; they have been split off before.

use super::error::{AddressError, error};
use super::grammar::Place;
use super::options::unescape;
use super::table::{Row, Scheme, Shape};
use super::{pipe_name::pipe_name, system};

pub(super) struct Body<'a> {
    pub(super) row: &'static Row,
    pub(super) text: &'a str,
    /// Where the body begins in the text.
    pub(super) start: usize,
    pub(super) body: &'a str,
}

impl Body<'_> {
    /// The place it names.
    pub(super) fn place(&self) -> Result<Place, AddressError> {
        match self.row.shape {
            Shape::Dash => Ok(Place::Stdio),
            Shape::Path => self.path(),
            Shape::Connect | Shape::Listen => self
                .host_port(self.body)
                .map(|(host, port)| Place::HostPort { host, port }),
            Shape::ConnectName | Shape::ListenName => self.named(),
            Shape::Number => self.number(),
            Shape::Command => self.command(),
            Shape::Line => self.line(),
            Shape::Url => self.url(),
        }
    }

    fn path(&self) -> Result<Place, AddressError> {
        if self.body.is_empty() {
            return Err(self.wrong(0, "the path is missing"));
        }
        let slashes = self.row.scheme == Scheme::File && self.text[..self.start].ends_with("//");
        let body = match slashes {
            true if self.body.starts_with('/') => self.body,
            true => match self.body.strip_prefix("localhost/") {
                Some(_) => &self.body["localhost".len()..],
                None => {
                    let hint = format!("file:{} or file:///{}", self.body, self.body);
                    return Err(self.hinted(0, "a file on another host cannot be opened", hint));
                }
            },
            false => self.body,
        };
        let path = self.unescape(body)?;
        Ok(Place::Path(match self.row.scheme {
            Scheme::NamedPipe | Scheme::NamedPipeListen => pipe_name(&path, self.start, self.text).into(),
            Scheme::File if slashes => system::path_of_url(&path).into(),
            _ => path.into(),
        }))
    }

    fn number(&self) -> Result<Place, AddressError> {
        match self.body.parse::<i32>() {
            Ok(number) if number >= 0 => Ok(Place::Number(number)),
            _ => Err(self.wrong(0, "a descriptor is a number from 0 up")),
        }
    }

    fn command(&self) -> Result<Place, AddressError> {
        match system::words(self.body) {
            Ok(words) if words.is_empty() => Err(self.wrong(0, "the command is missing")),
            Ok(words) => Ok(Place::Command(words)),
            Err(at) => Err(self.hinted(at, "this quote is never closed", system::QUOTED.into())),
        }
    }

    fn line(&self) -> Result<Place, AddressError> {
        if self.body.trim().is_empty() {
            return Err(self.wrong(0, "the command line is missing"));
        }
        Ok(Place::Line(self.body.to_owned()))
    }

    /// A URL is kept as it is; scheme, host and port must be there and sound.
    fn url(&self) -> Result<Place, AddressError> {
        let rest = self.body.strip_prefix("//").unwrap_or(self.body);
        let offset = self.body.len() - rest.len();
        let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let host_at = offset + authority.len() - host.len();
        if host.is_empty() {
            return Err(self.wrong(host_at, "the host is missing"));
        }
        if let Some(space) = rest.find(|c: char| c.is_ascii_control() || c == ' ') {
            return Err(self.hinted(
                offset + space,
                "a URL holds no spaces or control characters",
                format!("{}://{}", self.row.name, rest.replace(' ', "%20")),
            ));
        }
        if has_port(host) {
            self.split_host_port(host, host_at)?;
        } else {
            self.check_host(host.trim_start_matches('[').trim_end_matches(']'), host_at)?;
        }
        Ok(Place::Url(format!("{}://{rest}", self.row.name)))
    }

    fn named(&self) -> Result<Place, AddressError> {
        let Some((ends, name)) = self.body.split_once('/') else {
            return Err(self.wrong(self.body.len(), "the name after the port is missing"));
        };
        let (host, port) = self.host_port(ends)?;
        if name.is_empty() {
            return Err(self.wrong(self.body.len(), "the name after the port is missing"));
        }
        Ok(Place::Named {
            host,
            port,
            name: self.unescape(name)?,
        })
    }

    fn host_port(&self, body: &str) -> Result<(String, u16), AddressError> {
        self.split_host_port(body, 0)
    }

    fn split_host_port(&self, body: &str, at: usize) -> Result<(String, u16), AddressError> {
        let listens = self.row.listens();
        let (host, port, port_at) = if let Some(inner) = body.strip_prefix('[') {
            let Some(end) = inner.find(']') else {
                return Err(self.wrong(at, "this bracket is never closed"));
            };
            match inner[end + 1..].strip_prefix(':') {
                Some(port) => (&inner[..end], port, at + end + 3),
                None => return Err(self.wrong(at + end + 2, "the port is missing")),
            }
        } else {
            match body.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => {
                    return Err(self.hinted(
                        at,
                        "an IPv6 address stands in brackets",
                        format!("{}://[::1]:9000", self.row.name),
                    ));
                }
                Some((host, port)) => (host, port, at + host.len() + 1),
                None if listens && !body.is_empty() && body.bytes().all(|b| b.is_ascii_digit()) => {
                    let hint = format!(
                        "{}://:{body} for every address, or {0}://127.0.0.1:{body}",
                        self.row.name
                    );
                    return Err(self.hinted(at, "the address before the port is missing", hint));
                }
                None => return Err(self.wrong(at + body.len(), "the port is missing")),
            }
        };
        if host.is_empty() && !listens {
            return Err(self.wrong(at, "the host is missing"));
        }
        self.check_host(host, at)?;
        Ok((host.to_owned(), self.port(port, port_at)?))
    }

    fn port(&self, port: &str, at: usize) -> Result<u16, AddressError> {
        if port.is_empty() {
            return Err(self.wrong(at, "the port is missing"));
        }
        let sound = port.bytes().all(|b| b.is_ascii_digit());
        match port.parse::<u16>() {
            Ok(0) if !self.row.listens() => Err(self.wrong(at, "nobody can be reached on port 0")),
            Ok(port) if sound => Ok(port),
            _ => Err(self.wrong(at, "the port must be a number from 1 to 65535")),
        }
    }

    fn check_host(&self, host: &str, at: usize) -> Result<(), AddressError> {
        let fits = |c: char| c.is_alphanumeric() || ".-_:%".contains(c);
        match host.char_indices().find(|(_, c)| !fits(*c)) {
            Some((offset, c)) => Err(self.wrong(at + offset, &format!("`{c}` cannot stand in a host name"))),
            None => Ok(()),
        }
    }

    /// Decodes `%XX`. A percent sign that starts no escape is an error, so that none is silently kept.
    fn unescape(&self, body: &str) -> Result<String, AddressError> {
        let offset = self.text.len() - self.text[self.start..].len() + (self.body.len() - body.len());
        unescape(body).map_err(|at| {
            error(
                self.text,
                offset + at,
                "this percent sign starts no escape of two hexadecimal digits that spells text",
                Some("%25 for a percent sign, %2C for a comma".into()),
            )
        })
    }

    fn wrong(&self, at: usize, what: &str) -> AddressError {
        self.hinted(at, what, self.row.example.to_owned())
    }

    fn hinted(&self, at: usize, what: &str, hint: String) -> AddressError {
        error(self.text, self.start + at, what, Some(hint))
    }
}

fn has_port(host: &str) -> bool {
    match host.rfind(']') {
        Some(end) => host[end..].contains(':'),
        None => host.contains(':'),
    }
}
