//! `tidegate SRC DST`: opens both ends, runs one flow, obeys signals, and tells how it went.
//!
//! Knows the order of these steps; how an end is opened and what a line looks like is said elsewhere.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tidegate::AbortReason;
use tidegate_io::{Flow, FlowError, FlowHandle, HoldReason, Report};
use tokio::task::JoinHandle;

use crate::address::Address;
use crate::checksum::{Checked, Slot};
use crate::display::Display;
use crate::exit::Exit;
use crate::open::{self, BoxSink, BoxSource, Opener};
use crate::progress::Meter;
use crate::report::{self, Failure, Names};
use crate::settings::CopySettings;
use crate::signals::{self, Ending, Signals, Wish};
use crate::size::show_size;

/// A gap between two ticks longer than this by far was no busy machine: the process stood still.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// A copy whose addresses and settings are sound.
pub(crate) struct Job {
    pub(crate) source: Address,
    pub(crate) sink: Address,
    pub(crate) settings: CopySettings,
    /// The configuration file that was read.
    pub(crate) origin: Option<PathBuf>,
}

/// A copy under way.
struct Running {
    task: JoinHandle<Result<Report, FlowError>>,
    handle: FlowHandle,
    size: Option<u64>,
    checksum: Slot,
}

impl Job {
    /// Runs it and says how the program ends.
    pub(crate) async fn run(self) -> Exit {
        let names = Names {
            source: open::name(&self.source, open::STDIN),
            sink: open::name(&self.sink, open::STDOUT),
        };
        let mut display = Display::new(&self.settings.output);
        match self.attempt(&names, &mut display).await {
            Ok(()) => Exit::Ok,
            Err(failure) => {
                // A reader that has seen enough is no news.
                if failure.exit != Exit::BrokenStdout {
                    display.fail(&failure.line(&names), &report::failure_json(&failure, &names));
                }
                failure.exit
            }
        }
    }

    async fn attempt(&self, names: &Names, display: &mut Display) -> Result<(), Failure> {
        let mut signals = Signals::new().map_err(|error| Failure {
            exit: Exit::Other,
            side: None,
            message: format!("cannot listen to signals: {error}"),
            report: None,
        })?;
        if let Some(origin) = &self.origin {
            tracing::info!("configuration: {}", origin.display());
        }
        let (source, sink) = self.open(names, display, &mut signals).await?;
        let marks = &self.settings.flow.marks;
        tracing::info!(
            "{} and {} are open; at most {} held, {} expected",
            names.source,
            names.sink,
            show_size((marks.high() + marks.chunk()) as u64),
            source.size_hint().map_or("an unknown size".to_owned(), show_size)
        );
        let mut running = self.start(source, sink);
        let (result, ending) = running.watch(names, display, &mut signals).await?;
        let checksum = running.checksum.get();
        match result {
            Ok(report) => {
                let object = report::report_json(&report, checksum.as_ref(), running.size, names);
                display.end(&report::last_line(&report, checksum.as_ref()), &object);
                Ok(())
            }
            Err(error) => Err(Failure::flow(&error, ending, open::is_stdout(&self.sink))),
        }
    }

    /// Opens both ends; a signal meanwhile ends the program, for nothing has moved yet.
    async fn open(
        &self,
        names: &Names,
        display: &Display,
        signals: &mut Signals,
    ) -> Result<(BoxSource, BoxSink), Failure> {
        let announce = |address: &str| display.listening(address, names);
        let opener = Opener {
            settings: &self.settings,
            announce: &announce,
        };
        let opening = opener.both(&self.source, &self.sink);
        tokio::pin!(opening);
        loop {
            tokio::select! {
                result = &mut opening => return result,
                wish = signals.next() => match wish {
                    Wish::End(ending) => return Err(Failure {
                        exit: ending.exit(),
                        side: None,
                        message: format!("{} before both ends were open", ending.words()),
                        report: None,
                    }),
                    Wish::Suspend => signals::suspend(),
                    Wish::Look | Wish::Continue => {}
                },
            }
        }
    }

    fn start(&self, source: BoxSource, sink: BoxSink) -> Running {
        let size = self.settings.size.or_else(|| source.size_hint());
        let checksum = Slot::default();
        let source: BoxSource = match &self.settings.checksum {
            Some(wanted) => Box::new(Checked::new(source, wanted.clone(), checksum.clone())),
            None => source,
        };
        let limits = &self.settings.flow;
        let mut flow = Flow::new(source, sink)
            .marks(limits.marks)
            .drain(limits.drain)
            .lane(limits.lane_choice());
        if let Some(rate) = limits.rate {
            flow = flow.rate(rate);
        }
        if let Some(stall) = limits.stall {
            flow = flow.stall(stall);
        }
        let handle = flow.handle();
        Running {
            task: tokio::spawn(flow.run()),
            handle,
            size,
            checksum,
        }
    }
}

impl Running {
    /// Waits for the end, shows the way there, and obeys signals: the first ending lets what is held go out, the second
    /// does not wait.
    async fn watch(
        &mut self,
        names: &Names,
        display: &mut Display,
        signals: &mut Signals,
    ) -> Result<(Result<Report, FlowError>, Option<Ending>), Failure> {
        let mut meter = Meter::default();
        let mut ending = None;
        let every = display.every();
        let mut ticker = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            tokio::select! {
                biased;
                result = &mut self.task => {
                    let result = result.map_err(|error| Failure {
                        exit: Exit::Other,
                        side: None,
                        message: format!("a fault of the program itself: {error}"),
                        report: None,
                    })?;
                    return Ok((result, ending));
                }
                wish = signals.next() => match wish {
                    Wish::End(by) => self.end(by, &mut ending, display),
                    Wish::Suspend => self.suspend().await,
                    Wish::Look => {
                        let now = self.handle.snapshot();
                        meter.observe(&now, stood_still(&mut last, every));
                        display.look(&now, &meter, self.size, names);
                    }
                    Wish::Continue => {}
                },
                _ = ticker.tick() => {
                    let now = self.handle.snapshot();
                    meter.observe(&now, stood_still(&mut last, every));
                    display.tick(&now, &meter, self.size, names);
                    tracing::debug!("{}", report::snapshot_line(&now, &meter, names));
                }
            }
        }
    }

    fn end(&self, by: Ending, ending: &mut Option<Ending>, display: &Display) {
        if ending.is_none() {
            *ending = Some(by);
            display.note(&format!(
                "{}: delivering what is held; once more aborts at once",
                by.words()
            ));
            self.handle.stop();
        } else {
            self.handle.abort(AbortReason::Requested);
        }
    }

    /// Stops as the terminal asked. The flow is held before, so that the time counts as the user's.
    async fn suspend(&self) {
        crate::display::wipe();
        let hold = self.handle.hold(HoldReason::User);
        // The flow's task notices the hold before the process stands still.
        tokio::time::sleep(Duration::from_millis(2)).await;
        signals::suspend();
        // SIGSTOP takes effect at the latest when this thread next enters the kernel.
        tokio::time::sleep(Duration::from_millis(2)).await;
        drop(hold);
    }
}

/// How long the process stood still since the last look.
fn stood_still(last: &mut Instant, every: Duration) -> Duration {
    let now = Instant::now();
    let gap = now.saturating_duration_since(*last);
    *last = now;
    if gap > every + STOOD_STILL {
        gap - every
    } else {
        Duration::ZERO
    }
}
