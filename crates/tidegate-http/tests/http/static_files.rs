//! Static files over a real connection: ranges, validators, listings, links, siblings, uploads, and the walls.

use std::fs;

use tidegate_http::{Limits, Listings, StaticFiles, StaticOptions, Symlinks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{ask, client, noise, partials, raw, read_all, up, up_dir, within};

fn site() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("abc.txt"), "abcdef").unwrap();
    fs::write(dir.path().join("big.bin"), noise(300_000)).unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::create_dir(dir.path().join("sub/with index")).unwrap();
    fs::write(dir.path().join("sub/with index/index.html"), "<p>index</p>").unwrap();
    dir
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn whole_files_and_single_ranges() {
    let dir = site();
    let server = up_dir(dir.path()).await;
    for _ in 0..2 {
        // The second time from the kept files.
        let answer = ask(server.address, "GET", "/abc.txt", "").await;
        assert_eq!((status(&answer), body(&answer)), ("200", "abcdef"));
        assert_eq!(header(&answer, "content-type"), Some("text/plain"));
        assert_eq!(header(&answer, "content-length"), Some("6"));
        assert_eq!(header(&answer, "accept-ranges"), Some("bytes"));
        let answer = ask(server.address, "GET", "/abc.txt", "Range: bytes=1-3\r\n").await;
        assert_eq!((status(&answer), body(&answer)), ("206", "bcd"));
        assert_eq!(header(&answer, "content-range"), Some("bytes 1-3/6"));
    }
    let answer = ask(server.address, "HEAD", "/abc.txt", "").await;
    assert_eq!(
        (status(&answer), header(&answer, "content-length"), body(&answer)),
        ("200", Some("6"), "")
    );
    let answer = ask(server.address, "HEAD", "/big.bin", "").await;
    assert_eq!(
        (status(&answer), header(&answer, "content-length"), body(&answer)),
        ("200", Some("300000"), "")
    );
    let answer = ask(server.address, "GET", "/empty", "").await;
    assert_eq!(
        (status(&answer), header(&answer, "content-length"), body(&answer)),
        ("200", Some("0"), "")
    );
    let answer = ask(server.address, "GET", "/abc.txt", "Range: bytes=6-\r\n").await;
    assert_eq!(
        (status(&answer), header(&answer, "content-range")),
        ("416", Some("bytes */6"))
    );
    server.stop().await;
}

#[tokio::test]
async fn several_ranges_small_and_large() {
    let dir = site();
    let server = up_dir(dir.path()).await;
    let big = noise(300_000);
    for (path, bytes, first, second) in [
        ("/abc.txt", &b"abcdef"[..], (1, 3), (5, 5)),
        ("/big.bin", &big[..], (10, 99_999), (200_000, 299_999)),
    ] {
        let ranges = format!(
            "Range: bytes={}-{},{}-{}\r\n",
            first.0, first.1, second.0, second.1
        );
        let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{ranges}\r\n");
        let answer = raw(server.address, request.as_bytes()).await;
        let cut = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8_lossy(&answer[..cut]).into_owned();
        let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
        let parts = &answer[cut..];
        assert_eq!((status(&head), parts.len()), ("206", length));
        let boundary = header(&head, "content-type")
            .unwrap()
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let mut expected = Vec::new();
        for (start, last) in [first, second] {
            let kind = if path == "/abc.txt" {
                "text/plain"
            } else {
                "application/octet-stream"
            };
            let size = bytes.len();
            expected.extend_from_slice(
                format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: bytes {start}-{last}/{size}\r\n\r\n")
                    .as_bytes(),
            );
            expected.extend_from_slice(&bytes[start..=last]);
        }
        expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert!(parts == expected, "{path}: the parts differ");
    }
    server.stop().await;
}

#[tokio::test]
async fn validators_are_honoured() {
    let dir = site();
    let server = up_dir(dir.path()).await;
    let answer = ask(server.address, "GET", "/abc.txt", "").await;
    let (etag, modified) = (
        header(&answer, "etag").unwrap(),
        header(&answer, "last-modified").unwrap(),
    );
    let with = |line: String| async move { ask(server.address, "GET", "/abc.txt", &line).await };
    let answer = with(format!("If-None-Match: {etag}\r\n")).await;
    assert_eq!(
        (status(&answer), body(&answer), header(&answer, "etag")),
        ("304", "", Some(etag))
    );
    assert_eq!(
        status(&with(format!("If-Modified-Since: {modified}\r\n")).await),
        "304"
    );
    assert_eq!(status(&with("If-Match: \"other\"\r\n".to_owned()).await), "412");
    assert_eq!(
        body(&with(format!("Range: bytes=0-1\r\nIf-Range: {etag}\r\n")).await),
        "ab"
    );
    assert_eq!(
        body(&with("Range: bytes=0-1\r\nIf-Range: \"other\"\r\n".to_owned()).await),
        "abcdef"
    );
    // A changed file is seen at once, also one that is kept.
    fs::write(dir.path().join("abc.txt"), "ABCDEFG").unwrap();
    assert_eq!(body(&with(format!("If-None-Match: {etag}\r\n")).await), "ABCDEFG");
    server.stop().await;
}

