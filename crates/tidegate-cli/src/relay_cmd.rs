//! `tidegate relay A B`: joins two two-way addresses. With a listener among them it serves many connections.
//!
//! Knows when connections are taken, refused and ended, and what is logged of them; how bytes move is the relay's own
//! business.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::AbortReason;
use tidegate_io::{
    Direction, Duplex, FlowHandle, HalfClose, Relay, RelayError, RelayHandle, RelayReport, SharedRate, Side,
    Sink, Snapshot,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::address::{Address, Role};
use crate::args::{HalfCloseArg, RelayArgs};
use crate::config::Config;
use crate::display;
use crate::exit::Exit;
use crate::logging;
use crate::open::{self, Acceptor, Dialler};
use crate::report::{self, Failure, Names, Stdout};
use crate::settings::{EndSettings, FlowSettings, OutputSettings, tls};
use crate::signals::{self, Ending, Signals, Wish};
use crate::size::{show_size, show_time};

/// Descriptors kept for everything but connections: standard streams, listeners, the runtime, a few pipes.
const DESCRIPTORS_KEPT: u64 = 96;

/// A connection through the relay has two ends.
const DESCRIPTORS_EACH: u64 = 2;

/// How often a drain looks for progress.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// All a relay goes by.
struct Settings {
    flow: FlowSettings,
    output: OutputSettings,
    ends: EndSettings,
    half_close: HalfClose,
    idle: Option<Duration>,
    total: Option<SharedRate>,
    connections_max: usize,
}

/// Runs the command.
pub(crate) fn run(args: &RelayArgs) -> Exit {
    let (a, b, settings) = match resolve(args) {
        Ok(resolved) => resolved,
        Err(failure) => return crate::fail(&failure, &args.output),
    };
    logging::start(logging::Kind::Service, &settings.output);
    crate::warn_of_secrets(&[&a, &b]);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return crate::fail(&crate::other(format!("cannot start: {error}")), &args.output),
    };
    let names = Names {
        source: open::name(&a, open::STDIO),
        sink: open::name(&b, open::STDIO),
    };
    let result = runtime.block_on(serve_or_join(&a, &b, settings, &names));
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit,
        Err(failure) => {
            if failure.exit != Exit::BrokenStdout {
                tell_failure(&failure, &names, args.output.json);
            }
            failure.exit
        }
    }
}

fn tell_failure(failure: &Failure, names: &Names, json: bool) {
    if json {
        display::print_json(&report::failure_json(failure, names));
    } else {
        let line = failure
            .line(names)
            .replacen("source ", "", 1)
            .replacen("sink ", "", 1);
        display::print_line(&format!("tidegate: {line}"));
    }
}

fn resolve(args: &RelayArgs) -> Result<(Address, Address, Settings), Failure> {
    let usage = |error: anyhow::Error| Failure::usage(format!("{error:#}"));
    let config = Config::load(args.output.config.as_deref()).map_err(usage)?;
    let end = |written: &OsString| crate::address(&config, written, Role::Relay);
    let (a, b) = (end(&args.a)?, end(&args.b)?);
    let settings = Settings {
        flow: FlowSettings::resolve(&args.flow, &config.defaults).map_err(usage)?,
        output: OutputSettings::resolve(&args.output, None, &config.defaults).map_err(usage)?,
        ends: EndSettings {
            tls: tls(&args.tls, &config.defaults),
            ..EndSettings::default()
        },
        half_close: match args.half_close {
            None | Some(HalfCloseArg::Propagate) => HalfClose::Propagate,
            Some(HalfCloseArg::Linger(time)) => HalfClose::Linger(time),
            Some(HalfCloseArg::Abort) => HalfClose::Abort,
        },
        idle: args.idle.filter(|limit| !limit.is_zero()),
        total: args.rate_total.map(SharedRate::new),
        connections_max: connections_max(args.max_connections),
    };
    Ok((a, b, settings))
}

