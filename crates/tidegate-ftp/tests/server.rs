//! The server driven by hand: verbs, policy, and the border of the root.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Control, Served, noise, until, writable};
use tidegate_ftp::server::{Anonymous, Limits, ServeError, ServeOptions, Server};
use tidegate_ftp::storage::{Access, Partial};
use tidegate_ftp::users::{Users, hash_line};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn files_and_directories_are_made_listed_renamed_and_removed() {
    let served = Served::writable().await;
    let mut control = served.login().await;
    // No name has a quotation mark on Windows.
    let (odd, told) = match cfg!(windows) {
        true => ("d'x", "\"/d'x\""),
        false => ("d\"x", "\"/d\"\"x\""),
    };
    let made = control.ask(&format!("MKD {odd}")).await;
    assert_eq!(made.text(), format!("{told} made"));
    assert_eq!(control.code(&format!("CWD {odd}")).await, 250);
    assert_eq!(control.ask("PWD").await.text(), told);
    assert_eq!(control.store("STOR a b", b"content").await.code, 226);
    assert_eq!(control.ask("SIZE a b").await.text(), "7");
    assert_eq!(control.ask("MFMT 20240229123456 a b").await.code, 213);
    assert_eq!(control.ask("MDTM a b").await.text(), "20240229123456");
    let (listing, _) = control.fetch("LIST -la").await;
    assert!(
        text(&listing).ends_with("7 Feb 29  2024 a b\r\n"),
        "{}",
        text(&listing)
    );
    let (facts, _) = control.fetch("MLSD").await;
    assert!(
        text(&facts).contains("type=file;size=7;modify=20240229123456;perm=adfrw;"),
        "{}",
        text(&facts)
    );
    assert!(text(&facts).starts_with("type=cdir;"), "{}", text(&facts));
    assert_eq!(control.code("OPTS MLST size;").await, 200);
    let one = control.ask("MLST a b").await;
    assert_eq!(
        (one.code, text(&one.lines[1])),
        (250, format!(" size=7; /{odd}/a b"))
    );
    let listed = control.ask(&format!("STAT /{odd}")).await;
    assert!(
        listed.lines.iter().any(|line| line.ends_with(b"a b")),
        "{listed:?}"
    );
    assert_eq!(control.code("RNTO c").await, 503);
    assert_eq!(control.code("RNFR a b").await, 350);
    assert_eq!(control.code("RNTO ../c").await, 250);
    assert_eq!(control.code("CDUP").await, 250);
    assert_eq!(control.code("DELE c").await, 250);
    assert_eq!(control.code(&format!("RMD {odd}")).await, 250);
    assert_eq!(served.names(), [""; 0]);
    assert_eq!(control.code("RETR c").await, 550);
    assert_eq!(control.code("QUIT").await, 221);
    assert!(control.next().await.is_none());
}

#[tokio::test]
async fn rnfr_is_forgotten_unless_rnto_follows_at_once() {
    let served = Served::writable().await;
    served.put("a", b"");
    let mut control = served.login().await;
    assert_eq!(control.code("RNFR a").await, 350);
    assert_eq!(control.code("NOOP").await, 200);
    assert_eq!(control.code("RNTO b").await, 503);
    assert_eq!(served.names(), ["a"]);
}

#[tokio::test]
async fn features_status_and_help_are_told() {
    let served = Served::writable().await;
    let mut control = Control::connect(served.address).await;
    let features = control.ask("FEAT").await;
    let features: Vec<_> = features.lines.iter().map(|line| text(line)).collect();
    for feature in [
        " EPSV",
        " REST STREAM",
        " MDTM",
        " UTF8",
        " HASH SHA-256*",
        " RANG STREAM",
    ] {
        assert!(features.iter().any(|line| line == feature), "{features:?}");
    }
    assert!(
        !features.iter().any(|line| line.contains("TLS")),
        "TLS is off: {features:?}"
    );
    assert_eq!(control.code("PWD").await, 530);
    assert_eq!(control.code("AUTH TLS").await, 502);
    control.login().await;
    let status = control.ask("STAT").await;
    assert_eq!((status.code, status.lines.len()), (211, 5));
    assert_eq!(control.code("HELP").await, 214);
    assert_eq!(control.ask("SYST").await.text(), "UNIX Type: L8");
    assert_eq!(control.code("REIN").await, 220);
    assert_eq!(control.code("PWD").await, 530);
}

