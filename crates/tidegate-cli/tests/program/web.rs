//! HTTP through the program: resuming over TLS, HTTP/2 by ALPN, proxies from the environment.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::protocols::{certificate, served};
use crate::support::{MIB, Place, Running, free_port, go, peer, run, tidegate, until};

/// A relay that cuts its first connections after some bytes of the answer, hard, and lets the later ones through.
struct Cutter {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Cutter {
    fn start(to: u16, cuts: usize, after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let allowed = if number < cuts { after } else { usize::MAX };
                thread::spawn(move || relay(near, to, allowed));
            }
        });
        Self { port, connections }
    }
}

/// Copies both ways; after `allowed` bytes of the answer both connections end.
fn relay(mut near: TcpStream, to: u16, mut allowed: usize) {
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", to)) else {
        return;
    };
    let (mut up_from, mut up_to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    let up = thread::spawn(move || std::io::copy(&mut up_from, &mut up_to));
    let mut space = [0; 16 * 1024];
    while allowed > 0 {
        let most = space.len().min(allowed);
        match far.read(&mut space[..most]) {
            Ok(0) | Err(_) => break,
            Ok(got) => {
                allowed -= got;
                if near.write_all(&space[..got]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = near.shutdown(Shutdown::Both);
    let _ = far.shutdown(Shutdown::Both);
    let _ = up.join();
}

/// A foreign program that ends with the test.
pub(crate) struct Foreign(Child);

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Downloads through a relay that cuts ten times, and once more without retries.
fn resumes_from(origin: u16, place: &Place, cert: &str, copy: &str) {
    let cutter = Cutter::start(origin, 10, 300 * 1024);
    let url = format!("https://localhost:{}/big", cutter.port);
    go(["--ca", cert, "--retries", "3", &url, &place.text(copy)]).expect(0);
    place.holds_all(copy);
    let connections = cutter.connections.load(Ordering::SeqCst);
    assert!(
        connections >= 11,
        "{connections} connections: it was not cut ten times"
    );
    // Without retries the first cut ends it, and nothing shows.
    let cutter = Cutter::start(origin, 1, 300 * 1024);
    let url = format!("https://localhost:{}/big", cutter.port);
    let none = place.text(&format!("{copy}-none"));
    go(["--ca", cert, "--retries", "0", &url, &none]).expect(7);
    assert!(!std::path::Path::new(&none).exists());
}

#[test]
fn a_download_over_tls_that_is_cut_ten_times_arrives_whole() {
    let place = Place::new(5 * MIB);
    let (cert, key) = certificate(&place);
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let dir = place.text("");
    let mut serving = Running::start(&mut tidegate([
        "serve",
        "http",
        &dir,
        "--listen",
        "127.0.0.1:0",
        "--cert",
        &cert,
        "--key",
        &key,
    ]));
    let url = served(&mut serving);
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    resumes_from(port, &place, &cert, "ours");
}

/// Over HTTP what is there cannot be compared byte for byte; the times can.
#[test]
fn a_download_is_resumed_of_the_same_version_and_at_its_end_nothing_follows() {
    let place = Place::new(100_000);
    let dir = place.text("");
    let mut serving = Running::start(&mut tidegate(["serve", "http", &dir, "--listen", "127.0.0.1:0"]));
    let url = format!("{}/big", served(&mut serving));
    let copy = place.text("copy");
    let whole = std::fs::read(place.path("big")).unwrap();
    let begun = |bytes: usize, age_seconds: u64| {
        std::fs::write(&copy, &whole[..bytes]).unwrap();
        let written = std::time::SystemTime::now() - std::time::Duration::from_secs(age_seconds);
        let file = std::fs::File::options().append(true).open(&copy).unwrap();
        file.set_modified(written).unwrap();
    };
    for bytes in [40_000, whole.len()] {
        begun(bytes, 0);
        go([&url, &copy, "--resume"]).expect(0);
        place.holds_all("copy");
        begun(bytes, 3600);
        let refused = go([&url, &copy, "--resume"]).expect(9);
        assert!(refused.err.contains("was changed since"), "{}", refused.err);
        assert_eq!(std::fs::metadata(&copy).unwrap().len(), bytes as u64);
        go([&url, &copy, "--resume", "--force"]).expect(0);
        place.holds_all("copy");
    }
    std::fs::write(&copy, vec![0; whole.len() + 1]).unwrap();
    let longer = go([&url, &copy, "--resume"]).expect(9);
    assert!(longer.err.contains("has 100000 bytes"), "{}", longer.err);
}

#[test]
fn a_download_from_nginx_over_tls_that_is_cut_ten_times_arrives_whole() {
    let Some(program) = peer(
        "nginx",
        "a_download_from_nginx_over_tls_that_is_cut_ten_times_arrives_whole",
    ) else {
        return;
    };
    let place = Place::new(5 * MIB);
    let (cert, key) = certificate(&place);
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let port = free_port();
    let server = format!(
        "listen 127.0.0.1:{port} ssl http2; ssl_certificate {cert}; ssl_certificate_key {key}; root {};",
        place.text("")
    );
    let _nginx = nginx(&program, &place, port, &server);
    resumes_from(port, &place, &cert, "copy");
}

/// An nginx with one server, in the foreground, until dropped.
pub(crate) fn nginx(program: &Path, place: &Place, port: u16, server: &str) -> Foreign {
    let home = place.path("nginx");
    std::fs::create_dir(&home).unwrap();
    for path in [home.clone(), place.path("")] {
        use std::os::unix::fs::PermissionsExt;
        // nginx drops root for a user that may not enter a private directory.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let here = home.display();
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {here}/{kind}; "))
        .collect();
    let conf = format!(
        "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log; events {{ worker_connections 64; }}\n\
         http {{ access_log off; {temp} server {{ {server} }} }}\n",
    );
    std::fs::write(home.join("nginx.conf"), conf).unwrap();
    let mut command = Command::new(program);
    command
        .args(["-p", home.to_str().unwrap(), "-e"])
        .arg(home.join("error.log"))
        .arg("-c")
        .arg(home.join("nginx.conf"))
        .stderr(Stdio::null());
    let nginx = Foreign(command.spawn().unwrap());
    until("nginx listens", || listens(port));
    nginx
}

#[test]
fn curl_speaks_http2_over_tls_with_the_served_directory() {
    let Some(curl) = peer("curl", "curl_speaks_http2_over_tls_with_the_served_directory") else {
        return;
    };
    let place = Place::new(3 * MIB);
    let (cert, key) = certificate(&place);
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let dir = place.text("");
    let mut serving = Running::start(&mut tidegate([
        "serve",
        "http",
        &dir,
        "--listen",
        "127.0.0.1:0",
        "--writable",
        "--cert",
        &cert,
        "--key",
        &key,
    ]));
    let url = served(&mut serving).replace("127.0.0.1", "localhost");
    let asked = |words: &[&str]| {
        let mut command = Command::new(&curl);
        crate::support::clean(&mut command);
        command
            .args([
                "-sS",
                "-m",
                "60",
                "--cacert",
                &cert,
                "-w",
                "%{stderr}%{http_version} %{http_code}",
            ])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        run(command)
    };
    let get = asked(&["--http2", "-o", &place.text("got"), &format!("{url}/big")]).expect(0);
    assert_eq!(get.last(), "2 200");
    place.holds_all("got");
    let put = asked(&["--http2", "-T", &place.text("big"), &format!("{url}/up")]).expect(0);
    assert_eq!(put.last(), "2 201");
    place.holds_all("up");
    // What ALPN leaves to a client that wants the older one.
    let old = asked(&["--http1.1", "-o", &place.text("old"), &format!("{url}/big")]).expect(0);
    assert_eq!(old.last(), "1.1 200");
    place.holds_all("old");
    // Several streams of one connection at once.
    let many = format!("{url}/big");
    let mut words = vec!["--http2", "-Z"];
    let names: Vec<String> = (0..8)
        .map(|number| place.text(&format!("many{number}")))
        .collect();
    for name in &names {
        words.extend(["-o", name, &many]);
    }
    asked(&words).expect(0);
    for number in 0..8 {
        place.holds_all(&format!("many{number}"));
    }
}

/// tinyproxy on a port, with its log.
fn tinyproxy(place: &Place, test: &str) -> Option<(Foreign, u16)> {
    let program = peer("tinyproxy", test)?;
    let port = free_port();
    let conf = format!(
        "Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nLogLevel Connect\nLogFile \"{}\"\n",
        place.text("proxy.log")
    );
    std::fs::write(place.path("proxy.conf"), conf).unwrap();
    let mut command = Command::new(program);
    command
        .args(["-d", "-c"])
        .arg(place.path("proxy.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = Foreign(command.spawn().unwrap());
    until("the proxy listens", || listens(port));
    Some((child, port))
}

#[test]
fn proxies_are_taken_from_the_environment() {
    let place = Place::new(3 * MIB);
    let Some((_proxy, port)) = tinyproxy(&place, "proxies_are_taken_from_the_environment") else {
        return;
    };
    let (cert, key) = certificate(&place);
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let dir = place.text("");
    let serve = |more: &[&str]| {
        let mut words = vec!["serve", "http", &dir, "--listen", "127.0.0.1:0", "--writable"];
        words.extend(more);
        let mut serving = Running::start(&mut tidegate(words));
        let url = served(&mut serving).replace("127.0.0.1", "localhost");
        (serving, url)
    };
    let (_plain, http) = serve(&[]);
    let (_secure, https) = serve(&["--cert", &cert, "--key", &key]);
    let proxy = format!("http://127.0.0.1:{port}");
    let dead = format!("http://127.0.0.1:{}", free_port());
    let through = |environment: &[(&str, &str)], words: &[&str]| {
        let mut command = tidegate(words);
        command.envs(environment.iter().copied());
        run(command)
    };
    let log = || std::fs::read_to_string(place.path("proxy.log")).unwrap_or_default();

    let from = format!("{http}/big");
    through(&[("http_proxy", &proxy)], &[&from, &place.text("plain")]).expect(0);
    place.holds_all("plain");
    assert!(log().contains("GET http://localhost"), "{}", log());
    let to = format!("{http}/up");
    through(&[("http_proxy", &proxy)], &[&place.text("big"), &to]).expect(0);
    place.holds_all("up");
    assert!(log().contains("PUT http://localhost"), "{}", log());

    let from = format!("{https}/big");
    let words = ["--ca", &cert, &from, &place.text("secure")];
    through(&[("https_proxy", &proxy)], &words).expect(0);
    place.holds_all("secure");
    assert!(log().contains("CONNECT localhost:"), "{}", log());
    let to = format!("{https}/up-secure");
    through(
        &[("https_proxy", &proxy)],
        &["--ca", &cert, &place.text("big"), &to],
    )
    .expect(0);
    place.holds_all("up-secure");

    // A proxy that is not there is an error, unless the host is excepted.
    let (http, copy) = (format!("{http}/big"), place.text("excepted"));
    let none = through(&[("http_proxy", &dead)], &["--retries", "0", &http, &copy]);
    none.expect(3);
    let (asks, excepts) = (("http_proxy", dead.as_str()), ("no_proxy", "localhost"));
    through(&[asks, excepts], &[&http, &copy]).expect(0);
    place.holds_all("excepted");
    let secure = place.text("excepted-secure");
    let words = ["--ca", cert.as_str(), from.as_str(), secure.as_str()];
    through(
        &[("https_proxy", &dead), ("no_proxy", "example.org,localhost")],
        &words,
    )
    .expect(0);
    place.holds_all("excepted-secure");
}
