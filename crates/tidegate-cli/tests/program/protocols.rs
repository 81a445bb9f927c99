//! HTTP, FTP, Maildir, Perspective Broker and TLS by address, between two of us and against our own servers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{MIB, Place, Run, Running, clean, go, go_with, peer, tidegate, until};

/// Where `serve` says it serves.
pub(crate) fn served(serving: &mut Running) -> String {
    let line = serving.line("serving ");
    line.rsplit(' ').next().unwrap().trim_end_matches('/').to_owned()
}

/// A certificate for localhost and 127.0.0.1, and its key.
pub(crate) fn certificate(place: &Place) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (place.path("cert.pem"), place.path("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

#[test]
fn tls_goes_both_ways_and_a_stranger_is_refused() {
    let place = Place::new(3 * MIB);
    let (cert, key) = certificate(&place);
    let (cert, key) = (cert.display(), key.display());
    let listen = format!("tls-listen://127.0.0.1:0,cert={cert},key={key}");
    let mut receiving = Running::start(&mut tidegate([&listen, &place.text("copy")]));
    let port = receiving.port();
    go([place.text("big"), format!("tls://localhost:{port},ca={cert}")]).expect(0);
    receiving.end().expect(0);
    place.holds_all("copy");

    let mut sending = Running::start(&mut tidegate([&place.text("big"), &listen]));
    let port = sending.port();
    go([format!("tls://127.0.0.1:{port},insecure"), place.text("other")]).expect(0);
    sending.end().expect(0);
    place.holds_all("other");

    let mut receiving = Running::start(&mut tidegate([&listen, &place.text("third")]));
    let port = receiving.port();
    let run = go([place.text("big"), format!("tls://localhost:{port}")]).expect(4);
    assert!(
        run.err.to_lowercase().contains("certificate") || run.err.contains("issuer"),
        "{}",
        run.err
    );
    receiving.end().expect(3);
    assert!(!place.path("third").exists());
}

#[test]
fn a_tls_stream_without_its_closing_alert_is_exit_7() {
    let place = Place::new(3 * MIB);
    let (cert, key) = certificate(&place);
    let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = origin.local_addr().unwrap();
    // A middle that cuts the TCP stream cleanly after some bytes: an end below, none above.
    let listen = format!(
        "tls-listen://127.0.0.1:0,cert={},key={}",
        cert.display(),
        key.display()
    );
    let mut sending = Running::start(&mut tidegate(["/dev/zero", &listen]));
    let port = sending.port();
    let middle = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let near = origin.accept().unwrap().0;
        let far = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut up, mut into) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut up, &mut into);
        });
        let _ = std::io::copy(
            &mut far.try_clone().unwrap().take(500_000),
            &mut near.try_clone().unwrap(),
        );
        (&near).flush().unwrap();
        near.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = (&near).read(&mut [0; 1]);
        (near, far)
    });
    let run = go([
        format!("tls://localhost:{},ca={}", at.port(), cert.display()),
        place.text("copy"),
    ])
    .expect(7);
    assert!(run.err.contains("source tls://"), "{}", run.err);
    assert!(!place.path("copy").exists());
    drop(middle.join().unwrap());
    drop(sending);
}

