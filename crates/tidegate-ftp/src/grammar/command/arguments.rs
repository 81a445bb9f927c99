//! The arguments of the verbs, each from its bytes.
//!
//! Knows no verb table: `command.rs` says which verb takes what.

use super::{AuthMechanism, Command, CommandError, Protection, Text, TransferType};
use crate::grammar::time::parse_timestamp;

pub(super) fn none(argument: &[u8], command: Command) -> Result<Command, CommandError> {
    match argument.trim_ascii() {
        b"" => Ok(command),
        _ => Err(CommandError::Argument),
    }
}

pub(super) fn text(argument: &[u8], make: fn(Text) -> Command) -> Result<Command, CommandError> {
    match argument {
        b"" => Err(CommandError::Argument),
        argument => Ok(make(argument.to_vec())),
    }
}

pub(super) fn letter(
    argument: &[u8],
    served: &[u8],
    known: &[u8],
    command: Command,
) -> Result<Command, CommandError> {
    match argument.to_ascii_uppercase().as_slice() {
        [letter] if served.contains(letter) => Ok(command),
        [letter] if known.contains(letter) => Err(CommandError::Parameter),
        _ => Err(CommandError::Argument),
    }
}

/// Clients send options of `ls` (`LIST -la dir`); they change nothing here, but must not be taken for a name.
pub(super) fn without_options(argument: &[u8]) -> Text {
    let mut rest = argument;
    while rest.first() == Some(&b'-') && rest.get(1).is_some_and(u8::is_ascii_alphabetic) {
        let end = rest.iter().position(|&byte| byte == b' ');
        rest = end.map_or(&[][..], |end| &rest[end + 1..]);
    }
    rest.to_vec()
}

pub(super) fn auth(argument: &[u8]) -> Result<Command, CommandError> {
    match argument.to_ascii_uppercase().as_slice() {
        b"TLS" | b"TLS-C" => Ok(Command::Auth(AuthMechanism::Tls)),
        b"SSL" | b"TLS-P" => Ok(Command::Auth(AuthMechanism::Ssl)),
        b"" => Err(CommandError::Argument),
        _ => Err(CommandError::Parameter),
    }
}

pub(super) fn mfmt(argument: &[u8]) -> Result<Command, CommandError> {
    let space = argument
        .iter()
        .position(|&byte| byte == b' ')
        .ok_or(CommandError::Argument)?;
    let modify_unix_seconds = parse_timestamp(&argument[..space]).ok_or(CommandError::Argument)?;
    text(&argument[space + 1..], |path| Command::Mfmt {
        modify_unix_seconds: 0,
        path,
    })
    .map(|command| match command {
        Command::Mfmt { path, .. } => Command::Mfmt {
            modify_unix_seconds,
            path,
        },
        other => other,
    })
}

pub(super) fn opts(argument: &[u8]) -> Result<Command, CommandError> {
    let space = argument
        .iter()
        .position(|&byte| byte == b' ')
        .unwrap_or(argument.len());
    let rest = argument.get(space + 1..).unwrap_or_default();
    match argument[..space].to_ascii_uppercase().as_slice() {
        b"MLST" => Ok(Command::OptsMlst(rest.to_vec())),
        b"HASH" => Ok(Command::OptsHash(rest.to_vec())),
        b"UTF8" | b"UTF-8" if rest.eq_ignore_ascii_case(b"ON") || rest.is_empty() => Ok(Command::OptsUtf8),
        _ => Err(CommandError::Argument),
    }
}

pub(super) fn pbsz(argument: &[u8]) -> Result<Command, CommandError> {
    match argument {
        b"" => Err(CommandError::Argument),
        number if number.iter().all(u8::is_ascii_digit) && number.len() <= 10 => Ok(Command::Pbsz),
        _ => Err(CommandError::Argument),
    }
}

pub(super) fn prot(argument: &[u8]) -> Result<Command, CommandError> {
    match argument.to_ascii_uppercase().as_slice() {
        b"C" => Ok(Command::Prot(Protection::Clear)),
        b"P" => Ok(Command::Prot(Protection::Private)),
        b"S" | b"E" => Err(CommandError::Protection),
        _ => Err(CommandError::Argument),
    }
}

pub(super) fn rest(argument: &[u8]) -> Result<Command, CommandError> {
    Ok(Command::Rest(offset(argument.trim_ascii())?))
}

/// `1 0` is the draft's way to say: the whole file.
pub(super) fn rang(argument: &[u8]) -> Result<Command, CommandError> {
    let space = argument.iter().position(|&byte| byte == b' ');
    let (start, last) = argument.split_at(space.ok_or(CommandError::Argument)?);
    match (offset(start)?, offset(last.trim_ascii())?) {
        (1, 0) => Ok(Command::Rang(None)),
        (start, last) if start <= last => Ok(Command::Rang(Some((start, last)))),
        _ => Err(CommandError::Argument),
    }
}

fn offset(digits: &[u8]) -> Result<u64, CommandError> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(CommandError::Argument);
    }
    let text = std::str::from_utf8(digits).map_err(|_| CommandError::Argument)?;
    // An offset no file can have is no offset: `i64` is what the system takes.
    let offset: i64 = text.parse().map_err(|_| CommandError::Argument)?;
    Ok(offset.unsigned_abs())
}

pub(super) fn transfer_type(argument: &[u8]) -> Result<Command, CommandError> {
    match argument.to_ascii_uppercase().as_slice() {
        b"A" | b"A N" => Ok(Command::Type(TransferType::Ascii)),
        b"I" | b"L 8" => Ok(Command::Type(TransferType::Image)),
        [b'A' | b'E' | b'L', ..] => Err(CommandError::Parameter),
        _ => Err(CommandError::Argument),
    }
}
