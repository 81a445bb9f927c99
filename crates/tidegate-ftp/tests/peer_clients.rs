//! Other people's clients against our server: curl, lftp, Python's ftplib and Twisted's; plain and under TLS, active and
//! passive, IPv4 and IPv6.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use common::{Certificate, PATIENCE, Served, certificate, noise, peer, twisted, until, writable};
use tidegate_ftp::server::{Limits, ServeOptions, Tls};
use tokio::process::Command;

async fn run(command: &mut Command) -> Output {
    command.kill_on_drop(true);
    let ran = tokio::time::timeout(PATIENCE * 2, command.output()).await;
    ran.expect("the peer ends").unwrap()
}

/// Runs it and panics with what it said unless it succeeds.
async fn succeed(command: &mut Command) -> String {
    let output = run(command).await;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{command:?}: {}\n{out}\n{err}",
        output.status
    );
    out.into_owned()
}

fn required(certificate: &Certificate) -> ServeOptions {
    ServeOptions {
        tls: Tls::Required(Arc::clone(&certificate.server)),
        ..writable()
    }
}

fn write(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Up, down, both compared, with `arguments`.
async fn curl_both_ways(curl: &Path, served: &Served, host: &str, arguments: &[&str]) {
    let work = tempfile::tempdir().unwrap();
    let content = noise(2_000_000, 21);
    let up = write(work.path(), "up", &content);
    let down = work.path().join("down");
    let url = format!("ftp://{host}:{}/file", served.address.port());
    succeed(
        Command::new(curl)
            .args(["-sS", "-T"])
            .arg(&up)
            .arg(&url)
            .args(arguments),
    )
    .await;
    assert!(served.content("file") == content);
    succeed(
        Command::new(curl)
            .args(["-sS", "-o"])
            .arg(&down)
            .arg(&url)
            .args(arguments),
    )
    .await;
    assert!(std::fs::read(&down).unwrap() == content);
}

#[tokio::test]
async fn curl_passive_and_active_over_ipv4_and_ipv6() {
    let Some(curl) = peer("curl", "curl_passive_and_active_over_ipv4_and_ipv6") else {
        return;
    };
    let served = Served::writable().await;
    for arguments in [
        &[][..],
        &["--disable-epsv"],
        &["-P", "-"],
        &["-P", "-", "--disable-eprt"],
    ] {
        curl_both_ways(&curl, &served, "127.0.0.1", arguments).await;
    }
    let served = Served::start_at("[::1]:0", writable()).await;
    for arguments in [&["-g"][..], &["-g", "-P", "-"]] {
        curl_both_ways(&curl, &served, "[::1]", arguments).await;
    }
}

#[tokio::test]
async fn curl_under_tls() {
    let Some(curl) = peer("curl", "curl_under_tls") else {
        return;
    };
    let certificate = certificate();
    let served = Served::start(required(&certificate)).await;
    let work = tempfile::tempdir().unwrap();
    let trusted = write(work.path(), "ca.pem", &certificate.pem);
    let trusted = trusted.to_str().unwrap();
    // Passive only: curl 7.88 fails on its own in active mode under TLS ("sa_addr inet_ntop() failed with errno 97").
    // lftp and ftplib show that mode.
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let arguments = [&["--ssl-reqd", "--cacert", trusted], version].concat();
        curl_both_ways(&curl, &served, "localhost", &arguments).await;
    }
    let six = Served::start_at("[::1]:0", required(&certificate)).await;
    let arguments = ["-g", "--ssl-reqd", "--cacert", trusted];
    curl_both_ways(&curl, &six, "[::1]", &arguments).await;
    let plain = run(Command::new(&curl).args(["-sS"]).arg(served.url("file"))).await;
    assert!(
        !plain.status.success(),
        "a plain login passed where TLS is required"
    );
}

