//! What is said when the command line is wrong: what it was, and what would be right, also for people who come from
//! socat, pv, curl or rclone and type what they are used to.
//!
//! Knows the options of those by name; nothing of what ours do.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::address::slips::nearest;
use crate::args;
use crate::display;
use crate::exit::Exit;
use crate::report::{self, Failure, Names};

/// What clap has to say: help and version are answers, everything else is wrong use.
pub(crate) fn refuse(error: &clap::Error, words: &[OsString]) -> Exit {
    if !error.use_stderr() {
        let _ = error.print();
        return Exit::Ok;
    }
    let ours = explain(error, words);
    if asks_for_json(words) {
        let message = ours.unwrap_or_else(|| plain(error));
        display::print_json(&report::failure_json(&Failure::usage(message), &Names::default()));
    } else if let Some(message) = ours {
        display::print_line(&format!("tidegate: {message}\n\nMore: tidegate --help"));
    } else {
        let _ = error.print();
    }
    Exit::Usage
}

/// Whether stderr belongs to JSON, as far as a command line that cannot be read tells.
fn asks_for_json(words: &[OsString]) -> bool {
    let set = std::env::var("TIDEGATE_JSON")
        .unwrap_or_default()
        .to_ascii_lowercase();
    words.iter().any(|word| word == "--json")
        || !["", "0", "n", "no", "f", "false", "off"].contains(&set.as_str())
}

/// clap's message in one line, without the usage.
fn plain(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\nUsage:").next().unwrap_or(&text);
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    lines
        .collect::<Vec<_>>()
        .join(" ")
        .trim_start_matches("error: ")
        .to_owned()
}

fn explain(error: &clap::Error, words: &[OsString]) -> Option<String> {
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    let positionals = args::positionals(words);
    let in_a_command = positionals.first().is_some_and(|word| args::is_command(word));
    match error.kind() {
        ErrorKind::UnknownArgument => foreign(named(ContextKind::InvalidArg)?),
        ErrorKind::MissingRequiredArgument if !in_a_command => Some(missing(&positionals)),
        // clap takes a third word for a command, and complains about the first two.
        ErrorKind::ArgumentConflict => {
            named(ContextKind::InvalidSubcommand).map(|word| third(word, &positionals))
        }
        ErrorKind::InvalidSubcommand => {
            let word = named(ContextKind::InvalidSubcommand)?;
            let server = nearest(word, ["http", "ftp"].into_iter()).unwrap_or("http");
            let directory = if nearest(word, ["http", "ftp"].into_iter()).is_some() {
                "DIR"
            } else {
                word
            };
            Some(format!(
                "`{word}` is no server\n  try tidegate serve {server} {directory}, or serve ftp"
            ))
        }
        _ => None,
    }
}

/// One address, or none.
fn missing(positionals: &[String]) -> String {
    let Some(word) = positionals.first() else {
        return "SRC and DST are missing: a copy is `tidegate SRC DST`\n  try tidegate big.iso copy.iso"
            .to_owned();
    };
    match word.as_str() {
        "version" => return "DST is missing\n  try tidegate --version".to_owned(),
        "addresses" | "address" => return "DST is missing\n  try tidegate --help addresses".to_owned(),
        _ => {}
    }
    if let Some(command) = nearest(word, args::commands().iter().map(String::as_str))
        && !word.contains([':', '/', '.', '-'])
    {
        return format!(
            "DST is missing: a copy is `tidegate SRC DST`\n  try tidegate {command}, if the command was meant"
        );
    }
    let quoted = shell_words::quote(word);
    match word.rsplit_once('/') {
        Some((start, name)) if start.contains("://") && !start.ends_with('/') && !name.is_empty() => format!(
            "DST is missing: a copy is `tidegate SRC DST`\n  try tidegate {quoted} {}, or tidegate {quoted} - for standard output",
            shell_words::quote(name.split(['?', '#']).next().unwrap_or(name))
        ),
        _ => format!(
            "DST is missing: a copy is `tidegate SRC DST`\n  try tidegate {quoted} - for standard output, or tidegate - {quoted} \
             to send standard input there"
        ),
    }
}

/// More than two addresses.
fn third(word: &str, positionals: &[String]) -> String {
    let clause = format!("unexpected argument '{word}' found: a copy has one source and one sink");
    let hint = match positionals {
        [first, source, sink] if ["cp", "copy", "copyto", "send", "get", "cat"].contains(&first.as_str()) => {
            format!(
                "tidegate {} {}",
                shell_words::quote(source),
                shell_words::quote(sink)
            )
        }
        [sources @ .., sink] if sources.len() > 1 && sources.iter().all(|source| !source.contains(':')) => {
            format!(
                "tidegate 'exec:tar c {}' {}, to send several files as one archive",
                shell_words::join(sources),
                shell_words::quote(sink)
            )
        }
        _ => return clause,
    };
    format!("{clause}\n  try {hint}")
}

