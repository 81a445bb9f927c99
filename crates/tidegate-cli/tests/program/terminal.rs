//! As a new user at a terminal: a pseudo-terminal made by `script`, from `--help` to a finished copy.

use std::process::{Command, Stdio};

use crate::support::{MIB, Place, Running, clean, peer, run};

/// Runs a shell line in a terminal of some width; what it showed comes back.
fn terminal(place: &Place, columns: u16, settings: &[(&str, &str)], line: &str) -> Option<(i32, String)> {
    let script = peer("script", "at a terminal")?;
    let mut command = Command::new(script);
    clean(&mut command);
    command
        .env("TERM", "xterm")
        .env("TIDEGATE", env!("CARGO_BIN_EXE_tidegate"));
    for (name, value) in settings {
        command.env(name, value);
    }
    let line = format!("stty cols {columns} rows 24; tidegate() {{ \"$TIDEGATE\" \"$@\"; }}; {line}");
    command
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .current_dir(place.path(""));
    command
        .env("SHELL", "/bin/bash")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = run(command);
    Some((run.code, String::from_utf8_lossy(&run.out).into_owned()))
}

/// The lines that were drawn over one another.
fn drawn(shown: &str) -> Vec<String> {
    shown
        .split(['\r', '\n'])
        .map(|part| part.replace("\x1b[K", ""))
        .filter(|part| part.contains("slow: ") || part.contains("%"))
        .collect()
}

#[test]
fn a_new_user_gets_from_help_to_a_finished_copy() {
    let place = Place::new(3 * MIB);
    let Some((code, help)) = terminal(&place, 100, &[], "tidegate --help") else {
        return;
    };
    assert_eq!(code, 0, "{help}");
    // What the help shows is what is typed next.
    for option in [
        "--checksum",
        "--rate",
        "tidegate --checksum sha256 big.iso copy.iso",
    ] {
        assert!(help.contains(option), "{option} is not in the help");
    }
    let line = "tidegate explain big copy && tidegate --checksum sha256 --rate 4MiB/s big copy";
    let (code, shown) = terminal(&place, 140, &[], line).unwrap();
    assert_eq!(code, 0, "{shown}");
    place.holds_all("copy");
    let lines = drawn(&shown);
    // At most ten a second, and at least a few.
    let last = shown.trim_end().lines().last().unwrap();
    let seconds = last.split(" in ").nth(1).unwrap().split(' ').next().unwrap();
    let most = seconds.parse::<f64>().unwrap() * 10.0 + 2.0;
    assert!(
        lines.len() >= 3 && lines.len() as f64 <= most,
        "{} lines in {seconds} s: {shown:?}",
        lines.len()
    );
    for part in ["3.00 MiB", "in ", "out ", "gate", "slow: ", "ETA "] {
        assert!(
            lines.iter().any(|line| line.contains(part)),
            "{part:?} never shown: {lines:?}"
        );
    }
    assert!(
        last.contains("3.00 MiB in ") && last.contains(", sha256 "),
        "{last:?}"
    );
    // A slip is answered with what would be right.
    let (code, shown) = terminal(&place, 100, &[], "tidegate big tcp://localhost").unwrap();
    assert!(
        code == 2 && shown.contains('^') && shown.contains("try tcp://"),
        "{shown}"
    );
}

#[test]
fn narrow_terminals_and_no_color_look_right() {
    let place = Place::new(2 * MIB);
    let line = "tidegate --force --rate 4MiB/s big copy";
    let Some((code, shown)) = terminal(&place, 30, &[], line) else {
        return;
    };
    assert_eq!(code, 0);
    let lines = drawn(&shown);
    assert!(!lines.is_empty(), "{shown:?}");
    for line in &lines[..lines.len() - 1] {
        let bare = line.replace("\x1b[33m", "").replace("\x1b[0m", "");
        assert!(bare.chars().count() <= 29, "{bare:?}");
    }
    let slow = "tidegate big sh:'for i in 1 2 3 4 5 6 7 8; do head -c 250000 >/dev/null; sleep 0.1; done; cat >/dev/null'";
    let (_, colourful) = terminal(&place, 120, &[], slow).unwrap();
    assert!(colourful.contains("\x1b[33mslow: sink\x1b[0m"), "{colourful:?}");
    let (_, plain) = terminal(&place, 120, &[("NO_COLOR", "1")], slow).unwrap();
    assert!(
        plain.contains("slow: sink") && !plain.contains("\x1b[3"),
        "{plain:?}"
    );
    let (_, dumb) = terminal(&place, 120, &[("TERM", "dumb")], slow).unwrap();
    assert!(dumb.contains("slow: sink") && !dumb.contains('\x1b'), "{dumb:?}");
}

#[test]
fn a_terminal_as_standard_input_is_read_to_its_end() {
    let place = Place::new(0);
    let Some(script) = peer("script", "a_terminal_as_standard_input_is_read_to_its_end") else {
        return;
    };
    let mut command = Command::new(script);
    clean(&mut command);
    // What comes in on its own input, `script` types; at the end of it, it types ^D.
    let line = format!("test -t 0 && exec {} -q - copy", env!("CARGO_BIN_EXE_tidegate"));
    command
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .current_dir(place.path(""));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut typing = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut typing, b"typed\n").unwrap();
    drop(typing);
    Running::start_with(child).end().expect(0);
    assert_eq!(std::fs::read(place.path("copy")).unwrap(), b"typed\n");
}