#[tokio::test]
async fn curl_text_ranges_resume_append_and_quotes() {
    let Some(curl) = peer("curl", "curl_text_ranges_resume_append_and_quotes") else {
        return;
    };
    let served = Served::writable().await;
    served.put("t", b"one\ntwo\n");
    let url = served.url("t");
    assert_eq!(
        succeed(Command::new(&curl).args(["-sS", "-B", &url])).await,
        "one\ntwo\n"
    );
    assert_eq!(
        succeed(Command::new(&curl).args(["-sS", "-r", "4-6", &url])).await,
        "two"
    );
    let work = tempfile::tempdir().unwrap();
    let part = write(work.path(), "part", "one\n");
    succeed(
        Command::new(&curl)
            .args(["-sS", "-C", "-", "-o"])
            .arg(&part)
            .arg(&url),
    )
    .await;
    assert_eq!(std::fs::read(&part).unwrap(), b"one\ntwo\n");
    let more = write(work.path(), "more", "three\n");
    succeed(Command::new(&curl).args(["-sS", "-a", "-T"]).arg(&more).arg(&url)).await;
    assert_eq!(served.content("t"), b"one\ntwo\nthree\n");
    let made = served.url("new/dir/f");
    succeed(
        Command::new(&curl)
            .args(["-sS", "--ftp-create-dirs", "-T"])
            .arg(&more)
            .arg(&made),
    )
    .await;
    assert_eq!(served.content("new/dir/f"), b"three\n");
    let quotes = ["-Q", "-RNFR t", "-Q", "-RNTO u", "-Q", "-DELE new/dir/f"];
    succeed(
        Command::new(&curl)
            .args(["-sS", "-o", "/dev/null"])
            .args(quotes)
            .arg(&url),
    )
    .await;
    assert_eq!(served.names(), ["new", "u"]);
    let listed = succeed(Command::new(&curl).args(["-sS", "-l", &served.url("")])).await;
    assert_eq!(listed.lines().collect::<Vec<_>>().len(), 2, "{listed}");
}

/// A client that is killed in the middle of an upload.
#[tokio::test]
async fn curl_killed_in_the_middle_leaves_the_old_file() {
    let Some(curl) = peer("curl", "curl_killed_in_the_middle_leaves_the_old_file") else {
        return;
    };
    // A machine under load may take its time between closing one connection and the other.
    let served = Served::start(ServeOptions {
        limits: Limits {
            end_grace: PATIENCE,
            ..Limits::default()
        },
        ..writable()
    })
    .await;
    served.put("f", b"old");
    let work = tempfile::tempdir().unwrap();
    let big = write(work.path(), "big", noise(3_000_000, 22));
    let mut command = Command::new(&curl);
    command
        .args(["-sS", "--limit-rate", "300k", "-T"])
        .arg(&big)
        .arg(served.url("f"))
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    until("some of it has come", || {
        let names = served.names();
        names
            .iter()
            .any(|name| std::fs::metadata(served.path(name)).is_ok_and(|found| found.len() > 1000))
    })
    .await;
    child.kill().await.unwrap();
    until("it was put aside", || served.names() == [".f.tidegate-part", "f"]).await;
    assert_eq!(served.content("f"), b"old");
}

#[tokio::test]
async fn lftp_mirrors_resumes_and_hears_abort() {
    let Some(lftp) = peer("lftp", "lftp_mirrors_resumes_and_hears_abort") else {
        return;
    };
    let served = Served::writable().await;
    let work = tempfile::tempdir().unwrap();
    let content = noise(1_500_000, 23);
    std::fs::create_dir_all(work.path().join("tree/sub dir")).unwrap();
    write(work.path(), "tree/a", &content);
    write(work.path(), "tree/sub dir/ümlaut", "text\n");
    write(work.path(), "down", &content[..400_000]);
    let script = format!(
        "set cmd:fail-exit true; set net:max-retries 1; open {}; lcd {}; mirror -R tree copy; ls copy; \
         cls 'copy/sub dir'; get -c copy/a -o down; mirror copy back; mv copy/a copy/b; \
         rm -r copy; pwd; bye",
        served.url(""),
        work.path().display()
    );
    let said = succeed(Command::new(&lftp).args(["--norc", "-c", &script])).await;
    assert!(said.contains("ümlaut"), "{said}");
    assert!(std::fs::read(work.path().join("down")).unwrap() == content);
    assert!(std::fs::read(work.path().join("back/a")).unwrap() == content);
    assert_eq!(
        std::fs::read(work.path().join("back/sub dir/ümlaut")).unwrap(),
        b"text\n"
    );
    assert_eq!(served.names(), [""; 0]);
}

