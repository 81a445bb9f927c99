//! suppaftp's errors in our own words, and the limit on how long a reply may take.
//!
//! Knows no verb.

use std::future::Future;
use std::time::Duration;

use suppaftp::FtpError;
use tidegate_io::{Blame, EndpointError, ErrorKind};

/// A refusal or a broken control connection as an endpoint error of the given kind.
pub(super) fn ftp_error(kind: ErrorKind, what: &str, error: FtpError) -> EndpointError {
    match error {
        FtpError::ConnectionError(error) if kind == ErrorKind::Open => EndpointError::open(what, error),
        FtpError::ConnectionError(error) => {
            let told = EndpointError::io(what, error);
            EndpointError {
                kind: keep(kind, told.kind),
                ..told
            }
        }
        FtpError::UnexpectedResponse(response) => {
            let text = String::from_utf8_lossy(&response.body)
                .trim_end()
                .replace(['\r', '\n'], " ");
            EndpointError::new(kind, Blame::Peer, format!("{what}: the server answered {text:?}"))
        }
        other => EndpointError::new(kind, Blame::Peer, what).caused_by(other),
    }
}

/// A stream that must count as cut short stays so, whatever broke.
fn keep(wanted: ErrorKind, told: ErrorKind) -> ErrorKind {
    if wanted == ErrorKind::Truncated {
        wanted
    } else {
        told
    }
}

/// The code of a refusal.
pub(super) fn refusal_code(error: &FtpError) -> Option<u16> {
    let FtpError::UnexpectedResponse(response) = error else {
        return None;
    };
    let digits = response.body.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Bounds the wait for a reply.
pub(super) async fn in_time<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, EndpointError>>,
) -> Result<T, EndpointError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(EndpointError::new(
            ErrorKind::TimedOut,
            Blame::Peer,
            format!("{what}: no reply in time"),
        )),
    }
}
