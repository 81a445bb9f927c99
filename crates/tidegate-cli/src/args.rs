//! The command line: options, subcommands and the help that goes with them.
//!
//! Knows what can be written, and nothing of what it does; defaults are [`crate::settings`]' affair, so that the
//! configuration file can stand between the command line and the built-in values.

mod help;
mod serve;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{
    ArgAction, ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
};

pub(crate) use self::help::EXAMPLES;
pub(crate) use self::serve::{Serve, ServeFtpArgs, ServeHttpArgs};
#[cfg(test)]
pub(crate) use self::words::has_option;
pub(crate) use self::words::{commands, is_command, positionals};
use crate::checksum::Wanted;
use crate::size::{parse_duration, parse_memory, parse_rate, parse_size};

/// Move bytes from SRC to DST, hold no more of them than allowed, and tell which side is slow
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    max_term_width = 100,
    override_usage = "tidegate [OPTIONS] SRC DST\n       tidegate COMMAND …",
    after_help = "Examples and exit codes: `tidegate --help`. Addresses: `tidegate --help addresses`.",
    after_long_help = help::long_help()
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) copy: CopyArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

impl Cli {
    /// The copy that is meant, if one is.
    fn copy_args(&mut self) -> Option<&mut CopyArgs> {
        match &mut self.command {
            None => Some(&mut self.copy),
            Some(Command::Explain(copy)) => Some(copy),
            Some(_) => None,
        }
    }

    /// What the command that is meant was told of its output, if it has any to tell of.
    fn output_args(&mut self) -> Option<&mut OutputArgs> {
        match &mut self.command {
            None => Some(&mut self.copy.output),
            Some(Command::Explain(copy)) => Some(&mut copy.output),
            Some(Command::Relay(relay)) => Some(&mut relay.output),
            Some(Command::Serve(Serve::Http(http))) => Some(&mut http.output),
            Some(Command::Serve(Serve::Ftp(ftp))) => Some(&mut ftp.output),
            Some(Command::Demo(demo)) => Some(&mut demo.output),
            Some(Command::Completions { .. } | Command::Man | Command::FtpUser(_)) => None,
        }
    }
}

/// What else there is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Join two two-way addresses, both directions; a listener takes many connections
    Relay(Box<RelayArgs>),
    /// Share a directory over HTTP or FTP
    #[command(subcommand)]
    Serve(Serve),
    /// Show the main job on real bytes for about 15 seconds, with no network
    Demo(DemoArgs),
    /// Print what a copy would do, without doing any of it
    Explain(Box<CopyArgs>),
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// Make the line of a user for `serve ftp --users`; the password is read from stdin or a file
    FtpUser(FtpUserArgs),
}

/// `tidegate SRC DST`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CopyArgs {
    /// Where bytes come from: an address, `-` for standard input
    #[arg(value_name = "SRC", required = true)]
    pub(crate) src: Option<OsString>,
    /// Where they go: an address, `-` for standard output
    #[arg(value_name = "DST", required = true)]
    pub(crate) dst: Option<OsString>,
    #[command(flatten)]
    pub(crate) flow: FlowArgs,
    /// How many bytes to expect, for the ETA
    #[arg(long, env = "TIDEGATE_SIZE", value_name = "SIZE", value_parser = parse_size, help_heading = "Copy")]
    pub(crate) size: Option<u64>,
    /// Compute a checksum on the way: sha256, blake3, crc32; with `=HEX` it must match
    #[arg(long, env = "TIDEGATE_CHECKSUM", value_name = "KIND[=HEX]", value_parser = Wanted::parse, help_heading = "Copy")]
    pub(crate) checksum: Option<Wanted>,
    /// Overwrite an existing file
    #[arg(long, help_heading = "Copy", conflicts_with = "append")]
    pub(crate) force: bool,
    /// Append to an existing file; an abort cuts it back to its old length
    #[arg(long, help_heading = "Copy")]
    pub(crate) append: bool,
    /// Continue where an earlier copy broke off: the source is read from as far as the file or FTP target reaches. What comes is
    /// written in place and stays if this copy breaks off, too
    #[arg(long, help_heading = "Copy", conflicts_with = "append")]
    pub(crate) resume: bool,
    /// Whether a file sink's finish waits until the disk has the bytes (synced, the default) or not (cached)
    #[arg(
        long,
        env = "TIDEGATE_DURABILITY",
        value_name = "HOW",
        value_enum,
        hide_possible_values = true,
        help_heading = "Copy"
    )]
    pub(crate) durability: Option<DurabilityArg>,
    /// When to draw the progress line
    #[arg(long, env = "TIDEGATE_PROGRESS", value_name = "WHEN", help_heading = "Output")]
    pub(crate) progress: Option<When>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    #[command(flatten)]
    pub(crate) ftp: FtpArgs,
}