#[tokio::test]
async fn a_hash_is_told() {
    let served = Served::writable().await;
    served.put("a", b"abc");
    let mut control = served.login().await;
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(control.ask("HASH a").await.text(), format!("SHA-256 0-2 {abc} a"));
    assert_eq!(control.ask("XSHA256 a").await.text(), abc);
    assert_eq!(control.code("HASH none").await, 550);
    served.put("b", b"-abc-");
    // Both ends are included.
    assert_eq!(control.code("RANG 1 3").await, 350);
    assert_eq!(control.ask("HASH b").await.text(), format!("SHA-256 1-3 {abc} b"));
    // Of the next one only, and not of more than there is.
    assert_eq!(control.ask("HASH a").await.text(), format!("SHA-256 0-2 {abc} a"));
    assert_eq!(control.code("RANG 0 3").await, 350);
    assert_eq!(control.code("HASH a").await, 554);
    assert_eq!(control.code("RANG 0 3").await, 350);
    // A transfer would be of the whole file.
    for command in ["RETR a", "STOR c", "APPE a", "STOU"] {
        assert_eq!(control.code(command).await, 504, "{command}");
    }
    assert_eq!(control.code("RANG 1 0").await, 350);
    assert_eq!(control.code("RETR a").await, 425);
    assert_eq!(control.code("HASH a").await, 213);
    assert_eq!(control.code("OPTS HASH MD5").await, 501);
}

#[tokio::test]
async fn rest_resumes_downloads_and_uploads() {
    let served = Served::writable().await;
    let content = noise(100_000, 5);
    served.put("a", &content);
    let mut control = served.login().await;
    assert_eq!(control.code("REST 99990").await, 350);
    let (tail, last) = control.fetch("RETR a").await;
    assert_eq!((tail.as_slice(), last.code), (&content[99_990..], 226));
    // Once only.
    assert_eq!(control.fetch("RETR a").await.0.len(), 100_000);
    assert_eq!(control.code("REST 100001").await, 350);
    assert_eq!(control.fetch("RETR a").await.1.code, 554);
    // An upload from an offset within what is there.
    assert_eq!(control.code("REST 50000").await, 350);
    assert_eq!(control.store("STOR a", b"new end").await.code, 226);
    assert_eq!(served.content("a"), [&content[..50_000], b"new end"].concat());
    assert_eq!(control.code("REST 50008").await, 350);
    assert_eq!(control.store("STOR a", b"x").await.code, 554);
    assert_eq!(control.store("APPE a", b"!").await.code, 226);
    assert_eq!(served.content("a"), [&content[..50_000], b"new end!"].concat());
    assert_eq!(control.store("APPE b", b"fresh").await.code, 226);
    assert_eq!(served.content("b"), b"fresh");
    assert_eq!(control.code("TYPE A").await, 200);
    assert_eq!(control.code("REST 5").await, 350);
    assert_eq!(control.fetch("RETR a").await.1.code, 504);
    assert_eq!(served.names(), ["a", "b"]);
}

#[tokio::test]
async fn stou_finds_a_name() {
    let served = Served::writable().await;
    served.put("upload-0001", b"taken");
    let mut control = served.login().await;
    assert_eq!(control.store("STOU", b"x").await.code, 226);
    assert_eq!(served.content("upload-0001"), b"taken");
    assert_eq!(served.content("upload-0002"), b"x");
}

