//! The progress line: rates, the time that is left, and one line of text for a width. Pure: it is given snapshots and
//! the time, and draws nothing itself.
//!
//! Knows nothing of terminals; [`crate::display`] does.

use std::time::Duration;

use tidegate_io::{FlowState, SlowSide, Snapshot};

use crate::size::{show_clock, show_rate, show_size};

/// What counts as "now": a windowed rate looks back this far.
const WINDOW: Duration = Duration::from_secs(3);

/// The time that is left is told from at least this much of the past, so that bursts even out.
const ETA_WINDOW: Duration = Duration::from_secs(30);

/// No ETA before this much is known.
const ETA_AFTER: Duration = Duration::from_millis(500);

/// Samples kept; older ones are thinned out.
const SAMPLES_MAX: usize = 512;

/// The two ends' counters at one moment of active time.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    at: Duration,
    read: u64,
    sent: u64,
    reading: Duration,
    writing: Duration,
}

/// Rates of a flow. Active time is fed in: it stands still while the process or the user had the flow stopped, so that
/// such a pause spoils no rate.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    samples: Vec<Sample>,
    active: Duration,
    last_elapsed: Duration,
    last_user: Duration,
}

/// Rates at one moment, in bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) in_now: f64,
    pub(crate) in_average: f64,
    pub(crate) out_now: f64,
    pub(crate) out_average: f64,
}

impl Meter {
    /// Takes a snapshot into account. `stopped` is time since the last one during which the whole process stood still.
    pub(crate) fn observe(&mut self, now: &Snapshot, stopped: Duration) {
        let passed = now.elapsed.saturating_sub(self.last_elapsed);
        let held = now.paused.user.saturating_sub(self.last_user);
        self.active += passed.saturating_sub(held.max(stopped));
        self.last_elapsed = now.elapsed;
        self.last_user = now.paused.user;
        if self.samples.is_empty() {
            self.samples.push(Sample::default());
        }
        self.samples.push(Sample {
            at: self.active,
            read: now.bytes_read,
            sent: now.bytes_sent,
            reading: now.reading,
            writing: now.writing,
        });
        if self.samples.len() > SAMPLES_MAX {
            self.thin();
        }
    }

    /// Rates over the last seconds and since the start.
    pub(crate) fn rates(&self) -> Rates {
        let (now, then) = (self.newest(), self.back(WINDOW));
        Rates {
            in_now: per_second(now.read - then.read, now.at - then.at),
            in_average: per_second(now.read, now.at),
            out_now: per_second(now.sent - then.sent, now.at - then.at),
            out_average: per_second(now.sent, now.at),
        }
    }

    /// When `size` bytes will have gone, from the younger half of the flow's life and never from less than half a
    /// minute of it (or all there is): a burst does not move it, a lasting change of pace does.
    pub(crate) fn eta(&self, size: u64) -> Option<Duration> {
        let now = self.newest();
        if now.at < ETA_AFTER || now.sent == 0 {
            return None;
        }
        let then = self.back((now.at / 2).max(ETA_WINDOW));
        let rate = per_second(now.sent - then.sent, now.at - then.at);
        let left = size.saturating_sub(now.sent) as f64;
        (rate > 0.0)
            .then(|| Duration::try_from_secs_f64(left / rate).ok())
            .flatten()
    }

    /// Who has kept the other waiting in the last seconds.
    pub(crate) fn slow_now(&self) -> SlowSide {
        let (now, then) = (self.newest(), self.back(WINDOW));
        let span = now.at - then.at;
        let reading = now.reading.saturating_sub(then.reading);
        let writing = now.writing.saturating_sub(then.writing);
        let enough = |time: Duration, other: Duration| time * 10 >= span && time * 10 > other * 11;
        if span.is_zero() {
            SlowSide::None
        } else if enough(writing, reading) {
            SlowSide::Sink
        } else if enough(reading, writing) {
            SlowSide::Source
        } else {
            SlowSide::None
        }
    }