/// Bounds and limits of a flow.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Flow")]
pub(crate) struct FlowArgs {
    /// Resume the source at or below this many bytes held [default: 16KiB]
    #[arg(long, env = "TIDEGATE_LOW", value_name = "SIZE", value_parser = parse_memory)]
    pub(crate) low: Option<usize>,
    /// Pause the source above this many bytes held [default: 64KiB]
    #[arg(long, env = "TIDEGATE_HIGH", value_name = "SIZE", value_parser = parse_memory)]
    pub(crate) high: Option<usize>,
    /// Refuse what would hold more than this [default: 8MiB]
    #[arg(long, env = "TIDEGATE_MAX", value_name = "SIZE", value_parser = parse_memory)]
    pub(crate) max: Option<usize>,
    /// Largest single read [default: 1MiB, reached by bulk only]
    #[arg(long, env = "TIDEGATE_CHUNK", value_name = "SIZE", value_parser = parse_memory)]
    pub(crate) chunk: Option<usize>,
    /// Limit the rate; none is hoarded over idle time
    #[arg(long, env = "TIDEGATE_RATE", value_name = "RATE", value_parser = parse_rate)]
    pub(crate) rate: Option<u64>,
    /// Give up (exit 8) when no byte moves on either side for this long [default: never]
    #[arg(long, env = "TIDEGATE_STALL", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) stall: Option<Duration>,
    /// Give up connecting after this long [default: 30s]
    #[arg(long, env = "TIDEGATE_CONNECT_TIMEOUT", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) connect_timeout: Option<Duration>,
    /// Give up a drain after this long without progress [default: 30s]
    #[arg(long, env = "TIDEGATE_DRAIN", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) drain: Option<Duration>,
    /// Force the way bytes travel
    #[arg(long, env = "TIDEGATE_LANE", value_name = "LANE")]
    pub(crate) lane: Option<LaneArg>,
}

/// What is said, and how.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Print nothing but errors
    #[arg(short, long, env = "TIDEGATE_QUIET", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) quiet: bool,
    /// Say more: -v informs, -vv debugs, -vvv traces
    #[arg(short, long, env = "TIDEGATE_VERBOSE", action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// JSON on stderr, one object a line: snapshots each second and a final report (docs/report-schema.md)
    #[arg(long, env = "TIDEGATE_JSON", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) json: bool,
    /// How log lines are written
    #[arg(long, env = "TIDEGATE_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// The configuration file [default: $XDG_CONFIG_HOME/tidegate/config.toml]
    #[arg(long, env = "TIDEGATE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// TLS for every address that has none of these as its own option.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsArgs {
    /// Trust these certificates (PEM) instead of the system's roots; on a listener: ask clients for one
    #[arg(long, env = "TIDEGATE_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Our certificate chain (PEM)
    #[arg(long, env = "TIDEGATE_CERT", value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, env = "TIDEGATE_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Accept any certificate; said loudly
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// For http:// and https:// addresses.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "HTTP")]
pub(crate) struct HttpArgs {
    /// Send this header too; may be given more than once
    #[arg(
        short = 'H',
        long,
        env = "TIDEGATE_HEADER",
        value_delimiter = '\n',
        value_name = "NAME: VALUE"
    )]
    pub(crate) header: Vec<String>,
    /// Upload with this method [default: PUT]
    #[arg(short = 'X', long, env = "TIDEGATE_METHOD", value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Resume a broken download, or ask again, this often in a row [default: 10]
    #[arg(long, env = "TIDEGATE_RETRIES", value_name = "N")]
    pub(crate) retries: Option<u32>,
}

