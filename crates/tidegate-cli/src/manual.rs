//! Texts that are printed on standard output: help, completions, the manual page.
//!
//! Knows what stands in the manual beyond what the options say of themselves.

use std::io::{ErrorKind, Write};

use clap::CommandFactory;
use clap_mangen::roff::{Roff, roman};

use crate::address::table;
use crate::args::{Cli, EXAMPLES};
use crate::exit::{Exit, TABLE};

/// The date in the manual's head.
const LAST_REVIEWED: &str = "2026-11-28";

/// Prints a text. A reader that has seen enough is no fault.
pub(crate) fn print(text: &str) -> Exit {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Exit::Ok,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::BrokenStdout,
        Err(error) => {
            crate::display::print_line(&format!("tidegate: cannot write to standard output: {error}"));
            Exit::SinkFailed
        }
    }
}

/// `tidegate man`.
pub(crate) fn run() -> Exit {
    match render() {
        Ok(text) => print(&text),
        Err(error) => {
            crate::display::print_line(&format!("tidegate: cannot make the manual page: {error}"));
            Exit::Other
        }
    }
}

fn render() -> std::io::Result<String> {
    let command = Cli::command();
    let mut text = Vec::new();
    let page = clap_mangen::Man::new(command.clone().after_long_help(""))
        .title("TIDEGATE")
        .date(LAST_REVIEWED)
        .manual("User Commands");
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    page.render_subcommands_section(&mut text)?;
    for sub in command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
    {
        text.extend(subcommand(sub).into_bytes());
    }
    text.extend(addresses().into_bytes());
    text.extend(exits().into_bytes());
    text.extend(examples().into_bytes());
    Ok(portable(&String::from_utf8_lossy(&text)))
}

/// What every roff reads without a warning: no letters beyond ASCII, no breaks around blank lines, no trailing blanks.
fn portable(text: &str) -> String {
    let mut page = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '…' => page.push_str("..."),
            letter if letter.is_ascii() => page.push(letter),
            letter => page.push_str(&format!("\\[u{:04X}]", u32::from(letter))),
        }
    }
    let page = page.replace("\n.br\n\n.br\n", "\n.sp\n");
    page.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

fn subcommand(command: &clap::Command) -> String {
    let mut roff = Roff::new();
    roff.control(
        "SH",
        [format!("COMMAND {}", command.get_name().to_uppercase()).as_str()],
    );
    let mut command = command
        .clone()
        .bin_name(format!("tidegate {}", command.get_name()));
    let help = command.render_long_help().to_string();
    roff.control("nf", []);
    for line in help.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.to_roff()
}

fn addresses() -> String {
    let mut roff = Roff::new();
    roff.control("SH", ["ADDRESSES"]);
    roff.control("nf", []);
    for line in table::help().lines().skip(2) {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.to_roff()
}

fn exits() -> String {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in TABLE {
        roff.control("TP", []);
        roff.text([roman(exit.code().to_string())]);
        roff.text([roman(meaning)]);
    }
    roff.to_roff()
}

fn examples() -> String {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for (about, line) in EXAMPLES {
        if !about.is_empty() {
            roff.control("TP", []);
            roff.text([roman(format!("{about}:"))]);
        }
        roff.text([roman(*line)]);
        roff.control("br", []);
    }
    roff.to_roff()
}
