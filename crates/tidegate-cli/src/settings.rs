//! What a run goes by, once command line, environment, configuration file and built-in values have been weighed, in
//! this order.
//!
//! Knows nothing of how a setting is obeyed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::ValueEnum;
use tidegate::Marks;
use tidegate_io::LaneChoice;
use tidegate_io::endpoint::file::Durability;

use crate::args::{CopyArgs, DurabilityArg, FlowArgs, LaneArg, LogFormat, OutputArgs, TlsArgs, When};
use crate::checksum::Wanted;
use crate::config::Defaults;
use crate::size::{parse_duration, parse_memory, parse_rate};

/// Connecting takes at most this long unless said otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A drain without progress takes at most this long unless said otherwise.
pub(crate) const DRAIN: Duration = Duration::from_secs(30);

/// A broken download is resumed this often unless said otherwise.
const RETRIES: u32 = 10;

/// Bounds and limits of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowSettings {
    pub(crate) marks: Marks,
    pub(crate) rate: Option<u64>,
    pub(crate) stall: Option<Duration>,
    pub(crate) connect_timeout: Duration,
    pub(crate) drain: Duration,
    pub(crate) lane: LaneArg,
}

impl FlowSettings {
    pub(crate) fn resolve(args: &FlowArgs, defaults: &Defaults) -> Result<Self> {
        // Every configured value is read, also one that is not used: what is wrong there is told at once.
        let memory = |given: Option<usize>, name, written| {
            let configured = defaults.read(name, written, parse_memory)?;
            Ok::<_, anyhow::Error>(given.or(configured))
        };
        let time = |given: Option<Duration>, name, written| {
            let configured = defaults.read(name, written, parse_duration)?;
            Ok::<_, anyhow::Error>(given.or(configured))
        };
        let low = memory(args.low, "low", &defaults.low)?;
        let high = memory(args.high, "high", &defaults.high)?;
        let max = memory(args.max, "max", &defaults.max)?;
        let chunk = memory(args.chunk, "chunk", &defaults.chunk)?;
        let rate = defaults.read("rate", &defaults.rate, parse_rate)?;
        let lane = defaults.read("lane", &defaults.lane, one_of::<LaneArg>)?;
        Ok(Self {
            marks: marks(low, high, max, chunk)?,
            rate: args.rate.or(rate),
            stall: time(args.stall, "stall", &defaults.stall)?.filter(|limit| !limit.is_zero()),
            connect_timeout: time(args.connect_timeout, "connect-timeout", &defaults.connect_timeout)?
                .unwrap_or(CONNECT_TIMEOUT),
            drain: time(args.drain, "drain", &defaults.drain)?.unwrap_or(DRAIN),
            lane: args.lane.or(lane).unwrap_or(LaneArg::Auto),
        })
    }

    pub(crate) fn lane_choice(&self) -> LaneChoice {
        match self.lane {
            LaneArg::Auto => LaneChoice::Auto,
            LaneArg::Copy => LaneChoice::Copy,
            LaneArg::Splice => LaneChoice::Splice,
            LaneArg::Sendfile => LaneChoice::Sendfile,
            LaneArg::CopyFileRange => LaneChoice::CopyFileRange,
        }
    }
}

/// The marks asked for. One given alone moves the others out of its way.
fn marks(low: Option<usize>, high: Option<usize>, max: Option<usize>, chunk: Option<usize>) -> Result<Marks> {
    let usual = Marks::default();
    let high = high.unwrap_or_else(|| usual.high().max(low.unwrap_or(0)).min(max.unwrap_or(usize::MAX)));
    let low = low.unwrap_or_else(|| usual.low().min(high / 4));
    let max = max.unwrap_or_else(|| usual.max().max(high));
    let chunk = chunk.unwrap_or_else(|| usual.chunk());
    Marks::new(low, high)
        .and_then(|marks| marks.with_max(max))
        .and_then(|marks| marks.with_chunk(chunk))
        .map_err(|error| anyhow!("--low {low} --high {high} --max {max} --chunk {chunk}: {error}"))
}

/// How much is said, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputSettings {
    pub(crate) quiet: bool,
    pub(crate) verbose: u8,
    pub(crate) json: bool,
    pub(crate) log_format: LogFormat,
    pub(crate) progress: When,
}

impl OutputSettings {
    pub(crate) fn resolve(args: &OutputArgs, progress: Option<When>, defaults: &Defaults) -> Result<Self> {
        let log_format = defaults.read("log-format", &defaults.log_format, one_of::<LogFormat>)?;
        let drawn = defaults.read("progress", &defaults.progress, one_of::<When>)?;
        let quiet = args.quiet || (defaults.quiet.unwrap_or(false) && args.verbose == 0);
        let log_format = if args.json {
            LogFormat::Json
        } else {
            args.log_format.or(log_format).unwrap_or(LogFormat::Text)
        };
        Ok(Self {
            quiet,
            verbose: args.verbose.max(defaults.verbose.unwrap_or(0)),
            json: args.json,
            log_format,
            progress: progress.or(drawn).unwrap_or(When::Auto),
        })
    }
}

/// What a file sink does with an existing target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Existing {
    Refuse,
    Replace,
    Append,
}