    fn newest(&self) -> Sample {
        self.samples.last().copied().unwrap_or_default()
    }

    /// The youngest sample at least `span` old, else the oldest.
    fn back(&self, span: Duration) -> Sample {
        let limit = self.newest().at.saturating_sub(span);
        let after = self.samples.partition_point(|sample| sample.at <= limit);
        self.samples
            .get(after.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }

    /// Every second one of the older half goes.
    fn thin(&mut self) {
        let half = self.samples.len() / 2;
        let mut index = 0;
        self.samples.retain(|_| {
            index += 1;
            index > half || index % 2 == 1
        });
    }
}

/// What one line shows.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) sent: u64,
    pub(crate) size: Option<u64>,
    pub(crate) fill: f64,
    pub(crate) state: FlowState,
    pub(crate) slow: SlowSide,
    pub(crate) rates: Rates,
    pub(crate) eta: Option<Duration>,
}

/// Whether colours may be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Paint {
    Plain,
    Colour,
}

impl View {
    /// The view of a snapshot.
    pub(crate) fn new(now: &Snapshot, meter: &Meter, size: Option<u64>) -> Self {
        Self {
            sent: now.bytes_sent,
            size,
            fill: now.fill(),
            state: now.state,
            slow: meter.slow_now(),
            rates: meter.rates(),
            eta: size.and_then(|size| meter.eta(size)),
        }
    }

    /// One line of at most `width` columns, without its end. What matters least goes first when room is short.
    pub(crate) fn line(&self, width: usize, paint: Paint) -> String {
        let mut parts = self.parts();
        while length(&parts) > width && parts.len() > 1 {
            let least = parts
                .iter()
                .enumerate()
                .min_by_key(|(_, part)| part.weight)
                .map_or(0, |(at, _)| at);
            let part = &mut parts[least];
            match part.short.take() {
                Some((weight, text)) => (part.weight, part.text) = (weight, text),
                None => {
                    parts.remove(least);
                }
            }
        }
        let words: Vec<String> = parts.iter().map(|part| part.painted(paint)).collect();
        if length(&parts) <= width {
            words.join("  ")
        } else {
            parts[0].text.chars().take(width).collect()
        }
    }

    fn parts(&self) -> Vec<Part> {
        let Rates {
            in_now,
            in_average,
            out_now,
            out_average,
        } = self.rates;
        let both = |way: &str, now: f64, average: f64| {
            format!("{way} {} (avg {})", show_rate(now), show_rate(average))
        };
        let mut parts = Vec::new();
        match self.size {
            Some(size) if size > 0 => {
                let percent = (self.sent as f64 / size as f64 * 100.0).min(100.0).floor();
                let full = format!("{} of {} {percent:.0}%", show_size(self.sent), show_size(size));
                let brief = format!("{} {percent:.0}%", show_size(self.sent));
                parts.push(Part::new(40, full).or(100, brief));
            }
            _ => parts.push(Part::new(100, show_size(self.sent))),
        }
        parts.push(Part::new(20, both("in", in_now, in_average)).or(60, format!("in {}", show_rate(in_now))));
        parts.push(
            Part::new(21, both("out", out_now, out_average)).or(80, format!("out {}", show_rate(out_now))),
        );
        parts.push(Part::new(30, self.gauge()).or(50, format!("gate {:.0}%", self.percent())));
        parts.push(Part::new(55, self.state.name().to_owned()));
        parts.push(Part::new(90, format!("slow: {}", self.slow)).coloured(self.slow));
        if self.size.is_some() {
            let eta = self.eta.map_or("-".to_owned(), show_clock);
            parts.push(Part::new(70, format!("ETA {eta}")));
        }
        parts
    }

    fn percent(&self) -> f64 {
        (self.fill * 100.0).clamp(0.0, 999.0)
    }

