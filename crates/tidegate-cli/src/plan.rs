//! `tidegate explain SRC DST`: the plan of a copy, made from the words alone, without any input or output.
//!
//! Knows what each kind of end allows; whether something is really there, only a run can tell.

use std::net::IpAddr;

use clap::ValueEnum;
use tidegate_io::endpoint::file::Durability;
use tidegate_io::{Lane, LaneChoice, LaneKind};

use crate::address::{Address, Place, Role, Scheme};
use crate::args::LaneArg;
use crate::copy::Job;
use crate::settings::{CopySettings, Existing};
use crate::size::{show_rate, show_size, show_time};

/// The whole plan as text.
pub(crate) fn explain(job: &Job) -> String {
    let settings = &job.settings;
    let (lane, why) = lane(&job.source, &job.sink, settings);
    let marks = &settings.flow.marks;
    let mut text = String::new();
    let mut row = |name: &str, value: String| text.push_str(&format!("{name:<16}{value}\n"));
    row("source", describe(&job.source, Role::Source, settings));
    row("sink", describe(&job.sink, Role::Sink, settings));
    row("lane", format!("{lane}: {why}"));
    row(
        "memory",
        format!(
            "at most {} held (high {} + one chunk of {}); reading pauses above {}, goes on at or below {}",
            show_size((marks.high() + marks.chunk()) as u64),
            show_size(marks.high() as u64),
            show_size(marks.chunk() as u64),
            show_size(marks.high() as u64),
            show_size(marks.low() as u64)
        ),
    );
    row("limits", limits(settings));
    if let Some(size) = settings.size {
        row("size", format!("{} expected", show_size(size)));
    }
    if let Some(wanted) = &settings.checksum {
        let compared = match &wanted.expected {
            Some(hex) => format!(", must be {hex}"),
            None => String::new(),
        };
        row(
            "checksum",
            format!("{}, computed on the way{compared}", wanted.kind.name()),
        );
    }
    row("done means", done(&job.sink, settings));
    row("cut short means", cut(&job.sink, settings));
    text
}

fn describe(address: &Address, role: Role, settings: &CopySettings) -> String {
    let row = address.row();
    let how = match (row.listens(), role) {
        (true, _) => "takes one connection, then stops listening",
        (false, Role::Source) => "read as it comes, only while the gate has room",
        (false, _) => "written as fast as it takes",
    };
    let existing = match (address.scheme, role, settings.existing) {
        (Scheme::File, Role::Sink, Existing::Refuse) => "; an existing file is refused",
        (Scheme::File, Role::Sink, Existing::Replace) => "; an existing file is replaced",
        (Scheme::File, Role::Sink, Existing::Append) => "; appended to in place",
        _ => "",
    };
    format!("{} ({}): {how}{existing}", address.text, kind(address.scheme))
}

fn kind(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Stdio => "standard stream",
        Scheme::File => "file",
        Scheme::Tcp | Scheme::TcpListen => "TCP connection",
        Scheme::Unix | Scheme::UnixListen => "Unix socket",
        Scheme::Tls | Scheme::TlsListen => "TLS over TCP",
        Scheme::Pipe => "FIFO",
        Scheme::NamedPipe | Scheme::NamedPipeListen => "named pipe",
        Scheme::Fd => "descriptor",
        Scheme::Exec | Scheme::Shell => "program's pipe",
        Scheme::Http | Scheme::Https | Scheme::HttpListen => "HTTP body",
        Scheme::Ftp | Scheme::Ftps => "FTP data connection",
        Scheme::Maildir => "mailbox",
        Scheme::Pb | Scheme::PbListen => "Perspective Broker pages",
    }
}

/// What stands behind an end, as far as lanes care. `None`: a protocol or encryption in user space.
fn handle(address: &Address) -> Option<LaneKind> {
    Some(match address.scheme {
        Scheme::File => LaneKind::File,
        Scheme::Unix | Scheme::UnixListen => LaneKind::LocalSocket,
        Scheme::Tcp | Scheme::TcpListen if is_this_machine(&address.place) => LaneKind::LocalSocket,
        Scheme::Tcp | Scheme::TcpListen => LaneKind::Socket,
        Scheme::Pipe | Scheme::Exec | Scheme::Shell => LaneKind::Pipe,
        // Whatever the program is started with; a pipe more often than not.
        Scheme::Stdio | Scheme::Fd => LaneKind::Pipe,
        _ => return None,
    })
}

