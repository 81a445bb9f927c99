//! The sixteen laws over real descriptors: every consumer that the endpoints make, with the ends swapped too.
//!
//! A pipe or a Unix socket has one way to end, so law 10 (an abort never looks finished) cannot hold on one and is not
//! run there; the table in `docs/endpoints.md` says so.
#![allow(clippy::unwrap_used)]

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::laws::{Control, Device, FarEnd, Harness, Subject};
use tidegate::{AbortReason, Delivered, Marks, Outcome, StopReason};
use tidegate_io::endpoint::process::{Process, Stderr};
use tidegate_io::endpoint::{fd, pipe, tcp, unix};
use tidegate_io::{Buffers, Duplex, Sink, SinkConsumer, Source};
use tokio::runtime::Runtime;
use tokio::sync::watch;

const TIMEOUT: Duration = Duration::from_secs(10);

/// What a child that copied everything to its end says last.
const END_MARK: &[u8] = b"<the end>";

/// A connection: our sink, and what the far side reads from.
type Ends = (Box<dyn Sink + Send>, FarSide);

struct FarSide {
    source: Box<dyn Source + Send>,
    /// Dropped with the far side alive.
    others: Others,
    mark: &'static [u8],
}

enum Others {
    Socket(Box<dyn Sink + Send>),
    Child(rustix::process::Pid),
    Nothing,
}

/// A kind of consumer, by how its two ends are made.
struct Over {
    name: &'static str,
    slack: usize,
    tells_cut: bool,
    make: fn(&Runtime) -> Ends,
}

impl Harness for Over {
    fn make(&self, marks: Marks) -> Subject {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (sink, far) = (self.make)(&runtime);
        let entered = runtime.enter();
        let consumer = SinkConsumer::spawn(sink, marks);
        let outcome = consumer.outcome();
        let (allow, allowed) = watch::channel(false);
        let seen = Arc::new(Mutex::new((Vec::new(), FarEnd::Open)));
        let source = Arc::new(Mutex::new(Some(far.source)));
        let far_end = FarEndRules {
            mark: far.mark,
            tells_cut: self.tells_cut,
            outcome: outcome.clone(),
        };
        tokio::spawn(read(Arc::clone(&source), far_end, allowed, Arc::clone(&seen)));
        drop(entered);
        let device = Far {
            outcome,
            allow,
            seen,
            source,
            others: far.others,
            runtime,
        };
        Subject {
            consumer: Arc::new(consumer),
            device: Box::new(device),
        }
    }

    fn control(&self) -> Control {
        Control::Coarse
    }

    fn slack(&self) -> usize {
        self.slack
    }

    fn name(&self) -> &'static str {
        self.name
    }
}

struct Far {
    outcome: Outcome,
    allow: watch::Sender<bool>,
    seen: Arc<Mutex<(Vec<u8>, FarEnd)>>,
    source: Slot,
    others: Others,
    /// Last, so that it goes last.
    runtime: Runtime,
}

/// Shared, so that a kill takes effect at once.
type Slot = Arc<Mutex<Option<Box<dyn Source + Send>>>>;

/// How the far side tells a complete stream from one that was cut short.
struct FarEndRules {
    mark: &'static [u8],
    /// Whether this kind of connection shows it at all. Where it does not, the consumer's outcome stands for it.
    tells_cut: bool,
    outcome: Outcome,
}

impl FarEndRules {
    fn at_end(&self, output: &mut Vec<u8>) -> FarEnd {
        if !output.ends_with(self.mark) {
            return FarEnd::Cut;
        }
        output.truncate(output.len() - self.mark.len());
        if !self.tells_cut && matches!(self.outcome.now(), Some(Err(_))) {
            return FarEnd::Cut;
        }
        FarEnd::Finished
    }
}

async fn read(
    source: Slot,
    rules: FarEndRules,
    mut allowed: watch::Receiver<bool>,
    seen: Arc<Mutex<(Vec<u8>, FarEnd)>>,
) {
    let mut buffers = Buffers::default();
    loop {
        if allowed.wait_for(|allowed| *allowed).await.is_err() {
            return;
        }
        let read = std::future::poll_fn(|cx| match &mut *source.lock().unwrap() {
            Some(source) => source.poll_read(cx, &mut buffers, 64 * 1024),
            None => std::task::Poll::Pending,
        });
        let read = read.await;
        let mut seen = seen.lock().unwrap();
        match read {
            Ok(Some(bytes)) => seen.0.extend_from_slice(&bytes),
            Ok(None) => {
                seen.1 = rules.at_end(&mut seen.0);
                return;
            }
            Err(_) => {
                seen.1 = FarEnd::Cut;
                return;
            }
        }
    }
}

impl Device for Far {
    fn allow(&mut self, bytes: usize) {
        self.allow.send_replace(bytes > 0);
    }

    fn turn(&mut self) {
        self.runtime
            .block_on(async { tokio::time::sleep(Duration::from_micros(100)).await });
    }

    fn output(&mut self) -> Vec<u8> {
        self.seen.lock().unwrap().0.clone()
    }