/// For ftp:// and ftps:// addresses.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "FTP")]
pub(crate) struct FtpArgs {
    /// Read the password from the first line of this file (else ~/.netrc is asked)
    #[arg(long, env = "TIDEGATE_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Let the server connect to us for data
    #[arg(long, env = "TIDEGATE_ACTIVE", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) active: bool,
    /// Upload under NAME.part and rename it when it is complete
    #[arg(long, env = "TIDEGATE_PART", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) part: bool,
}

/// `tidegate relay A B`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RelayArgs {
    /// One end; a `*-listen` address takes many connections
    #[arg(value_name = "A")]
    pub(crate) a: OsString,
    /// The other end, dialled anew for each connection
    #[arg(value_name = "B")]
    pub(crate) b: OsString,
    #[command(flatten)]
    pub(crate) flow: FlowArgs,
    /// Rate of all connections together, each way
    #[arg(long, env = "TIDEGATE_RATE_TOTAL", value_name = "RATE", value_parser = parse_rate, help_heading = "Relay")]
    pub(crate) rate_total: Option<u64>,
    /// End a connection on which nothing moved either way for this long [default: never]
    #[arg(long, env = "TIDEGATE_IDLE", value_name = "TIME", value_parser = parse_duration, help_heading = "Relay")]
    pub(crate) idle: Option<Duration>,
    /// What a clean end in one direction means for the other: propagate, linger=T, abort [default: propagate]
    #[arg(long, env = "TIDEGATE_HALF_CLOSE", value_name = "POLICY", value_parser = HalfCloseArg::parse, help_heading = "Relay")]
    pub(crate) half_close: Option<HalfCloseArg>,
    /// Take at most this many connections at once [default: what the descriptor limit allows]
    #[arg(long, env = "TIDEGATE_MAX_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Relay")]
    pub(crate) max_connections: Option<u32>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

/// `tidegate demo`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DemoArgs {
    /// About how long to run
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "15s")]
    pub(crate) time: Duration,
    /// When to draw the progress line
    #[arg(long, env = "TIDEGATE_PROGRESS", value_name = "WHEN")]
    pub(crate) progress: Option<When>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `tidegate ftp-user NAME`.
#[derive(Args, Clone, Debug)]
pub(crate) struct FtpUserArgs {
    /// The login name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Read the password from the first line of this file instead of stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// This user's own root, relative to the shared directory
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// When to draw.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

/// How logs look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// The lanes a user can ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum LaneArg {
    Auto,
    Copy,
    Splice,
    Sendfile,
    #[value(name = "copy_file_range", alias = "copy-file-range")]
    CopyFileRange,
}

/// What a file sink's finish waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum DurabilityArg {
    Synced,
    Cached,
}

/// What a clean end in one direction of a relay means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HalfCloseArg {
    Propagate,
    Linger(Duration),
    Abort,
}

impl HalfCloseArg {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "propagate" => Ok(Self::Propagate),
            None if text == "abort" => Ok(Self::Abort),
            Some(("linger", time)) => parse_duration(time).map(Self::Linger),
            _ => Err("write propagate, linger=TIME (as linger=5s) or abort".to_owned()),
        }
    }
}

/// Reads a command line. Options may stand before the name of a command.
///
/// # Errors
/// clap's, which is also how help and the version are answered.
pub(crate) fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(words::arrange(words.to_vec()))?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    let matches = innermost(&matches);
    if let Some(copy) = cli.copy_args()
        && copy.resume
        && copy.checksum.is_some()
    {
        if !is_usual(matches, "checksum") {
            let text = "--resume cannot be used with --checksum: the first part is not seen again";
            return Err(command.error(ErrorKind::ArgumentConflict, text));
        }
        copy.checksum = None;
    }
    if let Some(Command::Serve(Serve::Http(serve))) = &cli.command
        && serve.durability.is_some()
        && !serve.writable
        && !is_usual(matches, "durability")
    {
        let text = "--durability is of uploads, which serve http takes only with --writable";
        return Err(command.error(ErrorKind::MissingRequiredArgument, text));
    }
    if let Some(output) = cli.output_args()
        && output.verbose > 0
        && is_usual(matches, "quiet")
        && !is_usual(matches, "verbose")
    {
        output.quiet = false;
    }
    Ok(cli)
}