/// A file that is kept open is replaced, and the new one is sent.
#[tokio::test]
async fn a_file_that_was_renamed_over_is_seen_at_once() {
    let dir = site();
    let server = up_dir(dir.path()).await;
    let content = || async { body(&ask(server.address, "GET", "/abc.txt", "").await).to_owned() };
    assert_eq!(content().await, "abcdef");
    fs::write(dir.path().join("new"), "renamed").unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("abc.txt")).unwrap();
    assert_eq!(content().await, "renamed");
    server.stop().await;
}

/// Links that lead out, as paths to ask for; and `inside`, which does not.
#[cfg(unix)]
fn links(outside: &std::path::Path, dir: &std::path::Path) -> Vec<String> {
    use std::os::unix::fs::symlink;
    symlink(outside, dir.join("out")).unwrap();
    symlink(outside.join("secret"), dir.join("link")).unwrap();
    symlink("abc.txt", dir.join("inside")).unwrap();
    vec!["/out/secret".to_owned(), "/link".to_owned()]
}

/// Making links needs a privilege there.
#[cfg(windows)]
fn links(_outside: &std::path::Path, _dir: &std::path::Path) -> Vec<String> {
    Vec::new()
}

/// What becomes of an upload to a path that was made to lead out.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Put {
    Refused,
    /// Its bytes are no separator in any encoding we know but part of a name, and such a file is put into the root.
    OneName,
}

/// Paths that were made to lead out of the root; `DIR` is a directory beside it, `ABSOLUTE` its whole path.
const WAYS_OUT: &[(&str, Put)] = &[
    ("/../DIR/secret", Put::Refused),
    ("/%2e%2e/DIR/secret", Put::Refused),
    ("/.%2E/DIR/secret", Put::Refused),
    ("/..%2fDIR%2fsecret", Put::Refused),
    ("/..%5cDIR%5csecret", Put::Refused),
    ("/sub/../../DIR/secret", Put::Refused),
    ("/sub%2f..%2f..%2fDIR/secret", Put::Refused),
    ("/%252e%252e/DIR/secret", Put::Refused),
    ("/%c0%ae%c0%ae/DIR/secret", Put::Refused),
    ("/%e0%80%ae%e0%80%ae/DIR/secret", Put::Refused),
    ("/%u002e%u002e/DIR/secret", Put::Refused),
    ("/\u{2024}\u{2024}/DIR/secret", Put::Refused),
    ("/..%c0%afDIR%c0%afsecret", Put::OneName),
    ("/..%252fDIR%252fsecret", Put::OneName),
    ("/..%255cDIR%255csecret", Put::OneName),
    ("/..\\DIR\\secret", Put::Refused),
    ("/..;/DIR/secret", Put::Refused),
    ("/%2e%2e%00/DIR/secret", Put::Refused),
    ("/abc.txt%00/../../DIR/secret", Put::Refused),
    ("/abc.txt%00", Put::Refused),
    ("/link%00.txt", Put::Refused),
    ("/ABSOLUTE/secret", Put::Refused),
];

#[tokio::test]
async fn no_path_leaves_the_root() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let dir = site();
    let by_links = links(outside.path(), dir.path());
    let server = up_dir(dir.path()).await;
    let name = outside.path().file_name().unwrap().to_str().unwrap();
    let whole = outside.path().display().to_string();
    let spelled = WAYS_OUT
        .iter()
        .map(|(path, put)| (path.replace("DIR", name).replace("ABSOLUTE", &whole), *put));
    for (path, put) in spelled.chain(by_links.into_iter().map(|path| (path, Put::Refused))) {
        let answer = ask(server.address, "GET", &path, "").await;
        assert!(
            matches!(status(&answer), "400" | "403" | "404"),
            "{path}: {answer}"
        );
        assert!(
            !answer.contains("secret\n") && body(&answer) != "secret",
            "{path}"
        );
        let answer = ask(server.address, "PUT", &path, "Content-Length: 1\r\n\r\nx").await;
        assert!(
            put == Put::OneName || status(&answer).starts_with('4'),
            "{path}: {answer}"
        );
    }
    assert_eq!(
        fs::read_to_string(outside.path().join("secret")).unwrap(),
        "secret"
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    #[cfg(unix)]
    assert_eq!(body(&ask(server.address, "GET", "/inside", "").await), "abcdef");
    server.stop().await;
}

