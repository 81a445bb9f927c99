//! curl through a relay to HTTP servers of others: downloads and uploads, several at once, plain and with TLS on the way in.

use std::path::Path;
use std::process::Command;

use crate::protocols::certificate;
use crate::support::{MIB, Place, Running, clean, free_port, listening, peer, shell, tidegate};
use crate::web::nginx;

/// How many curls of each kind at once.
const AT_ONCE: usize = 4;

fn curl(program: &Path, place: &Place, args: &[&str]) -> Running {
    let mut command = Command::new(program);
    clean(&mut command);
    command
        .args(["-sS", "--fail", "--cacert", "cert.pem"])
        .args(args)
        .current_dir(place.path(""))
        .stderr(std::process::Stdio::piped());
    Running::start(&mut command)
}

/// Downloads and uploads at the same time, each compared; then the relay's own account of them.
fn both_ways(program: &Path, place: &Place, listen: &str, scheme: &str, origin: u16) {
    let mut relay = tidegate(["relay", listen, &format!("tcp://127.0.0.1:{origin}")]);
    relay.current_dir(place.path(""));
    let mut relay = Running::start(&mut relay);
    let at = format!("{scheme}://localhost:{}", relay.port());
    let mut running = Vec::new();
    for number in 0..AT_ONCE {
        let (got, put) = (format!("got{number}"), format!("{at}/put/{scheme}{number}"));
        running.push(curl(program, place, &["-o", &got, &format!("{at}/big")]));
        running.push(curl(program, place, &["-T", "big", &put]));
    }
    for curl in running {
        curl.end().expect(0);
    }
    for number in 0..AT_ONCE {
        place.holds_all(&format!("got{number}"));
        place.holds_all(&format!("put/{scheme}{number}"));
    }
    for _ in 0..2 * AT_ONCE {
        relay.line("connection ended");
    }
    relay.signal("TERM");
    relay.end().expect(0);
}

#[test]
fn curl_downloads_from_and_uploads_to_nginx_through_a_relay() {
    let test = "curl_downloads_from_and_uploads_to_nginx_through_a_relay";
    let (Some(curl), Some(server)) = (peer("curl", test), peer("nginx", test)) else {
        return;
    };
    let place = Place::new(5 * MIB + 17);
    certificate(&place);
    let port = free_port();
    let root = place.text("");
    let settings = format!(
        "listen 127.0.0.1:{port}; root {root}; client_max_body_size 0; dav_methods PUT; create_full_put_path on;"
    );
    let _nginx = nginx(&server, &place, port, &settings);
    both_ways(&curl, &place, "tcp-listen://127.0.0.1:0", "http", port);
    let listen = "tls-listen://127.0.0.1:0,cert=cert.pem,key=key.pem,alpn=http/1.1";
    both_ways(&curl, &place, listen, "https", port);
}

/// A server of HTTP/1.0, which ends each answer by closing.
#[test]
fn curl_downloads_from_pythons_server_through_a_relay() {
    let test = "curl_downloads_from_pythons_server_through_a_relay";
    let (Some(program), Some(_)) = (peer("curl", test), peer("python3", test)) else {
        return;
    };
    let place = Place::new(5 * MIB + 17);
    certificate(&place);
    let port = free_port();
    let line = format!("exec python3 -m http.server --bind 127.0.0.1 {port}");
    let _server = Running::start(&mut shell(&line, &place));
    listening(port);
    for (listen, scheme) in [
        ("tcp-listen://127.0.0.1:0", "http"),
        ("tls-listen://127.0.0.1:0,cert=cert.pem,key=key.pem", "https"),
    ] {
        let mut relay = tidegate(["relay", listen, &format!("tcp://127.0.0.1:{port}")]);
        relay.current_dir(place.path(""));
        let mut relay = Running::start(&mut relay);
        let url = format!("{scheme}://localhost:{}/big", relay.port());
        let names: Vec<String> = (0..AT_ONCE).map(|number| format!("{scheme}{number}")).collect();
        let running: Vec<Running> = names
            .iter()
            .map(|name| curl(&program, &place, &["-o", name, &url]))
            .collect();
        for curl in running {
            curl.end().expect(0);
        }
        for name in &names {
            place.holds_all(name);
        }
    }
}
