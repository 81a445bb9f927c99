//! Child processes as sources, sinks and both. Cites CASES groups B and part 2.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::{AbortReason, FinishableConsumer as _, HoldReason, Marks};
use tidegate_io::endpoint::process::{Process, Stderr};
use tidegate_io::{
    Confirmation, Duplex, ErrorKind, Flow, HalfClose, Relay, Sink, SinkConsumer, Source, SourceProducer,
};

use crate::support::{
    MemorySink, MemorySource, abort, finish, pattern, read_all, read_some, until, within, write_all,
};

/// A program that is not there.
pub(crate) const MISSING: &str = "/nonexistent/program";

/// Standard input to standard output.
pub(crate) fn copying() -> Process {
    Process::exec("cat", ["-"])
}

/// Writes so many bytes.
pub(crate) fn writing(bytes: usize) -> Process {
    Process::exec("head", ["-c", &bytes.to_string(), "/dev/zero"])
}

/// Reads so many bytes and exits in good order.
pub(crate) fn taking(bytes: usize) -> Process {
    Process::shell(format!("head -c {bytes} >/dev/null; exit 0"))
}

pub(crate) fn exiting(code: u8) -> Process {
    Process::shell(format!("exit {code}"))
}

#[tokio::test]
async fn what_a_child_writes_is_read_to_its_end() {
    let mut source = Process::exec("printf", ["%s-%s", "a b", "$HOME"])
        .into_source()
        .unwrap();
    assert_eq!(read_all(&mut source).await.unwrap(), b"a b-$HOME");
    assert!(
        read_some(&mut source).await.unwrap().is_none(),
        "the end is repeated"
    );
}

#[tokio::test]
async fn a_bad_exit_is_told_with_its_code_and_last_line() {
    let line = "echo first >&2; echo out; echo 'the disk is full' >&2; echo >&2; exit 3";
    let mut source = Process::shell(line).stderr(Stderr::Keep).into_source().unwrap();
    assert_eq!(
        &read_some(&mut source).await.unwrap().unwrap()[..],
        b"out\n",
        "the output is not lost"
    );
    let error = read_some(&mut source).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
    let text = error.to_string();
    assert!(text.contains("exited with code 3: the disk is full"), "{text}");
}

#[tokio::test]
async fn a_killed_child_is_no_end() {
    let mut source = Process::shell("echo part; kill -9 $$").into_source().unwrap();
    let (sink, seen) = MemorySink::new();
    assert_eq!(&read_some(&mut source).await.unwrap().unwrap()[..], b"part\n");
    let error = within(Flow::new(source, sink).run()).await.unwrap_err();
    assert!(error.cause.to_string().contains("killed by signal 9"), "{error}");
    assert!(!seen.is_finished());
    assert!(seen.aborted().is_some());
}

#[tokio::test]
async fn finishing_closes_the_input_and_waits_for_the_exit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy");
    let line = format!("cat >'{0}.part'; sleep 0.1; mv '{0}.part' '{0}'", file.display());
    let mut sink = Process::shell(line).into_sink().unwrap();
    write_all(&mut sink, pattern(200_000)).await.unwrap();
    assert_eq!(finish(&mut sink).await.unwrap(), Confirmation::Confirmed);
    assert!(std::fs::read(file).unwrap() == pattern(200_000));
}

#[tokio::test]
async fn finishing_a_child_that_fails_is_an_error() {
    let line = "cat >/dev/null; echo 'quota exceeded' >&2; exit 7";
    let mut sink = Process::shell(line).stderr(Stderr::Keep).into_sink().unwrap();
    write_all(&mut sink, &b"x"[..]).await.unwrap();
    let error = finish(&mut sink).await.unwrap_err();
    assert!(
        error.to_string().contains("exited with code 7: quota exceeded"),
        "{error}"
    );
}

#[tokio::test]
async fn an_abort_never_looks_finished_to_the_child() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let line = format!("trap 'touch {path}/terminated; exit 1' TERM; cat >/dev/null; touch {path}/finished");
    let mut sink = Process::shell(line).into_sink().unwrap();
    write_all(&mut sink, &b"half of it"[..]).await.unwrap();
    // Between two commands a shell would miss the signal: the next one it starts is not in the group yet.
    until("the trap is set and cat reads", || sink.unsent_bytes() == Some(0)).await;
    abort(&mut sink).await;
    assert!(folder.path().join("terminated").exists());
    assert!(!folder.path().join("finished").exists(), "the child saw an end");
}

#[tokio::test]
async fn dropping_an_unfinished_sink_is_an_abort() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let line = format!("echo $$ >{path}/pid; cat >/dev/null; touch {path}/finished");
    let mut sink = Process::shell(line).into_sink().unwrap();
    write_all(&mut sink, &b"half of it"[..]).await.unwrap();
    until("it runs", || folder.path().join("pid").exists()).await;
    let id = sink.id().unwrap();
    drop(sink);
    until("it has gone", || {
        !std::path::Path::new(&format!("/proc/{id}")).exists()
    })
    .await;
    assert!(!folder.path().join("finished").exists());
}

