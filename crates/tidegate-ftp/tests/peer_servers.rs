//! Our client against other people's servers: vsftpd (plain, and TLS that demands session reuse), pure-ftpd and Twisted's.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod common;
#[path = "../../tidegate-io/tests/common/free_port.rs"]
mod free_port;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{certificate, find, missing, noise, peer, twisted};
use free_port::free_port;
use tempfile::TempDir;
use tidegate_ftp::client::{ClientOptions, DataMode, FtpUrl, Put, Resume, Verify, get, put, size};
use tidegate_io::endpoint::file::{FileSink, FileSource, Overwrite};
use tidegate_io::{Buffers, Flow, Held, Sink, Source};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Where servers may listen for data. Left to themselves they take any port, and then one of them answers where another is about
/// to listen.
const DATA_PORTS: &str = "40000:60999";

/// A foreign server, ended with the test.
struct Foreign {
    _child: Child,
    port: u16,
}

impl Foreign {
    async fn start(mut command: Command, port: u16) -> Self {
        command
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let answers = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                assert!(
                    child.try_wait().unwrap().is_none(),
                    "the server ended: {command:?}"
                );
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(common::PATIENCE, answers)
            .await
            .expect("the server answers");
        assert!(
            child.try_wait().unwrap().is_none(),
            "another one answers on port {port}"
        );
        Self { _child: child, port }
    }

    fn url(&self, scheme: &str, login: &str, path: &str) -> FtpUrl {
        format!("{scheme}://{login}localhost:{}/{path}", self.port)
            .parse()
            .unwrap()
    }
}

async fn up(content: &[u8], url: &FtpUrl, options: &ClientOptions, how: Put) {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("f");
    std::fs::write(&file, content).unwrap();
    let sink = put(url, options, how)
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"));
    let report = Flow::new(FileSource::open(&file).await.unwrap(), sink)
        .run()
        .await;
    let report = report.unwrap_or_else(|error| panic!("{url}: {error}"));
    assert_eq!(report.bytes_confirmed, content.len() as u64);
}

async fn down(url: &FtpUrl, options: &ClientOptions, offset: u64) -> Vec<u8> {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("f");
    let resume = Resume {
        offset,
        ..Resume::default()
    };
    let source = get(url, options, resume)
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"));
    let sink = FileSink::create(&file, Overwrite::Allow).await.unwrap();
    Flow::new(source, sink)
        .run()
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}"));
    std::fs::read(&file).unwrap()
}

/// Up, down, resumed down, appended, and beside where the server lets files be renamed.
async fn all_ways(server: &Foreign, scheme: &str, login: &str, folder: &str, options: &ClientOptions) {
    let content = noise(1_200_000, 31);
    let url = server.url(scheme, login, &format!("{folder}file"));
    for mode in [DataMode::Passive, DataMode::Active] {
        let options = ClientOptions {
            mode,
            ..options.clone()
        };
        up(&content, &url, &options, Put::Direct).await;
        assert_eq!(size(&url, &options).await.unwrap(), Some(1_200_000));
        assert!(down(&url, &options, 0).await == content, "{mode:?}");
        assert!(
            down(&url, &options, 1_000_000).await == content[1_000_000..],
            "{mode:?}"
        );
    }
    up(b"tail", &url, options, Put::Append).await;
    assert!(down(&url, options, 1_200_000).await == b"tail");
    up(
        b"whole",
        &server.url(scheme, login, &format!("{folder}beside")),
        options,
        Put::Beside,
    )
    .await;
    cut_and_resumed(server, scheme, login, folder, options).await;
}

