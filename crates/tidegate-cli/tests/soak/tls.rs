//! TLS on both sides: good ends in each order, ends below TLS without its close_notify, certificates that do not do.

use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::relay::Relay;
use crate::talk::{self, Errand, send};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    ClientEndsFirst,
    OriginEndsFirst,
    BothAtOnce,
    /// The client ends the connection in good order, and not the session: the origin must not see an end.
    ClientCuts,
    /// The same from the origin.
    OriginCuts,
    /// The client does not believe the relay's certificate.
    ClientDistrusts,
}

pub(crate) const FAULTS: [Fault; 6] = [
    Fault::ClientEndsFirst,
    Fault::OriginEndsFirst,
    Fault::BothAtOnce,
    Fault::ClientCuts,
    Fault::OriginCuts,
    Fault::ClientDistrusts,
];

/// A certificate for localhost, and who believes it.
pub(crate) struct Papers {
    folder: tempfile::TempDir,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Papers {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self {
            folder,
            certificate: made.cert.der().clone(),
            key: made.signing_key.serialize_der(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::try_from(self.key.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    pub(crate) fn connector(&self) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}

/// Ends the connection below TLS, and waits until the other side has let go.
async fn cut(mut plain: TcpStream) {
    let _ = plain.shutdown().await;
    let mut space = [0; 4096];
    while plain.read(&mut space).await.is_ok_and(|got| got > 0) {}
}

/// The far side.
pub(crate) async fn origin(acceptor: TlsAcceptor, plain: TcpStream) -> io::Result<()> {
    let mut peer = acceptor.accept(plain).await?;
    let errand = Errand::read(&mut peer).await?;
    let (ours, theirs) = (errand.back(), errand.there());
    match FAULTS[usize::from(errand.fault)] {
        Fault::ClientEndsFirst => talk::second(peer, ours, theirs).await?,
        Fault::OriginEndsFirst => talk::first(peer, ours, theirs).await?,
        Fault::BothAtOnce => talk::at_once(peer, ours, theirs).await?,
        Fault::ClientCuts => theirs.hear_cut(&mut peer).await,
        Fault::OriginCuts => {
            send(&mut peer, ours.0, ours.1).await?;
            cut(peer.into_inner().0).await;
        }
        Fault::ClientDistrusts => panic!("origin: it was joined to a client that did not trust the relay"),
    }
    Ok(())
}

/// The near side.
pub(crate) async fn client(relay: &Relay, trust: &TlsConnector, distrust: &TlsConnector, errand: Errand) {
    let fault = FAULTS[usize::from(errand.fault)];
    let plain = relay.connect().await;
    let name = ServerName::try_from("localhost").unwrap();
    if matches!(fault, Fault::ClientDistrusts) {
        let refused = distrust.connect(name, plain).await;
        assert!(refused.is_err(), "client: it trusts what it should not");
        return;
    }
    let mut peer = trust.connect(name, plain).await.unwrap();
    errand.write(&mut peer).await.unwrap();
    let (ours, theirs) = (errand.there(), errand.back());
    match fault {
        Fault::ClientEndsFirst => talk::first(peer, ours, theirs).await.unwrap(),
        Fault::OriginEndsFirst => talk::second(peer, ours, theirs).await.unwrap(),
        Fault::BothAtOnce => talk::at_once(peer, ours, theirs).await.unwrap(),
        Fault::ClientCuts => {
            send(&mut peer, ours.0, ours.1).await.unwrap();
            cut(peer.into_inner().0).await;
        }
        Fault::OriginCuts => theirs.hear_cut(&mut peer).await,
        Fault::ClientDistrusts => {}
    }
}
