//! What the law suite needs to run over real handles: a consumer on one end, a far side that reads on request.
//!
//! Knows no kind of handle; whoever makes the two ends does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::laws::{Control, Device, FarEnd, Harness, Subject};
use tidegate::{AbortReason, Delivered, Marks, Outcome, StopReason};
use tidegate_io::{Buffers, Duplex, Sink, SinkConsumer, Source};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// What a child that copied everything to its end says last.
pub(crate) const END_MARK: &[u8] = b"<the end>";

/// A connection: our sink, and what the far side reads from.
pub(crate) type Ends = (Box<dyn Sink + Send>, FarSide);

pub(crate) struct FarSide {
    pub(crate) source: Box<dyn Source + Send>,
    /// Dropped with the far side alive.
    pub(crate) others: Others,
    pub(crate) mark: &'static [u8],
}

pub(crate) enum Others {
    Socket(Box<dyn Sink + Send>),
    /// Kills a child and its own, and waits until they are gone.
    Child(Box<dyn FnOnce() + Send>),
    Nothing,
}

impl Others {
    /// Goes away without a word, as a crash would.
    pub(crate) fn kill(self) {
        match self {
            Self::Socket(mut sink) => sink.abort(&AbortReason::Requested),
            Self::Child(kill) => kill(),
            Self::Nothing => {}
        }
    }
}

/// A kind of consumer, by how its two ends are made.
pub(crate) struct Over {
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
    pub(crate) mark: &'static [u8],
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
        std::mem::replace(&mut self.others, Others::Nothing).kill();
        drop(self.source.lock().unwrap().take());
    }

    fn end(&mut self) -> FarEnd {
        self.seen.lock().unwrap().1
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

pub(crate) fn over_socket(near: Duplex, far: Duplex) -> Ends {
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

pub(crate) const fn over(name: &'static str, slack: usize, make: fn(&Runtime) -> Ends) -> Over {
    Over {
        name,
        slack,
        tells_cut: true,
        make,
    }
}

/// A connection that ends one way only.
pub(crate) const fn over_one_end(name: &'static str, slack: usize, make: fn(&Runtime) -> Ends) -> Over {
    Over {
        tells_cut: false,
        ..over(name, slack, make)
    }
}

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
pub(crate) use suite_of_a_pipe;
