//! Help that is found and true: every example of `--help` runs, completions and the manual can be made.

use std::process::{Command, Stdio};

use crate::support::{Place, Running, clean, go, peer, run};

fn text(args: &[&str]) -> String {
    String::from_utf8(go(args).expect(0).out).unwrap()
}

/// The lines under `Examples:`.
fn examples() -> Vec<String> {
    let help = text(&["--help"]);
    let from = help.split("Examples:\n").nth(1).unwrap();
    let until = from.split("\nExit codes:").next().unwrap();
    until
        .lines()
        .filter(|line| line.starts_with("      "))
        .map(|line| line.trim().to_owned())
        .collect()
}

#[test]
fn every_example_of_the_help_runs() {
    let place = Place::new(100_000);
    std::fs::rename(place.path("big"), place.path("big.iso")).unwrap();
    std::fs::create_dir(place.path("src")).unwrap();
    std::fs::write(place.path("src/file"), &place.bytes).unwrap();
    let found = examples();
    assert!(found.len() >= 8, "{found:?}");
    for line in found {
        example(&place, &line);
    }
}

/// Runs one with the ports it names replaced by free ones, and with the other side it needs.
fn example(place: &Place, line: &str) {
    let port = crate::support::free_port();
    let other = crate::support::free_port();
    let mut shell = line.replace(":9000", &format!(":{port}"));
    shell = shell
        .replace(":8080", &format!(":{port}"))
        .replace("127.0.0.1:80", &format!("127.0.0.1:{other}"));
    let program = env!("CARGO_BIN_EXE_tidegate");
    let shell = shell.replace("tidegate ", &format!("{program} "));
    for name in ["copy.iso", "src.tgz", "src.tar", "out", "received"] {
        let _ = std::fs::remove_file(place.path(name));
    }
    let mut command = Command::new("bash");
    clean(&mut command);
    command
        .args(["-o", "pipefail", "-c", &shell])
        .current_dir(place.path(""));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if line.contains("explain") || !line.contains("tcp") {
        run(command).expect(0);
    } else if line.contains("relay") {
        let mut relay = Running::start(&mut command);
        relay.line("listening on");
        // bash has replaced itself by the program it runs last.
        relay.signal("TERM");
        relay.end().expect(0);
    } else if line.contains("tcp-listen") {
        let _ = std::fs::remove_file(place.path("big.iso"));
        let mut receiving = Running::start(&mut command);
        receiving.line("listening on");
        std::fs::write(place.path("x"), &place.bytes).unwrap();
        go([place.text("x"), format!("tcp://127.0.0.1:{port}")]).expect(0);
        receiving.end().expect(0);
        place.holds_all("big.iso");
    } else {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let copying = Running::start(&mut command);
        let mut stream = listener.accept().unwrap().0;
        if line.ends_with(" out") {
            std::io::Write::write_all(&mut stream, &place.bytes).unwrap();
            drop(stream);
            copying.end().expect(0);
            place.holds_all("out");
        } else {
            let mut got = Vec::new();
            std::io::Read::read_to_end(&mut stream, &mut got).unwrap();
            drop(stream);
            copying.end().expect(0);
            assert!(got == place.bytes, "{line}");
        }
    }
}

#[test]
fn help_has_its_parts() {
    let long = text(&["--help"]);
    for part in [
        "--stall",
        "--checksum",
        "Exit codes:",
        "141",
        "--help addresses",
        "relay",
        "TIDEGATE_NAME",
    ] {
        assert!(long.contains(part), "{part} is missing");
    }
    for args in [
        vec!["--help", "addresses"],
        vec!["help", "addresses"],
        vec!["-h", "addresses"],
    ] {
        let addresses = text(&args);
        assert!(addresses.contains("tcp-listen://ADDR:PORT") && addresses.contains("%2C"));
    }
    assert!(text(&["-h"]).lines().count() < long.lines().count());
    assert!(text(&["--version"]).starts_with("tidegate "));
    assert!(text(&["relay", "--help"]).contains("--half-close"));
}