#[cfg(unix)]
#[tokio::test]
async fn no_path_link_or_rename_leaves_the_root() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), b"secret").unwrap();
    let served = Served::writable().await;
    symlink(outside.path(), served.path("out")).unwrap();
    symlink(outside.path().join("secret"), served.path("link")).unwrap();
    symlink("../../../../../../etc/passwd", served.path("up")).unwrap();
    std::fs::create_dir(served.path("in")).unwrap();
    served.put("in/f", b"fine");
    symlink("in/f", served.path("good")).unwrap();
    let mut control = served.login().await;
    for path in [
        "out/secret",
        "link",
        "up",
        "/../../etc/passwd",
        "../../../../etc/passwd",
    ] {
        assert_eq!(control.fetch(&format!("RETR {path}")).await.1.code, 550, "{path}");
        assert_eq!(control.code(&format!("SIZE {path}")).await, 550, "{path}");
        assert_eq!(control.code(&format!("HASH {path}")).await, 550, "{path}");
    }
    assert_eq!(control.code("CWD out").await, 550);
    assert_eq!(control.code("MKD out/d").await, 550);
    assert_eq!(control.store("STOR out/new", b"x").await.code, 550);
    assert_eq!(control.fetch("LIST out").await.1.code, 550);
    assert_eq!(control.code("DELE out/secret").await, 550);
    assert_eq!(control.code("RNFR in/f").await, 350);
    assert_eq!(control.code("RNTO out/f").await, 550);
    assert_eq!(control.code("RNFR out/secret").await, 550);
    // A link that stays inside is followed; the link itself may go.
    assert_eq!(control.fetch("RETR good").await.0, b"fine");
    assert_eq!(control.code("DELE link").await, 250);
    // An upload over a link replaces the link, not what it points to.
    symlink(outside.path().join("secret"), served.path("link")).unwrap();
    let code = control.store("STOR link", b"mine").await.code;
    assert!(code == 226 || code == 550, "{code}");
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"secret");
    assert_eq!(common::names(outside.path()), ["secret"]);
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_no_file_is_not_opened() {
    let served = Served::writable().await;
    rustix::fs::mkfifoat(rustix::fs::CWD, served.path("fifo"), rustix::fs::Mode::RWXU).unwrap();
    let mut control = served.login().await;
    assert_eq!(control.fetch("RETR fifo").await.1.code, 550);
    assert_eq!(control.store("STOR fifo", b"x").await.code, 550);
    assert_eq!(control.fetch("RETR /").await.1.code, 550);
}

#[tokio::test]
async fn a_read_only_server_changes_nothing() {
    let served = Served::start(ServeOptions {
        access: Access::ReadOnly,
        ..writable()
    })
    .await;
    served.put("a", b"x");
    let mut control = served.login().await;
    for command in [
        "STOR b",
        "APPE a",
        "STOU",
        "DELE a",
        "MKD d",
        "RMD d",
        "RNFR a",
        "MFMT 20240101000000 a",
    ] {
        assert_eq!(control.code(command).await, 550, "{command}");
    }
    assert_eq!(control.code("SITE CHMOD 777 a").await, 502);
    assert_eq!(control.fetch("RETR a").await.0, b"x");
    assert!(text(&control.ask("MLST a").await.lines[1]).contains("perm=r;"));
}

