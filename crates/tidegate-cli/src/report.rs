//! What is told about a flow: the last line, the JSON objects, and the exit code of an outcome. Pure.
//!
//! Knows nothing of where lines are written.

use serde_json::{Value, json};
use tidegate_io::{
    Confirmation, EndpointError, ErrorKind, FlowError, FlowErrorKind, Report, Side, SlowSide, Snapshot,
};

use crate::checksum::Checksum;
use crate::exit::Exit;
use crate::progress::Meter;
use crate::signals::Ending;
use crate::size::{show_rate, show_size, show_time};

/// The version of the JSON objects; it grows when a field changes its meaning or goes.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// Who takes part, as the user wrote it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) source: String,
    pub(crate) sink: String,
}

/// A copy that did not end well.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) side: Option<Side>,
    /// One clause, without the side and the address.
    pub(crate) message: String,
    /// The account up to then; `None` when nothing was opened.
    pub(crate) report: Option<Report>,
}

impl Failure {
    /// Wrong use.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            side: None,
            message: message.into(),
            report: None,
        }
    }

    /// An endpoint could not be opened.
    pub(crate) fn open(side: Side, error: &EndpointError) -> Self {
        let exit = match (error.kind, side) {
            (ErrorKind::TimedOut, _) => Exit::TimedOut,
            (ErrorKind::Mismatch, _) => Exit::Mismatch,
            (_, Side::Source) => Exit::SourceOpen,
            (_, Side::Sink) => Exit::SinkOpen,
        };
        Self {
            exit,
            side: Some(side),
            message: error.to_string(),
            report: None,
        }
    }

    /// A flow ended in an error. `ending` says whether a signal asked for that; `stdout` whether the sink is it.
    pub(crate) fn flow(error: &FlowError, ending: Option<Ending>, stdout: Stdout) -> Self {
        let exit = match (error.kind, error.side) {
            (FlowErrorKind::Aborted, _) if ending.is_some() => ending.map_or(Exit::Other, Ending::exit),
            (FlowErrorKind::BrokenPipe, _) if stdout == Stdout::IsTheSink => Exit::BrokenStdout,
            (FlowErrorKind::Truncated, _) => Exit::Truncated,
            (FlowErrorKind::Stalled, _) => Exit::TimedOut,
            (_, Some(_)) if error.cause.kind == ErrorKind::Mismatch => Exit::Mismatch,
            (_, Some(_)) if error.cause.kind == ErrorKind::Truncated => Exit::Truncated,
            (_, Some(_)) if error.cause.kind == ErrorKind::TimedOut => Exit::TimedOut,
            // Some ends are opened by their first byte.
            (_, Some(Side::Source)) if is_opening(error.cause.kind) => Exit::SourceOpen,
            (_, Some(Side::Sink)) if is_opening(error.cause.kind) => Exit::SinkOpen,
            (_, Some(Side::Source)) => Exit::SourceFailed,
            (_, Some(Side::Sink)) => Exit::SinkFailed,
            (_, None) => ending.map_or(Exit::Other, Ending::exit),
        };
        let message = match ending {
            Some(ending) if exit == ending.exit() => ending.words().to_owned(),
            _ => error.cause.to_string(),
        };
        Self {
            exit,
            side: error.side,
            message,
            report: Some(error.report.clone()),
        }
    }

    /// The one line for people: side, address, what happened, and how far it came.
    pub(crate) fn line(&self, names: &Names) -> String {
        let place = match self.side {
            Some(Side::Source) => format!("source {}: ", names.source),
            Some(Side::Sink) => format!("sink {}: ", names.sink),
            None => String::new(),
        };
        format!("{place}{}{}", self.message, self.account())
    }

    fn account(&self) -> String {
        let Some(report) = &self.report else {
            return String::new();
        };
        let lost = report.bytes_read.saturating_sub(report.bytes_sent);
        let lost = if lost > 0 {
            format!(", {} lost on the way", show_size(lost))
        } else {
            String::new()
        };
        format!(
            " ({} read, {} sent, nothing confirmed{lost}; {}, lane {}, slow side: {})",
            show_size(report.bytes_read),
            show_size(report.bytes_sent),
            show_time(report.elapsed),
            report.lane,
            report.slow_side()
        )
    }
}

fn is_opening(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Open | ErrorKind::Exists)
}

/// Whether the sink is this program's standard output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stdout {
    IsTheSink,
    IsNot,
}

