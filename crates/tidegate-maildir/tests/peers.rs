//! Other programs read what we delivered: Python's `mailbox` module, and Dovecot.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use tidegate::{Consumer as _, FinishableConsumer as _, Marks};
use tidegate_maildir::{Folder, LineEnds, Options, Target, append};

/// Runs a program that must be there, or says that the test was skipped.
fn found(program: &Path, args: &[&str], test: &str) -> bool {
    let status = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if status.is_ok() {
        return true;
    }
    let name = program.display();
    assert!(
        std::env::var("TIDEGATE_REQUIRE_PEERS").as_deref() != Ok("1"),
        "{test} needs {name}"
    );
    eprintln!("SKIPPED-PEER: {name}: {test}");
    false
}

async fn deliver(path: &Path, options: Options, content: &Bytes) -> PathBuf {
    let (message, delivery) = append(path.to_owned(), options, Marks::default());
    let delivery = tokio::spawn(delivery);
    for piece in content.chunks(7_000) {
        let _ = message.write(Bytes::copy_from_slice(piece)).unwrap();
    }
    message.finish();
    delivery.await.unwrap().unwrap()
}

fn mail(number: usize) -> Bytes {
    let body = "a line of the body\r\n".repeat(number * 100);
    format!("From: someone@example.org\r\nSubject: mail {number}\r\n\r\n{body}").into()
}

/// Three in new, one in cur with flags, one in a subfolder.
async fn fill(mailbox: &Path) {
    for number in 0..3 {
        deliver(mailbox, Options::default(), &mail(number)).await;
    }
    let flagged = Options {
        target: Target::Cur("SF".parse().unwrap()),
        ..Options::default()
    };
    deliver(mailbox, flagged, &mail(3)).await;
    let folder = Some(Folder::parse("Lists/Entwürfe").unwrap());
    let filed = Options {
        folder,
        line_ends: LineEnds::Lf,
        ..Options::default()
    };
    deliver(mailbox, filed, &mail(4)).await;
}

#[tokio::test]
async fn python_reads_what_we_delivered() {
    const SCRIPT: &str = "
import mailbox, sys
box = mailbox.Maildir(sys.argv[1], create=False)
folder = box.get_folder(box.list_folders()[0])
for where in (box, folder):
    for key in sorted(where.keys()):
        message = where.get_message(key)
        print(message['Subject'], message.get_subdir(), message.get_flags() or '-', len(where.get_bytes(key)))
print(*box.list_folders())
";
    let python = std::env::var_os("TIDEGATE_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    if !found(&python, &["-c", "import mailbox"], "maildir read by python") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path()).await;
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(directory.path())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let size = |number: usize| mail(number).len();
    let lf = size(4) - mail(4).iter().filter(|byte| **byte == b'\n').count();
    let expected = format!(
        "mail 0 new - {}\nmail 1 new - {}\nmail 2 new - {}\nmail 3 cur FS {}\nmail 4 new - {}\nLists.Entw&APw-rfe\n",
        size(0),
        size(1),
        size(2),
        size(3),
        lf
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{errors}");
}

/// A configuration of its own, that no running Dovecot knows of.
fn dovecot_config(root: &Path, version: &str, uid: u32) -> String {
    let base = root.display();
    let place = if version.starts_with("2.3") || version.starts_with("2.2") {
        format!("mail_location = maildir:{base}/mail\n")
    } else {
        format!(
            "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n\
             mail_driver = maildir\nmail_path = {base}/mail\n"
        )
    };
    let head = if place.starts_with("dovecot_config_version") {
        place.clone()
    } else {
        String::new()
    };
    let tail = if head.is_empty() { place } else { String::new() };
    format!(
        "{head}base_dir = {base}/run\nlog_path = {base}/log\nssl = no\nmail_home = {base}/home\n\
         mail_uid = {uid}\nmail_gid = {uid}\nfirst_valid_uid = {uid}\nfirst_valid_gid = {uid}\n{tail}"
    )
}

fn own(path: &Path, uid: u32) {
    std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), uid);
        }
    }
}

#[tokio::test]
async fn dovecot_reads_what_we_delivered() {
    let dovecot = Path::new("dovecot");
    if !found(Path::new("doveadm"), &["help"], "maildir read by dovecot")
        || !found(dovecot, &["--version"], "maildir read by dovecot")
    {
        return;
    }
    let version = String::from_utf8(Command::new(dovecot).arg("--version").output().unwrap().stdout).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for part in ["run", "home"] {
        std::fs::create_dir(root.join(part)).unwrap();
    }
    fill(&root.join("mail")).await;
    // Dovecot opens no mail as root.
    let me = rustix::process::geteuid().as_raw();
    let uid = if me == 0 { 65_534 } else { me };
    if me == 0 {
        own(root, uid);
    }
    let config = root.join("dovecot.conf");
    std::fs::write(&config, dovecot_config(root, &version, uid)).unwrap();
    let fetch = |format: &str, fields: &str, mailbox: &str| {
        let output = Command::new("doveadm")
            .arg("-c")
            .arg(&config)
            .args(["-f", format, "fetch", fields, "mailbox", mailbox, "all"])
            .env("HOME", root.join("home"))
            .env("USER", "nobody")
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let inbox = fetch("tab", "size.physical flags hdr.subject", "INBOX");
    let rows: Vec<&str> = inbox.lines().skip(1).collect();
    assert_eq!(rows.len(), 4, "{inbox}");
    for number in 0..4 {
        let flags = if number == 3 { "\\Flagged \\Seen" } else { "" };
        let (size, subject) = (mail(number).len().to_string(), format!("mail {number}"));
        let fits = |row: &&str| {
            let mut fields = row.split('\t');
            let (found_size, found_flags) = (fields.next(), fields.next().unwrap_or_default());
            let words = found_flags
                .split(' ')
                .filter(|flag| *flag != "\\Recent")
                .collect::<Vec<_>>()
                .join(" ");
            found_size == Some(&size) && words == flags && fields.next() == Some(&subject)
        };
        assert!(rows.iter().any(fits), "{number} in {inbox}");
    }
    let text = fetch("flow", "text", "INBOX");
    assert!(
        text.matches("a line of the body").count() == 100 + 200 + 300,
        "{} bytes",
        text.len()
    );
    let folder = fetch("tab", "hdr.subject", "Lists.Entwürfe");
    assert!(folder.contains("mail 4"), "{folder}");
}