#[tokio::test]
async fn links_listings_and_uploads_can_be_refused() {
    let outside = tempfile::tempdir().unwrap();
    let dir = site();
    links(outside.path(), dir.path());
    let mut options = StaticOptions::default();
    options.symlinks = Symlinks::Never;
    options.listings = Listings::Hidden;
    let server = up(StaticFiles::new(dir.path(), options).unwrap(), Limits::default()).await;
    #[cfg(unix)]
    assert_eq!(status(&ask(server.address, "GET", "/inside", "").await), "404");
    assert_eq!(status(&ask(server.address, "GET", "/abc.txt", "").await), "200");
    assert_eq!(status(&ask(server.address, "GET", "/", "").await), "403");
    assert_eq!(
        status(&ask(server.address, "PUT", "/new", "Content-Length: 0\r\n").await),
        "405"
    );
    assert!(!dir.path().join("new").exists());
    server.stop().await;
}

#[tokio::test]
async fn directories_redirect_list_and_show_their_index() {
    let dir = site();
    let (name, shown) = match cfg!(windows) {
        // The other letters are in no file name there.
        true => ("b&.txt", "b&amp;.txt"),
        false => ("<b>&.txt", "&lt;b&gt;&amp;.txt"),
    };
    fs::write(dir.path().join("sub").join(name), "x").unwrap();
    let server = up_dir(dir.path()).await;
    let answer = ask(server.address, "GET", "/sub?x=1", "").await;
    assert_eq!(
        (status(&answer), header(&answer, "location")),
        ("301", Some("/sub/?x=1"))
    );
    let answer = ask(server.address, "GET", "//sub", "").await;
    assert_eq!(
        header(&answer, "location"),
        Some("/sub/"),
        "never to another host"
    );
    let answer = ask(server.address, "GET", "/sub/", "").await;
    assert!(
        body(&answer).contains(shown) && body(&answer).contains("./with%20index/"),
        "{answer}"
    );
    let answer = ask(server.address, "GET", "/sub/with%20index/", "").await;
    assert_eq!(
        (body(&answer), header(&answer, "content-type")),
        ("<p>index</p>", Some("text/html"))
    );
    assert_eq!(status(&ask(server.address, "GET", "/abc.txt/", "").await), "404");
    assert_eq!(status(&ask(server.address, "GET", "/abc.txt/x", "").await), "404");
    assert_eq!(status(&ask(server.address, "GET", "/nothing", "").await), "404");
    let answer = ask(server.address, "DELETE", "/abc.txt", "").await;
    assert_eq!(
        (status(&answer), header(&answer, "allow")),
        ("405", Some("GET, HEAD, PUT"))
    );
    server.stop().await;
}

/// Undoes the percent signs of a link.
fn unescaped(link: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(link).collect()
}

#[tokio::test]
async fn names_in_any_script_are_listed_linked_and_served() {
    let dir = tempfile::tempdir().unwrap();
    let mut names = vec!["grüße.txt", "日本語 100%.txt", "e\u{301}.txt", "🐟#;&.txt"];
    if cfg!(unix) {
        names.extend(["what?.txt", "\"quoted'.txt"]);
    }
    for name in &names {
        fs::write(dir.path().join(name), name).unwrap();
    }
    fs::create_dir(dir.path().join("Ordner für ß")).unwrap();
    fs::write(dir.path().join("Ordner für ß/x"), "inside").unwrap();
    let server = up_dir(dir.path()).await;
    let page = ask(server.address, "GET", "/", "").await;
    assert_eq!(header(&page, "content-type"), Some("text/html; charset=utf-8"));
    let links: Vec<&str> = page
        .split("href=\"./")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert_eq!(links.len(), names.len() + 1, "{page}");
    for name in names {
        let link = links.iter().find(|link| unescaped(link) == name.as_bytes());
        let link = link.unwrap_or_else(|| panic!("no link to {name}: {page}"));
        assert!(link.is_ascii(), "{link}");
        let answer = ask(server.address, "GET", &format!("/{link}"), "").await;
        assert_eq!((status(&answer), body(&answer)), ("200", name));
    }
    assert!(
        page.contains("日本語 100%.txt</a>") && page.contains("🐟#;&amp;.txt</a>"),
        "{page}"
    );
    let folder = links.iter().find(|link| link.ends_with('/')).unwrap();
    let inside = ask(server.address, "GET", &format!("/{folder}"), "").await;
    assert!(inside.contains("<h1>/Ordner für ß/</h1>"), "{inside}");
    let without = folder.trim_end_matches('/');
    let answer = ask(server.address, "GET", &format!("/{without}"), "").await;
    assert_eq!(header(&answer, "location"), Some(format!("/{folder}").as_str()));
    // As some clients send it: not escaped at all.
    let answer = ask(server.address, "GET", "/grüße.txt", "").await;
    assert_eq!((status(&answer), body(&answer)), ("200", "grüße.txt"));
    server.stop().await;
}

