//! Foreign programs at the other end: curl, nginx, Twisted, wrk.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use http::Method;
use tidegate_io::Sink as _;

use crate::common::{client, free_port, listening, noise, peer, read_all, run, twisted, up_dir, within};

struct Site {
    dir: tempfile::TempDir,
    bytes: bytes::Bytes,
}

fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let bytes = noise(3_000_000);
    fs::write(dir.path().join("large"), &bytes).unwrap();
    Site { dir, bytes }
}

#[tokio::test]
async fn curl_downloads_resumes_and_uploads_over_both_protocols() {
    let Some(curl) = peer("curl", "curl_downloads_resumes_and_uploads_over_both_protocols") else {
        return;
    };
    let Site { dir, bytes } = site();
    let server = up_dir(dir.path()).await;
    let (url, up) = (server.url("/large"), server.url("/up"));
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let (got, well) = run(&curl, &["-sf", protocol, &url], b"").await;
        assert!(well && got == bytes, "{protocol}: download");
        let (got, well) = run(&curl, &["-sf", protocol, "--limit-rate", "20M", &url], b"").await;
        assert!(well && got == bytes, "{protocol}: at a limited rate");
        // Half of it is there already.
        let half = dir.path().join("half.out");
        fs::write(&half, &bytes[..1_234_567]).unwrap();
        let (_, well) = run(
            &curl,
            &["-sf", protocol, "-C", "-", "-o", half.to_str().unwrap(), &url],
            b"",
        )
        .await;
        assert!(well && fs::read(&half).unwrap() == bytes, "{protocol}: resumed");
        // Of unknown length from standard input; then of known length, where curl expects a 100.
        let (_, well) = run(&curl, &["-sf", protocol, "-T", "-", &up], &bytes).await;
        assert!(
            well && fs::read(dir.path().join("up")).unwrap() == bytes,
            "{protocol}: chunked upload"
        );
        let file = dir.path().join("large");
        let words = [
            "-sf",
            protocol,
            "-H",
            "Expect: 100-continue",
            "-w",
            "%{http_code}",
            "-T",
            file.to_str().unwrap(),
            &up,
        ];
        let (code, well) = run(&curl, &words, b"").await;
        assert!(
            well && code == b"200",
            "{protocol}: upload: {}",
            String::from_utf8_lossy(&code)
        );
        assert!(fs::read(dir.path().join("up")).unwrap() == bytes);
    }
    server.stop().await;
}

/// nginx with a configuration of its own.
async fn nginx(program: &Path, home: &Path, server: &str) -> tokio::process::Child {
    let here = home.display();
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {here}/{kind}; "))
        .collect();
    let text = format!(
        "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log; events {{ worker_connections 64; }}\n\
         http {{ access_log off; {temp} server {{ {server} }} }}\n"
    );
    let conf = home.join("nginx.conf");
    fs::write(&conf, text).unwrap();
    tokio::process::Command::new(program)
        .args(["-p", home.to_str().unwrap(), "-e"])
        .arg(home.join("error.log"))
        .arg("-c")
        .arg(conf)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// nginx drops root for a user that may not enter a private directory.
fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
}