/// Whether an address as written means this machine; names other than `localhost` are not looked up here.
fn is_this_machine(place: &Place) -> bool {
    let Place::HostPort { host, .. } = place else {
        return false;
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The lane a run would take, and why.
fn lane(source: &Address, sink: &Address, settings: &CopySettings) -> (Lane, String) {
    let forced = settings.flow.lane;
    if forced == LaneArg::Copy {
        return (Lane::Copy, "asked for".to_owned());
    }
    let needs = match (&settings.checksum, settings.flow.rate) {
        (Some(_), _) => Some("a checksum needs the bytes in user space"),
        (None, Some(_)) => Some("a rate limit counts in user space"),
        (None, None) => None,
    };
    if let Some(why) = needs {
        return (Lane::Copy, why.to_owned());
    }
    let (Some(from), Some(to)) = (handle(source), handle(sink)) else {
        return (
            Lane::Copy,
            "a protocol or encryption stands between the bytes and the handle".to_owned(),
        );
    };
    let lane = settings.flow.lane_choice().between(from, to);
    match (lane, forced) {
        (Some(lane), LaneArg::Auto) => (lane, format!("{}; copy where the kernel refuses", gain(lane))),
        (Some(lane), _) => (lane, "asked for; copy where the kernel refuses".to_owned()),
        (None, LaneArg::Auto) => (Lane::Copy, loss(from, to).to_owned()),
        (None, asked) => {
            let asked = asked
                .to_possible_value()
                .map_or_else(String::new, |value| value.get_name().to_owned());
            let what = match has_lanes() {
                true => "which these two ends do not allow",
                false => "but this system has no lanes",
            };
            (Lane::Copy, format!("{asked} was asked for, {what}"))
        }
    }
}

/// Where `auto` takes a lane.
fn gain(lane: Lane) -> &'static str {
    match lane {
        Lane::Sendfile => "a file that does not change, to a plain socket",
        Lane::CopyFileRange => "between two files, inside the file system",
        _ => "between two streams, once they have shown to be bulk",
    }
}

fn has_lanes() -> bool {
    LaneChoice::Auto.between(LaneKind::File, LaneKind::File).is_some()
}

const WITHIN_ONE_MACHINE: &str = "within one machine a large buffer in user space is faster";

/// Why `auto` takes none.
fn loss(from: LaneKind, to: LaneKind) -> &'static str {
    match (from, to) {
        _ if !has_lanes() => "this system has no lanes",
        (LaneKind::File, LaneKind::LocalSocket) => WITHIN_ONE_MACHINE,
        (LaneKind::File, _) => "auto splices no file: a change on the way would show",
        (_, LaneKind::File) => "a stream into a file goes through user space",
        _ => WITHIN_ONE_MACHINE,
    }
}

fn limits(settings: &CopySettings) -> String {
    let flow = &settings.flow;
    let mut parts = vec![format!("connect {}", show_time(flow.connect_timeout))];
    parts.push(match flow.stall {
        Some(stall) => format!("stall {}", show_time(stall)),
        None => "no stall limit".to_owned(),
    });
    parts.push(format!("drain {}", show_time(flow.drain)));
    parts.push(match flow.rate {
        Some(rate) => format!("rate {}", show_rate(rate as f64)),
        None => "no rate limit".to_owned(),
    });
    parts.join(", ")
}