/// A download dropped in the middle and resumed, an upload dropped in the middle and resumed.
async fn cut_and_resumed(server: &Foreign, scheme: &str, login: &str, folder: &str, options: &ClientOptions) {
    let content = noise(1_200_000, 31);
    let url = server.url(scheme, login, &format!("{folder}file"));
    let mut source = get(&url, options, Resume::default()).await.unwrap();
    let mut buffers = Buffers::default();
    let first = std::future::poll_fn(|cx| source.poll_read(cx, &mut buffers, 50_000))
        .await
        .unwrap()
        .unwrap();
    std::future::poll_fn(|cx| source.poll_stop(cx)).await;
    drop(source);
    let rest = down(&url, options, first.len() as u64).await;
    assert!([&first[..], &rest[..1_200_000 - first.len()]].concat() == content);

    let url = server.url(scheme, login, &format!("{folder}cut"));
    let mut sink = put(&url, options, Put::Direct).await.unwrap();
    let mut held = Held::default();
    held.push(bytes::Bytes::copy_from_slice(&content[..600_000]));
    let sent = std::future::poll_fn(|cx| sink.poll_write(cx, &held))
        .await
        .unwrap();
    assert!(sent > 0);
    drop(sink);
    // How much of it a server keeps, and when it is down, is the server's business.
    let there = size(&url, options).await.unwrap().unwrap_or(0);
    let there = usize::try_from(there).unwrap();
    let how = if there == 0 {
        Put::Direct
    } else {
        Put::From(there as u64)
    };
    up(&content[there..], &url, options, how).await;
    assert!(down(&url, options, 0).await == content);
}

fn vsftpd_config(port: u16, root: &Path, more: &str) -> String {
    let (first, last) = DATA_PORTS.split_once(':').unwrap();
    format!(
        "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\n\
         local_enable=NO\nno_anon_password=YES\nwrite_enable=YES\nanon_root={}\nanon_upload_enable=YES\n\
         anon_mkdir_write_enable=YES\nanon_other_write_enable=YES\nanon_umask=022\nrun_as_launching_user=YES\n\
         seccomp_sandbox=NO\nallow_writeable_chroot=YES\npasv_promiscuous=NO\nconnect_from_port_20=NO\n\
         pasv_min_port={first}\npasv_max_port={last}\n{more}",
        root.display()
    )
}

async fn vsftpd(program: &Path, work: &TempDir, more: &str) -> Foreign {
    let root = work.path().join("root");
    std::fs::create_dir_all(root.join("up")).unwrap();
    let port = free_port();
    let config = work.path().join("vsftpd.conf");
    std::fs::write(&config, vsftpd_config(port, &root, more)).unwrap();
    // It refuses a configuration that is not its own user's.
    let mut command = Command::new(program);
    command.arg(&config);
    Foreign::start(command, port).await
}

#[tokio::test]
async fn vsftpd_plain() {
    let Some(program) = peer("vsftpd", "vsftpd_plain") else {
        return;
    };
    let work = tempfile::tempdir().unwrap();
    let server = vsftpd(&program, &work, "").await;
    all_ways(&server, "ftp", "", "up/", &ClientOptions::default()).await;
    assert!(work.path().join("root/up/beside").exists());
}

#[tokio::test]
async fn vsftpd_under_tls_demands_session_reuse() {
    let Some(program) = peer("vsftpd", "vsftpd_under_tls_demands_session_reuse") else {
        return;
    };
    let work = tempfile::tempdir().unwrap();
    let certificate = certificate();
    let (chain, key) = (work.path().join("cert.pem"), work.path().join("key.pem"));
    std::fs::write(&chain, &certificate.pem).unwrap();
    std::fs::write(&key, &certificate.key_pem).unwrap();
    let more = format!(
        "ssl_enable=YES\nallow_anon_ssl=YES\nforce_anon_data_ssl=YES\nforce_anon_logins_ssl=YES\n\
         require_ssl_reuse=YES\nstrict_ssl_read_eof=YES\nrsa_cert_file={}\nrsa_private_key_file={}\n",
        chain.display(),
        key.display()
    );
    let server = vsftpd(&program, &work, &more).await;
    let options = ClientOptions {
        tls: Some(certificate.client.clone()),
        ..ClientOptions::default()
    };
    all_ways(&server, "ftps", "", "up/", &options).await;
}

fn pure_ftpd(name: &str) -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/pure-ftpd/usr/sbin");
    find(name).or_else(|| Some(unpacked.join(name)).filter(|file| file.is_file()))
}

/// pure-ftpd with what it needs, ended with the test.
struct PureFtpd {
    server: Foreign,
    _authority: Child,
    work: TempDir,
}

