//! Requests that are made to be misread: two lengths, chunks that are none, heads that nobody should take. Each is followed
//! by a request that must never be answered: what the broken one left behind is no request.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::common::{raw, up_dir};

/// What comes after a broken request.
const NEXT: &str = "GET /marker HTTP/1.1\r\nHost: t\r\n\r\n";

fn site() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("marker"), "MARKER").unwrap();
    dir
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

/// Sends a request and what comes after it; the statuses of the answers, once the server has closed.
async fn statuses(address: SocketAddr, request: &str) -> Vec<String> {
    let answer = raw(address, format!("{request}{NEXT}").as_bytes()).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        !answer.contains("MARKER"),
        "{request:?}: the rest was taken for a request"
    );
    let status = |answer: &str| answer.split(' ').nth(1).unwrap_or_default().to_owned();
    answer.split("HTTP/1.").skip(1).map(status).collect()
}

fn put(lines: &str, body: &str) -> String {
    format!("PUT /x HTTP/1.1\r\nHost: t\r\n{lines}\r\n{body}")
}

#[tokio::test]
async fn chunks_win_over_a_length_and_the_connection_ends() {
    // RFC 9112, section 6.3: with both, the length is not to be believed, and nothing after it either.
    let dir = site();
    let server = up_dir(dir.path()).await;
    let chunks = "3\r\nabc\r\n0\r\n\r\n";
    for lines in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: nonsense\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: ChUnKeD\r\n",
    ] {
        assert_eq!(
            statuses(server.address, &put(lines, chunks)).await,
            ["201"],
            "{lines}"
        );
        assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"abc", "{lines}");
        fs::remove_file(dir.path().join("x")).unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn lengths_that_say_two_things_are_refused() {
    let dir = site();
    let server = up_dir(dir.path()).await;
    for lines in [
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3, 4\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 3 3\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 3\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 3\r\n",
        "X: y\r\n Content-Length: 3\r\n",
    ] {
        assert_eq!(
            statuses(server.address, &put(lines, "abc")).await,
            ["400"],
            "{lines}"
        );
    }
    assert_eq!(names(dir.path()), ["marker"], "nothing is stored");
    server.stop().await;
}

#[tokio::test]
async fn chunks_that_are_none_cut_the_upload() {
    let dir = site();
    let server = up_dir(dir.path()).await;
    for chunks in [
        "zz\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        // Longer or shorter than it says: no line end where the chunk must have one.
        "2\r\nabc\r\n0\r\n\r\n",
        "4\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcX\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
    ] {
        let answers = statuses(server.address, &put("Transfer-Encoding: chunked\r\n", chunks)).await;
        assert_eq!(answers, ["400"], "{chunks:?}");
        assert_eq!(names(dir.path()), ["marker"], "{chunks:?}: nothing is stored");
    }
    server.stop().await;
}

#[tokio::test]
async fn heads_that_break_the_grammar_are_refused() {
    let dir = site();
    let server = up_dir(dir.path()).await;
    let get = |lines: &str| format!("GET / HTTP/1.1\r\nHost: t\r\n{lines}\r\n");
    let many = "X: y\r\n".repeat(200);
    for (request, status) in [
        (get(&format!("X: {}\r\n", "x".repeat(40_000))), "431"),
        (get(&many), "431"),
        (
            format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "x".repeat(70_000)),
            "431",
        ),
        (get("no colon\r\n"), "400"),
        (get(": no name\r\n"), "400"),
        (get("a b: name\r\n"), "400"),
        (get("X: a\0b\r\n"), "400"),
        (get("X: a\rb\r\n"), "400"),
        // RFC 9112, section 3.2: one host, said once.
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        (get("Host: u\r\n"), "400"),
        ("GET / HTTP/1.0\r\nHost: t\r\nHost: u\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/9.9\r\nHost: t\r\n\r\n".to_owned(), "400"),
        ("GET  / HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), "400"),
        ("GET / x HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), "400"),
        ("G\0T / HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), "400"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ] {
        let shown: String = request.chars().take(60).collect();
        assert_eq!(statuses(server.address, &request).await, [status], "{shown:?}");
    }
    server.stop().await;
}
