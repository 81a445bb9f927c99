//! `tidegate`: moves bytes from one address to another, and tells which side is slow.
//!
//! Knows which command was asked for; each command is a file of its own.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(all(feature = "http", feature = "ftp", feature = "maildir", feature = "pb")),
    allow(
        dead_code,
        unused_imports,
        unused_variables,
        reason = "a build without some protocols leaves their plumbing idle"
    )
)]

mod address;
mod args;
mod checksum;
mod config;
mod copy;
mod demo;
#[cfg_attr(not(unix), path = "descriptors/none.rs")]
mod descriptors;
mod display;
mod exit;
mod ftp_user;
mod logging;
mod manual;
mod open;
mod plan;
mod progress;
mod relay_cmd;
mod report;
mod serve_cmd;
mod settings;
mod signals;
mod size;
#[cfg_attr(not(unix), path = "terminal/none.rs")]
mod terminal;
mod usage;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::CommandFactory;

use crate::address::{Address, Place, Role, Scheme};
use crate::args::{Cli, Command, CopyArgs, OutputArgs};
use crate::config::Config;
use crate::exit::Exit;
use crate::report::{Failure, Names};
use crate::settings::CopySettings;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(run(&words).code())
}

fn run(words: &[OsString]) -> Exit {
    if asks_for_addresses(words) {
        return manual::print(&address::table::help());
    }
    let cli = match args::parse(words) {
        Ok(cli) => cli,
        Err(error) => return usage::refuse(&error, words),
    };
    match cli.command {
        None => copy(&cli.copy),
        Some(Command::Relay(args)) => relay_cmd::run(&args),
        Some(Command::Serve(serve)) => serve_cmd::run(&serve),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::Explain(args)) => explain(&args),
        Some(Command::Completions { shell }) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut text);
            manual::print(&String::from_utf8_lossy(&text))
        }
        Some(Command::Man) => manual::run(),
        Some(Command::FtpUser(args)) => ftp_user::run(&args),
    }
}

/// `--help addresses`, in the forms people try.
fn asks_for_addresses(words: &[OsString]) -> bool {
    let is = |word: &OsStr, text: &str| word == OsStr::new(text);
    words.windows(2).enumerate().any(|(at, pair)| {
        let asks = is(&pair[0], "--help") || is(&pair[0], "-h") || (at == 1 && is(&pair[0], "help"));
        asks && is(&pair[1], "addresses")
    })
}

fn copy(args: &CopyArgs) -> Exit {
    let job = match job(args) {
        Ok(job) => job,
        Err(failure) => return fail(&failure, &args.output),
    };
    logging::start(logging::Kind::Copy, &job.settings.output);
    let written = [(&args.src, &job.source), (&args.dst, &job.sink)];
    let on_the_line: Vec<&Address> = written
        .into_iter()
        // What a name stands for is in the configuration, which others cannot read.
        .filter(|(word, _)| {
            word.as_ref()
                .is_none_or(|word| !word.to_string_lossy().starts_with('@'))
        })
        .map(|(_, address)| address)
        .collect();
    warn_of_secrets(&on_the_line);
    warn_of_secret_headers(&args.http.header);
    warn_of_mistakes(&job.sink);
    // A flow that never has to wait still hears of signals and clocks after each of its turns.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(1)
        .build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(job.run());
            // A thread that waits in a read of a terminal or a slow disk does not hold up the end.
            runtime.shutdown_background();
            exit
        }
        Err(error) => fail(&other(format!("cannot start: {error}")), &args.output),
    }
}

fn explain(args: &CopyArgs) -> Exit {
    match job(args) {
        Ok(job) => manual::print(&plan::explain(&job)),
        Err(failure) => fail(&failure, &args.output),
    }
}

/// All that can be wrong before anything is opened.
fn job(args: &CopyArgs) -> Result<copy::Job, Failure> {
    let usage = |error: anyhow::Error| Failure::usage(format!("{error:#}"));
    let config = Config::load(args.output.config.as_deref()).map_err(usage)?;
    let origin = config.path().map(std::path::Path::to_owned);
    let settings = CopySettings::resolve(args, &config.defaults).map_err(usage)?;
    let empty = OsString::new();
    let source = address(&config, args.src.as_ref().unwrap_or(&empty), Role::Source)?;
    let sink = address(&config, args.dst.as_ref().unwrap_or(&empty), Role::Sink)?;
    check(&source, &sink, &settings).map_err(Failure::usage)?;
    Ok(copy::Job {
        source,
        sink,
        settings,
        origin,
    })
}