/// What was asked for, else what the descriptor limit allows, which is raised as far as it goes first.
fn connections_max(asked: Option<u32>) -> usize {
    let descriptors = raise_descriptor_limit();
    let fit = (descriptors.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_EACH)
        .clamp(1, Semaphore::MAX_PERMITS as u64);
    match asked {
        Some(asked) => asked as usize,
        None => fit as usize,
    }
}

/// Raises the soft descriptor limit to the hard one and says what it is.
#[cfg(unix)]
pub(crate) fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() {
        limit.maximum
    } else {
        limit.current
    };
    now.unwrap_or(1 << 20)
}

/// There is no such limit here.
#[cfg(not(unix))]
pub(crate) fn raise_descriptor_limit() -> u64 {
    1 << 16
}

async fn serve_or_join(a: &Address, b: &Address, settings: Settings, names: &Names) -> Result<Exit, Failure> {
    let mut signals =
        Signals::new().map_err(|error| crate::other(format!("cannot listen to signals: {error}")))?;
    if a.row().listens() || b.row().listens() {
        serve(a, b, settings, names, &mut signals).await
    } else {
        join(a, b, &settings, names, &mut signals).await
    }
}

/// Two addresses of which none listens: one relay, and its outcome is the program's.
async fn join(
    a: &Address,
    b: &Address,
    settings: &Settings,
    names: &Names,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let at = |side: Side| move |error| Failure::open(side, &error);
    let timeout = settings.flow.connect_timeout;
    let opening = async {
        let dial_a = Dialler::bind(a, &settings.ends, timeout)
            .await
            .map_err(at(Side::Source))?;
        let dial_b = Dialler::bind(b, &settings.ends, timeout)
            .await
            .map_err(at(Side::Sink))?;
        let end_a = dial_a.dial().await.map_err(at(Side::Source))?;
        let end_b = dial_b.dial().await.map_err(at(Side::Sink))?;
        Ok::<_, Failure>((end_a, end_b))
    };
    let (end_a, end_b) = tokio::select! {
        ends = opening => ends?,
        ending = ending(signals) => return Ok(ending.exit()),
    };
    let relay = settings.relay(end_a, end_b);
    let handle = relay.handle();
    let mut task = tokio::spawn(relay.run());
    let mut ended: Option<Ending> = None;
    let result = loop {
        tokio::select! {
            biased;
            result = &mut task => break result.map_err(|error| crate::other(format!("a fault of the program itself: {error}")))?,
            wish = signals.next() => match wish {
                Wish::End(by) if ended.is_none() => {
                    ended = Some(by);
                    handle.a_to_b.stop();
                    handle.b_to_a.stop();
                }
                Wish::End(_) => handle.abort(AbortReason::Requested),
                Wish::Look => look(&[(0, names.sink.clone(), handle.clone())], settings.output.json),
                Wish::Suspend => signals::suspend(),
                Wish::Continue => {}
            },
        }
    };
    joined(
        result,
        ended,
        names,
        settings,
        open::is_stdout(a).or(open::is_stdout(b)),
    )
}

fn joined(
    result: Result<RelayReport, RelayError>,
    ended: Option<Ending>,
    names: &Names,
    settings: &Settings,
    stdout: Stdout,
) -> Result<Exit, Failure> {
    match result {
        Ok(done) => {
            let line = format!(
                "{} there, {} back in {}, lanes {} and {}, slow side: {}",
                show_size(done.a_to_b.bytes_sent),
                show_size(done.b_to_a.bytes_sent),
                show_time(done.a_to_b.elapsed.max(done.b_to_a.elapsed)),
                done.a_to_b.lane,
                done.b_to_a.lane,
                done.a_to_b.slow_side()
            );
            if settings.output.json {
                display::print_json(&both_json(&done, names));
            } else if !settings.output.quiet {
                display::print_line(&format!("tidegate: {line}"));
            }
            Ok(Exit::Ok)
        }
        Err(error) => {
            let mut failure = Failure::flow(&error.error, ended, stdout);
            if error.direction == Direction::BToA {
                // The side is one of this direction's; the address is the other one of the command line.
                failure.side = failure.side.map(|side| match side {
                    Side::Source => Side::Sink,
                    Side::Sink => Side::Source,
                });
            }
            Err(failure)
        }
    }
}