#[tokio::test]
async fn a_child_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let line = "trap '' TERM; echo on; while :; do sleep 0.02; done";
    let mut source = Process::shell(line)
        .grace(Duration::from_millis(200))
        .into_source()
        .unwrap();
    assert_eq!(&read_some(&mut source).await.unwrap().unwrap()[..], b"on\n");
    let id = source.id().unwrap();
    let start = Instant::now();
    within(std::future::poll_fn(|cx| source.poll_stop(cx))).await;
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(
        !std::path::Path::new(&format!("/proc/{id}")).exists(),
        "it was not reaped"
    );
}

#[tokio::test]
async fn a_kill_reaches_the_grandchildren() {
    let line = "sleep 1000 & echo $!; wait";
    let mut source = Process::shell(line).into_source().unwrap();
    let id = String::from_utf8(read_some(&mut source).await.unwrap().unwrap().to_vec()).unwrap();
    drop(source);
    let state = format!("/proc/{}/stat", id.trim());
    until("the grandchild has gone", || {
        // It may stay a zombie where nobody reaps orphans.
        std::fs::read_to_string(&state).map_or(true, |stat| stat.contains(") Z"))
    })
    .await;
}

#[tokio::test]
async fn a_grandchild_that_holds_the_output_does_not_hang_us() {
    let line = "sleep 1000 & echo done";
    let process = Process::shell(line).drain(Duration::from_millis(150));
    let mut source = process.into_source().unwrap();
    assert_eq!(&read_some(&mut source).await.unwrap().unwrap()[..], b"done\n");
    let error = read_some(&mut source).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TimedOut, "{error}");
}

#[tokio::test]
async fn each_byte_starts_the_drain_time_anew() {
    let line = "(for i in 1 2 3 4 5 6; do sleep 0.1; echo $i; done) & exit 0";
    let process = Process::shell(line).drain(Duration::from_millis(400));
    let mut source = process.into_source().unwrap();
    assert_eq!(read_all(&mut source).await.unwrap(), b"1\n2\n3\n4\n5\n6\n");
}

/// CASES 46, B22, D26: not reading the output leaves the input flowing.
#[tokio::test]
async fn a_paused_output_does_not_stop_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy");
    let line = format!("head -c 200000 >'{}'; cat", file.display());
    let Duplex { mut source, mut sink } = Process::shell(line).into_duplex().unwrap();
    write_all(&mut *sink, pattern(200_000)).await.unwrap();
    until("all was taken", || {
        std::fs::metadata(&file).is_ok_and(|meta| meta.len() == 200_000)
    })
    .await;
    write_all(&mut *sink, &b"tail"[..]).await.unwrap();
    let finished = finish(&mut *sink);
    let read = read_all(&mut *source);
    let (finished, read) = tokio::join!(finished, read);
    assert_eq!(
        (finished.unwrap(), read.unwrap()),
        (Confirmation::Confirmed, b"tail".to_vec())
    );
}

/// CASES 51 (D28): a child's output as a push producer is paused, goes on, and is stopped, which ends the child.
#[tokio::test]
async fn a_child_is_paused_resumed_and_stopped() {
    let (sink, seen) = MemorySink::new();
    let consumer = Arc::new(SinkConsumer::spawn(sink, Marks::default()));
    let paused = consumer.hold(HoldReason::User);
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let line = format!("echo one; : >'{}'; sleep 1000", said.display());
    let source = Process::shell(line).into_source().unwrap();
    let id = source.id().unwrap();
    let producing = tokio::spawn(SourceProducer::push(source, consumer.clone()).unwrap());
    until("the child has spoken", || said.exists()).await;
    assert_eq!(seen.len(), 0, "a paused child was read");
    drop(paused);
    until("it is heard", || seen.bytes() == b"one\n").await;
    consumer.abort(AbortReason::Requested);
    within(producing).await.unwrap().unwrap_err();
    assert!(
        !std::path::Path::new(&format!("/proc/{id}")).exists(),
        "it was not ended"
    );
}