#[test]
fn http_is_served_fetched_uploaded_and_resumed() {
    let place = Place::new(3 * MIB);
    let root = place.path("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("file"), &place.bytes).unwrap();
    let dir = root.display().to_string();
    let mut serving = Running::start(&mut tidegate([
        "serve",
        "http",
        &dir,
        "--listen",
        "127.0.0.1:0",
        "--writable",
    ]));
    let url = served(&mut serving);
    go([format!("{url}/file"), place.text("copy")]).expect(0);
    place.holds_all("copy");
    go([place.text("big"), format!("{url}/up")]).expect(0);
    assert!(std::fs::read(root.join("up")).unwrap() == place.bytes);
    // Of unknown size, from a pipe: chunked.
    go_with(&place.bytes, ["-", &format!("{url}/chunked")]).expect(0);
    assert!(std::fs::read(root.join("chunked")).unwrap() == place.bytes);
    std::fs::write(place.path("part"), &place.bytes[..MIB]).unwrap();
    go(["--resume".to_owned(), format!("{url}/file"), place.text("part")]).expect(0);
    place.holds_all("part");
    go([format!("{url}/missing"), place.text("no")]).expect(3);
    assert!(!place.path("no").exists());
    serving.signal("TERM");
    serving.end().expect(0);
}

/// The program under strace, which notes each sync in `log`.
fn watched(strace: &Path, log: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(strace);
    clean(&mut command);
    // -D: the program is our child, and what we signal.
    command
        .args(["-D", "-f", "-q", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(log);
    command.arg(env!("CARGO_BIN_EXE_tidegate")).args(args);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn uploads_may_be_left_to_the_system() {
    let Some(strace) = peer("strace", "uploads_may_be_left_to_the_system") else {
        return;
    };
    let place = Place::new(MIB);
    let root = place.path("root");
    std::fs::create_dir(&root).unwrap();
    let dir = root.display().to_string();
    let serve = |durability| {
        let at = [
            "--listen",
            "127.0.0.1:0",
            "--writable",
            "--durability",
            durability,
        ];
        ["serve", "http", &dir].into_iter().chain(at).collect::<Vec<_>>()
    };
    for durability in ["cached", "synced"] {
        let log = place.path(&format!("{durability}.log"));
        let mut serving = Running::start(&mut watched(&strace, &log, &serve(durability)));
        let url = served(&mut serving);
        go([place.text("big"), format!("{url}/{durability}")]).expect(0);
        assert!(std::fs::read(root.join(durability)).unwrap() == place.bytes);
        let id = format!("{} ", serving.child.id());
        serving.signal("TERM");
        serving.end().expect(0);
        let calls = || std::fs::read_to_string(&log).unwrap_or_default();
        until("strace has told all", || {
            let is_last = |line: &str| line.starts_with(&id) && line.contains("+++ exited");
            calls().lines().any(is_last)
        });
        assert_eq!(calls().contains("sync("), durability == "synced", "{}", calls());
    }
    go(serve("never")).expect(2);
}

#[test]
fn http_listen_takes_one_upload_and_serves_one_download() {
    let place = Place::new(3 * MIB);
    let mut taking = Running::start(&mut tidegate(["http-listen://127.0.0.1:0", &place.text("copy")]));
    let port = taking.port();
    go([place.text("big"), format!("http://127.0.0.1:{port}/x")]).expect(0);
    taking.end().expect(0);
    place.holds_all("copy");
    let mut giving = Running::start(&mut tidegate([&place.text("big"), "http-listen:127.0.0.1:0"]));
    let port = giving.port();
    go([format!("http://127.0.0.1:{port}/x"), place.text("other")]).expect(0);
    giving.end().expect(0);
    place.holds_all("other");
}

#[test]
fn https_is_served_with_a_certificate() {
    let place = Place::new(MIB);
    let (cert, key) = certificate(&place);
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let dir = place.text("");
    let args = [
        "serve",
        "http",
        &dir,
        "--listen",
        "127.0.0.1:0",
        "--cert",
        &cert,
        "--key",
        &key,
    ];
    let mut serving = Running::start(&mut tidegate(args));
    let url = served(&mut serving).replace("127.0.0.1", "localhost");
    assert!(url.starts_with("https://"), "{url}");
    go(["--ca".to_owned(), cert, format!("{url}/big"), place.text("copy")]).expect(0);
    place.holds_all("copy");
    go([format!("{url}/big"), place.text("stranger")]).expect(3);
}

#[test]
fn ftp_is_served_fetched_uploaded_and_resumed() {
    let place = Place::new(3 * MIB);
    let root = place.path("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("file"), &place.bytes).unwrap();
    let dir = root.display().to_string();
    std::fs::write(place.path("password"), "secret\n").unwrap();
    let user = ftp_user(&place);
    std::fs::write(place.path("users"), user.out).unwrap();
    let users = place.text("users");
    let args = [
        "serve",
        "ftp",
        &dir,
        "--listen",
        "127.0.0.1:0",
        "--writable",
        "--users",
        &users,
    ];
    let mut serving = Running::start(&mut tidegate(args));
    let url = served(&mut serving).replace("ftp://", "ftp://anna@");
    let password = ["--password-file".to_owned(), place.text("password")];
    let go = |args: [String; 2]| go(password.iter().cloned().chain(args));
    go([format!("{url}/file"), place.text("copy")]).expect(0);
    place.holds_all("copy");
    go([place.text("big"), format!("{url}/up")]).expect(0);
    assert!(std::fs::read(root.join("up")).unwrap() == place.bytes);
    std::fs::write(root.join("half"), &place.bytes[..MIB]).unwrap();
    let resume = ["--resume".to_owned(), place.text("big"), format!("{url}/half")];
    crate::support::go(password.iter().cloned().chain(resume)).expect(0);
    assert!(std::fs::read(root.join("half")).unwrap() == place.bytes);
    go([format!("{url}/missing"), place.text("no")]).expect(3);
    // A wrong password, and none at all.
    crate::support::go([format!("{url}/file"), place.text("no")]).expect(3);
    assert!(!place.path("no").exists());
    serving.signal("TERM");
    serving.end().expect(0);
}

fn ftp_user(place: &Place) -> Run {
    let run = go(["ftp-user", "anna", "--password-file", &place.text("password")]).expect(0);
    assert!(
        run.out.starts_with(b"anna:$argon2id$"),
        "{:?}",
        String::from_utf8_lossy(&run.out)
    );
    run
}

#[test]
fn nobody_can_log_in_is_wrong_use() {
    let place = Place::new(10);
    let run = go(["serve", "ftp", &place.text(""), "--listen", "127.0.0.1:0"]).expect(2);
    assert!(run.err.contains("--anonymous"), "{}", run.err);
    go(["serve", "http", &place.text("missing"), "--listen", "127.0.0.1:0"]).expect(4);
    go(["serve", "http", &place.text(""), "--listen", "nonsense"]).expect(2);
}

#[test]
fn anonymous_ftp_reads_and_does_not_write() {
    let place = Place::new(MIB);
    let dir = place.text("");
    let mut serving = Running::start(&mut tidegate([
        "serve",
        "ftp",
        &dir,
        "--listen",
        "127.0.0.1:0",
        "--anonymous",
    ]));
    let url = served(&mut serving);
    let copy = Place::new(0);
    go([format!("{url}/big"), copy.text("copy")]).expect(0);
    assert!(std::fs::read(copy.path("copy")).unwrap() == place.bytes);
    go([place.text("big"), format!("{url}/new")]).expect(4);
    assert_eq!(place.names(), ["big"]);
}

/// A server of `dir` to anybody, who may write.
pub(crate) fn writable_ftp(dir: &str, more: &[&str]) -> Running {
    let args = [
        "serve",
        "ftp",
        dir,
        "--listen",
        "127.0.0.1:0",
        "--anonymous",
        "--writable",
    ];
    Running::start(&mut tidegate(args.iter().chain(more)))
}

/// The lines a transfer leaves in the server's log name the lane and count the bytes.
#[test]
fn ftp_is_served_by_the_kernels_lanes_and_the_log_names_them() {
    let place = Place::new(3 * MIB);
    let dir = place.text("");
    let mut serving = writable_ftp(&dir, &[]);
    let url = served(&mut serving);
    let copy = Place::new(0);
    go([format!("{url}/big"), copy.text("copy")]).expect(0);
    let line = serving.line("transferred");
    let sent = format!("bytes={}", 3 * MIB);
    if cfg!(target_os = "linux") {
        assert!(line.contains("sendfile") && line.contains(&sent), "{line}");
    }
    go([copy.text("copy"), format!("{url}/up")]).expect(0);
    let line = serving.line("transferred");
    let lane = if cfg!(target_os = "linux") {
        "splice"
    } else {
        "copy"
    };
    assert!(line.contains(lane) && line.contains(&sent), "{line}");
}

/// Killed in the middle, and gone on with: only what was missing travels, and the target is whole or untouched.
#[test]
fn a_killed_ftp_upload_is_resumed_by_the_program() {
    let place = Place::new(12 * MIB);
    let root = place.path("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("f"), "old").unwrap();
    let dir = root.display().to_string();
    let mut serving = writable_ftp(&dir, &[]);
    let url = served(&mut serving);
    let part = root.join(".f.tidegate-part");
    for (cut, resume) in [(MIB / 3, None), (5 * MIB, Some("--resume".to_owned()))] {
        let args = ["--rate", "8MiB", &place.text("big"), &format!("{url}/f")].map(str::to_owned);
        let mut running = Running::start(&mut tidegate(resume.iter().chain(&args)));
        let arrived = || {
            let entries = std::fs::read_dir(&root).unwrap().flatten();
            let sizes = entries.filter_map(|entry| entry.metadata().ok());
            sizes.map(|found| found.len()).max().unwrap_or(0)
        };
        crate::support::until("some of it arrived", || arrived() > cut as u64);
        running.child.kill().unwrap();
        drop(running);
        serving.line("cut short");
        crate::support::until("the part was put aside", || part.exists());
        assert_eq!(std::fs::read(root.join("f")).unwrap(), b"old");
    }
    let kept = std::fs::metadata(&part).unwrap().len();
    go(["--resume".to_owned(), place.text("big"), format!("{url}/f")]).expect(0);
    let line = serving.line("transferred");
    let rest = 12 * MIB as u64 - kept;
    assert!(
        line.contains(&format!("bytes={rest}")),
        "{line}, {kept} were kept"
    );
    assert!(std::fs::read(root.join("f")).unwrap() == place.bytes);
    assert!(!part.exists());
}

#[test]
fn ftp_downloads_cut_anywhere_are_resumed_by_the_program() {
    let place = Place::new(MIB + 17);
    let dir = place.text("");
    let mut serving = writable_ftp(&dir, &[]);
    let url = served(&mut serving);
    let copy = Place::new(0);
    for cut in [0, 1, 4095, MIB / 2 + 3, MIB + 16, MIB + 17] {
        std::fs::write(copy.path("copy"), &place.bytes[..cut]).unwrap();
        go(["--resume".to_owned(), format!("{url}/big"), copy.text("copy")]).expect(0);
        assert!(
            std::fs::read(copy.path("copy")).unwrap() == place.bytes,
            "cut at {cut}"
        );
    }
}

#[test]
fn ftps_goes_both_ways_and_plain_is_refused_where_tls_is_required() {
    let place = Place::new(MIB);
    let (cert, key) = certificate(&place);
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let dir = place.text("");
    let mut serving = writable_ftp(&dir, &["--cert", &cert, "--key", &key, "--tls-required"]);
    let url = served(&mut serving);
    let secure = url.replace("ftp://", "ftps://");
    let copy = Place::new(0);
    let ca = ["--ca".to_owned(), cert];
    go(ca
        .iter()
        .cloned()
        .chain([format!("{secure}/big"), copy.text("copy")]))
    .expect(0);
    assert!(std::fs::read(copy.path("copy")).unwrap() == place.bytes);
    go(ca
        .iter()
        .cloned()
        .chain([place.text("big"), format!("{secure}/up")]))
    .expect(0);
    assert!(std::fs::read(place.path("up")).unwrap() == place.bytes);
    // Without the authority, and without TLS.
    go([format!("{secure}/big"), copy.text("no")]).expect(3);
    go([format!("{url}/big"), copy.text("no")]).expect(3);
    assert!(!copy.path("no").exists());
}

#[test]
fn ftp_passwords_come_from_netrc_and_one_in_the_url_is_warned_of() {
    let place = Place::new(MIB);
    let root = place.path("root");
    std::fs::create_dir_all(root.join("anna")).unwrap();
    std::fs::write(root.join("anna/f"), &place.bytes).unwrap();
    std::fs::write(root.join("secret"), "not hers").unwrap();
    std::fs::write(place.path("password"), "secret\n").unwrap();
    let password = place.text("password");
    let user = [
        "ftp-user",
        "anna",
        "--password-file",
        &password,
        "--directory",
        "anna",
    ];
    std::fs::write(place.path("users"), go(user).expect(0).out).unwrap();
    let (dir, users) = (root.display().to_string(), place.text("users"));
    let args = [
        "serve",
        "ftp",
        &dir,
        "--listen",
        "127.0.0.1:0",
        "--users",
        &users,
        "--passive-ports",
        "20000-65000",
        "--max-connections",
        "9",
    ];
    let mut serving = Running::start(&mut tidegate(args));
    let url = served(&mut serving);
    std::fs::write(
        place.path("netrc"),
        "machine 127.0.0.1 login anna password secret\n",
    )
    .unwrap();
    let with_netrc = |args: [String; 2]| {
        let mut command = tidegate(args);
        command.env("NETRC", place.path("netrc"));
        crate::support::run(command)
    };
    // Her root is hers: her file is at its top, and what lies beside it is out of reach.
    let run = with_netrc([format!("{url}/f"), place.text("copy")]).expect(0);
    assert!(!run.err.contains("password"), "{}", run.err);
    place.holds_all("copy");
    with_netrc([format!("{url}/../secret"), place.text("no")]).expect(3);
    let run = go([
        format!("{}/f", url.replace("ftp://", "ftp://anna:secret@")),
        place.text("warned"),
    ])
    .expect(0);
    assert!(
        run.err.contains("warning") && run.err.contains("password"),
        "{}",
        run.err
    );
    assert!(!run.err.contains("secret"), "{}", run.err);
    place.holds_all("warned");
    // Read-only for all unless --writable.
    with_netrc([place.text("big"), format!("{url}/new")]).expect(4);
    assert!(!place.path("no").exists() && !root.join("anna/new").exists());
}

#[test]
fn a_message_is_appended_to_a_mailbox() {
    let place = Place::new(10_000);
    let mailbox = place.text("mail");
    go([place.text("big"), format!("maildir:{mailbox}")]).expect(0);
    go([place.text("big"), format!("maildir:{mailbox},flags=S")]).expect(0);
    for dir in ["new", "cur"] {
        let found: Vec<_> = std::fs::read_dir(place.path("mail").join(dir)).unwrap().collect();
        assert_eq!(found.len(), 1, "{dir}");
        assert!(std::fs::read(found[0].as_ref().unwrap().path()).unwrap() == place.bytes);
    }
    go([
        place.text("big"),
        format!("maildir:{},create=no", place.text("none")),
    ])
    .expect(4);
    go([place.text("big"), format!("maildir:{mailbox},max=1KiB")]).expect(6);
    go([place.text("big"), format!("maildir:{mailbox},flags=!")]).expect(2);
    assert_eq!(std::fs::read_dir(place.path("mail/tmp")).unwrap().count(), 0);
}

#[test]
fn pages_go_between_two_of_us() {
    let place = Place::new(3 * MIB);
    let mut serving = Running::start(&mut tidegate([&place.text("big"), "pb-listen:127.0.0.1:0/pages"]));
    let line = serving.line("listening on ");
    let at = line
        .rsplit("//")
        .next()
        .unwrap()
        .trim_end_matches("/pages")
        .to_owned();
    go([format!("pb://{at}/pages"), place.text("copy")]).expect(0);
    serving.end().expect(0);
    place.holds_all("copy");
}

#[test]
fn curl_uploads_to_and_downloads_from_http_listen() {
    let Some(curl) = crate::support::peer("curl", "curl_uploads_to_and_downloads_from_http_listen") else {
        return;
    };
    let place = Place::new(3 * MIB);
    let curl = |args: &[&str]| {
        let mut command = Command::new(&curl);
        crate::support::clean(&mut command);
        command.args(["-sS", "--fail"]).args(args);
        assert!(command.status().unwrap().success(), "{args:?}");
    };
    let mut taking = Running::start(&mut tidegate(["http-listen://127.0.0.1:0", &place.text("copy")]));
    let url = format!("http://127.0.0.1:{}/x", taking.port());
    curl(&["-T", &place.text("big"), &url]);
    taking.end().expect(0);
    place.holds_all("copy");
    let mut giving = Running::start(&mut tidegate([&place.text("big"), "http-listen://127.0.0.1:0"]));
    let url = format!("http://127.0.0.1:{}/x", giving.port());
    curl(&["-o", &place.text("got"), &url]);
    giving.end().expect(0);
    place.holds_all("got");
}
