//! `tidegate demo`: the main job on real bytes, in one process and without a network: a fast source, a gate, TCP on
//! loopback, a slow consumer. Proves that every byte arrived and that memory stayed within the marks.
//!
//! Knows nothing that the program does not use for real copies, but for the two ends.

#[cfg_attr(not(unix), path = "demo/no_pair.rs")]
mod pair;

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tidegate::{AbortReason, Marks};
use tidegate_io::endpoint::tcp;
use tidegate_io::{
    Buffers, Confirmation, EndpointError, Flow, FlowError, FlowHandle, Held, Report, Sink, Source,
};
use tokio::time::{Instant, Sleep};

use crate::args::DemoArgs;
use crate::checksum::{Checked, Checksum, Hasher, Kind, Slot, Wanted};
use crate::config::Defaults;
use crate::display::Display;
use crate::exit::Exit;
use crate::open::{BoxSink, BoxSource};
use crate::progress::Meter;
use crate::report::{self, Failure, Names};
use crate::settings::OutputSettings;
use crate::signals::{Signals, Wish};
use crate::size::show_size;

/// What the consumer takes a second.
const CONSUMER_RATE: u64 = 40 << 20;

/// What code, stacks and the runtime may add to memory while it runs, beyond the marks of two flows.
const SLACK_BYTES: u64 = 6 << 20;

/// Runs the command.
pub(crate) fn run(args: &DemoArgs) -> Exit {
    let output = match OutputSettings::resolve(&args.output, args.progress, &Defaults::default()) {
        Ok(output) => output,
        Err(error) => return crate::fail(&Failure::usage(format!("{error:#}")), &args.output),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return crate::fail(&crate::other(format!("cannot start: {error}")), &args.output),
    };
    let names = Names {
        source: "a fast source".into(),
        sink: "a slow consumer behind TCP on loopback".into(),
    };
    let mut display = Display::new(&output);
    match runtime.block_on(show(args.time, &mut display, &names)) {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            display.fail(&failure.line(&names), &report::failure_json(&failure, &names));
            failure.exit
        }
    }
}

async fn show(time: Duration, display: &mut Display, names: &Names) -> Result<(), Failure> {
    let size = (CONSUMER_RATE as f64 * time.as_secs_f64().max(0.1)) as u64;
    let broken = |error: EndpointError| crate::other(error.to_string());
    let joined = joined().await.map_err(broken)?;
    display.note(&format!(
        "demo: {} from a fast source through a gate and {} to a consumer that takes {}/s",
        show_size(size),
        joined.by,
        show_size(CONSUMER_RATE)
    ));
    let at_start = peak_memory();

    let sent = Slot::default();
    let wanted = Wanted {
        kind: Kind::Blake3,
        expected: None,
    };
    let source = Checked::new(Fast::new(size, time * 3 / 2), wanted, sent.clone());
    let marks = Marks::default();
    let sending = Flow::new(source, joined.near).marks(marks);
    let handle = sending.handle();
    let arrived = Arc::new(Mutex::new(None));
    let consuming = Flow::new(joined.far, Slow::new(CONSUMER_RATE, Arc::clone(&arrived))).marks(marks);

    let consuming = tokio::spawn(consuming.run());
    let sending = tokio::spawn(sending.run());
    let report = watch(sending, &handle, size, display, names).await?;
    let consumed = consuming.await.map_err(|error| crate::other(error.to_string()))?;
    let consumed = consumed.map_err(|error| crate::other(format!("the consumer: {error}")))?;

    let sent = sent.get();
    let arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner).clone();
    judge(&report, consumed.bytes_read, sent.as_ref(), arrived.as_ref())?;
    let memory = judge_memory(at_start, marks, &report)?;
    display.note(&format!(
        "demo: every byte arrived: both ends have {}",
        sent.clone().map_or(String::new(), |sum| sum.to_string())
    ));
    display.note(&format!("demo: {memory}"));
    display.end(
        &report::last_line(&report, sent.as_ref()),
        &report::report_json(&report, sent.as_ref(), Some(size), names),
    );
    Ok(())
}

/// A connection of this process to itself.
struct Joined {
    near: BoxSink,
    far: BoxSource,
    /// What it goes over, for people.
    by: String,
}

/// TCP on loopback; a pair of Unix sockets where even loopback is down, as in an empty network namespace.
async fn joined() -> Result<Joined, EndpointError> {
    match over_tcp().await {
        Err(error) => pair::joined(&error),
        joined => joined,
    }
}

async fn over_tcp() -> Result<Joined, EndpointError> {
    let listener = tcp::Listener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?.to_string();
    let (near, (far, _)) = tokio::try_join!(
        tcp::connect(&at, Duration::from_secs(5)),
        tcp::accept_one(listener)
    )?;
    Ok(Joined {
        near: Box::new(tcp::sink(near)),
        far: Box::new(tcp::source(far)),
        by: format!("TCP on {at}"),
    })
}