/// A child that ends well decides how much it reads: as behind a pipe or over ssh, that is a success.
#[tokio::test]
async fn in_a_relay_an_early_exit_in_success_is_an_end() {
    for policy in [HalfClose::Propagate, HalfClose::Abort] {
        for line in ["head -c 100000", "exec 0<&-; sleep 0.1; head -c 100000 /dev/zero"] {
            let (sink, seen) = MemorySink::new();
            let ours = Duplex {
                source: Box::new(MemorySource::new(pattern(4_000_000))),
                sink: Box::new(sink),
            };
            let child = Process::shell(line).into_duplex().unwrap();
            let report = within(Relay::new(ours, child).half_close(policy).run())
                .await
                .unwrap();
            assert_eq!((seen.len(), seen.is_finished()), (100_000, true), "{line}");
            assert!(
                line.contains("zero") || seen.bytes() == pattern(100_000),
                "{line}"
            );
            assert_eq!(report.b_to_a.bytes_sent, 100_000);
            assert!(report.a_to_b.bytes_sent < 4_000_000, "more than a pipe took");
            assert_eq!(
                report.a_to_b.confirmation, None,
                "nobody confirmed what was not read"
            );
        }
    }
}

/// And one that fails is a failure, whose output is delivered all the same.
#[tokio::test]
async fn in_a_relay_an_early_failure_is_told_and_loses_no_output() {
    let (sink, seen) = MemorySink::new();
    let ours = Duplex {
        source: Box::new(MemorySource::new(pattern(4_000_000))),
        sink: Box::new(sink),
    };
    let child = Process::shell("head -c 100000; exit 3").into_duplex().unwrap();
    let error = within(Relay::new(ours, child).run()).await.unwrap_err();
    assert_eq!(error.error.cause.kind, ErrorKind::Died, "{error}");
    assert!(error.to_string().contains("exited with code 3"), "{error}");
    assert!(seen.bytes() == pattern(100_000), "{} bytes", seen.len());
    assert!(!seen.is_finished(), "what was cut short looked whole");
}

/// A child that dies while a slow client still takes what it wrote: the client gets all of it, and no end.
#[tokio::test]
async fn in_a_relay_the_last_words_of_a_child_that_died_are_delivered_and_do_not_look_whole() {
    use std::io::Read;

    for (line, client_ends) in [
        ("head -c 3000000 /dev/zero; exit 3", true),
        ("head -c 3000000 /dev/zero; kill -KILL $$", false),
    ] {
        let listener = tidegate_io::endpoint::tcp::Listener::bind("127.0.0.1:0")
            .await
            .unwrap();
        let at = listener.local_addr().unwrap();
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let client = std::thread::spawn(move || {
            let mut client = std::net::TcpStream::connect(at).unwrap();
            if client_ends {
                client.shutdown(std::net::Shutdown::Write).unwrap();
            }
            told.recv().unwrap();
            let mut all = Vec::new();
            let end = client.read_to_end(&mut all);
            (all.len(), end)
        });
        let near = tidegate_io::endpoint::tcp::duplex(listener.accept().await.unwrap().0);
        let child = Process::shell(line).into_duplex().unwrap();
        let running = tokio::spawn(Relay::new(near, child).run());
        tell.send(()).unwrap();
        let error = within(running).await.unwrap().unwrap_err();
        assert_eq!(error.error.cause.kind, ErrorKind::Died, "{error}");
        let (got, end) = client.join().unwrap();
        assert_eq!(got, 3_000_000, "{line}");
        assert!(end.is_err(), "{line}: what was cut short looked whole");
    }
}

/// A child that closes its output and lives on: that direction ends well, the other goes on.
#[tokio::test]
async fn a_child_that_only_closed_its_output_is_not_waited_for() {
    let Duplex { mut source, mut sink } = Process::shell("exec 1>&-; cat >/dev/null").into_duplex().unwrap();
    assert!(read_all(&mut *source).await.unwrap().is_empty());
    write_all(&mut *sink, pattern(100_000)).await.unwrap();
    finish(&mut *sink).await.unwrap();
}

/// The client of a listening relay: what the child wrote reaches it whole although it still sends, and its connection
/// ends in good order.
#[tokio::test]
async fn a_socket_whose_bytes_nobody_wants_is_not_reset() {
    use std::io::{Read, Write};

    let listener = tidegate_io::endpoint::tcp::Listener::bind("127.0.0.1:0")
        .await
        .unwrap();
    let at = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut client = std::net::TcpStream::connect(at).unwrap();
        // More than the child reads and less than the kernel holds: it lies unread when the child has gone.
        client.write_all(&pattern(200_000)).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).map(|_| all)
    });
    let near = tidegate_io::endpoint::tcp::duplex(listener.accept().await.unwrap().0);
    let child = Process::shell("head -c 10; head -c 500000 /dev/zero")
        .into_duplex()
        .unwrap();
    let report = within(Relay::new(near, child).run()).await.unwrap();
    assert_eq!(report.b_to_a.bytes_sent, 500_010);
    let all = client.join().unwrap().expect("the client saw a reset");
    assert_eq!(all.len(), 500_010);
}

