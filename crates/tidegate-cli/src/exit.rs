//! The exit codes: one table for the program, its help, its man page and its documentation.
//!
//! Knows nothing of flows; [`crate::report`] says which code an outcome has.

/// How the program ends. The numbers are a promise to scripts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    Ok,
    Other,
    Usage,
    SourceOpen,
    SinkOpen,
    SourceFailed,
    SinkFailed,
    Truncated,
    TimedOut,
    Mismatch,
    Interrupted,
    BrokenStdout,
    Terminated,
}

/// Every code with its meaning, in order.
pub(crate) const TABLE: [(Exit, &str); 13] = [
    (
        Exit::Ok,
        "every byte arrived, and the sink said so as far as its kind can",
    ),
    (Exit::Other, "anything else"),
    (
        Exit::Usage,
        "wrong use: an option, an address, the configuration; nothing was opened",
    ),
    (Exit::SourceOpen, "the source cannot be opened"),
    (Exit::SinkOpen, "the sink cannot be opened, or its target exists"),
    (Exit::SourceFailed, "the source failed midway"),
    (Exit::SinkFailed, "the sink failed midway"),
    (Exit::Truncated, "the source ended before its announced end"),
    (Exit::TimedOut, "stalled, or a time limit passed"),
    (
        Exit::Mismatch,
        "a checksum or another verification does not match",
    ),
    (Exit::Interrupted, "ended by SIGINT (^C)"),
    (
        Exit::BrokenStdout,
        "standard output is a broken pipe; nothing is printed",
    ),
    (Exit::Terminated, "ended by SIGTERM"),
];

impl Exit {
    /// The number the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Other => 1,
            Self::Usage => 2,
            Self::SourceOpen => 3,
            Self::SinkOpen => 4,
            Self::SourceFailed => 5,
            Self::SinkFailed => 6,
            Self::Truncated => 7,
            Self::TimedOut => 8,
            Self::Mismatch => 9,
            Self::Interrupted => 130,
            Self::BrokenStdout => 141,
            Self::Terminated => 143,
        }
    }
}

/// The table as plain lines for `--help` and the man page.
pub(crate) fn help() -> String {
    TABLE
        .iter()
        .map(|(exit, meaning)| format!("  {:>3}  {meaning}\n", exit.code()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_documentation_holds_every_code_with_its_meaning() {
        let doc = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md")).unwrap();
        for (exit, meaning) in TABLE {
            let row = format!("| {} | {meaning} |", exit.code());
            assert!(doc.contains(&row), "docs/cli.md lacks the row `{row}`");
        }
    }
}
