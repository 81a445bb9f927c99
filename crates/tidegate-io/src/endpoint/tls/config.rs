//! Whom to trust and who to be: files of certificates and keys made into configurations.
//!
//! Knows no connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_platform_verifier::Verifier;

use crate::{Blame, EndpointError, ErrorKind};

/// A certificate chain and the key to it, both files in PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The chain, our own certificate first.
    pub certificates: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Whether a server must prove who it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Verification {
    /// It must.
    #[default]
    Full,
    /// It need not: anybody in between can read and change everything. Each use is logged as a warning.
    None,
}

/// How to trust and what to offer.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Files of authorities in PEM, trusted beside the system's own. For a server: those that sign its clients.
    pub authorities: Vec<PathBuf>,
    /// What a client proves itself with when asked.
    pub identity: Option<Identity>,
    /// Application protocols, the preferred one first.
    pub alpn: Vec<Vec<u8>>,
    /// Whether the server is checked.
    pub verification: Verification,
}

pub(super) fn client(options: &Options) -> Result<Arc<ClientConfig>, EndpointError> {
    let provider = provider();
    let verifier: Arc<dyn ServerCertVerifier> = match options.verification {
        Verification::Full => {
            let extra = authorities(&options.authorities)?;
            let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider))
                .map_err(|error| unusable("the authorities", error))?;
            Arc::new(verifier)
        }
        Verification::None => Arc::new(Anybody {
            provider: Arc::clone(&provider),
        }),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("the TLS versions", error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &options.identity {
        Some(identity) => {
            let (chain, key) = identity.load()?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable(&identity.certificates.display().to_string(), error))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols.clone_from(&options.alpn);
    Ok(Arc::new(config))
}

pub(super) fn server(identity: &Identity, options: &Options) -> Result<Arc<ServerConfig>, EndpointError> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("the TLS versions", error))?;
    let builder = if options.authorities.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for authority in authorities(&options.authorities)? {
            roots
                .add(authority)
                .map_err(|error| unusable("an authority", error))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| unusable("the authorities", error))?;
        builder.with_client_cert_verifier(verifier)
    };
    let (chain, key) = identity.load()?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&identity.certificates.display().to_string(), error))?;
    config.alpn_protocols.clone_from(&options.alpn);
    Ok(Arc::new(config))
}

impl Identity {
    fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), EndpointError> {
        let chain = certificates(&self.certificates)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| unusable(&self.key.display().to_string(), error))?;
        Ok((chain, key))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn authorities(files: &[PathBuf]) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    let mut all = Vec::new();
    for file in files {
        all.extend(certificates(file)?);
    }
    Ok(all)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    let name = file.display().to_string();
    let all: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(&name, error))?;
    if all.is_empty() {
        let what = format!("{name} holds no certificate");
        return Err(EndpointError::new(ErrorKind::Open, Blame::Caller, what));
    }
    Ok(all)
}

fn unusable(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> EndpointError {
    EndpointError::new(
        ErrorKind::Open,
        Blame::Caller,
        format!("cannot use {what} for TLS"),
    )
    .caused_by(error)
}

/// Takes anybody for whom they claim to be; only signatures must fit the certificate that was presented.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let server = server_name.to_str();
        tracing::warn!(%server, "INSECURE: the certificate is not checked; anybody in between can read and change everything");
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
