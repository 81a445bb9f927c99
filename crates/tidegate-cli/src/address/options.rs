//! `,name=value` behind an address, and the escapes in both. Pure.
//!
//! Knows which names an endpoint has from the table; nothing of what they do.

use super::error::{AddressError, error};
use super::slips::nearest;
use super::table::Row;

/// Names and values in order.
pub(super) type Options = Vec<(String, String)>;

/// Splits `body,name=value,…` and checks the names.
pub(super) fn split_options<'a>(
    row: &Row,
    text: &'a str,
    start: usize,
) -> Result<(&'a str, Options), AddressError> {
    let whole = &text[start..];
    let mut parts = whole.split(',');
    let body = parts.next().unwrap_or("");
    let mut options = Vec::new();
    let mut at = start + body.len() + 1;
    for part in parts {
        options.push(parse_option(row, text, at, part)?);
        at += part.len() + 1;
    }
    Ok((body, options))
}

fn parse_option(row: &Row, text: &str, at: usize, part: &str) -> Result<(String, String), AddressError> {
    let (name, value) = match part.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (part, None),
    };
    let names = || row.options.iter().map(|option| option.name);
    let Some(known) = row.options.iter().find(|option| option.name == name) else {
        let hint = match nearest(name, names()) {
            Some(near) => format!("{near}? (a comma that belongs to the address is written %2C)"),
            None => format!(
                "one of {}; a comma that belongs to the address is written %2C",
                names().collect::<Vec<_>>().join(", ")
            ),
        };
        return Err(error(
            text,
            at,
            format!("`{}:` has no option `{name}`", row.name),
            Some(hint),
        ));
    };
    let value = match (known.value.is_empty(), value) {
        (true, None) => String::new(),
        (true, Some(_)) => {
            let what = format!("`{name}` takes no value");
            return Err(error(text, at + name.len(), what, Some(format!(",{name}"))));
        }
        (false, None | Some("")) => {
            let what = format!("`{name}` needs a value");
            return Err(error(
                text,
                at + part.len(),
                what,
                Some(format!(",{name}={}", known.value)),
            ));
        }
        (false, Some(value)) => unescape(value).map_err(|offset| {
            let at = at + name.len() + 1 + offset;
            error(
                text,
                at,
                "this percent sign starts no escape",
                Some("%25 for a percent sign".into()),
            )
        })?,
    };
    if known.value.contains('|') && !known.value.split('|').any(|choice| choice == value) {
        let what = format!("`{name}` is one of {}", known.value.replace('|', ", "));
        return Err(error(text, at + name.len() + 1, what, None));
    }
    Ok((name.to_owned(), value))
}

pub(super) fn unescape(text: &str) -> Result<String, usize> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let digits = text
            .get(at + 1..at + 3)
            .filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        out.push(
            digits
                .and_then(|two| u8::from_str_radix(two, 16).ok())
                .ok_or(at)?,
        );
        at += 3;
    }
    match String::from_utf8(out) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(text.find('%').unwrap_or(0)),
    }
}