/// All a copy goes by.
#[derive(Clone, Debug)]
pub(crate) struct CopySettings {
    pub(crate) flow: FlowSettings,
    pub(crate) output: OutputSettings,
    pub(crate) size: Option<u64>,
    pub(crate) checksum: Option<Wanted>,
    pub(crate) existing: Existing,
    pub(crate) durability: Durability,
    /// Go on where an earlier copy broke off.
    pub(crate) resume: bool,
    pub(crate) ends: EndSettings,
}

/// What opening an endpoint needs beyond its address.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndSettings {
    pub(crate) tls: TlsArgs,
    pub(crate) headers: Vec<String>,
    pub(crate) method: Option<String>,
    pub(crate) retries: u32,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) active: bool,
    pub(crate) part: bool,
}

impl CopySettings {
    pub(crate) fn resolve(args: &CopyArgs, defaults: &Defaults) -> Result<Self> {
        let existing = match (args.force, args.append) {
            (_, true) => Existing::Append,
            (true, false) => Existing::Replace,
            (false, false) => Existing::Refuse,
        };
        // A copy that goes on where another broke off does not see the first part: a usual checksum is left out.
        let checksum = defaults
            .read("checksum", &defaults.checksum, Wanted::parse)?
            .filter(|_| !args.resume);
        let durability = defaults.read("durability", &defaults.durability, one_of::<DurabilityArg>)?;
        let headers = match args.http.header.is_empty() {
            true => defaults.header.clone().unwrap_or_default(),
            false => args.http.header.clone(),
        };
        Ok(Self {
            flow: FlowSettings::resolve(&args.flow, defaults)?,
            output: OutputSettings::resolve(&args.output, args.progress, defaults)?,
            size: args.size,
            checksum: args.checksum.clone().or(checksum),
            existing,
            durability: match args.durability.or(durability) {
                None | Some(DurabilityArg::Synced) => Durability::Synced,
                Some(DurabilityArg::Cached) => Durability::Cached,
            },
            resume: args.resume,
            ends: EndSettings {
                tls: tls(&args.tls, defaults),
                headers,
                method: args.http.method.clone().or_else(|| defaults.method.clone()),
                retries: args.http.retries.or(defaults.retries).unwrap_or(RETRIES),
                password_file: args
                    .ftp
                    .password_file
                    .clone()
                    .or_else(|| defaults.password_file.clone()),
                active: args.ftp.active || defaults.active.unwrap_or(false),
                part: args.ftp.part || defaults.part.unwrap_or(false),
            },
        })
    }
}

/// TLS options with the configured files behind them. A certificate and its key come from the same place.
pub(crate) fn tls(args: &TlsArgs, defaults: &Defaults) -> TlsArgs {
    let (cert, key) = match (&args.cert, &args.key) {
        (None, None) => (defaults.cert.clone(), defaults.key.clone()),
        given => (given.0.clone(), given.1.clone()),
    };
    TlsArgs {
        ca: args.ca.clone().or_else(|| defaults.ca.clone()),
        cert,
        key,
        insecure: args.insecure,
    }
}

/// One of a set of words, or which words there are.
fn one_of<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let values = T::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
        format!("`{text}` is none of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_mark_alone_moves_the_others_out_of_its_way() {
        let of = |low, high, max| marks(low, high, max, None).unwrap();
        assert_eq!(of(None, None, None), Marks::default());
        assert_eq!(of(None, Some(1), None).low(), 0);
        assert_eq!(of(Some(1 << 20), None, None).high(), 1 << 20);
        assert_eq!(of(None, Some(64 << 20), None).max(), 64 << 20);
        assert_eq!(of(None, None, Some(1000)).high(), 1000);
        assert!(marks(Some(2), Some(1), None, None).is_err());
        assert!(marks(None, Some(0), None, None).is_err());
    }

    fn defaults(text: &str) -> Defaults {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_command_line_wins_over_the_configuration() {
        let configured = defaults("rate = '1KiB/s'\nstall = '5s'\n");
        let args = FlowArgs {
            rate: Some(7),
            ..FlowArgs::default()
        };
        let settings = FlowSettings::resolve(&args, &configured).unwrap();
        assert_eq!(settings.rate, Some(7));
        assert_eq!(settings.stall, Some(Duration::from_secs(5)));
        assert_eq!(settings.drain, DRAIN);
        for wrong in ["rate = 'soon'", "lane = 'hyper'", "low = '-1'", "drain = 'x'"] {
            let error = FlowSettings::resolve(&args, &defaults(wrong)).unwrap_err();
            let name = wrong.split(' ').next().unwrap();
            assert!(error.to_string().contains(&format!("`{name}`: ")), "{error}");
        }
    }

    #[test]
    fn quiet_by_habit_gives_way_to_a_wish_to_hear_more() {
        let configured = defaults("quiet = true\nprogress = 'never'\n");
        let loud = OutputArgs {
            verbose: 1,
            ..OutputArgs::default()
        };
        let of = |args: &OutputArgs| OutputSettings::resolve(args, None, &configured).unwrap();
        assert!(of(&OutputArgs::default()).quiet);
        assert!(!of(&loud).quiet);
        assert_eq!(of(&loud).progress, When::Never);
    }
}
