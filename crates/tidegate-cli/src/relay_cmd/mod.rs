//! `tidegate relay A B`: joins two two-way addresses. With a listener among them it serves many connections.
//!
//! Knows the command's options and what the program does with the outcome. `join` runs one relay, `serve` takes
//! connections, `cores` has the threads that serve them, `live` is the table of those under way, `drain` their end, `log` the lines on them; how bytes move is
//! the relay's own business.

mod cores;
mod drain;
mod join;
mod live;
mod log;
mod serve;

use std::ffi::OsString;
use std::time::Duration;

use tidegate_io::{Duplex, HalfClose, Relay, SharedRate};

use crate::address::{Address, Role};
use crate::args::{HalfCloseArg, RelayArgs};
use crate::config::Config;
use crate::descriptors;
use crate::display;
use crate::exit::Exit;
use crate::logging;
use crate::open;
use crate::report::{self, Failure, Names};
use crate::settings::{EndSettings, FlowSettings, OutputSettings, tls};
use crate::signals::Signals;

/// Descriptors kept for everything but connections: standard streams, listeners, the runtime, a few pipes.
const DESCRIPTORS_KEPT: u64 = 96;

/// A connection through the relay has two ends.
const DESCRIPTORS_EACH: u64 = 2;

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
    // One thread takes connections, or serves the only one; those that serve many are made with the listener.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return crate::fail(&crate::other(format!("cannot start: {error}")), &args.output),
    };
    let names = Names {
        source: open::name(&a, open::STDIO),
        sink: open::name(&b, open::STDIO),
    };
    let told = names.clone();
    // As a task, so that a fault of ours is told like any other end.
    let result = runtime
        .block_on(async { tokio::spawn(serve_or_join(a, b, settings, names)).await })
        .unwrap_or_else(|error| Err(crate::other(format!("a fault of the program itself: {error}"))));
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit,
        Err(failure) => {
            if failure.exit != Exit::BrokenStdout {
                tell_failure(&failure, &told, args.output.json);
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
    let descriptors = descriptors::raise_limit();
    let fit = (descriptors.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_EACH).max(1);
    match asked {
        Some(asked) => asked as usize,
        None => usize::try_from(fit).unwrap_or(usize::MAX),
    }
}

async fn serve_or_join(a: Address, b: Address, settings: Settings, names: Names) -> Result<Exit, Failure> {
    let mut signals =
        Signals::new().map_err(|error| crate::other(format!("cannot listen to signals: {error}")))?;
    if a.row().listens() || b.row().listens() {
        serve::serve(&a, &b, settings, &names, &mut signals).await
    } else {
        join::join(&a, &b, &settings, &names, &mut signals).await
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