fn done(sink: &Address, settings: &CopySettings) -> String {
    match sink.scheme {
        Scheme::File => return file_done(settings),
        Scheme::Stdio | Scheme::Fd | Scheme::Pipe | Scheme::NamedPipe | Scheme::NamedPipeListen => {
            "handed to the system (nobody confirms more)"
        }
        Scheme::Exec | Scheme::Shell => "the program took all and ended with 0",
        Scheme::Http | Scheme::Https => "the server answered with success",
        Scheme::Ftp | Scheme::Ftps => "the server answered 226",
        Scheme::Maildir => "the message is durable under its final name",
        Scheme::HttpListen | Scheme::PbListen => "the client has all of it",
        _ => "the other end closed in good order, or the drain limit passed (then: sent)",
    }
    .to_owned()
}

fn file_done(settings: &CopySettings) -> String {
    let placed = match settings.existing {
        _ if settings.resume => "written in place",
        Existing::Append => "appended",
        Existing::Refuse | Existing::Replace => "renamed to its name",
    };
    match settings.durability {
        Durability::Cached => format!("{placed}; the disk gets it at the system's own pace"),
        Durability::Synced => format!("on disk, and {placed}"),
    }
}

fn cut(sink: &Address, settings: &CopySettings) -> String {
    match (sink.scheme, settings.existing) {
        (Scheme::File, _) if settings.resume => "what has come stays, for --resume to go on from",
        (Scheme::File, Existing::Append) => "the file is cut back to its old length",
        (Scheme::File, _) => "the target stays as it was, nothing is left beside it",
        (Scheme::Exec | Scheme::Shell, _) => "the program is killed: a closed input would look finished",
        (Scheme::Tcp | Scheme::TcpListen, _) => "the connection is reset",
        (Scheme::Maildir, _) => "the mailbox stays as it was",
        (Scheme::Http | Scheme::Https | Scheme::HttpListen, _) => "the body visibly breaks off",
        _ => "the exit code says so; the other end cannot be told",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    fn plan(line: &str) -> String {
        let cli = crate::args::Cli::try_parse_from(line.split(' ')).unwrap();
        explain(&crate::job(&cli.copy).unwrap())
    }

    #[test]
    fn the_plan_names_memory_limits_and_what_done_means() {
        let text = plan("tidegate --config /dev/null big tcp://h:1");
        assert!(text.contains("1.06 MiB held"), "{text}");
        assert!(text.contains("no stall limit"), "{text}");
        assert!(plan("tidegate --config /dev/null a b").contains("on disk, and renamed"));
        let resumed = plan("tidegate --config /dev/null --resume a b");
        assert!(
            resumed.contains("written in place") && resumed.contains("what has come stays"),
            "{resumed}"
        );
        assert!(
            plan("tidegate --config /dev/null --durability cached a b").contains("at the system's own pace")
        );
    }

    fn held_to(table: &[(&str, &str)]) {
        for (words, expected) in table {
            let text = plan(&format!("tidegate --config /dev/null {words}"));
            assert!(text.contains(expected), "{words}: {text}");
        }
    }

    #[test]
    fn what_must_be_seen_or_counted_is_copied() {
        held_to(&[
            ("--rate 1M big tcp://h:1", "copy: a rate limit"),
            ("--lane copy big tcp://h:1", "copy: asked for"),
            ("tls://h:1 out", "copy: a protocol"),
        ]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_plan_names_the_lane_and_why() {
        held_to(&[
            ("big tcp://h:1", "sendfile: a file"),
            ("tcp://h:1 tcp://i:2", "splice: between two streams"),
            ("tcp://h:1 unix:x", "copy: within one machine"),
            ("big tcp://127.0.0.1:1", "copy: within one machine"),
            ("--lane sendfile big tcp://127.0.0.1:1", "sendfile: asked"),
            ("--lane splice exec:x unix:x", "splice: asked"),
            ("--lane splice tcp-listen::1 y", "splice: asked"),
            ("--lane sendfile tcp://h:1 unix:x", "do not allow"),
        ]);
    }

    #[cfg(windows)]
    #[test]
    fn the_plan_says_that_there_are_no_lanes() {
        held_to(&[
            ("big tcp://h:1", "copy: this system has no lanes"),
            (
                "--lane sendfile big tcp://h:1",
                "sendfile was asked for, but this system has no lanes",
            ),
        ]);
    }
}