/// The last line of a copy that ended well.
pub(crate) fn last_line(report: &Report, checksum: Option<&Checksum>) -> String {
    let seconds = report.elapsed.as_secs_f64().max(1e-9);
    let mut line = format!(
        "{} in {} ({}), lane {}, slow side: {}",
        show_size(report.bytes_sent),
        show_time(report.elapsed),
        show_rate(report.bytes_sent as f64 / seconds),
        report.lane,
        report.slow_side()
    );
    if report.confirmation == Some(Confirmation::Sent) {
        line.push_str(", sent (the other end did not confirm)");
    }
    if let Some(checksum) = checksum {
        line.push_str(&format!(", {checksum}"));
    }
    line
}

/// A line for SIGUSR1.
pub(crate) fn snapshot_line(now: &Snapshot, meter: &Meter, names: &Names) -> String {
    let rates = meter.rates();
    format!(
        "{} -> {}: {} read, {} sent, {} held of {}, in {} (avg {}), out {} (avg {}), {}, lane {}, slow side: {}",
        names.source,
        names.sink,
        show_size(now.bytes_read),
        show_size(now.bytes_sent),
        show_size(now.held as u64),
        show_size(now.high as u64),
        show_rate(rates.in_now),
        show_rate(rates.in_average),
        show_rate(rates.out_now),
        show_rate(rates.out_average),
        now.state,
        now.lane,
        meter.slow_now()
    )
}

/// The fields every JSON object has, with the values of a flow that has not begun.
pub(crate) fn blank(event: &str, names: &Names) -> Value {
    json!({
        "version": SCHEMA_VERSION,
        "event": event,
        "source": names.source,
        "sink": names.sink,
        "bytes": 0,
        "bytes_read": 0,
        "bytes_sent": 0,
        "bytes_confirmed": 0,
        "held": 0,
        "high": 0,
        "size": null,
        "seconds": 0.0,
        "reading_seconds": 0.0,
        "writing_seconds": 0.0,
        "paused_seconds": { "full": 0.0, "user": 0.0, "shaped": 0.0 },
        "rate_in": 0.0,
        "rate_out": 0.0,
        "rate_average": 0.0,
        "eta_seconds": null,
        "state": "starting",
        "lane": "copy",
        "slow_side": "none",
        "confirmation": null,
        "checksum": null,
        "exit_code": null,
        "error": null,
        "address": null,
    })
}

/// A snapshot of a running flow.
pub(crate) fn snapshot_json(now: &Snapshot, meter: &Meter, size: Option<u64>, names: &Names) -> Value {
    let mut object = blank("snapshot", names);
    let rates = meter.rates();
    object["bytes"] = json!(now.bytes_sent);
    object["bytes_read"] = json!(now.bytes_read);
    object["bytes_sent"] = json!(now.bytes_sent);
    object["held"] = json!(now.held);
    object["high"] = json!(now.high);
    object["size"] = json!(size);
    object["seconds"] = json!(now.elapsed.as_secs_f64());
    object["reading_seconds"] = json!(now.reading.as_secs_f64());
    object["writing_seconds"] = json!(now.writing.as_secs_f64());
    object["paused_seconds"] = paused_json(&now.paused);
    object["rate_in"] = json!(rates.in_now);
    object["rate_out"] = json!(rates.out_now);
    object["rate_average"] = json!(rates.out_average);
    object["eta_seconds"] = json!(size.and_then(|size| meter.eta(size)).map(|eta| eta.as_secs_f64()));
    object["state"] = json!(now.state.name());
    object["lane"] = json!(now.lane.name());
    object["slow_side"] = json!(meter.slow_now().name());
    object
}

/// The final report of a copy that ended well.
pub(crate) fn report_json(
    report: &Report,
    checksum: Option<&Checksum>,
    size: Option<u64>,
    names: &Names,
) -> Value {
    let mut object = ended_json(report, names);
    object["size"] = json!(size);
    object["checksum"] = json!(checksum.map(|sum| format!("{}:{}", sum.kind.name(), sum.hex)));
    object["exit_code"] = json!(0);
    object
}

/// The final report of a copy that did not end well.
pub(crate) fn failure_json(failure: &Failure, names: &Names) -> Value {
    let mut object = match &failure.report {
        Some(report) => ended_json(report, names),
        None => blank("report", names),
    };
    let (side, address) = match failure.side {
        Some(Side::Source) => ("source", Some(&names.source)),
        Some(Side::Sink) => ("sink", Some(&names.sink)),
        None => ("none", None),
    };
    object["exit_code"] = json!(failure.exit.code());
    object["error"] = json!({ "side": side, "address": address, "message": failure.message });
    object["state"] = json!("done");
    object
}