/// What the protocols can say about addresses and options before anything is opened.
fn check(source: &Address, sink: &Address, settings: &CopySettings) -> Result<(), String> {
    for address in [source, sink] {
        match (address.scheme, &address.place) {
            #[cfg(feature = "ftp")]
            (Scheme::Ftp | Scheme::Ftps, Place::Url(url)) => {
                open::remote_file::check(url).map_err(|error| format!("{}: {error}", address.text))?;
            }
            #[cfg(feature = "maildir")]
            (Scheme::Maildir, _) => {
                open::mail::options(address).map_err(|error| format!("{}: {error}", address.text))?;
            }
            _ => {}
        }
    }
    #[cfg(feature = "http")]
    open::web::check(&settings.ends)?;
    if settings.resume {
        let from = matches!(
            source.scheme,
            Scheme::File | Scheme::Http | Scheme::Https | Scheme::Ftp | Scheme::Ftps
        );
        let to = matches!(sink.scheme, Scheme::File | Scheme::Ftp | Scheme::Ftps);
        if !(from && to) {
            return Err("--resume needs a file, HTTP or FTP source and a file or FTP sink".to_owned());
        }
    }
    Ok(())
}

/// One address, which may be a configured name, for its place.
fn address(config: &Config, written: &OsStr, role: Role) -> Result<Address, Failure> {
    let resolved = config
        .resolve(written)
        .map_err(|error| Failure::usage(format!("{}: {error:#}", role.word())))?;
    Address::parse(&resolved)
        .and_then(|address| address.check_role(role).map(|()| address))
        .map_err(|error| Failure::usage(format!("bad {} address: {error}", role.word())))
}

/// Anybody on the machine can read a command line.
fn warn_of_secrets(addresses: &[&Address]) {
    if addresses.iter().any(|address| address.shows_password()) {
        tracing::warn!(
            "a password on the command line can be read by every user of this machine; use --password-file or ~/.netrc"
        );
    }
}

/// A header may be as good as a password.
fn warn_of_secret_headers(headers: &[String]) {
    const SECRET: [&str; 5] = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "x-api-key",
        "x-auth-token",
    ];
    // What came from the environment is not on the command line.
    if std::env::var("TIDEGATE_HEADER").is_ok_and(|lines| lines.split('\n').eq(headers)) {
        return;
    }
    let name = |header: &String| header.split(':').next().unwrap_or("").trim().to_ascii_lowercase();
    if let Some(header) = headers
        .iter()
        .find(|header| SECRET.contains(&name(header).as_str()))
    {
        tracing::warn!(
            "the value of {} on the command line can be read by every user of this machine; use TIDEGATE_HEADER or the \
             configuration",
            header.split(':').next().unwrap_or("")
        );
    }
}

/// A bare path is literal. One that looks like an address of another kind becomes a file all the same, but not unsaid.
fn warn_of_mistakes(sink: &Address) {
    use crate::address::habits::{Meant, meant};
    let (Scheme::File, Place::Path(path)) = (sink.scheme, &sink.place) else {
        return;
    };
    if path.exists() {
        return;
    }
    let text = &sink.text;
    match meant(text) {
        Some(Meant::Connection(other)) => {
            tracing::warn!("{text} is written as a file of that name; for a connection, {other}");
        }
        Some(Meant::Other(other)) => {
            tracing::warn!("{text} is written as a file of that name; did you mean {other}?");
        }
        None => {}
    }
}

/// Tells of a failure before anything was opened.
fn fail(failure: &Failure, output: &OutputArgs) -> Exit {
    let names = Names::default();
    if output.json {
        display::print_json(&report::failure_json(failure, &names));
    } else {
        display::print_line(&format!("tidegate: {}", failure.line(&names)));
    }
    failure.exit
}

fn other(message: String) -> Failure {
    Failure {
        exit: Exit::Other,
        side: None,
        message,
        report: None,
    }
}
