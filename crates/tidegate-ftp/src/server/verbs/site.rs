//! `SITE` (RFC 959 §4.1.3): `SITE CHMOD`, where it was allowed, and nothing else.

#[cfg_attr(unix, path = "site/unix.rs")]
#[cfg_attr(not(unix), path = "site/none.rs")]
mod change;

use self::change::change;
use crate::grammar::Reply;
use crate::server::SiteChmod;
use crate::server::session::{Answer, Session};

pub(super) async fn run(session: &mut Session, argument: &[u8]) -> Answer {
    let mut words = argument.splitn(3, |&byte| byte == b' ');
    let (verb, mode, path) = (words.next().unwrap_or_default(), words.next(), words.next());
    if !verb.eq_ignore_ascii_case(b"CHMOD") {
        return Reply::new(504, "Not served here").into();
    }
    if session.shared.options.site_chmod == SiteChmod::Refused {
        return Reply::new(502, "SITE CHMOD is not allowed here").into();
    }
    match (mode.and_then(parse_mode), path) {
        (Some(mode), Some(path)) => change(session, path, mode).await,
        _ => Reply::new(501, "SITE CHMOD mode path").into(),
    }
}

/// Three octal digits, or four of which the first is 0.
fn parse_mode(word: &[u8]) -> Option<u32> {
    let digits = match word {
        [b'0', rest @ ..] if rest.len() == 3 => rest,
        rest if rest.len() == 3 => rest,
        _ => return None,
    };
    digits.iter().try_fold(0, |mode, digit| match digit {
        b'0'..=b'7' => Some(mode * 8 + u32::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::parse_mode;

    #[test]
    fn modes_are_plain_permissions() {
        assert_eq!(parse_mode(b"644"), Some(0o644));
        assert_eq!(parse_mode(b"0755"), Some(0o755));
        for wrong in ["4755", "888", "", "75", "u+x"] {
            assert_eq!(parse_mode(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
