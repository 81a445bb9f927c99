//! Our client against our server: both ways, resumed, cut short, plain and under TLS.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{Served, certificate, noise, with_tls, writable};
use tidegate_ftp::client::{
    Ask, ClientOptions, DataMode, FtpUrl, Put, Resume, Verify, first, get, kept, put,
};
use tidegate_io::endpoint::file::{FileSink, FileSource, Overwrite};
use tidegate_io::{Buffers, ErrorKind, Flow, FlowError, FlowErrorKind, Report, Sink, Source};

async fn upload(
    from: &std::path::Path,
    url: &str,
    options: &ClientOptions,
    how: Put,
) -> Result<Report, FlowError> {
    let url: FtpUrl = url.parse().unwrap();
    let sink = put(&url, options, how).await.unwrap();
    Flow::new(FileSource::open(from).await.unwrap(), sink).run().await
}

async fn download(url: &str, to: &std::path::Path, options: &ClientOptions) -> Result<Report, FlowError> {
    let url: FtpUrl = url.parse().unwrap();
    let source = get(&url, options, Resume::default()).await.unwrap();
    Flow::new(source, FileSink::create(to, Overwrite::Allow).await.unwrap())
        .run()
        .await
}

/// All that is left of a source.
async fn rest(mut source: impl Source) -> Result<Vec<u8>, tidegate_io::EndpointError> {
    let mut buffers = Buffers::default();
    let mut out = Vec::new();
    while let Some(bytes) = std::future::poll_fn(|cx| source.poll_read(cx, &mut buffers, 65_536)).await? {
        out.extend_from_slice(&bytes);
    }
    Ok(out)
}

async fn both_ways(served: &Served, scheme: &str, options: &ClientOptions) {
    let work = tempfile::tempdir().unwrap();
    let (original, copy) = (work.path().join("a"), work.path().join("b"));
    let content = noise(3_000_000, 7);
    std::fs::write(&original, &content).unwrap();
    let url = format!("{scheme}://localhost:{}/up%20load", served.address.port());
    let up = upload(&original, &url, options, Put::Direct).await.unwrap();
    assert_eq!((up.bytes_sent, up.bytes_confirmed), (3_000_000, 3_000_000));
    assert_eq!(served.content("up load"), content);
    let down = download(&url, &copy, options).await.unwrap();
    assert_eq!(down.bytes_read, 3_000_000);
    assert_eq!(std::fs::read(&copy).unwrap(), content);
}

#[tokio::test]
async fn a_file_goes_up_and_comes_down_again() {
    let served = Served::writable().await;
    both_ways(&served, "ftp", &ClientOptions::default()).await;
}

#[tokio::test]
async fn in_active_mode_too() {
    let served = Served::writable().await;
    let options = ClientOptions {
        mode: DataMode::Active,
        ..ClientOptions::default()
    };
    both_ways(&served, "ftp", &options).await;
}

#[tokio::test]
async fn under_tls_with_hash_too() {
    let certificate = certificate();
    let served = Served::start(with_tls(&certificate)).await;
    let options = ClientOptions {
        tls: Some(certificate.client.clone()),
        verify: Verify::Hash,
        ..ClientOptions::default()
    };
    both_ways(&served, "ftps", &options).await;
}

#[tokio::test]
async fn a_download_is_resumed_and_a_changed_file_is_not() {
    let served = Served::writable().await;
    let content = noise(100_000, 1);
    served.put("a", &content);
    let url: FtpUrl = served.url("a").parse().unwrap();
    let options = ClientOptions::default();
    let first = get(&url, &options, Resume::default()).await.unwrap();
    let resume = Resume {
        offset: 40_000,
        size: first.size(),
        modify_unix_seconds: first.modify_unix_seconds(),
    };
    assert_eq!(resume.size, Some(100_000));
    drop(first);
    let source = get(&url, &options, resume.clone()).await.unwrap();
    assert_eq!(source.size_hint(), Some(60_000));
    assert_eq!(rest(source).await.unwrap(), content[40_000..]);
    served.put("a", &content[..99_999]);
    let changed = get(&url, &options, resume).await.unwrap_err();
    assert_eq!(changed.kind, ErrorKind::Mismatch);
}

#[tokio::test]
async fn an_upload_dropped_unfinished_never_shows() {
    let served = Served::writable().await;
    served.put("a", b"old");
    let url: FtpUrl = served.url("a").parse().unwrap();
    let mut sink = put(&url, &ClientOptions::default(), Put::Direct).await.unwrap();
    let mut held = tidegate_io::Held::default();
    held.push(Bytes::from(noise(50_000, 2)));
    let sent = std::future::poll_fn(|cx| sink.poll_write(cx, &held))
        .await
        .unwrap();
    assert!(sent > 0);
    // A reset throws away what the server has not read.
    common::until("some of it was written", || {
        let names = served.names();
        let sizes = names
            .iter()
            .filter(|name| *name != "a")
            .map(|name| std::fs::metadata(served.path(name)));
        sizes.flatten().any(|found| found.len() > 0)
    })
    .await;
    drop(sink);
    let partial = served.path(".a.tidegate-part");
    common::until("the rest of the upload is put aside", || partial.exists()).await;
    assert_eq!(served.content("a"), b"old");
    assert_eq!(served.names(), [".a.tidegate-part", "a"]);
    assert!(noise(50_000, 2).starts_with(&std::fs::read(&partial).unwrap()));
}