#[cfg(unix)]
#[tokio::test]
async fn chmod_is_refused_unless_it_was_allowed() {
    use std::os::unix::fs::PermissionsExt;

    use tidegate_ftp::server::SiteChmod;
    let served = Served::writable().await;
    served.put("a", b"");
    assert_eq!(served.login().await.code("SITE CHMOD 600 a").await, 502);
    let served = Served::start(ServeOptions {
        site_chmod: SiteChmod::Allowed,
        ..writable()
    })
    .await;
    served.put("a", b"");
    let mut control = served.login().await;
    assert_eq!(control.code("SITE CHMOD 600 a").await, 200);
    assert_eq!(
        std::fs::metadata(served.path("a")).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    assert_eq!(control.code("SITE CHMOD 4755 a").await, 501);
    assert_eq!(control.code("SITE EXEC x").await, 504);
}

#[tokio::test]
async fn users_have_passwords_and_roots_of_their_own() {
    let lines = format!(
        "{}:home/anna\n{}",
        hash_line("anna", "a").unwrap(),
        hash_line("otto", "o").unwrap()
    );
    let options = ServeOptions {
        users: Some(Users::parse(&lines).unwrap()),
        ..ServeOptions::default()
    };
    let served = Served::start(options).await;
    std::fs::create_dir_all(served.path("home/anna")).unwrap();
    served.put("home/anna/mine", b"");
    served.put("outer", b"");
    let mut control = Control::connect(served.address).await;
    assert_eq!(control.code("USER anonymous").await, 331);
    assert_eq!(control.code("PASS x").await, 530);
    assert_eq!(control.code("USER anna").await, 331);
    assert_eq!(control.code("PASS a").await, 230);
    assert_eq!(text(&control.fetch("NLST /").await.0), "mine\r\n");
    assert_eq!(control.code("SIZE ../../outer").await, 550);
    assert_eq!(control.code("USER otto").await, 331);
    assert_eq!(control.code("PASS o").await, 230);
    assert_eq!(control.code("TYPE I").await, 200);
    assert_eq!(control.code("SIZE outer").await, 213);
    assert_eq!(control.code("USER otto").await, 331);
    assert_eq!(control.code("SIZE outer").await, 530);
    assert_eq!(control.code("PASS x").await, 530);
    assert_eq!(control.code("USER nobody").await, 331);
    assert_eq!(
        control.code("PASS x").await,
        421,
        "the third wrong password is the last"
    );
    assert!(control.next().await.is_none());
}

#[tokio::test]
async fn nobody_can_log_in_is_an_error_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(
        Server::new(directory.path(), ServeOptions::default()),
        Err(ServeError::Nobody)
    ));
    let missing = directory.path().join("none");
    let options = ServeOptions {
        anonymous: Anonymous::Allowed,
        ..ServeOptions::default()
    };
    assert!(matches!(
        Server::new(&missing, options),
        Err(ServeError::Directory(_))
    ));
}

#[tokio::test]
async fn data_goes_to_the_client_itself_only() {
    let served = Served::writable().await;
    let mut control = served.login().await;
    assert_eq!(control.code("PORT 127,0,0,2,200,1").await, 504);
    assert_eq!(control.code("EPRT |1|10.0.0.1|5000|").await, 504);
    assert_eq!(control.code("PORT 127,0,0,1,0,22").await, 504);
    assert_eq!(control.code("EPRT |2|::1|5000|").await, 504);
    assert_eq!(control.code("LIST").await, 425);
    // No address stands for the client's own, and for no other.
    let waiting = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = waiting.local_addr().unwrap().port();
    assert_eq!(control.code(&format!("EPRT |2|::|{port}|")).await, 200);
    control.send("NLST\r\n").await;
    let (_, from) = waiting.accept().await.unwrap();
    assert_eq!(from.ip(), served.address.ip());
}

#[tokio::test]
async fn epsv_all_and_families_are_obeyed() {
    let served = Served::writable().await;
    let mut control = served.login().await;
    assert_eq!(control.code("EPSV 2").await, 522);
    assert_eq!(control.code("EPSV 1").await, 229);
    assert_eq!(control.code("EPRT |3|x|5000|").await, 522);
    assert_eq!(control.code("PASV").await, 227);
    assert_eq!(control.code("EPSV ALL").await, 200);
    assert_eq!(control.code("PASV").await, 503);
    assert_eq!(control.code("PORT 127,0,0,1,200,1").await, 503);
    assert_eq!(control.fetch("LIST").await.1.code, 226);
}

#[tokio::test]
async fn ipv6_is_served() {
    let served = Served::start_at("[::1]:0", writable()).await;
    served.put("a", b"six");
    let mut control = served.login().await;
    assert_eq!(control.code("PASV").await, 425);
    assert_eq!(control.fetch("RETR a").await.0, b"six");
}

#[tokio::test]
async fn passive_ports_stay_in_their_range() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let served = Served::start(ServeOptions {
        passive_ports: Some(free..=free),
        passive_address: Some("192.0.2.7".parse().unwrap()),
        ..writable()
    })
    .await;
    let mut control = served.login().await;
    assert_eq!(control.passive().await.port(), free);
    // Asking again gives the one port back first.
    assert_eq!(control.passive().await.port(), free);
    let mut other = served.login().await;
    assert_eq!(other.code("EPSV").await, 425);
    assert!(control.ask("PASV").await.text().contains("(192,0,2,7,"));
}