fn both_json(done: &RelayReport, names: &Names) -> Value {
    let mut object = report::report_json(&done.a_to_b, None, None, names);
    let back = Names {
        source: names.sink.clone(),
        sink: names.source.clone(),
    };
    object["back"] = report::report_json(&done.b_to_a, None, None, &back);
    object
}

async fn ending(signals: &mut Signals) -> Ending {
    loop {
        match signals.next().await {
            Wish::End(ending) => return ending,
            Wish::Suspend => signals::suspend(),
            Wish::Look | Wish::Continue => {}
        }
    }
}

impl Settings {
    fn relay(&self, a: Duplex, b: Duplex) -> Relay {
        let mut relay = Relay::new(a, b)
            .marks(self.flow.marks)
            .half_close(self.half_close)
            .drain(self.flow.drain)
            .lane(self.flow.lane_choice());
        if let Some(rate) = self.flow.rate {
            relay = relay.rate(rate);
        }
        if let Some(total) = &self.total {
            relay = relay.total_rate(total);
        }
        if let Some(stall) = self.flow.stall {
            relay = relay.stall(stall);
        }
        if let Some(idle) = self.idle {
            relay = relay.idle(idle);
        }
        relay
    }
}

/// A relay with a listener.
struct Server {
    settings: Settings,
    dialler: Dialler,
    /// Which address listens: the listener's connections are the relay's `a` or its `b`.
    listens: Listens,
    live: Live,
    places: Arc<Semaphore>,
}

#[derive(Clone, Copy)]
enum Listens {
    A,
    B,
}

/// The flows under way, for snapshots and for the end.
#[derive(Default)]
struct Live(Mutex<HashMap<u64, (Box<str>, RelayHandle)>>);

impl Live {
    fn with<T>(&self, run: impl FnOnce(&mut HashMap<u64, (Box<str>, RelayHandle)>) -> T) -> T {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn list(&self) -> Vec<(u64, String, RelayHandle)> {
        let mut list: Vec<_> = self.with(|live| {
            live.iter()
                .map(|(id, (peer, handle))| (*id, peer.to_string(), handle.clone()))
                .collect()
        });
        list.sort_by_key(|(id, ..)| *id);
        list
    }
}

async fn serve(
    a: &Address,
    b: &Address,
    settings: Settings,
    names: &Names,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let (listening, dialled, listens, side) = if a.row().listens() {
        (a, b, Listens::A, Side::Source)
    } else {
        (b, a, Listens::B, Side::Sink)
    };
    let other = if matches!(listens, Listens::A) {
        Side::Sink
    } else {
        Side::Source
    };
    let acceptor = Acceptor::bind(listening, &settings.ends)
        .await
        .map_err(|error| Failure::open(side, &error))?;
    let dialler = Dialler::bind(dialled, &settings.ends, settings.flow.connect_timeout)
        .await
        .map_err(|error| Failure::open(other, &error))?;
    announce(&acceptor.address(), &settings, names);
    if let Some(address) = dialler.listens_at() {
        announce(&address, &settings, names);
    }
    let places = Arc::new(Semaphore::new(settings.connections_max));
    tracing::debug!(connections_max = settings.connections_max, "ready");
    let server = Arc::new(Server {
        settings,
        dialler,
        listens,
        live: Live::default(),
        places,
    });
    let ending = match server.accept(&acceptor, signals).await {
        Ok(ending) => ending,
        Err(error) => return Err(Failure::open(side, &error)),
    };
    drop(acceptor);
    Ok(server.drain(ending, signals).await)
}

fn announce(address: &str, settings: &Settings, names: &Names) {
    if settings.output.quiet {
        return;
    }
    if settings.output.json {
        let mut object = report::blank("listening", names);
        object["address"] = Value::from(address);
        display::print_json(&object);
    } else {
        tracing::info!("listening on {address}");
    }
}

impl Server {
    /// Takes connections until a signal ends it.
    async fn accept(
        self: &Arc<Self>,
        acceptor: &Acceptor,
        signals: &mut Signals,
    ) -> Result<Ending, tidegate_io::EndpointError> {
        let mut id = 0;
        loop {
            tokio::select! {
                biased;
                wish = signals.next() => match wish {
                    Wish::End(ending) => return Ok(ending),
                    Wish::Look => look(&self.live.list(), self.settings.output.json),
                    Wish::Suspend => signals::suspend(),
                    Wish::Continue => {}
                },
                accepted = acceptor.accept() => {
                    let accepted = accepted?;
                    id += 1;
                    self.take(id, accepted);
                }
            }
        }
    }