#[tokio::test]
async fn nginx_as_origin_and_in_front() {
    let Some(program) = peer("nginx", "nginx_as_origin_and_in_front") else {
        return;
    };
    let Site { dir, bytes } = site();
    let home = tempfile::tempdir().unwrap();
    open_to_all(dir.path());
    open_to_all(home.path());
    let ours = up_dir(dir.path()).await;
    let port = free_port();
    let server = format!(
        "listen 127.0.0.1:{port}; root {}; client_max_body_size 1m; \
         location /ours/ {{ proxy_pass http://{}/; proxy_http_version 1.1; proxy_request_buffering off; \
         client_max_body_size 0; }}",
        dir.path().display(),
        ours.address
    );
    let mut child = nginx(&program, home.path(), &server).await;
    listening(port).await;
    let origin = |path: &str| format!("http://127.0.0.1:{port}{path}");
    // As origin: whole, from an offset, and an upload it refuses early.
    let mut whole = client().get(&origin("/large"), 0).await.unwrap();
    assert!(read_all(&mut whole).await.unwrap() == bytes);
    let mut rest = client().get(&origin("/large"), 2_999_000).await.unwrap();
    assert!(read_all(&mut rest).await.unwrap() == bytes[2_999_000..]);
    let mut sink = client()
        .upload(Method::PUT, &origin("/refused"), Some(50_000_000))
        .unwrap();
    let error = loop {
        let mut held = tidegate_io::Held::default();
        held.push(bytes.clone());
        match within(std::future::poll_fn(|cx| sink.poll_write(cx, &held))).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("413"), "{error}");
    // In front of us: a download and a chunked upload through it.
    let mut through = client().get(&origin("/ours/large"), 0).await.unwrap();
    assert!(read_all(&mut through).await.unwrap() == bytes);
    let mut sink = client()
        .upload(Method::PUT, &origin("/ours/through"), None)
        .unwrap();
    let mut left = bytes.clone();
    while !left.is_empty() {
        let mut held = tidegate_io::Held::default();
        held.push(left.clone());
        let taken = within(std::future::poll_fn(|cx| sink.poll_write(cx, &held)))
            .await
            .unwrap();
        left = left.slice(taken..);
    }
    within(std::future::poll_fn(|cx| sink.poll_finish(cx)))
        .await
        .unwrap();
    assert!(fs::read(dir.path().join("through")).unwrap() == bytes);
    let _ = child.start_kill();
    let _ = child.wait().await;
    ours.stop().await;
}

const AGENT: &str = "
import sys
from twisted.internet import reactor
from twisted.web.client import Agent, FileBodyProducer
agent = Agent(reactor)
body = FileBodyProducer(open(sys.argv[2], 'rb'))
done = agent.request(b'PUT', sys.argv[1].encode(), None, body)
done.addCallback(lambda answer: print(answer.code, end=''))
done.addErrback(lambda failure: print(failure, end=''))
done.addBoth(lambda _: reactor.stop())
reactor.run()
";

#[tokio::test]
async fn twisted_uploads_to_us_with_a_file_body_producer() {
    // CASES 189, 190 from the far side.
    let Some(python) = twisted("twisted_uploads_to_us_with_a_file_body_producer") else {
        return;
    };
    let Site { dir, bytes } = site();
    let server = up_dir(dir.path()).await;
    let file = dir.path().join("large");
    let (code, _) = run(
        &python,
        &["-c", AGENT, &server.url("/agent"), file.to_str().unwrap()],
        b"",
    )
    .await;
    assert_eq!(String::from_utf8_lossy(&code), "201");
    assert!(fs::read(dir.path().join("agent")).unwrap() == bytes);
    server.stop().await;
}

#[tokio::test]
async fn our_client_downloads_from_twisted() {
    let Some(python) = twisted("our_client_downloads_from_twisted") else {
        return;
    };
    let Site { dir, bytes } = site();
    let port = free_port();
    let mut child = tokio::process::Command::new(&python)
        .args([
            "-m",
            "twisted",
            "web",
            "--listen",
            &format!("tcp:{port}:interface=127.0.0.1"),
            "--path",
        ])
        .arg(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    listening(port).await;
    let url = format!("http://127.0.0.1:{port}/large");
    let mut whole = client().get(&url, 0).await.unwrap();
    assert!(read_all(&mut whole).await.unwrap() == bytes);
    let mut rest = client().get(&url, 1_000_001).await.unwrap();
    assert!(read_all(&mut rest).await.unwrap() == bytes[1_000_001..]);
    let _ = child.start_kill();
    let _ = child.wait().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrk_finds_no_error() {
    let Some(wrk) = peer("wrk", "wrk_finds_no_error") else {
        return;
    };
    let Site { dir, .. } = site();
    fs::write(dir.path().join("small"), [b'x'; 1024]).unwrap();
    let server = up_dir(dir.path()).await;
    let (output, well) = run(&wrk, &["-t1", "-c32", "-d1s", &server.url("/small")], b"").await;
    let output = String::from_utf8_lossy(&output).into_owned();
    assert!(
        well && output.contains("Requests/sec")
            && !output.contains("Non-2xx")
            && !output.contains("Socket errors"),
        "{output}"
    );
    tokio::time::sleep(Duration::ZERO).await;
    assert!(server.stop().await.requests > 100);
}
