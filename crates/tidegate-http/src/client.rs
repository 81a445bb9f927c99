//! The client: options, requests, and errors in our words. Connections are pooled and used again.
//!
//! Knows nothing of resuming or of uploading: see [`GetSource`](crate::GetSource) and
//! [`UploadSink`](crate::UploadSink).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, HOST, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::ResponseFuture;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tidegate::Marks;
use tidegate_io::{Blame, EndpointError, ErrorKind};
use tokio_rustls::rustls::ClientConfig;

use crate::body::Body;
use crate::connect::Connector;

/// Which HTTP a client speaks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/2 where TLS negotiates it, else HTTP/1.1.
    #[default]
    Negotiated,
    /// HTTP/1.1 alone.
    One,
    /// HTTP/2 alone, also without TLS ("prior knowledge").
    Two,
}

/// Where a client looks for proxies.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Proxies {
    /// `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`, as curl does.
    #[default]
    Environment,
    /// Never.
    None,
}

/// How a client behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Negotiated by default.
    pub protocol: Protocol,
    /// From the environment by default.
    pub proxies: Proxies,
    /// What a certificate is checked with. Without it, `https` is refused.
    pub tls: Option<Arc<ClientConfig>>,
    /// Sent with every request to the host that was asked for.
    pub headers: HeaderMap,
    /// For a connection and its TLS handshake. 30 s.
    pub connect_timeout: Duration,
    /// How long a server may take or send nothing. 60 s.
    pub stall_timeout: Duration,
    /// How long the head of an answer may take once the request is out. 300 s: some servers work before they answer.
    pub answer_timeout: Duration,
    /// Failures in a row that a download survives. 5; a byte received sets the count back.
    pub retries: u32,
    /// The wait before the first retry; it doubles, up to 10 s. 200 ms.
    pub retry_wait: Duration,
    /// Redirects followed. 10, as most clients.
    pub redirects_max: u32,
    /// Bytes hyper may hold of one connection in each direction. 256 KiB.
    pub wire_bytes_max: usize,
    /// The marks of uploads.
    pub marks: Marks,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            proxies: Proxies::default(),
            tls: None,
            headers: HeaderMap::new(),
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(300),
            retries: 5,
            retry_wait: Duration::from_millis(200),
            redirects_max: 10,
            wire_bytes_max: 256 * 1024,
            marks: Marks::default(),
        }
    }
}

/// An HTTP client with a pool of connections. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    pool: legacy::Client<Connector, Body>,
    proxies: Arc<Matcher>,
    pub(crate) options: Arc<ClientOptions>,
}

/// A request on its way.
pub(crate) struct Underway {
    pub(crate) answer: ResponseFuture,
    pub(crate) connection: CaptureConnection,
}

impl Client {
    /// A client with these options.
    pub fn new(mut options: ClientOptions) -> Self {
        let proxies = Arc::new(match options.proxies {
            Proxies::Environment => Matcher::from_env(),
            Proxies::None => Matcher::builder().build(),
        });
        let tls = options.tls.take().map(|config| {
            let mut config = ClientConfig::clone(&config);
            config.alpn_protocols = match options.protocol {
                Protocol::Negotiated => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
                Protocol::One => vec![b"http/1.1".to_vec()],
                Protocol::Two => vec![b"h2".to_vec()],
            };
            Arc::new(config)
        });
        let connector = Connector {
            proxies: Arc::clone(&proxies),
            tls: tls.clone(),
            connect_timeout: options.connect_timeout,
            stall_timeout: options.stall_timeout,
        };
        let pool = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(options.protocol == Protocol::Two)
            .http1_max_buf_size(options.wire_bytes_max)
            .http2_max_send_buf_size(64 * 1024)
            .http2_initial_stream_window_size(1024 * 1024)
            // More than one stream's: a download that nobody reads must not hold up the others.
            .http2_initial_connection_window_size(4 * 1024 * 1024)
            .build(connector);
        options.tls = tls;
        Self {
            pool,
            proxies,
            options: Arc::new(options),
        }
    }