#[tokio::test]
async fn an_upload_goes_on_where_another_stopped() {
    let served = Served::writable().await;
    let content = noise(80_000, 3);
    served.put(".a.tidegate-part", &content[..50_000]);
    let work = tempfile::tempdir().unwrap();
    let tail = work.path().join("tail");
    std::fs::write(&tail, &content[30_000..]).unwrap();
    let report = upload(
        &tail,
        &served.url("a"),
        &ClientOptions::default(),
        Put::From(30_000),
    )
    .await
    .unwrap();
    assert_eq!(report.bytes_confirmed, 50_000);
    assert_eq!(served.content("a"), content);
    assert_eq!(served.names(), ["a"]);
}

#[tokio::test]
async fn what_is_there_is_told_with_its_hash_and_its_time() {
    let served = Served::writable().await;
    let url: FtpUrl = served.url("dir/a").parse().unwrap();
    let options = ClientOptions::default();
    assert_eq!(kept(&url, &options, Ask::Content).await.unwrap(), None);
    assert_eq!(first(&url, &options, 3).await.unwrap(), None);
    std::fs::create_dir(served.path("dir")).unwrap();
    served.put("dir/a", b"abcdef");
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let found = first(&url, &options, 3).await.unwrap().unwrap();
    assert_eq!((found.bytes, found.sha256.as_deref()), (6, Some(abc)));
    assert!(found.modify_unix_seconds.is_some());
    assert_eq!(first(&url, &options, 7).await.unwrap().unwrap().sha256, None);
    assert_eq!(
        kept(&url, &options, Ask::Content).await.unwrap().unwrap().bytes,
        6
    );
    // What an upload left goes before the file itself.
    served.put("dir/.a.tidegate-part", b"abc");
    let found = kept(&url, &options, Ask::Content).await.unwrap().unwrap();
    assert_eq!((found.bytes, found.sha256.as_deref()), (3, Some(abc)));
    let found = kept(&url, &options, Ask::Size).await.unwrap().unwrap();
    assert_eq!((found.bytes, found.sha256), (3, None));
}

#[tokio::test]
async fn an_upload_beside_is_renamed_and_an_append_appends() {
    let served = Served::writable().await;
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("f");
    std::fs::write(&file, b"abc").unwrap();
    let options = ClientOptions::default();
    upload(&file, &served.url("a"), &options, Put::Beside)
        .await
        .unwrap();
    assert_eq!(served.names(), ["a"]);
    upload(&file, &served.url("a"), &options, Put::Append)
        .await
        .unwrap();
    assert_eq!(served.content("a"), b"abcabc");
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let served = Served::start(tidegate_ftp::server::ServeOptions {
        access: tidegate_ftp::storage::Access::ReadOnly,
        ..writable()
    })
    .await;
    let url: FtpUrl = served.url("none").parse().unwrap();
    let options = ClientOptions::default();
    let missing = get(&url, &options, Resume::default()).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::Open);
    assert!(missing.to_string().contains("550"), "{missing}");
    let refused = put(&url, &options, Put::Direct).await.unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");
    let stranger: FtpUrl = format!("ftp://otto@{}/x", served.address).parse().unwrap();
    let wrong = get(&stranger, &options, Resume::default()).await.unwrap_err();
    assert!(wrong.to_string().contains("530"), "{wrong}");
}

#[tokio::test]
async fn a_server_that_sends_too_little_is_no_clean_end() {
    use tokio::io::AsyncWriteExt;
    // Announces 10 bytes, sends 4, closes in good order and even says 226.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut lines = tokio::io::BufReader::new(stream);
        let data = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = data.local_addr().unwrap().port();
        lines.get_mut().write_all(b"220 hi\r\n").await.unwrap();
        let mut line = String::new();
        while tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line)
            .await
            .unwrap()
            > 0
        {
            let reply = match line.split_whitespace().next().unwrap() {
                "USER" => "230 in\r\n".to_owned(),
                "TYPE" => "200 ok\r\n".to_owned(),
                "SIZE" => "213 10\r\n".to_owned(),
                "EPSV" => format!("229 here (|||{port}|)\r\n"),
                "RETR" => {
                    let (mut to, _) = data.accept().await.unwrap();
                    lines.get_mut().write_all(b"150 go\r\n").await.unwrap();
                    to.write_all(b"four").await.unwrap();
                    "226 done\r\n".to_owned()
                }
                _ => "500 what\r\n".to_owned(),
            };
            lines.get_mut().write_all(reply.as_bytes()).await.unwrap();
            line.clear();
        }
    });
    let url = format!("ftp://{address}/x");
    let work = tempfile::tempdir().unwrap();
    let target = work.path().join("x");
    let error = download(&url, &target, &ClientOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind, FlowErrorKind::Truncated, "{error}");
    assert!(!target.exists());
    server.abort();
}