    fn take(self: &Arc<Self>, id: u64, accepted: open::Accepted) {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(Arc::clone(self).connect(id, accepted, place));
            }
            Err(_) => {
                let most = self.settings.connections_max;
                tracing::warn!(
                    connection = id,
                    peer = accepted.peer(),
                    most,
                    "refused: too many connections"
                );
                accepted.refuse();
            }
        }
    }

    /// Dials the other side at once, before any byte has come, then leaves the relay to a task that keeps none of what
    /// dialling needed.
    async fn connect(self: Arc<Self>, id: u64, accepted: open::Accepted, place: OwnedSemaphorePermit) {
        let began = Instant::now();
        let peer = accepted.peer().to_owned();
        let near = match accepted.greet(self.settings.flow.connect_timeout).await {
            Ok(near) => near,
            Err(error) => {
                tracing::warn!(connection = id, peer, error = %error, "connection failed before it began");
                return;
            }
        };
        let far = match self.dialler.dial().await {
            Ok(far) => far,
            Err(error) => {
                tracing::warn!(connection = id, peer, error = %error, "cannot reach the other side");
                abort(near).await;
                return;
            }
        };
        let relay = match self.listens {
            Listens::A => self.settings.relay(near, far),
            Listens::B => self.settings.relay(far, near),
        };
        self.live
            .with(|live| live.insert(id, (peer.into_boxed_str(), relay.handle())));
        tracing::debug!(connection = id, seconds = began.elapsed().as_secs_f64(), "joined");
        let mut run = relay.run();
        tokio::spawn(async move {
            // Awaited by reference: by value the task would keep room for it twice.
            let result = (&mut run).await;
            // The descriptors go before the end is told.
            drop(run);
            let peer = self
                .live
                .with(|live| live.remove(&id))
                .map(|(peer, _)| peer)
                .unwrap_or_default();
            log_end(id, &peer, &result);
            drop(place);
        });
    }

    /// Waits until all connections have ended. One on which nothing moves for the drain limit is cut; a second signal
    /// cuts them all.
    async fn drain(&self, ending: Ending, signals: &mut Signals) -> Exit {
        let mut seen: HashMap<u64, (u64, Instant)> = HashMap::new();
        let mut lost = false;
        let mut ticker = tokio::time::interval(LOOK_EVERY);
        let waiting = self.settings.connections_max - self.places.available_permits();
        if waiting > 0 {
            tracing::info!(
                connections = waiting,
                "ending: waiting for connections; once more cuts them"
            );
        }
        while self.places.available_permits() < self.settings.connections_max {
            tokio::select! {
                biased;
                wish = signals.next() => match wish {
                    Wish::End(_) => {
                        for (_, _, handle) in self.live.list() {
                            handle.abort(AbortReason::Requested);
                        }
                        self.settled().await;
                        return ending.exit();
                    }
                    Wish::Look => look(&self.live.list(), self.settings.output.json),
                    Wish::Suspend => signals::suspend(),
                    Wish::Continue => {}
                },
                _ = ticker.tick() => lost |= self.cut_what_stands_still(&mut seen),
            }
        }
        if lost { ending.exit() } else { Exit::Ok }
    }

    /// Cuts connections without progress; says whether one of them held bytes that are lost so.
    fn cut_what_stands_still(&self, seen: &mut HashMap<u64, (u64, Instant)>) -> bool {
        let mut lost = false;
        for (id, _, handle) in self.live.list() {
            let (there, back) = (handle.a_to_b.snapshot(), handle.b_to_a.snapshot());
            let moved = there.bytes_read + there.bytes_sent + back.bytes_read + back.bytes_sent;
            let (before, since) = *seen.entry(id).or_insert((moved, Instant::now()));
            if moved != before {
                seen.insert(id, (moved, Instant::now()));
            } else if since.elapsed() >= self.settings.flow.drain {
                lost |= there.held + back.held > 0;
                handle.abort(AbortReason::TimedOut);
            }
        }
        lost
    }

    /// Gives aborted connections a moment to let go.
    async fn settled(&self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        while self.places.available_permits() < self.settings.connections_max && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Lets go of an end so that it does not look finished.
async fn abort(mut end: Duplex) {
    drop(end.source);
    end.sink.abort(&AbortReason::Requested);
    std::future::poll_fn(|cx| end.sink.poll_aborted(cx)).await;
}

/// One line for a connection's end.
fn log_end(id: u64, peer: &str, result: &Result<RelayReport, RelayError>) {
    let report = match result {
        Ok(report) => report,
        Err(error) => &error.report,
    };
    let seconds = report.a_to_b.elapsed.max(report.b_to_a.elapsed).as_secs_f64();
    let (there, back) = (&report.a_to_b, &report.b_to_a);
    macro_rules! line {
        ($level:ident, $text:literal $(, $name:ident = $value:expr)*) => {
            tracing::$level!(
                connection = id,
                peer,
                $($name = $value,)*
                seconds,
                bytes_there = there.bytes_sent,
                bytes_back = back.bytes_sent,
                lane_there = there.lane.name(),
                lane_back = back.lane.name(),
                slow_there = there.slow_side().name(),
                slow_back = back.slow_side().name(),
                $text
            )
        };
    }
    match result {
        Ok(_) => line!(info, "connection ended"),
        Err(error) => {
            let direction = match error.direction {
                Direction::AToB => "there",
                Direction::BToA => "back",
            };
            let side = error.error.side.map_or("none", Side::name);
            let cause = error.error.cause.to_string();
            line!(
                info,
                "connection failed",
                direction = direction,
                side = side,
                error = cause
            );
        }
    }
}

/// Answers SIGUSR1: every live flow.
fn look(live: &[(u64, String, RelayHandle)], json: bool) {
    if !json {
        display::print_line(&format!("tidegate: {} connections", live.len()));
    }
    for (id, peer, handle) in live {
        let (there, back) = (handle.a_to_b.snapshot(), handle.b_to_a.snapshot());
        if json {
            display::print_json(&json!({
                "version": report::SCHEMA_VERSION,
                "event": "connection",
                "connection": id,
                "peer": peer,
                "there": flow_json(&handle.a_to_b),
                "back": flow_json(&handle.b_to_a),
            }));
        } else {
            display::print_line(&format!(
                "  {id} {peer}: there {}; back {}",
                flow_line(&there),
                flow_line(&back)
            ));
        }
    }
}

fn flow_line(now: &Snapshot) -> String {
    format!(
        "{} sent, {} held ({:.0}%), {}, lane {}, slow side: {}",
        show_size(now.bytes_sent),
        show_size(now.held as u64),
        now.fill() * 100.0,
        now.state,
        now.lane,
        now.slow_side()
    )
}

fn flow_json(handle: &FlowHandle) -> Value {
    let now = handle.snapshot();
    json!({
        "bytes_read": now.bytes_read,
        "bytes_sent": now.bytes_sent,
        "held": now.held,
        "high": now.high,
        "state": now.state.name(),
        "lane": now.lane.name(),
        "slow_side": now.slow_side().name(),
        "seconds": now.elapsed.as_secs_f64(),
    })
}
