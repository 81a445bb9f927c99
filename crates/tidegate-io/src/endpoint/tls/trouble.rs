//! What can be wrong with a handshake or a certificate, said so that people know what to do.
//!
//! Knows nothing of sessions.

use rustls::{CertificateError, Error, InvalidMessage};

use crate::{Blame, EndpointError, ErrorKind};

pub(super) fn told(kind: ErrorKind, name: &str, error: Error) -> EndpointError {
    let what = match &error {
        Error::InvalidCertificate(wrong) => certificate(name, wrong),
        Error::AlertReceived(alert) => format!("{name} refused: it sent the TLS alert {alert:?}"),
        Error::NoApplicationProtocol => {
            format!("{name} and we have no application protocol (ALPN) in common")
        }
        Error::PeerIncompatible(_) => format!("{name} and we have no way to speak TLS in common"),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => format!("{name} does not speak TLS"),
        Error::NoCertificatesPresented => format!("{name} presented no certificate"),
        Error::DecryptError => format!("{name} sent a record that was tampered with"),
        _ => format!("{name} broke the rules of TLS"),
    };
    EndpointError::new(kind, Blame::Peer, what).caused_by(error)
}

fn certificate(name: &str, wrong: &CertificateError) -> String {
    match wrong {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {name} has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {name} is not valid yet")
        }
        CertificateError::NotValidForName => format!("the certificate of {name} is for another name"),
        CertificateError::NotValidForNameContext { presented, .. } => {
            format!(
                "the certificate of {name} is for another name: {}",
                presented.join(", ")
            )
        }
        CertificateError::UnknownIssuer => {
            format!("the certificate of {name} is signed by nobody we trust (self-signed?)")
        }
        CertificateError::Revoked => format!("the certificate of {name} was revoked"),
        // What `openssl req -x509` makes unless told otherwise.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            format!(
                "the certificate of {name} is an authority's (CA:TRUE), which may sign others but not prove a server"
            )
        }
        _ => format!("the certificate of {name} is not acceptable"),
    }
}
