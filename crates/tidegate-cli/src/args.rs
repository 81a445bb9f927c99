//! The command line: options, subcommands and the help that goes with them.
//!
//! Knows what can be written, and nothing of what it does; defaults are [`crate::settings`]' affair, so that the
//! configuration file can stand between the command line and the built-in values.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};

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
    after_long_help = long_help()
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) copy: CopyArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
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
    /// Continue where an earlier copy broke off: the source is read from as far as the file or FTP target reaches
    #[arg(long, help_heading = "Copy", conflicts_with_all = ["append", "checksum"])]
    pub(crate) resume: bool,
    /// Whether a file sink's finish waits until the disk has the bytes (synced, the default) or not (cached)
    #[arg(long, value_name = "HOW", value_enum, default_value_t = DurabilityArg::Synced, hide_default_value = true, hide_possible_values = true, help_heading = "Copy")]
    pub(crate) durability: DurabilityArg,
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
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
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
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// Upload with this method [default: PUT]
    #[arg(short = 'X', long, env = "TIDEGATE_METHOD", value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Resume a broken download this often [default: 10]
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
    #[arg(long)]
    pub(crate) active: bool,
    /// Upload under NAME.part and rename it when it is complete
    #[arg(long)]
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

/// `tidegate serve …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Serve {
    /// A directory over HTTP/1.1 and HTTP/2
    Http(ServeHttpArgs),
    /// A directory over FTP
    Ftp(Box<ServeFtpArgs>),
}

/// `tidegate serve http DIR`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeHttpArgs {
    /// The directory to share; no request leaves it
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where to listen
    #[arg(
        long,
        env = "TIDEGATE_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) listen: String,
    /// Take uploads by PUT
    #[arg(long)]
    pub(crate) writable: bool,
    /// Give up a connection on which nothing moves for this long [default: 60s]
    #[arg(long, env = "TIDEGATE_STALL", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) stall: Option<Duration>,
    /// After the first signal, wait this long for transfers under way [default: 30s]
    #[arg(long, env = "TIDEGATE_DRAIN", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) drain: Option<Duration>,
    /// Take at most this many connections at once
    #[arg(long, env = "TIDEGATE_MAX_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: Option<u32>,
    /// Our certificate chain (PEM): serve TLS
    #[arg(long, env = "TIDEGATE_CERT", value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, env = "TIDEGATE_KEY", value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `tidegate serve ftp DIR`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeFtpArgs {
    /// The directory to share; no path leaves it
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where to listen
    #[arg(
        long,
        env = "TIDEGATE_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:2121"
    )]
    pub(crate) listen: String,
    /// Let anyone log in as `anonymous`
    #[arg(long)]
    pub(crate) anonymous: bool,
    /// Let everyone who may log in write
    #[arg(long)]
    pub(crate) writable: bool,
    /// The file of users, one line each, made with `tidegate ftp-user`
    #[arg(long, env = "TIDEGATE_USERS", value_name = "FILE")]
    pub(crate) users: Option<PathBuf>,
    /// Ports for passive data connections
    #[arg(long, env = "TIDEGATE_PASSIVE_PORTS", value_name = "FIRST-LAST", value_parser = parse_ports)]
    pub(crate) passive_ports: Option<(u16, u16)>,
    /// The address to name in replies to PASV, behind address translation
    #[arg(long, env = "TIDEGATE_PASSIVE_ADDRESS", value_name = "IPV4")]
    pub(crate) passive_address: Option<std::net::Ipv4Addr>,
    /// Take at most this many connections at once [default: 1024]
    #[arg(long, env = "TIDEGATE_MAX_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: Option<u32>,
    /// Take at most this many connections at once from one address [default: 64]
    #[arg(long, env = "TIDEGATE_MAX_PER_ADDRESS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_per_address: Option<u32>,
    /// Refuse logins and transfers without TLS
    #[arg(long, requires = "cert")]
    pub(crate) tls_required: bool,
    /// Our certificate chain (PEM): offer AUTH TLS
    #[arg(long, env = "TIDEGATE_CERT", value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, env = "TIDEGATE_KEY", value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Close a control connection idle for this long [default: 5m]
    #[arg(long, env = "TIDEGATE_IDLE", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) idle: Option<Duration>,
    /// Give up a transfer on which nothing moves for this long [default: 60s]
    #[arg(long, env = "TIDEGATE_STALL", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) stall: Option<Duration>,
    /// After the first signal, wait this long for transfers under way [default: 30s]
    #[arg(long, env = "TIDEGATE_DRAIN", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) drain: Option<Duration>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
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

fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let wrong = || "write two ports, as in 40000-40100".to_owned();
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let (first, last) = (
        first.parse().map_err(|_| wrong())?,
        last.parse().map_err(|_| wrong())?,
    );
    if first == 0 || last < first {
        Err(wrong())
    } else {
        Ok((first, last))
    }
}

/// Lets options stand before the name of a command: `tidegate --lane copy relay A B` is `tidegate relay --lane copy A B`.
/// A word that is no command is the first address, and the line stays as it is.
pub(crate) fn arrange(words: Vec<OsString>) -> Vec<OsString> {
    let command = Cli::command();
    let mut at = 1;
    while let Some(word) = words.get(at) {
        let text = word.to_string_lossy();
        if text == "--" || text == "-" || !text.starts_with('-') {
            break;
        }
        at += 1 + usize::from(takes_next_word(&command, &text));
    }
    let names_command = |word: &OsStr| command.find_subcommand(word).is_some();
    let mut words = words;
    if at > 1 && words.get(at).is_some_and(|word| names_command(word)) {
        let word = words.remove(at);
        words.insert(1, word);
    }
    words
}

/// Whether an option as written leaves its value to the next word.
fn takes_next_word(command: &clap::Command, text: &str) -> bool {
    let mut known = command
        .get_arguments()
        .chain(command.get_subcommands().flat_map(clap::Command::get_arguments));
    if let Some(long) = text.strip_prefix("--") {
        return !long.contains('=')
            && known.any(|arg| arg.get_long() == Some(long) && arg.get_action().takes_values());
    }
    let mut shorts = text[1..].chars();
    let first = shorts.by_ref().find(|short| {
        known
            .by_ref()
            .any(|arg| arg.get_short() == Some(*short) && arg.get_action().takes_values())
    });
    first.is_some() && shorts.next().is_none()
}

/// The examples of `--help`; a test runs each of them.
pub(crate) const EXAMPLES: &[(&str, &str)] = &[
    (
        "Copy a file, and say what its SHA-256 is",
        "tidegate --checksum sha256 big.iso copy.iso",
    ),
    (
        "Send a file; on the other machine, receive it",
        "tidegate big.iso tcp://127.0.0.1:9000",
    ),
    ("", "tidegate tcp-listen://127.0.0.1:9000 big.iso"),
    (
        "Between two programs, at most 10 MiB a second",
        "tar c src | tidegate --rate 10MiB/s - - | gzip > src.tgz",
    ),
    (
        "From a program into a file that appears only when the program succeeded",
        "tidegate 'exec:tar c src' src.tar",
    ),
    (
        "Give up when nothing moves for 30 seconds",
        "tidegate --stall 30s tcp://127.0.0.1:9000 out",
    ),
    (
        "Forward a port",
        "tidegate relay tcp-listen://127.0.0.1:8080 tcp://127.0.0.1:80",
    ),
    (
        "See the plan first",
        "tidegate explain big.iso tcp://127.0.0.1:9000",
    ),
];

fn long_help() -> String {
    let mut text = String::from("Examples:\n");
    for (about, line) in EXAMPLES {
        if !about.is_empty() {
            text.push_str(&format!("  {about}:\n"));
        }
        text.push_str(&format!("      {line}\n"));
    }
    text.push_str("\nExit codes:\n");
    text.push_str(&crate::exit::help());
    text.push_str(
        "\nSignals: the first ^C stops the source, delivers what is held and aborts the sink; the second aborts at \
         once.\nSIGUSR1 prints a snapshot. Every option with a value can also be set as TIDEGATE_NAME, or under \
         [defaults] in\nthe configuration file.\n\nAddresses: `tidegate --help addresses`.",
    );
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(arrange(words(line))).unwrap()
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
    fn half_close_policies_are_read() {
        assert_eq!(HalfCloseArg::parse("propagate"), Ok(HalfCloseArg::Propagate));
        assert_eq!(
            HalfCloseArg::parse("linger=5s"),
            Ok(HalfCloseArg::Linger(Duration::from_secs(5)))
        );
        assert!(HalfCloseArg::parse("linger").is_err());
        assert_eq!(parse_ports("40000-40100"), Ok((40_000, 40_100)));
        assert!(parse_ports("2-1").is_err());
    }
}