async fn watch(
    mut sending: tokio::task::JoinHandle<Result<Report, FlowError>>,
    handle: &FlowHandle,
    size: u64,
    display: &mut Display,
    names: &Names,
) -> Result<Report, Failure> {
    let mut signals = Signals::new().map_err(|error| crate::other(error.to_string()))?;
    let mut meter = Meter::default();
    let mut ticker = tokio::time::interval(display.every());
    let mut ending = None;
    loop {
        tokio::select! {
            biased;
            result = &mut sending => {
                let result = result.map_err(|error| crate::other(error.to_string()))?;
                return result.map_err(|error| Failure::flow(&error, ending, report::Stdout::IsNot));
            }
            wish = signals.next() => if let Wish::End(by) = wish {
                ending = Some(by);
                handle.abort(AbortReason::Requested);
            },
            _ = ticker.tick() => {
                let now = handle.snapshot();
                meter.observe(&now, Duration::ZERO);
                display.tick(&now, &meter, Some(size), names);
            }
        }
    }
}

fn judge(
    report: &Report,
    consumed: u64,
    sent: Option<&Checksum>,
    arrived: Option<&Checksum>,
) -> Result<(), Failure> {
    if sent.is_some() && sent == arrived && report.bytes_read == consumed {
        return Ok(());
    }
    Err(Failure {
        exit: Exit::Mismatch,
        side: None,
        message: format!(
            "what arrived is not what was sent: {consumed} bytes of {}",
            report.bytes_read
        ),
        report: Some(report.clone()),
    })
}

/// Says how much memory was used at most, or that it was too much.
fn judge_memory(at_start: Option<u64>, marks: Marks, report: &Report) -> Result<String, Failure> {
    let (Some(start), Some(peak)) = (at_start, peak_memory()) else {
        return Ok("this system does not tell how much memory was used".to_owned());
    };
    let marks = 2 * (marks.high() + marks.chunk()) as u64;
    let budget = start + marks + SLACK_BYTES;
    let line = format!(
        "peak memory {} while {} moved (budget {}: {} at the start, {} for the marks of both flows, {} for the rest)",
        show_size(peak),
        show_size(report.bytes_sent),
        show_size(budget),
        show_size(start),
        show_size(marks),
        show_size(SLACK_BYTES)
    );
    if peak <= budget {
        return Ok(line);
    }
    Err(Failure {
        exit: Exit::Other,
        side: None,
        message: format!("too much memory: {line}"),
        report: Some(report.clone()),
    })
}

/// The most memory this process has had resident, where the system tells.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().split(' ').next()?.parse().ok()?;
    Some(kib * 1024)
}

/// A source that always has bytes: a different pattern in each chunk, so that a lost or doubled one is noticed.
struct Fast {
    left: u64,
    made: u64,
    until: Instant,
}

impl Fast {
    fn new(size: u64, at_most: Duration) -> Self {
        Self {
            left: size,
            made: 0,
            until: Instant::now() + at_most,
        }
    }
}

impl Source for Fast {
    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        if self.left == 0 || Instant::now() >= self.until {
            return Poll::Ready(Ok(None));
        }
        let mut buffer = buffers.take(max);
        let room = buffer.space().len().min(max);
        let count = room.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        for (at, piece) in buffer.space()[..count].chunks_mut(8).enumerate() {
            let word = (self.made + at as u64 * 8)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
        buffers.learn(room, count);
        self.left -= count as u64;
        self.made += count as u64;
        Poll::Ready(Ok(Some(buffer.freeze(count))))
    }

    fn size_hint(&self) -> Option<u64> {
        Some(self.left)
    }

    fn name(&self) -> String {
        "a fast source".to_owned()
    }
}

/// A consumer that takes so much a second, and remembers what it was.
struct Slow {
    rate: u64,
    took: u64,
    began: Option<Instant>,
    pause: Option<std::pin::Pin<Box<Sleep>>>,
    hasher: Hasher,
    arrived: Arc<Mutex<Option<Checksum>>>,
}

impl Slow {
    fn new(rate: u64, arrived: Arc<Mutex<Option<Checksum>>>) -> Self {
        Self {
            rate,
            took: 0,
            began: None,
            pause: None,
            hasher: Hasher::new(Kind::Blake3),
            arrived,
        }
    }
}

impl Sink for Slow {
    fn poll_write(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<usize, EndpointError>> {
        let began = *self.began.get_or_insert_with(Instant::now);
        let due = began + Duration::from_secs_f64(self.took as f64 / self.rate as f64);
        if due > Instant::now() {
            let pause = self
                .pause
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            pause.as_mut().reset(due);
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let mut took = 0;
        for piece in held.pieces() {
            self.hasher.update(piece);
            took += piece.len();
        }
        self.took += took as u64;
        Poll::Ready(Ok(took))
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<Confirmation, EndpointError>> {
        *self.arrived.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.hasher.finish());
        Poll::Ready(Ok(Confirmation::Confirmed))
    }

    fn abort(&mut self, _: &AbortReason) {}

    fn name(&self) -> String {
        "a slow consumer".to_owned()
    }
}
