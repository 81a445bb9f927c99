//! The long help: examples, exit codes, signals.
//!
//! Knows nothing of the options; they say what they are themselves.

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

pub(super) fn long_help() -> String {
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
