//! `tidegate ftp-user NAME`: makes the line of one user for `serve ftp --users`.
//!
//! Knows where the password is read from, and that it never stands on the command line.

use crate::args::{FtpUserArgs, OutputArgs};
use crate::exit::Exit;
use crate::report::Failure;

/// Runs the command.
pub(crate) fn run(args: &FtpUserArgs) -> Exit {
    match line(args) {
        Ok(line) => crate::manual::print(&format!("{line}\n")),
        Err(failure) => crate::fail(&failure, &OutputArgs::default()),
    }
}

#[cfg(feature = "ftp")]
fn line(args: &FtpUserArgs) -> Result<String, Failure> {
    let password = password(args)?;
    let mut line = tidegate_ftp::users::hash_line(&args.name, &password)
        .map_err(|error| Failure::usage(error.to_string()))?;
    if let Some(directory) = &args.directory {
        line.push_str(&format!(":{}", directory.display()));
        tidegate_ftp::users::Users::parse(&line).map_err(|error| Failure::usage(error.to_string()))?;
    }
    Ok(line)
}

#[cfg(not(feature = "ftp"))]
fn line(_: &FtpUserArgs) -> Result<String, Failure> {
    Err(Failure::usage("FTP was left out of this build"))
}

/// The first line of the file, or of standard input.
#[cfg(feature = "ftp")]
fn password(args: &FtpUserArgs) -> Result<String, Failure> {
    use std::io::{BufRead, BufReader, IsTerminal};
    let cannot = |what: String| Failure {
        exit: Exit::SourceOpen,
        side: None,
        message: what,
        report: None,
    };
    let mut line = String::new();
    let read = match &args.password_file {
        Some(path) => std::fs::File::open(path).and_then(|file| BufReader::new(file).read_line(&mut line)),
        None => {
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                crate::terminal::read_unseen(&mut line)
            } else {
                stdin.lock().read_line(&mut line)
            }
        }
    };
    read.map_err(|error| cannot(format!("cannot read the password: {error}")))?;
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        Err(Failure::usage("the password is empty"))
    } else {
        Ok(password)
    }
}