/// What nobody wants may come for ever: an abort ends it, and so does a stop once the other direction has ended.
#[tokio::test]
async fn an_endless_sender_to_a_child_that_has_ended_can_be_left() {
    use std::io::{Read, Write};

    for gently in [false, true] {
        let listener = tidegate_io::endpoint::tcp::Listener::bind("127.0.0.1:0")
            .await
            .unwrap();
        let at = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(at).unwrap();
        let mut reading = client.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            let piece = pattern(50_000);
            while (&client).write_all(&piece).is_ok() {}
        });
        let near = tidegate_io::endpoint::tcp::duplex(listener.accept().await.unwrap().0);
        let child = Process::exec("head", ["-c", "10"]).into_duplex().unwrap();
        let relay = Relay::new(near, child).drain(Duration::from_secs(3600));
        let handle = relay.handle();
        let running = tokio::spawn(relay.run());
        let all = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            reading.read_to_end(&mut all).map(|_| all)
        });
        assert_eq!(within(all).await.unwrap().unwrap(), pattern(10));
        match gently {
            true => handle.stop(),
            false => handle.abort(AbortReason::Requested),
        }
        // Cut or an end, depending on whether the child's exit was seen first.
        let result = within(running).await.unwrap();
        let report = result.unwrap_or_else(|error| *error.report);
        assert_eq!(report.b_to_a.bytes_sent, 10, "gently: {gently}");
        sending.join().unwrap();
    }
}

/// A child that reads no more and has more to say is no sink that hangs, be it that it closed its input, with bytes for it
/// left over or none, or that it was given everything: neither the drain limit nor the stall limit cuts its output.
#[tokio::test]
async fn a_child_that_reads_no_more_may_outlive_the_limits() {
    use std::io::Write;

    const LIMIT: Duration = Duration::from_millis(50);
    for (reads, bytes) in [
        ("exec 0<&-", 2),
        ("exec 0<&-", 4_000_000),
        ("cat >/dev/null", 4_000_000),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (reached, word) = (folder.path().join("reached"), folder.path().join("word"));
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &word, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let mut tell = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&word)
            .unwrap();
        let line = format!(
            "{reads}; : >'{}'; read word <'{}'; echo late",
            reached.display(),
            word.display()
        );
        let child = Process::shell(line).into_duplex().unwrap();
        let (sink, seen) = MemorySink::new();
        let ours = Duplex {
            source: Box::new(MemorySource::new(pattern(bytes))),
            sink: Box::new(sink),
        };
        if reads == "exec 0<&-" {
            until("the input is closed", || reached.exists()).await;
        }
        let mut running = tokio::spawn(Relay::new(ours, child).drain(LIMIT).stall(LIMIT).run());
        until("it reads no more", || reached.exists() || running.is_finished()).await;
        let early = tokio::time::timeout(LIMIT * 8, &mut running).await;
        assert!(early.is_err(), "{reads}, {bytes} bytes: cut: {early:?}");
        tell.write_all(b"go\n").unwrap();
        within(running).await.unwrap().unwrap();
        assert_eq!((seen.bytes(), seen.is_finished()), (b"late\n".to_vec(), true));
    }
}

/// And once it has said that there is no more to hear, it has the drain time to exit.
#[tokio::test]
async fn a_child_that_ended_its_output_and_stays_is_not_waited_for_for_ever() {
    let (sink, seen) = MemorySink::new();
    let ours = Duplex {
        source: Box::new(MemorySource::new(&b"hi"[..])),
        sink: Box::new(sink),
    };
    let child = Process::shell("cat; exec 1>&-; sleep 1000")
        .into_duplex()
        .unwrap();
    let relay = Relay::new(ours, child).drain(Duration::from_millis(50));
    let error = within(relay.run()).await.unwrap_err();
    assert_eq!(error.error.cause.kind, ErrorKind::TimedOut, "{error}");
    assert_eq!(seen.bytes(), b"hi");
}

/// What nobody wants is not read for longer than the relay may be idle, or linger.
#[tokio::test]
async fn reading_what_nobody_wants_is_idle() {
    const LIMIT: Duration = Duration::from_millis(50);
    let limits: [fn(Relay) -> Relay; 2] = [
        |relay| relay.idle(LIMIT),
        |relay| relay.half_close(HalfClose::Linger(LIMIT)),
    ];
    for limit in limits {
        let listener = tidegate_io::endpoint::tcp::Listener::bind("127.0.0.1:0")
            .await
            .unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let sending = std::thread::spawn(move || {
            let piece = pattern(50_000);
            while std::io::Write::write_all(&mut &client, &piece).is_ok() {}
        });
        let near = tidegate_io::endpoint::tcp::duplex(listener.accept().await.unwrap().0);
        let child = Process::exec("head", ["-c", "10"]).into_duplex().unwrap();
        let relay = Relay::new(near, child).drain(Duration::from_secs(3600));
        let report = within(limit(relay).run()).await.unwrap();
        assert_eq!(report.b_to_a.bytes_sent, 10);
        sending.join().unwrap();
    }
}
