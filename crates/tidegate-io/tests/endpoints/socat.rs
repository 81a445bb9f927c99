//! socat at the far end of every address pair it shares with us, both ways.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use tidegate_io::endpoint::pipe::{PipeSink, PipeSource};
use tidegate_io::endpoint::process::{Process, Stderr};
use tidegate_io::endpoint::{tcp, unix};
use tidegate_io::{Duplex, Flow, Sink, Source};

use crate::support::{MemorySink, MemorySource, pattern, peer, read_all, within};

const LENGTH: usize = 1_500_000;

/// Runs socat from one address to another, to its end.
async fn socat(from: String, to: String) {
    let process = Process::exec("socat", ["-u".to_owned(), from, to]).stderr(Stderr::Keep);
    let mut source = process.into_source().unwrap();
    assert!(read_all(&mut source).await.unwrap().is_empty());
}

async fn we_receive(source: impl Source) {
    let (sink, seen) = MemorySink::new();
    within(Flow::new(source, sink).run()).await.unwrap();
    assert!(seen.bytes() == pattern(LENGTH), "{} bytes", seen.len());
}

async fn we_send(sink: impl Sink) {
    within(
        Flow::new(MemorySource::new(pattern(LENGTH)), sink)
            .drain(Duration::from_secs(10))
            .run(),
    )
    .await
    .unwrap();
}

fn assert_whole(path: &Path) {
    assert!(std::fs::read(path).unwrap() == pattern(LENGTH));
}

/// A file that holds the pattern, and the name of one to be written.
fn files(folder: &tempfile::TempDir) -> (String, std::path::PathBuf, String) {
    let from = folder.path().join("from");
    let to = folder.path().join("to");
    std::fs::write(&from, pattern(LENGTH)).unwrap();
    let open_to = format!("OPEN:{},creat,trunc", to.display());
    (format!("OPEN:{},rdonly", from.display()), to, open_to)
}

#[tokio::test]
async fn socat_over_tcp_and_unix() {
    let Some(_) = peer("socat", "socat_over_tcp_and_unix") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (from, to, open_to) = files(&folder);
    let listener = tcp::Listener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("TCP:{}", listener.local_addr().unwrap());
    let receive = async { we_receive(tcp::source(listener.accept().await.unwrap().0)).await };
    tokio::join!(socat(from.clone(), address.clone()), receive);
    let send = async { we_send(tcp::sink(listener.accept().await.unwrap().0)).await };
    tokio::join!(socat(address, open_to.clone()), send);
    assert_whole(&to);

    std::fs::remove_file(&to).unwrap();
    let path = folder.path().join("socket");
    let listener = unix::Listener::bind(&path).await.unwrap();
    let address = format!("UNIX-CONNECT:{}", path.display());
    let receive = async { we_receive(unix::source(listener.accept().await.unwrap(), &path)).await };
    tokio::join!(socat(from, address.clone()), receive);
    let send = async { we_send(unix::sink(listener.accept().await.unwrap(), &path)).await };
    tokio::join!(socat(address, open_to), send);
    assert_whole(&to);
}

#[tokio::test]
async fn socat_over_a_fifo_and_as_a_child() {
    let Some(_) = peer("socat", "socat_over_a_fifo_and_as_a_child") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (from, to, open_to) = files(&folder);
    let path = folder.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let source = PipeSource::open(&path).unwrap();
    tokio::join!(
        socat(from, format!("OPEN:{},wronly", path.display())),
        we_receive(source)
    );
    let send = async { we_send(within(PipeSink::open(&path)).await.unwrap()).await };
    tokio::join!(socat(format!("OPEN:{},rdonly", path.display()), open_to), send);
    assert_whole(&to);

    let Duplex { source, sink } = Process::exec("socat", ["-u", "-", "-"]).into_duplex().unwrap();
    tokio::join!(we_send(sink), we_receive(source));
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn socat_over_tls() {
    use tidegate_io::endpoint::tls::{Options, Server};

    let Some(_) = peer("socat", "socat_over_tls") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (from, to, open_to) = files(&folder);
    let papers = crate::tls::Papers::new();
    let server = Server::new(&papers.sign("localhost", |_| ()), &Options::default()).unwrap();
    let listener = tcp::Listener::bind("127.0.0.1:0").await.unwrap();
    let address = format!(
        "OPENSSL:{},cafile={},commonname=localhost",
        listener.local_addr().unwrap(),
        papers.authority().display()
    );
    let accept = async || {
        let (plain, _) = listener.accept().await.unwrap();
        within(server.accept(tcp::duplex(plain))).await.unwrap()
    };
    let receive = async { we_receive(accept().await.into_source()).await };
    tokio::join!(socat(from, address.clone()), receive);
    let send = async { we_send(accept().await.into_sink()).await };
    tokio::join!(socat(address, open_to), send);
    assert_whole(&to);
}