/// An option of another program that has a relative here.
fn foreign(option: &str) -> Option<String> {
    let name = option.split('=').next().unwrap_or(option);
    let (_, ours) = FOREIGN.iter().find(|(theirs, _)| theirs.contains(&name))?;
    Some(format!("there is no option {name} here\n  try {ours}"))
}

/// What other programs call it, and what it is here.
const FOREIGN: &[(&[&str], &str)] = &[
    (
        &["-L", "--rate-limit", "--limit-rate", "--bwlimit"],
        "--rate 10MiB/s for a limit",
    ),
    (&["-s"], "--size SIZE for the bytes to expect, -q for silence"),
    (&["--silent"], "-q for silence"),
    (
        &["-B", "--buffer-size", "-b", "--bs", "--block-size"],
        "--high SIZE for how much is held, --chunk SIZE for the largest read",
    ),
    (
        &["-T", "--timeout", "--speed-time", "--speed-limit", "--io-timeout"],
        "--stall TIME to give up when nothing moves (an upload is `tidegate FILE URL`)",
    ),
    (
        &["-m", "--max-time"],
        "--stall TIME to give up when nothing moves; the whole time is limited by `timeout 60 tidegate …`",
    ),
    (&["--contimeout"], "--connect-timeout TIME"),
    (
        &["-t"],
        "--drain TIME for how long the sink may take after the source's end",
    ),
    (
        &["-u", "--user"],
        "ftp://USER@HOST/PATH, the password in ~/.netrc or --password-file; a copy goes one way anyway",
    ),
    (&["-d", "--debug"], "-v, -vv or -vvv to be told more"),
    (
        &["-o", "--output", "-O", "--remote-name", "--out"],
        "the second address for where bytes go: tidegate URL FILE",
    ),
    (
        &["-C", "--continue-at", "--continue", "-c"],
        "--resume to continue where an earlier copy broke off",
    ),
    (&["-k"], "--insecure to accept any certificate"),
    (&["--cacert"], "--ca FILE for the certificates to trust"),
    (&["-K"], "--config FILE"),
    (&["-f", "-y", "--overwrite", "--clobber"], "--force to overwrite"),
    (
        &["-n", "--no-clobber"],
        "nothing: an existing file is only overwritten with --force",
    ),
    (&["-a"], "--append to add to an existing file"),
    (
        &["-p", "-P", "--progress-bar"],
        "--progress always (on a terminal it is drawn anyway)",
    ),
    (&["--dry-run"], "tidegate explain SRC DST for the plan"),
    (
        &["-w", "--write-out", "--use-json-log", "--numeric"],
        "--json for figures a program can read",
    ),
    (&["--retry"], "--retries N"),
    (
        &["--md5", "--sha256", "--hash", "--sha1"],
        "--checksum sha256, blake3 or crc32",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        match args::parse(&words) {
            Ok(_) => panic!("{line} is no error"),
            Err(error) => explain(&error, &words).unwrap_or_else(|| plain(&error)),
        }
    }

    #[test]
    fn what_other_programs_call_it_is_understood() {
        for (line, hint) in [
            ("tidegate -L 10m a b", "try --rate"),
            ("tidegate --limit-rate 10m a b", "try --rate"),
            ("tidegate a b --bwlimit=10M", "try --rate"),
            ("tidegate -o x http://h/x", "tidegate URL FILE"),
            ("tidegate -p a b", "--progress always"),
            ("tidegate --dry-run a b", "explain"),
            ("tidegate a b -f", "--force"),
            ("tidegate -u a b", "one way"),
        ] {
            let text = of(line);
            assert!(text.starts_with("there is no option -"), "{line}: {text}");
            assert!(text.contains(hint), "{line}: {text}");
        }
        for (names, _) in FOREIGN {
            for name in *names {
                assert!(!args::has_option(name), "{name} is an option of ours");
            }
        }
    }

    #[test]
    fn a_wrong_number_of_addresses_is_answered_with_the_right_one() {
        for (line, parts) in [
            ("tidegate -q", ["SRC and DST are missing", "big.iso copy.iso"]),
            ("tidegate tcp:h:1", ["DST is missing", "try tidegate tcp:h:1 - "]),
            (
                "tidegate http://h/a/big.iso?x=1",
                ["DST is missing", " big.iso, or"],
            ),
            ("tidegate dmeo", ["DST is missing", "try tidegate demo"]),
            ("tidegate version", ["DST is missing", "--version"]),
            (
                "tidegate --rate 1M addresses",
                ["DST is missing", "--help addresses"],
            ),
            (
                "tidegate a b c",
                ["unexpected argument 'c'", "'exec:tar c a b' c"],
            ),
            (
                "tidegate copy a tcp:h:1",
                ["unexpected argument", "try tidegate a tcp:h:1"],
            ),
            ("tidegate serve .", ["no server", "serve http ."]),
            ("tidegate relay tcp:h:1", ["<B>", "required"]),
        ] {
            let text = of(line);
            for part in parts {
                assert!(text.contains(part), "{line}: {text}");
            }
        }
    }
}
