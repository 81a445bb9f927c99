//! What reaches stderr, and when: the progress line on a terminal, plain lines or JSON elsewhere.
//!
//! Knows nothing of rates; [`crate::progress`] makes the text.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tidegate_io::Snapshot;

use crate::args::When;
use crate::progress::{Meter, Paint, View};
use crate::report::{self, Names};
use crate::settings::OutputSettings;

/// A line is drawn at most ten times a second.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Whole lines and JSON snapshots come once a second.
const PRINT_EVERY: Duration = Duration::from_secs(1);

/// A drawn line stands on the terminal and has to go before anything else is printed.
static DRAWN: AtomicBool = AtomicBool::new(false);

/// How a run shows itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    /// One line, drawn over and over.
    Line(Escapes),
    /// A line a second: asked for, with no terminal to draw on.
    Lines,
    /// A JSON object a second.
    Json,
    /// Nothing on the way.
    Still,
}

/// What the terminal understands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Escapes {
    Understood(Paint),
    /// `TERM=dumb`: blanks wipe the rest of the line.
    Dumb,
}

/// The output of one run.
#[derive(Debug)]
pub(crate) struct Display {
    mode: Mode,
    quiet: bool,
    json: bool,
    last_columns: usize,
}

impl Display {
    pub(crate) fn new(output: &OutputSettings) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let mode = match output.progress {
            _ if output.json => Mode::Json,
            _ if output.quiet => Mode::Still,
            When::Never => Mode::Still,
            When::Auto if !terminal => Mode::Still,
            When::Always if !terminal => Mode::Lines,
            When::Auto | When::Always => Mode::Line(escapes()),
        };
        Self {
            mode,
            quiet: output.quiet,
            json: output.json,
            last_columns: 0,
        }
    }

    /// How often [`tick`](Self::tick) wants to be called. Rates are kept also when nothing is shown: SIGUSR1 may ask.
    pub(crate) fn every(&self) -> Duration {
        match self.mode {
            Mode::Line(_) => DRAW_EVERY,
            Mode::Lines | Mode::Json | Mode::Still => PRINT_EVERY,
        }
    }

    /// Shows how a flow stands.
    pub(crate) fn tick(&mut self, now: &Snapshot, meter: &Meter, size: Option<u64>, names: &Names) {
        match self.mode {
            Mode::Still => {}
            Mode::Json if self.quiet => {}
            Mode::Json => print_json(&report::snapshot_json(now, meter, size, names)),
            Mode::Lines => print_line(&View::new(now, meter, size).line(usize::MAX, Paint::Plain)),
            Mode::Line(escapes) => self.draw(&View::new(now, meter, size), escapes),
        }
    }

    /// Answers SIGUSR1.
    pub(crate) fn look(&self, now: &Snapshot, meter: &Meter, size: Option<u64>, names: &Names) {
        if self.json {
            print_json(&report::snapshot_json(now, meter, size, names));
        } else {
            self.say(&report::snapshot_line(now, meter, names));
        }
    }

    /// Tells that somebody can connect.
    pub(crate) fn listening(&self, address: &str, names: &Names) {
        if self.quiet {
        } else if self.json {
            let mut object = report::blank("listening", names);
            object["address"] = Value::from(address);
            print_json(&object);
        } else {
            self.say(&format!("listening on {address}"));
        }
    }

    /// One line for people, unless only errors are wanted or stderr belongs to JSON.
    pub(crate) fn note(&self, line: &str) {
        if !self.quiet && !self.json {
            self.say(line);
        }
    }

    /// The last word of a run that ended well.
    pub(crate) fn end(&self, line: &str, object: &Value) {
        wipe();
        if self.json {
            print_json(object);
        } else if !self.quiet {
            self.say(line);
        }
    }

    /// The last word of a run that did not.
    pub(crate) fn fail(&self, line: &str, object: &Value) {
        wipe();
        if self.json {
            print_json(object);
        } else {
            self.say(line);
        }
    }

    fn say(&self, line: &str) {
        wipe();
        print_line(&format!("tidegate: {line}"));
    }

    fn draw(&mut self, view: &View, escapes: Escapes) {
        // The last column stays free: some terminals wrap when it is written to.
        let room = columns().saturating_sub(1);
        let text = match escapes {
            Escapes::Understood(paint) => format!("\r{}\x1b[K", view.line(room, paint)),
            Escapes::Dumb => {
                let line = view.line(room, Paint::Plain);
                let used = line.chars().count();
                let blanks = self.last_columns.min(room).saturating_sub(used);
                self.last_columns = used;
                format!("\r{line}{}", " ".repeat(blanks))
            }
        };
        DRAWN.store(true, Ordering::Relaxed);
        put(&text);
    }
}

/// Takes a drawn line off the terminal.
pub(crate) fn wipe() {
    if DRAWN.swap(false, Ordering::Relaxed) {
        match escapes() {
            Escapes::Understood(_) => put("\r\x1b[K"),
            Escapes::Dumb => put("\n"),
        }
    }
}

/// One line on stderr, in one write so that lines of several writers stay whole.
pub(crate) fn print_line(line: &str) {
    put(&format!("{line}\n"));
}

/// One JSON object on stderr.
pub(crate) fn print_json(object: &Value) {
    print_line(&object.to_string());
}

/// A stderr that cannot be written to is nobody's to complain about.
fn put(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}

fn escapes() -> Escapes {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        Escapes::Dumb
    } else if set("NO_COLOR") {
        Escapes::Understood(Paint::Plain)
    } else {
        Escapes::Understood(Paint::Colour)
    }
}

/// The terminal's width, 80 where it cannot be told.
fn columns() -> usize {
    let told = || {
        let text = std::env::var("COLUMNS").ok()?;
        text.parse().ok().filter(|columns| *columns > 0)
    };
    crate::terminal::columns().or_else(told).unwrap_or(80)
}