impl PureFtpd {
    /// Only root may start it, and its logins come from a program of ours.
    async fn start(test: &str, more: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        let (Some(program), Some(authd)) = (pure_ftpd("pure-ftpd"), pure_ftpd("pure-authd")) else {
            missing("pure-ftpd", test);
            return None;
        };
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED-PEER: pure-ftpd: {test}");
            return None;
        }
        let work = tempfile::tempdir().unwrap();
        let home = work.path().join("home");
        std::fs::create_dir(&home).unwrap();
        // It serves as an ordinary user, who must reach and own the place.
        for (path, mode) in [(work.path(), 0o755), (&home, 0o777)] {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, permissions).unwrap();
        }
        std::os::unix::fs::chown(&home, Some(12345), Some(12345)).unwrap();
        let script = work.path().join("auth");
        let answer = format!(
            "#!/bin/sh\nif [ \"$AUTHD_PASSWORD\" = secret ]; then\necho auth_ok:1\necho uid:12345\necho gid:12345\n\
             echo dir:{}/./\nelse\necho auth_ok:0\nfi\necho end\n",
            home.display()
        );
        std::fs::write(&script, answer).unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let socket = work.path().join("authd.sock");
        let mut authority = Command::new(authd);
        authority.arg("-s").arg(&socket).arg("-r").arg(&script);
        authority.kill_on_drop(true).stdin(Stdio::null());
        authority.stdout(Stdio::null()).stderr(Stdio::null());
        let authority = authority.spawn().unwrap();
        common::until("the authority listens", || socket.exists()).await;
        let port = free_port();
        let mut command = Command::new(program);
        command.arg("-S").arg(format!("127.0.0.1,{port}"));
        command.arg("-l").arg(format!("extauth:{}", socket.display()));
        command
            .args(["-p", DATA_PORTS, "-E", "-H", "-g"])
            .arg(work.path().join("pid"));
        command.args(more(work.path()));
        Some(Self {
            server: Foreign::start(command, port).await,
            _authority: authority,
            work,
        })
    }
}

fn with_password(password: &str) -> ClientOptions {
    ClientOptions {
        password: Some(password.to_owned()),
        ..ClientOptions::default()
    }
}

#[tokio::test]
async fn pure_ftpd_plain() {
    let Some(pure) = PureFtpd::start("pure_ftpd_plain", |_| Vec::new()).await else {
        return;
    };
    all_ways(&pure.server, "ftp", "anna@", "", &with_password("secret")).await;
    assert!(pure.work.path().join("home/beside").exists());
    let url = pure.server.url("ftp", "anna@", "file");
    let refused = get(&url, &with_password("guess"), Resume::default())
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("530"), "{refused}");
}

/// It refuses plain logins and plain data then.
#[tokio::test]
async fn pure_ftpd_under_tls() {
    let certificate = certificate();
    let pem = [certificate.pem.as_str(), certificate.key_pem.as_str()].concat();
    let tls = |work: &Path| {
        let path = work.join("pure.pem");
        std::fs::write(&path, pem).unwrap();
        vec![
            "-Y".to_owned(),
            "3".to_owned(),
            "-2".to_owned(),
            path.display().to_string(),
        ]
    };
    let Some(pure) = PureFtpd::start("pure_ftpd_under_tls", tls).await else {
        return;
    };
    let options = ClientOptions {
        tls: Some(certificate.client.clone()),
        ..with_password("secret")
    };
    all_ways(&pure.server, "ftps", "anna@", "", &options).await;
    let plain = pure.server.url("ftp", "anna@", "file");
    assert!(
        get(&plain, &with_password("secret"), Resume::default())
            .await
            .is_err()
    );
}

const TWISTED_SERVER: &str = include_str!("twisted_server.py");

/// It knows neither `REST` nor `APPE`, so only whole files go both ways.
#[tokio::test]
async fn twisted_server() {
    let Some(python) = twisted("twisted_server") else {
        return;
    };
    let work = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = Command::new(python);
    command
        .arg("-c")
        .arg(TWISTED_SERVER)
        .arg(port.to_string())
        .arg(work.path());
    let server = Foreign::start(command, port).await;
    let content = noise(1_200_000, 32);
    let url = server.url("ftp", "anna@", "file");
    for mode in [DataMode::Passive, DataMode::Active] {
        let options = ClientOptions {
            password: Some("secret".to_owned()),
            mode,
            verify: Verify::Hash,
            ..ClientOptions::default()
        };
        up(&content, &url, &options, Put::Direct).await;
        assert!(std::fs::read(work.path().join("file")).unwrap() == content);
        assert!(down(&url, &options, 0).await == content, "{mode:?}");
    }
}
