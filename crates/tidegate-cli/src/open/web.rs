//! `http://` and `https://` addresses.
//!
//! Knows which option becomes which setting of the client.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tidegate_http::{
    Client, ClientOptions, GetSource, Limits, ListenSink, ListenSource, Server, UploadSink,
    listen_sink as serve_one, listen_source as take_one,
};
use tidegate_io::{Blame, EndpointError, ErrorKind, Source as _};

use tokio::net::TcpListener;

use super::tls;
use crate::settings::{CopySettings, EndSettings, Existing};

/// Asks for a download from an offset on and waits for the head of the answer. `written`: when the part before the offset
/// was; two versions must not be joined into one.
pub(super) async fn source(
    url: &str,
    offset: u64,
    written: Option<SystemTime>,
    settings: &CopySettings,
) -> Result<GetSource, EndpointError> {
    let source = client(url, settings)?.get(url, offset).await?;
    if offset > 0 && settings.existing != Existing::Replace {
        match (source.changed(), written) {
            (Some(changed), Some(written)) if changed > written => {
                let what = format!(
                    "cannot resume: by the two clocks {} was changed since; --force goes on all the same",
                    source.name()
                );
                return Err(EndpointError::new(ErrorKind::Mismatch, Blame::Caller, what));
            }
            (None, _) => {
                let name = source.name();
                tracing::warn!("the server does not tell when {name} was changed: not compared");
            }
            _ => {}
        }
    }
    Ok(source)
}

/// An upload; it begins with the first byte.
pub(super) fn sink(
    url: &str,
    size: Option<u64>,
    settings: &CopySettings,
) -> Result<UploadSink, EndpointError> {
    let method = method(&settings.ends).map_err(wrong)?;
    client(url, settings)?.upload(method, url, size)
}

/// Takes one upload.
pub(super) fn listen_source(listener: TcpListener, settings: &CopySettings) -> ListenSource {
    take_one(server(listener, settings))
}

/// Serves one download.
pub(super) fn listen_sink(listener: TcpListener, size: Option<u64>, settings: &CopySettings) -> ListenSink {
    serve_one(server(listener, settings), size)
}

fn server(listener: TcpListener, settings: &CopySettings) -> Server {
    let mut limits = Limits::default();
    limits.marks = settings.flow.marks;
    limits.body_bytes_max = u64::MAX;
    if let Some(stall) = settings.flow.stall {
        limits.stall_timeout = stall;
    }
    Server::from_tcp(listener).limits(limits)
}

/// Checks what can be checked before anything is opened.
///
/// # Errors
/// A sentence saying what is wrong.
pub(crate) fn check(ends: &EndSettings) -> Result<(), String> {
    headers(ends)?;
    method(ends)?;
    Ok(())
}

fn client(url: &str, settings: &CopySettings) -> Result<Client, EndpointError> {
    let mut options = ClientOptions::default();
    options.headers = headers(&settings.ends).map_err(wrong)?;
    options.connect_timeout = settings.flow.connect_timeout;
    options.retries = settings.ends.retries;
    options.marks = settings.flow.marks;
    if let Some(stall) = settings.flow.stall {
        options.stall_timeout = stall;
    }
    // Redirects may lead to TLS; roots that cannot be had are only an error where they are needed.
    match tls::client_config(&settings.ends.tls) {
        Ok(config) => options.tls = Some(config),
        Err(error) if url.starts_with("https:") => return Err(error),
        Err(_) => {}
    }
    Ok(Client::new(options))
}

fn headers(ends: &EndSettings) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for header in &ends.headers {
        let wrong = || format!("--header {header:?}: write `Name: value`");
        let (name, value) = header.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
        map.append(name, HeaderValue::try_from(value.trim()).map_err(|_| wrong())?);
    }
    Ok(map)
}

fn method(ends: &EndSettings) -> Result<Method, String> {
    match &ends.method {
        None => Ok(Method::PUT),
        Some(method) => Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("--method {method:?} is no HTTP method")),
    }
}

fn wrong(what: String) -> EndpointError {
    EndpointError::new(ErrorKind::Open, Blame::Caller, what)
}