    fn gauge(&self) -> String {
        let marks = (self.fill.clamp(0.0, 1.0) * 8.0).round() as usize;
        format!(
            "gate [{}{}] {:.0}%",
            "#".repeat(marks),
            " ".repeat(8 - marks),
            self.percent()
        )
    }
}

/// One part of the line: what goes first has the least weight, and may have a shorter form to fall back to.
struct Part {
    weight: u8,
    text: String,
    short: Option<(u8, String)>,
    colour: Option<&'static str>,
}

impl Part {
    fn new(weight: u8, text: String) -> Self {
        Self {
            weight,
            text,
            short: None,
            colour: None,
        }
    }

    fn or(mut self, weight: u8, text: String) -> Self {
        self.short = Some((weight, text));
        self
    }

    fn coloured(mut self, slow: SlowSide) -> Self {
        self.colour = (slow != SlowSide::None).then_some("\x1b[33m");
        self
    }

    fn painted(&self, paint: Paint) -> String {
        match (paint, self.colour) {
            (Paint::Colour, Some(colour)) => format!("{colour}{}\x1b[0m", self.text),
            _ => self.text.clone(),
        }
    }
}

fn length(parts: &[Part]) -> usize {
    parts
        .iter()
        .map(|part| part.text.chars().count() + 2)
        .sum::<usize>()
        .saturating_sub(2)
}