    fn kill(&mut self) {
        let _entered = self.runtime.enter();
        match std::mem::replace(&mut self.others, Others::Nothing) {
            Others::Socket(mut sink) => sink.abort(&AbortReason::Requested),
            Others::Child(child) => kill_group(child),
            Others::Nothing => {}
        }
        drop(self.source.lock().unwrap().take());
    }

    fn end(&mut self) -> FarEnd {
        self.seen.lock().unwrap().1
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

/// Kills a child and its own, and waits until their descriptors are closed.
fn kill_group(leader: rustix::process::Pid) {
    let leader_id = leader.as_raw_nonzero().get();
    let children = format!("/proc/{leader_id}/task/{leader_id}/children");
    let mut members = std::fs::read_to_string(children).unwrap_or_default();
    members.push_str(&leader_id.to_string());
    let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
    for id in members.split_whitespace() {
        let is_alive =
            || std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z"));
        while is_alive() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn small(socket: &impl std::os::fd::AsFd) {
    bounded(socket, 4096);
}

fn bounded(socket: &impl std::os::fd::AsFd, bytes: usize) {
    let socket = socket2::SockRef::from(socket);
    socket.set_send_buffer_size(bytes).unwrap();
    socket.set_recv_buffer_size(bytes).unwrap();
}

fn tcp_pair(runtime: &Runtime, buffer_bytes: usize) -> (Duplex, Duplex) {
    runtime.block_on(async {
        let listener = tcp::Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (near, far) = tokio::join!(tcp::connect(&address, TIMEOUT), listener.accept());
        let (near, far) = (near.unwrap(), far.unwrap().0);
        bounded(&near, buffer_bytes);
        bounded(&far, buffer_bytes);
        (tcp::duplex(near), tcp::duplex(far))
    })
}

fn over_socket(near: Duplex, far: Duplex) -> Ends {
    // The far side never writes; our reading half is of no use, but it keeps the connection.
    let kept = KeptSource(near.sink, near.source);
    let far_side = FarSide {
        source: far.source,
        others: Others::Socket(far.sink),
        mark: b"",
    };
    (Box::new(kept), far_side)
}

/// A sink that keeps the reading half beside it alive for as long as it lives itself.
struct KeptSource(Box<dyn Sink + Send>, Box<dyn Source + Send>);

impl Sink for KeptSource {
    fn poll_write(
        &mut self,
        cx: &mut std::task::Context<'_>,
        held: &tidegate_io::Held,
    ) -> std::task::Poll<Result<usize, tidegate_io::EndpointError>> {
        self.0.poll_write(cx, held)
    }
    fn poll_flush(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), tidegate_io::EndpointError>> {
        self.0.poll_flush(cx)
    }
    fn poll_finish(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<tidegate_io::Confirmation, tidegate_io::EndpointError>> {
        self.0.poll_finish(cx)
    }
    fn abort(&mut self, reason: &AbortReason) {
        self.0.abort(reason);
    }
    fn poll_aborted(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.0.poll_aborted(cx)
    }
    fn poll_hangup(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<tidegate_io::EndpointError> {
        self.0.poll_hangup(cx)
    }
    fn unsent_bytes(&self) -> Option<u64> {
        self.0.unsent_bytes()
    }
    fn name(&self) -> String {
        self.1.name()
    }
}

fn tcp_connected(runtime: &Runtime) -> Ends {
    let (near, far) = tcp_pair(runtime, 4096);
    over_socket(near, far)
}

fn tcp_accepted(runtime: &Runtime) -> Ends {
    let (far, near) = tcp_pair(runtime, 4096);
    over_socket(near, far)
}

fn unix_connected(runtime: &Runtime) -> Ends {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (near, far) = runtime.block_on(async {
        let listener = unix::Listener::bind(&path).await.unwrap();
        let (near, far) = tokio::join!(unix::connect(&path, TIMEOUT), listener.accept());
        (near.unwrap(), far.unwrap())
    });
    small(&near);
    small(&far);
    let _entered = runtime.enter();
    over_socket(unix::duplex(near, &path), unix::duplex(far, &path))
}

fn fifo(runtime: &Runtime) -> Ends {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    runtime.block_on(async {
        let source = pipe::PipeSource::open(&path).unwrap();
        let sink = pipe::PipeSink::open(&path).await.unwrap();
        rustix::pipe::fcntl_setpipe_size(sink.lane_end().unwrap().fd, 4096).unwrap();
        let far_side = FarSide {
            source: Box::new(source),
            others: Others::Nothing,
            mark: b"",
        };
        (Box::new(sink) as Box<dyn Sink + Send>, far_side)
    })
}

/// An inherited pipe, as standard output is one.
fn adopted_pipe(runtime: &Runtime) -> Ends {
    let (read, write) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&write, 4096).unwrap();
    let _entered = runtime.enter();
    let source = fd::Descriptor::adopt(read.as_raw_fd())
        .unwrap()
        .into_source()
        .unwrap();
    let sink = fd::Descriptor::adopt(write.as_raw_fd())
        .unwrap()
        .into_sink()
        .unwrap();
    let far_side = FarSide {
        source: Box::new(source),
        others: Others::Nothing,
        mark: b"",
    };
    (Box::new(sink), far_side)
}

fn adopted_socket(runtime: &Runtime) -> Ends {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    small(&near);
    small(&far);
    let _entered = runtime.enter();
    let adopt = |end: &std::os::unix::net::UnixStream| fd::Descriptor::adopt(end.as_raw_fd()).unwrap();
    let sink = adopt(&near).into_sink().unwrap();
    let far_side = FarSide {
        source: Box::new(adopt(&far).into_source().unwrap()),
        others: Others::Nothing,
        mark: b"",
    };
    (Box::new(sink), far_side)
}

fn child(runtime: &Runtime) -> Ends {
    let _entered = runtime.enter();
    let mark = std::str::from_utf8(END_MARK).unwrap();
    let process = Process::shell(format!("cat; printf '{mark}'")).stderr(Stderr::Inherit);
    let Duplex { source, sink } = process.grace(Duration::from_secs(1)).into_duplex().unwrap();
    let id = sink.name();
    let child = children()
        .into_iter()
        .max_by_key(|(started, _)| *started)
        .unwrap()
        .1;
    assert!(id.starts_with("sh:"));
    let far_side = FarSide {
        source,
        others: Others::Child(child),
        mark: END_MARK,
    };
    (sink, far_side)
}

/// The children of this thread, with the order in which they were started.
fn children() -> Vec<(u64, rustix::process::Pid)> {
    let listed = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    let started = |id: &str| -> Option<(u64, rustix::process::Pid)> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let after = stat.rsplit_once(')')?.1;
        let pid = rustix::process::Pid::from_raw(id.parse().ok()?)?;
        Some((after.split_whitespace().nth(19)?.parse().ok()?, pid))
    };
    listed.split_whitespace().filter_map(started).collect()
}

#[cfg(feature = "tls")]
fn tls_pair(runtime: &Runtime) -> (Duplex, Duplex) {
    use tidegate_io::endpoint::tls::{Client, Options, Server};

    let papers = crate::tls::Papers::new();
    let server = Server::new(&papers.sign("localhost", |_| ()), &Options::default()).unwrap();
    let client = Client::new(&papers.options()).unwrap();
    // A record must fit, or the kernel's timers decide how fast it goes.
    let (near, far) = tcp_pair(runtime, 24 * 1024);
    runtime.block_on(async {
        let (near, far) = tokio::join!(client.connect(near, "localhost"), server.accept(far));
        (near.unwrap().into_duplex(), far.unwrap().into_duplex())
    })
}

#[cfg(feature = "tls")]
fn tls_client(runtime: &Runtime) -> Ends {
    let (near, far) = tls_pair(runtime);
    over_socket(near, far)
}

#[cfg(feature = "tls")]
fn tls_server(runtime: &Runtime) -> Ends {
    let (far, near) = tls_pair(runtime);
    over_socket(near, far)
}

const fn over(name: &'static str, slack: usize, make: fn(&Runtime) -> Ends) -> Over {
    Over {
        name,
        slack,
        tells_cut: true,
        make,
    }
}

/// A connection that ends one way only.
const fn over_one_end(name: &'static str, slack: usize, make: fn(&Runtime) -> Ends) -> Over {
    Over {
        tells_cut: false,
        ..over(name, slack, make)
    }
}

tidegate::law_suite!(
    over_tcp_connected,
    over("tcp, connected", 128 * 1024, tcp_connected)
);
tidegate::law_suite!(over_tcp_accepted, over("tcp, accepted", 128 * 1024, tcp_accepted));
tidegate::law_suite!(over_child, over("process", 512 * 1024, child));
#[cfg(feature = "tls")]
tidegate::law_suite!(over_tls_client, over("tls, client", 192 * 1024, tls_client));
#[cfg(feature = "tls")]
tidegate::law_suite!(over_tls_server, over("tls, server", 192 * 1024, tls_server));

/// All laws but the tenth.
macro_rules! suite_of_a_pipe {
    ($name:ident, $harness:expr) => {
        mod $name {
            use super::*;
            tidegate::law_suite!(@each $harness;
                law_01_order law_02_bound law_03_pause_once law_04_one_chunk_per_pull law_05_stop_is_last
                law_06_second_registration law_07_reentrancy law_08_threads law_09_closing_waits
                law_11_a_pause_is_not_blind law_12_registrations_are_separate
                law_13_no_spin_no_stall law_14_panics_end_one_registration law_15_outcome law_16_no_leaks);
        }
    };
}

suite_of_a_pipe!(over_fifo, over_one_end("pipe", 8 * 1024, fifo));
suite_of_a_pipe!(
    over_adopted_pipe,
    over_one_end("fd, pipe", 8 * 1024, adopted_pipe)
);
suite_of_a_pipe!(
    over_adopted_socket,
    over_one_end("fd, socket", 64 * 1024, adopted_socket)
);
suite_of_a_pipe!(over_unix, over_one_end("unix", 64 * 1024, unix_connected));