    /// Builds and sends a request. Nothing is waited for.
    pub(crate) fn send(&self, method: Method, uri: &Uri, headers: HeaderMap, body: Body) -> Underway {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        let plain = uri.scheme_str() == Some("http");
        if let Some(proxy) = self.proxies.intercept(uri).filter(|_| plain)
            && let Some(auth) = proxy.basic_auth()
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, auth.clone());
        }
        let connection = capture_connection(&mut request);
        Underway {
            answer: self.pool.request(request),
            connection,
        }
    }

    /// The headers of every request: the user's, else ours.
    pub(crate) fn headers(&self, target: &Target) -> HeaderMap {
        let mut headers = self.options.headers.clone();
        let agent = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(agent));
        // The bytes as they are stored: offsets count in them.
        headers
            .entry(ACCEPT_ENCODING)
            .or_insert(HeaderValue::from_static("identity"));
        if let Some(auth) = &target.auth {
            headers.entry(AUTHORIZATION).or_insert_with(|| auth.clone());
        }
        headers
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// An address to ask, with the user and password that stood in it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) auth: Option<HeaderValue>,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self, EndpointError> {
        let bad = |why: &str| EndpointError::new(ErrorKind::Open, Blame::Caller, format!("{url}: {why}"));
        let without_fragment = url.split('#').next().unwrap_or(url);
        let uri: Uri = without_fragment.parse().map_err(|_| bad("this is no address"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(bad("neither http nor https"));
        }
        let mut parts = uri.into_parts();
        let mut auth = None;
        if let Some(authority) = &parts.authority
            && let Some((user, host)) = authority.as_str().rsplit_once('@')
        {
            auth = basic(user);
            parts.authority = Some(host.parse().map_err(|_| bad("there is no host in it"))?);
        }
        let uri = Uri::from_parts(parts).map_err(|_| bad("this is no address"))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(bad("there is no host in it"));
        }
        Ok(Self { uri, auth })
    }

    /// Where a redirect leads. The user and password go along only to the same host and port over the same scheme.
    pub(crate) fn follow(&self, location: &str) -> Result<Self, EndpointError> {
        let base = &self.uri;
        let (scheme, authority) = (
            base.scheme_str().unwrap_or("http"),
            base.authority().map_or("", |a| a.as_str()),
        );
        let absolute = if location.contains("://") {
            location.to_owned()
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{scheme}://{rest}")
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{location}")
        } else {
            let directory = base
                .path()
                .rsplit_once('/')
                .map_or("", |(directory, _)| directory);
            format!("{scheme}://{authority}{directory}/{location}")
        };
        let mut target = Self::parse(&absolute)?;
        if target.auth.is_none() && target.same_origin(self) {
            target.auth.clone_from(&self.auth);
        }
        Ok(target)
    }

    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        self.uri.scheme() == other.uri.scheme() && self.uri.authority() == other.uri.authority()
    }
}

fn basic(user: &str) -> Option<HeaderValue> {
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(user).collect();
    let mut value = HeaderValue::from_str(&format!("Basic {}", base64(&decoded))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// RFC 4648, section 4. Twelve lines here spare a dependency.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .enumerate()
            .fold(0_u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

/// A client error in our words.
pub(crate) fn failed(uri: &Uri, error: legacy::Error) -> EndpointError {
    let what = format!("no answer from {}", host(uri));
    if error.is_connect() {
        return match connect_error(&error) {
            Some(inner) => inner,
            None => EndpointError::new(ErrorKind::Open, Blame::Peer, what).caused_by(error),
        };
    }
    EndpointError::new(ErrorKind::Failed, Blame::Peer, what).caused_by(Innermost(error))
}

/// The connector's own error, out of its wrappings.
fn connect_error(error: &legacy::Error) -> Option<EndpointError> {
    causes(error).find_map(|error| error.downcast_ref::<EndpointError>().cloned())
}

/// An error and what is below it.
pub(crate) fn causes<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// A client error that says what is at its bottom: the wrappings say only who wrapped it.
#[derive(Debug, thiserror::Error)]
#[error("{}", causes(.0).last().map(ToString::to_string).unwrap_or_default())]
struct Innermost(#[source] legacy::Error);

/// A refusal as an error: the status in words.
pub(crate) fn refused(uri: &Uri, status: StatusCode) -> EndpointError {
    let blame = if status.is_client_error() {
        Blame::Caller
    } else {
        Blame::Peer
    };
    EndpointError::new(ErrorKind::Open, blame, format!("{} answered {status}", host(uri)))
}

pub(crate) fn timed_out(uri: &Uri) -> EndpointError {
    EndpointError::new(
        ErrorKind::TimedOut,
        Blame::Peer,
        format!("no answer from {} in time", host(uri)),
    )
}

pub(crate) fn host(uri: &Uri) -> &str {
    uri.authority().map_or("", |authority| authority.as_str())
}

/// Waits for the head of an answer.
pub(crate) async fn answer(
    underway: Underway,
    uri: &Uri,
    limit: Duration,
) -> Result<Response<Incoming>, EndpointError> {
    match tokio::time::timeout(limit, underway.answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failed(uri, error)),
        Err(_) => Err(timed_out(uri)),
    }
}

/// Headers that belong to one host and must not follow a redirect to another.
pub(crate) fn strip_private(headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, http::header::COOKIE, HOST] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn base64_is_the_usual() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_password_leaves_the_address_and_stays_at_home() {
        let target = Target::parse("http://user:p%40ss@h:81/a/b?q#f").unwrap();
        assert_eq!(target.uri, "http://h:81/a/b?q");
        assert_eq!(target.auth.as_ref().unwrap(), "Basic dXNlcjpwQHNz");
        for (location, to, keeps) in [
            ("/c", "http://h:81/c", true),
            ("c?d", "http://h:81/a/c?d", true),
            ("//x/y", "http://x/y", false),
            ("https://h:81/c", "https://h:81/c", false),
            ("http://h:82/", "http://h:82/", false),
        ] {
            let next = target.follow(location).unwrap();
            assert_eq!((next.uri.to_string().as_str(), next.auth.is_some()), (to, keeps));
        }
        for bad in ["ftp://h/", "http://", "/path", "http:///x", "h"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