/// A shell that reads a completion script and is then asked what it would offer.
fn shell(program: &str, args: &[&str]) -> Option<String> {
    let mut command = Command::new(peer(program, "completions_load_and_answer_in_the_real_shells")?);
    clean(&mut command);
    let place = Place::new(0);
    command
        .args(args)
        .env("HOME", place.path(""))
        .env("XDG_CONFIG_HOME", place.path(""))
        .env("XDG_DATA_HOME", place.path(""))
        .current_dir(place.path(""));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = run(command).expect(0);
    assert_eq!(run.err, "", "{program}");
    Some(String::from_utf8(run.out).unwrap())
}

#[test]
fn completions_load_and_answer_in_the_real_shells() {
    let bash = text(&["completions", "bash"])
        + "\nask() { COMP_WORDS=(tidegate \"$1\"); COMP_CWORD=1; COMPREPLY=(); _tidegate tidegate \"$1\" tidegate; \
           printf '%s\\n' \"${COMPREPLY[@]}\"; }; ask --chec; ask dem; complete -p tidegate";
    if let Some(answer) = shell("bash", &["--norc", "-c", &bash]) {
        assert!(
            answer.contains("--checksum") && answer.contains("demo") && answer.contains("-F _tidegate"),
            "{answer}"
        );
    }
    let fish =
        text(&["completions", "fish"]) + "\ncomplete -C 'tidegate --chec'\ncomplete -C 'tidegate dem'\n";
    if let Some(answer) = shell("fish", &["--no-config", "-c", &fish]) {
        assert!(
            answer.contains("--checksum\t") && answer.contains("demo\t"),
            "{answer}"
        );
    }
    let zsh = "autoload -U compinit; compinit -u -D\n".to_owned() + &text(&["completions", "zsh"]);
    if let Some(answer) = shell(
        "zsh",
        &[
            "-f",
            "-c",
            &format!("{zsh}\nprint -r -- $_comps[tidegate]; whence -w _tidegate"),
        ],
    ) {
        assert_eq!(answer, "_tidegate\n_tidegate: function\n");
    }
}

#[test]
fn the_manual_page_renders_without_a_warning() {
    let page = text(&["man"]);
    for part in [".TH TIDEGATE", "ADDRESSES", "EXIT STATUS", "EXAMPLES"] {
        assert!(page.contains(part), "{part} is missing");
    }
    assert!(page.is_ascii());
    let place = Place::new(0);
    std::fs::write(place.path("page"), &page).unwrap();
    let render = |program: &str, args: &[&str]| {
        let mut command = Command::new(peer(program, "the_manual_page_renders_without_a_warning")?);
        command.args(args).arg(place.path("page"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = run(command).expect(0);
        assert_eq!(run.err, "", "{program}");
        Some(String::from_utf8(run.out).unwrap())
    };
    render("mandoc", &["-T", "lint", "-W", "warning"]);
    render("groff", &["-man", "-Tutf8", "-ww"]);
    // It tells of every address, as the help and the document do: they come from one table.
    let help = text(&["--help", "addresses"]);
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/addresses.md");
    let document = std::fs::read_to_string(document).unwrap();
    let Some(shown) = render("mandoc", &["-T", "ascii", "-O", "width=200"]) else {
        return;
    };
    // mandoc strikes bold letters twice.
    let mut plain: Vec<char> = Vec::new();
    for letter in shown.chars() {
        if letter == '\u{8}' {
            plain.pop();
        } else {
            plain.push(letter);
        }
    }
    let shown: String = plain.into_iter().collect();
    let forms = document
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let mut count = 0;
    for row in forms {
        let form = row.split('`').nth(1).unwrap().replace("\\|", "|");
        assert!(help.contains(&form), "{form} is not in the help");
        let ascii = form.replace('…', "...");
        assert!(shown.contains(&ascii), "{ascii} is not in the manual");
        count += 1;
    }
    assert!(count >= 20, "{count}");
}
