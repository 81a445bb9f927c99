//! What the tests share: a server on a port of its own, a client of few words, and foreign programs.
//!
//! Knows nothing of what a test asserts.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use tempfile::TempDir;
use tidegate_ftp::grammar::{Replies, Reply, address};
use tidegate_ftp::server::{Anonymous, Ended, ServeOptions, Server, Tls};
use tidegate_ftp::storage::Access;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Nothing in a test takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server in a directory of its own, ended with the test.
pub struct Served {
    pub directory: TempDir,
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Ended>,
}

impl Served {
    pub async fn start(options: ServeOptions) -> Self {
        Self::start_at("127.0.0.1:0", options).await
    }

    pub async fn start_at(address: &str, options: ServeOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::start_in(directory, address, options).await
    }

    pub async fn start_in(directory: TempDir, address: &str, options: ServeOptions) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(directory.path(), options).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(listener, async {
            let _ = stopped.await;
        }));
        Self {
            directory,
            address,
            stop: Some(stop),
            task,
        }
    }

    pub async fn writable() -> Self {
        Self::start(writable()).await
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub fn content(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// All names, hidden ones too.
    pub fn names(&self) -> Vec<String> {
        names(self.directory.path())
    }

    pub fn url(&self, path: &str) -> String {
        format!("ftp://{}/{path}", self.address)
    }

    pub async fn login(&self) -> Control {
        let mut control = Control::connect(self.address).await;
        control.login().await;
        control
    }

    /// Asks the server to end and waits until it has.
    pub async fn stop(mut self) -> Ended {
        let _ = self.stop.take().unwrap().send(());
        let ended = tokio::time::timeout(PATIENCE, &mut self.task).await;
        ended.expect("the server ends").unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub fn writable() -> ServeOptions {
    ServeOptions {
        anonymous: Anonymous::Allowed,
        access: Access::Writable,
        ..ServeOptions::default()
    }
}

/// A certificate for `localhost` and the loopback addresses, and who trusts it.
pub struct Certificate {
    pub server: Arc<rustls::ServerConfig>,
    pub client: Arc<rustls::ClientConfig>,
    pub pem: String,
    pub key_pem: String,
}

pub fn certificate() -> Certificate {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key_pem = made.signing_key.serialize_pem();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let chain = vec![made.cert.der().clone()];
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Certificate {
        server: Arc::new(server),
        client: Arc::new(client),
        pem: made.cert.pem(),
        key_pem,
    }
}

pub fn with_tls(certificate: &Certificate) -> ServeOptions {
    ServeOptions {
        tls: Tls::Offered(Arc::clone(&certificate.server)),
        ..writable()
    }
}

/// A control connection driven by hand.
pub struct Control {
    pub stream: TcpStream,
    replies: Replies,
}

impl Control {
    pub async fn connect(address: SocketAddr) -> Self {
        let mut control = Self::connect_unread(address).await;
        assert_eq!(control.reply().await.code, 220);
        control
    }

    pub async fn connect_unread(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self {
            stream,
            replies: Replies::default(),
        }
    }

    pub async fn login(&mut self) {
        assert_eq!(self.ask("USER anonymous").await.code, 331);
        assert_eq!(self.ask("PASS me@").await.code, 230);
        assert_eq!(self.ask("TYPE I").await.code, 200);
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next reply; panics when the server closes instead.
    pub async fn reply(&mut self) -> Reply {
        self.next().await.expect("a reply")
    }

    /// The next reply, or `None` when the server has closed.
    pub async fn next(&mut self) -> Option<Reply> {
        loop {
            if let Some(reply) = self.replies.next_reply() {
                return Some(reply.unwrap());
            }
            let mut buffer = [0; 1024];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await;
            match read.expect("a reply in time") {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.replies.push(&buffer[..count]),
            }
        }
    }

    pub async fn ask(&mut self, command: &str) -> Reply {
        self.send(format!("{command}\r\n")).await;
        self.reply().await
    }

    pub async fn code(&mut self, command: &str) -> u16 {
        self.ask(command).await.code
    }

    /// Asks for a passive port and gives its address.
    pub async fn passive(&mut self) -> SocketAddr {
        let reply = self.ask("EPSV").await;
        assert_eq!(reply.code, 229, "{reply:?}");
        let port = address::parse_extended_passive_text(&reply.lines[0]).unwrap();
        SocketAddr::new(self.stream.peer_addr().unwrap().ip(), port)
    }

    pub async fn data(&mut self) -> TcpStream {
        let address = self.passive().await;
        TcpStream::connect(address).await.unwrap()
    }

    /// `RETR` and the like, to the last reply.
    pub async fn fetch(&mut self, command: &str) -> (Vec<u8>, Reply) {
        let mut data = self.data().await;
        let opening = self.ask(command).await;
        if opening.code != 150 {
            return (Vec::new(), opening);
        }
        let mut content = Vec::new();
        let read = tokio::time::timeout(PATIENCE, data.read_to_end(&mut content)).await;
        let _ = read.expect("an end in time");
        drop(data);
        (content, self.reply().await)
    }

    /// `STOR` and the like, to the last reply.
    pub async fn store(&mut self, command: &str, content: &[u8]) -> Reply {
        let mut data = self.data().await;
        let opening = self.ask(command).await;
        if opening.code != 150 {
            return opening;
        }
        let _ = data.write_all(content).await;
        let _ = data.shutdown().await;
        drop(data);
        self.reply().await
    }
}

/// Makes the coming close a reset.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

/// Bytes that look random and can be made again.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// Waits until `condition` holds; panics when it never does.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let looked = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, looked).await.is_ok(),
        "never: {what}"
    );
}

/// A foreign program, or a notice that the test is skipped without it.
pub fn peer(program: &str, test: &str) -> Option<PathBuf> {
    let found = find(program);
    if found.is_none() {
        missing(program, test);
    }
    found
}

pub fn missing(program: &str, test: &str) {
    assert!(
        std::env::var_os("TIDEGATE_REQUIRE_PEERS").is_none_or(|value| value != "1"),
        "{test} needs {program}"
    );
    eprintln!("SKIPPED-PEER: {program}: {test}");
}

pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Python with Twisted.
pub fn twisted(test: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/venv/bin/python");
    let given = std::env::var_os("TIDEGATE_PYTHON").map(PathBuf::from);
    let found = given.or_else(|| own.is_file().then_some(own));
    if found.is_none() {
        missing("twisted", test);
    }
    found
}