#[tokio::test]
async fn lines_and_paths_have_limits() {
    let served = Served::start(ServeOptions {
        limits: Limits {
            command_bytes_max: 60,
            path_bytes_max: 20,
            ..Limits::default()
        },
        ..writable()
    })
    .await;
    let mut control = served.login().await;
    assert_eq!(control.code(&format!("RETR {}", "x".repeat(100))).await, 500);
    assert_eq!(control.code(&format!("SIZE {}", "x".repeat(30))).await, 553);
    assert_eq!(control.code("SIZE a\0b").await, 553);
    assert_eq!(control.code("NOOP").await, 200);
}

#[tokio::test]
async fn connections_are_counted() {
    let served = Served::start(ServeOptions {
        limits: Limits {
            connections_max: 2,
            ..Limits::default()
        },
        ..writable()
    })
    .await;
    let first = served.login().await;
    let _second = served.login().await;
    let mut third = Control::connect_unread(served.address).await;
    assert_eq!(third.reply().await.code, 421);
    assert!(third.next().await.is_none());
    drop(first);
    let mut tries = 0;
    loop {
        let mut next = Control::connect_unread(served.address).await;
        if next.reply().await.code == 220 {
            break;
        }
        tries += 1;
        assert!(tries < 1000, "the seat is never given back");
    }
}

#[tokio::test]
async fn who_says_nothing_is_sent_away() {
    let served = Served::start(ServeOptions {
        limits: Limits {
            idle: Duration::from_millis(50),
            ..Limits::default()
        },
        ..writable()
    })
    .await;
    let mut control = Control::connect(served.address).await;
    assert_eq!(control.reply().await.code, 421);
    assert!(control.next().await.is_none());
}

#[tokio::test]
async fn shutdown_sends_the_idle_away_and_lets_a_transfer_end() {
    let served = Served::writable().await;
    let content = noise(3_000_000, 9);
    served.put("a", &content);
    let mut idle = served.login().await;
    let mut busy = served.login().await;
    let mut data = busy.data().await;
    assert_eq!(busy.code("RETR a").await, 150);
    let stopping = tokio::spawn(served.stop());
    assert_eq!(idle.reply().await.code, 421);
    let mut got = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut data, &mut got)
        .await
        .unwrap();
    drop(data);
    assert!(got == content);
    assert_eq!(busy.reply().await.code, 226);
    assert_eq!(busy.reply().await.code, 421);
    assert_eq!(stopping.await.unwrap().sessions_cut, 0);
}

#[tokio::test]
async fn partial_uploads_are_thrown_away_where_that_was_chosen() {
    let served = Served::start(ServeOptions {
        partial: Partial::Discard,
        ..writable()
    })
    .await;
    let mut control = served.login().await;
    let mut data = control.data().await;
    assert_eq!(control.code("STOR a").await, 150);
    tokio::io::AsyncWriteExt::write_all(&mut data, b"half")
        .await
        .unwrap();
    until("something is written", || {
        let names = served.names();
        names
            .iter()
            .any(|name| std::fs::metadata(served.path(name)).is_ok_and(|found| found.len() == 4))
    })
    .await;
    common::reset(data);
    assert_eq!(control.reply().await.code, 426);
    assert_eq!(served.names(), [""; 0]);
}

#[tokio::test]
async fn shutdown_cuts_what_does_not_end_and_says_so() {
    let served = Served::start(ServeOptions {
        limits: Limits {
            shutdown_grace: Duration::from_millis(50),
            ..Limits::default()
        },
        ..writable()
    })
    .await;
    served.put("a", b"old");
    let mut control = served.login().await;
    let _data = control.data().await;
    assert_eq!(control.code("STOR a").await, 150);
    let content = served.path("a");
    assert_eq!(served.stop().await.sessions_cut, 1);
    assert!(control.next().await.is_none());
    assert!(!content.exists() || std::fs::read(&content).unwrap() == b"old");
}
