//! Two addresses of which none listens: one relay, whose outcome is the program's.
//!
//! Knows nothing of listeners.

use serde_json::Value;
use tidegate::AbortReason;
use tidegate_io::{Direction, Duplex, FlowError, RelayError, RelayReport, Side};

use super::Settings;
use super::live::{self, Seen};
use crate::address::Address;
use crate::display;
use crate::exit::Exit;
use crate::open::{self, Dialler};
use crate::report::{self, Failure, Names, Stdout};
use crate::signals::{self, Ending, Signals, Wish};
use crate::size::{show_size, show_time};

/// Opens both ends and relays between them.
pub(super) async fn join(
    a: &Address,
    b: &Address,
    settings: &Settings,
    names: &Names,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let (end_a, end_b) = tokio::select! {
        ends = dial_both(a, b, settings) => ends?,
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
                    handle.stop();
                }
                Wish::End(_) => handle.abort(AbortReason::Requested),
                Wish::Look => {
                    let seen = Seen { id: 0, peer: names.sink.clone(), handle: handle.clone() };
                    live::look(&[seen], settings.output.json);
                }
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
        [open::is_stdout(a), open::is_stdout(b)],
    )
}

async fn dial_both(a: &Address, b: &Address, settings: &Settings) -> Result<(Duplex, Duplex), Failure> {
    let at = |side: Side| move |error| Failure::open(side, &error);
    let timeout = settings.flow.connect_timeout;
    let dial_a = Dialler::bind(a, &settings.ends, timeout)
        .await
        .map_err(at(Side::Source))?;
    let dial_b = Dialler::bind(b, &settings.ends, timeout)
        .await
        .map_err(at(Side::Sink))?;
    let end_a = dial_a.dial().await.map_err(at(Side::Source))?;
    let end_b = dial_b.dial().await.map_err(at(Side::Sink))?;
    Ok((end_a, end_b))
}

/// Tells the outcome.
fn joined(
    result: Result<RelayReport, RelayError>,
    ended: Option<Ending>,
    names: &Names,
    settings: &Settings,
    stdout: [Stdout; 2],
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
            // Only the direction that writes there can break it.
            let stdout = match error.direction {
                Direction::AToB => stdout[1],
                Direction::BToA => stdout[0],
            };
            let mut of_address = FlowError::clone(&error.error);
            if error.direction == Direction::BToA {
                // The side is one of this direction's; the address is the other one of the command line.
                of_address.side = of_address.side.map(|side| match side {
                    Side::Source => Side::Sink,
                    Side::Sink => Side::Source,
                });
            }
            Err(Failure::flow(&of_address, ended, stdout))
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