/// Every cell of its matrix: plain and TLS, passive and active, IPv4 and IPv6.
#[tokio::test]
async fn lftp_plain_and_under_tls_passive_and_active_over_ipv4_and_ipv6() {
    let Some(lftp) = peer(
        "lftp",
        "lftp_plain_and_under_tls_passive_and_active_over_ipv4_and_ipv6",
    ) else {
        return;
    };
    let certificate = certificate();
    let work = tempfile::tempdir().unwrap();
    let content = noise(1_500_000, 24);
    write(work.path(), "up", &content);
    let trusted = write(work.path(), "ca.pem", &certificate.pem);
    // The certificate is checked; that an address is one of its names is curl's and ftplib's part.
    let tls = format!(
        "set ftp:ssl-force true; set ftp:ssl-allow-anonymous true; set ftp:ssl-protect-data true; \
         set ssl:ca-file {}; set ssl:check-hostname false",
        trusted.display()
    );
    for (options, security) in [
        (writable(), "set ftp:ssl-allow false"),
        (required(&certificate), tls.as_str()),
    ] {
        for (address, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "[::1]")] {
            let served = Served::start_at(address, options.clone()).await;
            for passive in ["yes", "no"] {
                let script = format!(
                    "set cmd:fail-exit true; set net:max-retries 1; {security}; set ftp:passive-mode {passive}; \
                     open ftp://{host}:{}; lcd {}; put up; ls; get up -o down; rm up; bye",
                    served.address.port(),
                    work.path().display()
                );
                succeed(Command::new(&lftp).args(["--norc", "-c", &script])).await;
                let down = work.path().join("down");
                assert!(
                    std::fs::read(&down).unwrap() == content,
                    "{host} {passive} {security}"
                );
                std::fs::remove_file(down).unwrap();
            }
        }
    }
}

const FTPLIB: &str = r#"
import ftplib, io, ssl, sys
host, port, mode, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
if ca != "-":
    ftp = ftplib.FTP_TLS(context=ssl.create_default_context(cafile=ca))
else:
    ftp = ftplib.FTP()
ftp.connect(host, port, timeout=30)
ftp.login()
if ca != "-":
    ftp.prot_p()
ftp.set_pasv(mode == "passive")
content = bytes(range(256)) * 4000
assert ftp.storbinary("STOR f", io.BytesIO(content)).startswith("226")
got = io.BytesIO()
assert ftp.retrbinary("RETR f", got.write).startswith("226")
assert got.getvalue() == content
got = io.BytesIO()
ftp.retrbinary("RETR f", got.write, rest=1000000)
assert got.getvalue() == content[1000000:]
ftp.storlines("STOR t", io.BytesIO(b"one\ntwo\n"))
lines = []
ftp.retrlines("RETR t", lines.append)
assert lines == ["one", "two"], lines
assert ftp.mkd("d") == "/d"
ftp.rename("t", "d/u")
assert ftp.nlst("d") == ["u"], ftp.nlst("d")
ftp.cwd("d")
assert ftp.pwd() == "/d"
facts = dict(ftp.mlsd(facts=["type", "size"]))
assert facts["u"] == {"type": "file", "size": "8"}, facts
ftp.delete("u")
ftp.cwd("/")
ftp.rmd("d")
ftp.voidcmd("TYPE I")
assert ftp.size("f") == len(content)
try:
    ftp.retrbinary("RETR none", print)
    raise AssertionError("none exists")
except ftplib.error_perm as error:
    assert str(error).startswith("550"), error
if ca == "-":
    # An abort as ftplib sends it, as urgent data.
    data, size = ftp.ntransfercmd("RETR f")
    assert size == len(content), size
    data.recv(10)
    data.close()
    assert ftp.abort()[:3] in ("226", "426")
ftp.close()
print("fine")
"#;

#[tokio::test]
async fn ftplib_plain_and_under_tls() {
    let Some(python) = peer("python3", "ftplib_plain_and_under_tls") else {
        return;
    };
    let certificate = certificate();
    let work = tempfile::tempdir().unwrap();
    let trusted = write(work.path(), "ca.pem", &certificate.pem);
    for (options, ca) in [
        (writable(), "-"),
        (required(&certificate), trusted.to_str().unwrap()),
    ] {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let served = Served::start_at(address, options.clone()).await;
            let (host, port) = (served.address.ip().to_string(), served.address.port().to_string());
            for mode in ["passive", "active"] {
                let said = succeed(Command::new(&python).args(["-c", FTPLIB, &host, &port, mode, ca])).await;
                assert_eq!(said, "fine\n");
            }
        }
    }
}

const TWISTED_CLIENT: &str = r#"
import io, sys
from twisted.internet import defer, endpoints, protocol, reactor, task
from twisted.protocols import basic, ftp

