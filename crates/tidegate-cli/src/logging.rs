//! Log lines on stderr: text for people, JSON for programs.
//!
//! Knows nothing of what is logged.

use std::fmt;
use std::io;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::args::LogFormat;
use crate::report::SCHEMA_VERSION;
use crate::settings::OutputSettings;

/// What kind of program is running: a service logs what it does, a copy only what is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Copy,
    Service,
}

/// Logs every certificate that does not do, with a place in its source code.
const TOLD_BY_US: &str = "rustls_platform_verifier=off";

/// Starts logging. `RUST_LOG` may say more precisely what is wanted.
pub(crate) fn start(kind: Kind, output: &OutputSettings) {
    let level = match (output.quiet, kind, output.verbose) {
        (true, _, _) => "error",
        (false, Kind::Copy, 0) => "warn",
        (false, Kind::Service, 0) | (false, Kind::Copy, 1) => "info",
        (false, Kind::Service, 1) | (false, Kind::Copy, 2) => "debug",
        _ => "trace",
    };
    // What other crates have to say below a warning is of use to few; suppaftp warns of every transfer that is cut, which
    // our own error tells, as it tells what is wrong with a certificate.
    let ours = format!(
        "warn,suppaftp=error,{TOLD_BY_US},tidegate={level},tidegate_io={level},tidegate_http={level},tidegate_ftp={level}"
    );
    let ours = format!("{ours},tidegate_maildir={level},tidegate_pb={level}");
    let usual = match level {
        "error" => format!("error,{TOLD_BY_US}"),
        _ => ours,
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let line = Line {
        kind,
        format: output.log_format,
    };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .event_format(line)
        .with_writer(|| Wiped(io::stderr()))
        .try_init();
}

/// Takes the progress line away before it writes.
struct Wiped(io::Stderr);

impl io::Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        crate::display::wipe();
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct Line {
    kind: Kind,
    format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        match self.format {
            LogFormat::Json => self.json(&mut to, event, fields),
            LogFormat::Text => self.text(&mut to, event, &fields),
        }
    }
}

impl Line {
    fn json(&self, to: &mut Writer<'_>, event: &Event<'_>, fields: Fields) -> fmt::Result {
        let mut time = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let object = json!({
            "version": SCHEMA_VERSION,
            "event": "log",
            "time": time,
            "level": event.metadata().level().as_str().to_ascii_lowercase(),
            "target": event.metadata().target(),
            "message": fields.message,
            "fields": Value::Object(fields.rest),
        });
        writeln!(to, "{object}")
    }

    fn text(&self, to: &mut Writer<'_>, event: &Event<'_>, fields: &Fields) -> fmt::Result {
        if self.kind == Kind::Service {
            SystemTime.format_time(to)?;
            write!(to, " ")?;
        } else {
            write!(to, "tidegate: ")?;
        }
        match *event.metadata().level() {
            Level::ERROR => write!(to, "error: ")?,
            Level::WARN => write!(to, "warning: ")?,
            _ => {}
        }
        write!(to, "{}", fields.message.escape_debug_but_text())?;
        for (name, value) in &fields.rest {
            match value {
                Value::String(text) if text.contains([' ', '"', '\n', '=']) => {
                    write!(to, " {name}={text:?}")?
                }
                Value::String(text) => write!(to, " {name}={text}")?,
                other => write!(to, " {name}={other}")?,
            }
        }
        writeln!(to)
    }
}

/// Keeps what a peer may have put into a message from looking like lines of ours.
trait OneLine {
    fn escape_debug_but_text(&self) -> String;
}

impl OneLine for String {
    fn escape_debug_but_text(&self) -> String {
        self.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.rest.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
}
