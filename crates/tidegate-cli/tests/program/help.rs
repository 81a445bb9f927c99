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

#[test]
fn completions_are_made_and_bash_takes_its_own() {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&["completions", shell]);
        assert!(
            script.contains("--checksum") || script.contains("checksum"),
            "{shell}"
        );
    }
    let script = text(&["completions", "bash"]);
    let mut command = Command::new("bash");
    command
        .args(["-n", "-c", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    run(command).expect(0);
}

#[test]
fn the_manual_page_renders() {
    let page = text(&["man"]);
    for part in [".TH tidegate", "ADDRESSES", "EXIT STATUS", "EXAMPLES"] {
        assert!(page.contains(part), "{part} is missing");
    }
    let Some(groff) = peer("groff", "the_manual_page_renders") else {
        return;
    };
    let place = Place::new(0);
    std::fs::write(place.path("page"), &page).unwrap();
    let mut command = Command::new(groff);
    command.args(["-man", "-Tutf8", "-ww"]).arg(place.path("page"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = run(command).expect(0);
    assert!(String::from_utf8_lossy(&run.out).contains("EXIT STATUS") || !run.out.is_empty());
}