class Gather(protocol.Protocol):
    def __init__(self):
        self.content = b""
    def dataReceived(self, data):
        self.content += data

@defer.inlineCallbacks
def main(reactor, port, passive):
    creator = protocol.ClientCreator(reactor, ftp.FTPClient, "anonymous", "me@", passive=passive == "passive")
    client = yield creator.connectTCP("127.0.0.1", int(port))
    content = bytes(range(256)) * 4000
    yield client.queueStringCommand("TYPE I")
    store, stored = client.storeFile("f")
    sender = yield store
    yield basic.FileSender().beginFileTransfer(io.BytesIO(content), sender.transport)
    sender.finish()
    yield stored
    got = Gather()
    yield client.retrieveFile("f", got)
    assert got.content == content
    rest = Gather()
    yield client.retrieveFile("f", rest, offset=1000000)
    assert rest.content == content[1000000:]
    names = Gather()
    yield client.nlst(".", names)
    assert names.content == b"f\r\n", names.content
    listing = ftp.FTPFileListProtocol()
    yield client.list(".", listing)
    assert [(f["filename"], f["size"]) for f in listing.files] == [("f", len(content))], listing.files
    yield client.makeDirectory("d")
    yield client.cwd("d")
    where = yield client.pwd()
    assert "/d" in str(where), where
    yield client.cdup()
    yield client.rename("f", "d/g")
    yield client.removeFile("d/g")
    yield client.removeDirectory("d")
    try:
        yield client.retrieveFile("none", Gather())
        raise AssertionError("none exists")
    except ftp.CommandFailed as error:
        assert "550" in str(error), error
    yield client.quit()
    print("fine")

task.react(main, sys.argv[1:])
"#;

#[tokio::test]
async fn twisted_client_passive_and_active() {
    let Some(python) = twisted("twisted_client_passive_and_active") else {
        return;
    };
    let served = Served::writable().await;
    let port = served.address.port().to_string();
    for mode in ["passive", "active"] {
        let said = succeed(Command::new(&python).args(["-c", TWISTED_CLIENT, &port, mode])).await;
        assert_eq!(said, "fine\n");
        assert_eq!(served.names(), [""; 0]);
    }
}

/// Of IPv6 (`EPSV`, `EPRT`) and TLS Twisted's client knows nothing itself: its transport can be made secure by hand, and commands
/// without data need no `PASV`.
const TWISTED_CONTROL: &str = r#"
import sys
from twisted.internet import defer, protocol, reactor, ssl, task
from twisted.protocols import ftp

class Client(ftp.FTPClient):
    def queueLogin(self, username, password):
        """Not before the handshake."""

@defer.inlineCallbacks
def main(reactor, host, port, ca):
    client = yield protocol.ClientCreator(reactor, Client).connectTCP(host, int(port))
    with open(ca, "rb") as pem:
        trusted = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(pem.read())])
    yield client.queueStringCommand("AUTH TLS")
    client.transport.startTLS(ssl.optionsForClientTLS("localhost", trusted))
    yield client.queueStringCommand("USER anonymous")
    yield client.queueStringCommand("PASS me@")
    yield client.makeDirectory("d")
    yield client.cwd("d")
    where = yield client.pwd()
    assert "/d" in str(where), where
    yield client.cdup()
    yield client.removeDirectory("d")
    if ":" in host:
        try:
            yield client.retrieveFile("f", protocol.Protocol())
            raise AssertionError("PASV cannot say an IPv6 address")
        except ftp.FTPError as error:
            # It gives the connection up for that.
            assert "425" in str(error), error
    else:
        yield client.quit()
    print("fine")

task.react(main, sys.argv[1:])
"#;

#[tokio::test]
async fn twisted_client_control_over_ipv6_and_under_tls() {
    let Some(python) = twisted("twisted_client_control_over_ipv6_and_under_tls") else {
        return;
    };
    let certificate = certificate();
    let work = tempfile::tempdir().unwrap();
    let trusted = write(work.path(), "ca.pem", &certificate.pem);
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let served = Served::start_at(address, required(&certificate)).await;
        let (host, port) = (served.address.ip().to_string(), served.address.port().to_string());
        let said = succeed(
            Command::new(&python)
                .args(["-c", TWISTED_CONTROL, &host, &port])
                .arg(&trusted),
        )
        .await;
        assert_eq!(said, "fine\n");
    }
}