fn ended_json(report: &Report, names: &Names) -> Value {
    let mut object = blank("report", names);
    let seconds = report.elapsed.as_secs_f64();
    let rate = |bytes: u64| {
        if seconds > 0.0 {
            bytes as f64 / seconds
        } else {
            0.0
        }
    };
    object["bytes"] = json!(report.bytes_sent);
    object["bytes_read"] = json!(report.bytes_read);
    object["bytes_sent"] = json!(report.bytes_sent);
    object["bytes_confirmed"] = json!(report.bytes_confirmed);
    object["seconds"] = json!(seconds);
    object["reading_seconds"] = json!(report.reading.as_secs_f64());
    object["writing_seconds"] = json!(report.writing.as_secs_f64());
    object["paused_seconds"] = paused_json(&report.paused);
    object["rate_in"] = json!(rate(report.bytes_read));
    object["rate_out"] = json!(rate(report.bytes_sent));
    object["rate_average"] = json!(rate(report.bytes_sent));
    object["state"] = json!("done");
    object["lane"] = json!(report.lane.name());
    object["slow_side"] = json!(slow_word(report.slow_side()));
    object["confirmation"] = json!(report.confirmation.map(|confirmation| match confirmation {
        Confirmation::Confirmed => "confirmed",
        Confirmation::Sent => "sent",
    }));
    object
}

fn slow_word(side: SlowSide) -> &'static str {
    side.name()
}

fn paused_json(paused: &tidegate_io::PausedTime) -> Value {
    json!({
        "full": paused.full.as_secs_f64(),
        "user": paused.user.as_secs_f64(),
        "shaped": paused.shaped.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use tidegate_io::Blame;

    use super::*;

    fn report() -> Report {
        Report {
            bytes_read: 1 << 20,
            bytes_sent: 1 << 20,
            bytes_confirmed: 1 << 20,
            confirmation: Some(Confirmation::Confirmed),
            elapsed: Duration::from_secs(2),
            writing: Duration::from_secs(2),
            ..Report::default()
        }
    }

    fn error(kind: FlowErrorKind, side: Option<Side>, cause: ErrorKind) -> FlowError {
        FlowError {
            side,
            kind,
            report: report(),
            cause: EndpointError::new(cause, Blame::Peer, "it broke"),
        }
    }

    #[test]
    fn every_outcome_has_its_exit_code() {
        use ErrorKind as E;
        use FlowErrorKind as F;
        let source = Some(Side::Source);
        let sink = Some(Side::Sink);
        for (kind, side, cause, code) in [
            (F::Failed, source, E::Failed, 5),
            (F::Failed, sink, E::Failed, 6),
            (F::BrokenPipe, sink, E::BrokenPipe, 6),
            (F::Truncated, source, E::Truncated, 7),
            (F::Stalled, source, E::TimedOut, 8),
            (F::Stalled, None, E::TimedOut, 8),
            (F::Failed, source, E::Mismatch, 9),
            (F::Failed, sink, E::Mismatch, 9),
            (F::Failed, None, E::Failed, 1),
        ] {
            let failure = Failure::flow(&error(kind, side, cause), None, Stdout::IsNot);
            assert_eq!(failure.exit.code(), code, "{kind:?} {side:?} {cause:?}");
        }
        let broken = error(F::BrokenPipe, sink, E::BrokenPipe);
        assert_eq!(
            Failure::flow(&broken, None, Stdout::IsTheSink).exit,
            Exit::BrokenStdout
        );
        let aborted = error(F::Aborted, None, E::Failed);
        let by_signal = |ending| Failure::flow(&aborted, Some(ending), Stdout::IsNot).exit.code();
        assert_eq!(by_signal(Ending::Interrupt), 130);
        assert_eq!(by_signal(Ending::Terminate), 143);
        for (kind, side, code) in [
            (E::Open, Side::Source, 3),
            (E::Open, Side::Sink, 4),
            (E::Exists, Side::Sink, 4),
            (E::TimedOut, Side::Sink, 8),
        ] {
            let error = EndpointError::new(kind, Blame::Peer, "no");
            assert_eq!(Failure::open(side, &error).exit.code(), code);
        }
    }

    #[test]
    fn lines_name_bytes_time_lane_and_slow_side() {
        assert_eq!(
            last_line(&report(), None),
            "1.00 MiB in 2.00 s (512 KiB/s), lane copy, slow side: sink"
        );
        let names = Names {
            source: "a".into(),
            sink: "tcp://b:1".into(),
        };
        let failure = Failure::flow(
            &error(FlowErrorKind::Failed, Some(Side::Sink), ErrorKind::Failed),
            None,
            Stdout::IsNot,
        );
        let line = failure.line(&names);
        assert!(
            line.starts_with("sink tcp://b:1: it broke (1.00 MiB read, 1.00 MiB sent"),
            "{line}"
        );
        assert!(!line.contains('\n'));
    }
}