/// What was said to the command itself.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches
        .subcommand()
        .map_or(matches, |(_, matches)| innermost(matches))
}

/// Whether an option was not said this time but is usual here: from the environment.
fn is_usual(matches: &ArgMatches, option: &str) -> bool {
    matches.value_source(option) == Some(ValueSource::EnvVariable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ffi::OsStr;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn parse(line: &str) -> Cli {
        super::parse(&words(line)).unwrap()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_addresses() {
        for line in [
            "tidegate --lane copy -q a b",
            "tidegate a --lane copy b -q",
            "tidegate a b --lane=copy -q",
        ] {
            let cli = parse(line);
            assert!(cli.command.is_none());
            assert_eq!(cli.copy.flow.lane, Some(LaneArg::Copy), "{line}");
            assert!(cli.copy.output.quiet);
        }
        for line in [
            "tidegate relay a b --lane splice --idle 5s",
            "tidegate relay --lane splice a --idle 5s b",
            "tidegate --lane splice --idle 5s relay a b",
        ] {
            let Some(Command::Relay(relay)) = parse(line).command else {
                panic!("{line} is no relay");
            };
            assert_eq!(relay.flow.lane, Some(LaneArg::Splice), "{line}");
            assert_eq!(relay.idle, Some(Duration::from_secs(5)));
        }
    }

    #[test]
    fn a_word_after_the_first_address_is_no_command() {
        let cli = parse("tidegate src demo");
        assert_eq!(cli.copy.dst.as_deref(), Some(OsStr::new("demo")));
        let cli = parse("tidegate -q src relay");
        assert_eq!(cli.copy.dst.as_deref(), Some(OsStr::new("relay")));
        let cli = parse("tidegate --lane copy ./relay x");
        assert!(cli.command.is_none());
    }

    #[test]
    fn words_that_are_no_options_are_found() {
        let of = |line| positionals(&words(line));
        assert_eq!(of("tidegate --rate 1M a -q b"), ["a", "b"]);
        assert_eq!(of("tidegate --rate=1M a - -- -x"), ["a", "-", "-x"]);
        assert!(is_command("relay") && !is_command("a"));
        assert!(commands().contains(&"explain".to_owned()));
    }

    #[test]
    fn every_option_of_a_copy_can_be_set_in_the_environment() {
        // What becomes of a target is said each time, and so is what switches a check off for good.
        let only_here = ["force", "append", "resume", "insecure", "help", "version"];
        let command = Cli::command();
        for arg in command.get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
            let wanted = (!only_here.contains(&long))
                .then(|| format!("TIDEGATE_{}", long.to_uppercase().replace('-', "_")));
            assert_eq!(variable, wanted, "--{long}");
        }
    }

    #[test]
    fn the_durability_of_uploads_nobody_takes_is_refused() {
        let line = "tidegate serve http --durability cached .";
        let refused = super::parse(&words(line)).unwrap_err();
        assert!(refused.to_string().contains("only with --writable"), "{refused}");
        assert!(matches!(
            parse(&format!("{line} --writable")).command,
            Some(Command::Serve(Serve::Http(_)))
        ));
    }

    #[test]
    fn half_close_policies_are_read() {
        assert_eq!(HalfCloseArg::parse("propagate"), Ok(HalfCloseArg::Propagate));
        assert_eq!(
            HalfCloseArg::parse("linger=5s"),
            Ok(HalfCloseArg::Linger(Duration::from_secs(5)))
        );
        assert!(HalfCloseArg::parse("linger").is_err());
    }
}
