//! Log lines on the connections of a relay with a listener.
//!
//! Knows nothing of when they are written.

use tidegate_io::{Direction, RelayError, RelayReport, Side};

use crate::open::Peer;

/// One line for a connection's end.
pub(super) fn end(id: u64, peer: &Peer, result: &Result<RelayReport, RelayError>) {
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
                %peer,
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