/// A name need not be text; what is shown of it is, and its link leads to it all the same.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_name_that_is_no_text_is_served_by_its_link() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"f\xff\xfe.txt");
    fs::write(dir.path().join(name), "odd").unwrap();
    let server = up_dir(dir.path()).await;
    let page = ask(server.address, "GET", "/", "").await;
    assert!(
        page.contains("href=\"./f%FF%FE.txt\"") && page.contains(">f\u{fffd}\u{fffd}.txt</a>"),
        "{page}"
    );
    let answer = ask(server.address, "GET", "/f%FF%FE.txt", "").await;
    assert_eq!((status(&answer), body(&answer)), ("200", "odd"));
    server.stop().await;
}

#[tokio::test]
async fn precompressed_siblings_are_sent_to_who_likes_them() {
    let dir = site();
    fs::write(dir.path().join("abc.txt.gz"), "gzipped").unwrap();
    fs::write(dir.path().join("abc.txt.br"), "brotli").unwrap();
    let server = up_dir(dir.path()).await;
    for _ in 0..2 {
        for (accept, coding, expected) in [
            ("", None, "abcdef"),
            ("Accept-Encoding: gzip\r\n", Some("gzip"), "gzipped"),
            ("Accept-Encoding: gzip;q=0.5, br\r\n", Some("br"), "brotli"),
            ("Accept-Encoding: zstd\r\n", None, "abcdef"),
        ] {
            let answer = ask(server.address, "GET", "/abc.txt", accept).await;
            assert_eq!(
                (header(&answer, "content-encoding"), body(&answer)),
                (coding, expected),
                "{accept}"
            );
            assert_eq!(header(&answer, "vary"), Some("accept-encoding"));
            assert_eq!(header(&answer, "content-type"), Some("text/plain"));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn uploads_replace_whole_and_leave_nothing_behind() {
    let dir = site();
    let server = up_dir(dir.path()).await;
    let put = |path: &'static str, lines: &'static str| async move {
        ask(server.address, "PUT", path, lines).await
    };
    let answer = put("/new.txt", "Content-Length: 3\r\n\r\nnew").await;
    assert_eq!(status(&answer), "201", "{answer}");
    assert_eq!(fs::read_to_string(dir.path().join("new.txt")).unwrap(), "new");
    let answer = put(
        "/new.txt",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(status(&answer), "200");
    assert_eq!(fs::read_to_string(dir.path().join("new.txt")).unwrap(), "abcde");
    assert_eq!(
        status(&put("/nodir/x", "Content-Length: 1\r\n\r\nx").await),
        "409"
    );
    assert_eq!(status(&put("/sub", "Content-Length: 1\r\n\r\nx").await), "409");
    assert_eq!(status(&put("/sub/", "Content-Length: 1\r\n\r\nx").await), "409");
    assert_eq!(
        status(&put("/new.txt", "If-None-Match: *\r\nContent-Length: 1\r\n\r\nx").await),
        "412"
    );
    assert_eq!(
        status(
            &put(
                "/new.txt",
                "Content-Range: bytes 0-0/5\r\nContent-Length: 1\r\n\r\nx"
            )
            .await
        ),
        "400"
    );
    assert_eq!(fs::read_to_string(dir.path().join("new.txt")).unwrap(), "abcde");
    server.stop().await;
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        names
            .iter()
            .all(|name| !name.to_string_lossy().starts_with(".tidegate")),
        "{names:?}"
    );
}

/// The tag is the one that a GET told, and it is good for one replacement.
#[tokio::test]
async fn an_upload_weighs_the_version_it_replaces_and_keeps_its_permissions() {
    let dir = site();
    let path = dir.path().join("abc.txt");
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let server = up_dir(dir.path()).await;
    let answer = ask(server.address, "GET", "/abc.txt", "").await;
    let lines = format!(
        "If-Match: {}\r\nContent-Length: 3\r\n\r\nnew",
        header(&answer, "etag").unwrap()
    );
    for expected in ["200", "412"] {
        let answer = ask(server.address, "PUT", "/abc.txt", &lines).await;
        assert_eq!(status(&answer), expected, "{answer}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }
    server.stop().await;
}

/// Uploads whose conditions held when they began, and that all end at once.
#[tokio::test]
async fn of_uploads_that_race_on_one_condition_one_wins() {
    const RACERS: usize = 8;
    let dir = site();
    let server = up_dir(dir.path()).await;
    let answer = ask(server.address, "GET", "/abc.txt", "").await;
    let version = format!("If-Match: {}", header(&answer, "etag").unwrap());
    for (path, condition, won) in [
        ("new.txt", "If-None-Match: *", "201"),
        ("abc.txt", version.as_str(), "200"),
    ] {
        let mut racers = Vec::new();
        for racer in 0..RACERS {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let head = format!(
                "PUT /{path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{condition}\r\nContent-Length: 2\r\n\r\n{racer}"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            racers.push(stream);
        }
        within(async {
            while partials(dir.path()) < RACERS {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let answers = racers.into_iter().map(|mut stream| {
            tokio::spawn(async move {
                stream.write_all(b"!").await.unwrap();
                let mut answer = String::new();
                within(stream.read_to_string(&mut answer)).await.unwrap();
                status(&answer).to_owned()
            })
        });
        let mut winners = Vec::new();
        for (racer, answer) in answers.collect::<Vec<_>>().into_iter().enumerate() {
            match answer.await.unwrap().as_str() {
                "412" => {}
                answer if answer == won => winners.push(racer),
                other => panic!("{path}: {other}"),
            }
        }
        assert_eq!(winners.len(), 1, "{path}");
        let content = fs::read_to_string(dir.path().join(path)).unwrap();
        assert_eq!(content, format!("{}!", winners[0]));
        assert_eq!(partials(dir.path()), 0, "those refused are gone");
    }
    server.stop().await;
}

/// The superuser may read every file: as one, this shows less than as anybody else.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_cannot_be_read_can_be_replaced() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = site();
    let path = dir.path().join("abc.txt");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o200)).unwrap();
    let server = up_dir(dir.path()).await;
    let answer = ask(server.address, "PUT", "/abc.txt", "Content-Length: 3\r\n\r\nnew").await;
    assert_eq!(status(&answer), "200", "{answer}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o200);
    server.stop().await;
}

#[tokio::test]
async fn large_files_arrive_whole_over_both_protocols() {
    let dir = site();
    let bytes = noise(5_000_000);
    fs::write(dir.path().join("large"), &bytes).unwrap();
    let server = up_dir(dir.path()).await;
    for protocol in [tidegate_http::Protocol::One, tidegate_http::Protocol::Two] {
        let client = crate::common::client_with(|options| options.protocol = protocol);
        let mut source = client.get(&server.url("/large"), 0).await.unwrap();
        assert_eq!(tidegate_io::Source::size_hint(&source), Some(5_000_000));
        assert!(read_all(&mut source).await.unwrap() == bytes, "{protocol:?}");
        let mut source = client.get(&server.url("/large"), 4_999_990).await.unwrap();
        assert_eq!(read_all(&mut source).await.unwrap(), bytes[4_999_990..]);
    }
    drop(client());
    server.stop().await;
}

#[tokio::test]
async fn threads_of_its_own_serve_and_drain() {
    let dir = site();
    let files = StaticFiles::new(dir.path(), StaticOptions::default()).unwrap();
    let two = std::num::NonZeroUsize::new(2).unwrap();
    let server = crate::common::up_with(files, Limits::default(), |server| server.threads(two)).await;
    let client = client();
    let big = noise(300_000);
    let mut unread = client.get(&server.url("/big.bin"), 0).await.unwrap();
    for _ in 0..20 {
        assert_eq!(body(&ask(server.address, "GET", "/abc.txt", "").await), "abcdef");
    }
    assert!(read_all(&mut unread).await.unwrap() == big);
    drop((unread, client));
    let served = server.stop().await;
    assert_eq!((served.requests, served.cut), (21, 0));
}