fn per_second(bytes: u64, span: Duration) -> f64 {
    if span.is_zero() {
        0.0
    } else {
        bytes as f64 / span.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tidegate_io::{Lane, PausedTime};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn snapshot(ms: u64, bytes: u64) -> Snapshot {
        Snapshot {
            bytes_read: bytes,
            bytes_sent: bytes,
            held: 0,
            high: 65_536,
            state: FlowState::Reading,
            lane: Lane::Copy,
            elapsed: Duration::from_millis(ms),
            reading: Duration::ZERO,
            writing: Duration::from_millis(ms),
            paused: PausedTime::default(),
            rate: None,
        }
    }

    /// Runs a flow whose byte count at each tenth of a second is a function of the time.
    fn run(until_ms: u64, bytes_at: impl Fn(u64) -> u64) -> Meter {
        let mut meter = Meter::default();
        for ms in (100..=until_ms).step_by(100) {
            meter.observe(&snapshot(ms, bytes_at(ms)), Duration::ZERO);
        }
        meter
    }

    #[test]
    fn a_steady_flow_has_its_rate_in_both_figures() {
        let rates = run(60_000, |ms| ms * MIB / 100).rates();
        for rate in [rates.in_now, rates.in_average, rates.out_now, rates.out_average] {
            assert!((rate / (10 * MIB) as f64 - 1.0).abs() < 0.02, "{rates:?}");
        }
    }

    #[test]
    fn bursts_do_not_move_the_eta() {
        // indicatif#534, #580: 50 MiB every five seconds and nothing in between, of 6,000 MiB in all: 10 MiB/s.
        let size = 6_000 * MIB;
        for until in (40_000..=300_000).step_by(700) {
            let meter = run(until, |ms| ms / 5_000 * 50 * MIB);
            let eta = meter.eta(size).unwrap().as_secs_f64();
            let truth = 600.0 - until as f64 / 1000.0;
            assert!(
                (eta / truth - 1.0).abs() < 0.25,
                "after {until} ms: {eta} for {truth}"
            );
        }
    }

    #[test]
    fn a_lasting_change_of_pace_moves_the_eta() {
        // 10 MiB/s for a minute, then 1 MiB/s for two.
        let meter = run(180_000, |ms| {
            if ms < 60_000 {
                ms * MIB / 100
            } else {
                600 * MIB + (ms - 60_000) * MIB / 1000
            }
        });
        let left = 100 * MIB;
        let eta = meter.eta(720 * MIB + left).unwrap().as_secs_f64();
        assert!((80.0..120.0).contains(&eta), "{eta}");
    }

    #[test]
    fn no_eta_is_made_up_from_nothing() {
        assert_eq!(Meter::default().eta(100), None);
        assert_eq!(run(10_000, |_| 0).eta(100), None);
        assert_eq!(run(300, |ms| ms).eta(u64::MAX), None);
    }

    #[test]
    fn time_stopped_spoils_no_rate() {
        let mut meter = run(10_000, |ms| ms * MIB / 100);
        // Stopped for an hour by SIGTSTP, then on as before.
        meter.observe(&snapshot(3_610_000, 100 * MIB), Duration::from_secs(3_600));
        meter.observe(&snapshot(3_610_100, 101 * MIB), Duration::ZERO);
        let average = meter.rates().out_average / MIB as f64;
        assert!((9.5..10.5).contains(&average), "{average}");
        // Held by the user: the same.
        let mut held = snapshot(7_210_100, 101 * MIB);
        held.paused.user = Duration::from_secs(3_600);
        meter.observe(&held, Duration::ZERO);
        let average = meter.rates().out_average / MIB as f64;
        assert!((9.5..10.5).contains(&average), "{average}");
    }

    #[test]
    fn a_long_run_keeps_few_samples_and_right_rates() {
        let meter = run(3_600_000, |ms| ms * MIB / 1000);
        assert!(meter.samples.len() <= SAMPLES_MAX + 1);
        let rate = meter.rates();
        assert!((rate.out_now / MIB as f64 - 1.0).abs() < 0.05, "{rate:?}");
        let eta = meter.eta(7_200 * MIB).unwrap().as_secs_f64();
        assert!((eta / 3_600.0 - 1.0).abs() < 0.02, "{eta}");
    }

    fn view() -> View {
        View {
            sent: 1_300 * MIB,
            size: Some(4_096 * MIB),
            fill: 0.75,
            state: FlowState::WaitingSink,
            slow: SlowSide::Sink,
            rates: Rates {
                in_now: 512.0 * MIB as f64,
                in_average: 498.0 * MIB as f64,
                out_now: 12.0 * MIB as f64,
                out_average: 11.9 * MIB as f64,
            },
            eta: Some(Duration::from_secs(236)),
        }
    }

    #[test]
    fn lines_for_wide_and_narrow_terminals() {
        let wide = "1.27 GiB of 4.00 GiB 31%  in 512 MiB/s (avg 498 MiB/s)  out 12.0 MiB/s (avg 11.9 MiB/s)  \
                    gate [######  ] 75%  waiting for the sink  slow: sink  ETA 3:56";
        assert_eq!(view().line(200, Paint::Plain), wide);
        for (width, line) in [
            (
                110,
                "1.27 GiB of 4.00 GiB 31%  in 512 MiB/s  out 12.0 MiB/s  gate 75%  waiting for the sink  slow: sink  ETA 3:56",
            ),
            (
                79,
                "1.27 GiB 31%  in 512 MiB/s  out 12.0 MiB/s  slow: sink  ETA 3:56",
            ),
            (40, "1.27 GiB 31%  out 12.0 MiB/s  slow: sink"),
            (25, "1.27 GiB 31%  slow: sink"),
            (12, "1.27 GiB 31%"),
            (5, "1.27 "),
            (0, ""),
        ] {
            assert_eq!(view().line(width, Paint::Plain), line, "{width} columns");
        }
        for width in 0..200 {
            assert!(view().line(width, Paint::Plain).chars().count() <= width);
        }
    }

    #[test]
    fn colour_is_put_on_the_slow_side_alone() {
        let line = view().line(200, Paint::Colour);
        assert!(line.contains("\x1b[33mslow: sink\x1b[0m"));
        let mut even = view();
        even.slow = SlowSide::None;
        even.size = None;
        let line = even.line(200, Paint::Colour);
        assert!(!line.contains('\x1b') && !line.contains("ETA"), "{line}");
    }
}
