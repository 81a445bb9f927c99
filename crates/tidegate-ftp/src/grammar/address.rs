//! Addresses on the control connection: `PORT`, `EPRT`, `EPSV`, and the replies to `PASV` and `EPSV`.
//!
//! Refuses to judge whether an address may be used: that is policy. RFC 959 §4.1.2, RFC 2428.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What `EPSV` asks for (RFC 2428 §3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EpsvArgument {
    /// No argument: the family of the control connection.
    Any,
    /// Family 1, IPv4.
    V4,
    /// Family 2, IPv6.
    V6,
    /// From now on refuse every other way to open a data connection (§4).
    All,
}

/// Why an address argument was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AddressError {
    /// Not of the form the RFC gives (reply 501).
    Syntax,
    /// A protocol family we do not speak (reply 522).
    Family,
}

/// Parses `h1,h2,h3,h4,p1,p2` (RFC 959 §4.1.2). Port 0 is refused.
///
/// # Errors
/// [`AddressError::Syntax`].
pub fn parse_port(argument: &[u8]) -> Result<SocketAddr, AddressError> {
    let mut fields = [0u8; 6];
    let mut count = 0;
    for part in argument.split(|&byte| byte == b',') {
        *fields.get_mut(count).ok_or(AddressError::Syntax)? = decimal(part)?;
        count += 1;
    }
    let port = u16::from_be_bytes([fields[4], fields[5]]);
    if count != 6 || port == 0 {
        return Err(AddressError::Syntax);
    }
    let host = Ipv4Addr::new(fields[0], fields[1], fields[2], fields[3]);
    Ok(SocketAddr::new(host.into(), port))
}

/// Parses `|family|address|port|`, with any printable delimiter (RFC 2428 §2). Port 0 and IPv6 scopes are refused.
///
/// # Errors
/// [`AddressError`].
pub fn parse_eprt(argument: &[u8]) -> Result<SocketAddr, AddressError> {
    let text = std::str::from_utf8(argument).map_err(|_| AddressError::Syntax)?;
    let delimiter = text
        .chars()
        .next()
        .filter(char::is_ascii_graphic)
        .ok_or(AddressError::Syntax)?;
    let parts: Vec<&str> = text.split(delimiter).collect();
    let ["", family, host, port, ""] = parts[..] else {
        return Err(AddressError::Syntax);
    };
    let host: IpAddr = match family {
        "1" => host.parse::<Ipv4Addr>().map_err(|_| AddressError::Syntax)?.into(),
        "2" => host.parse::<Ipv6Addr>().map_err(|_| AddressError::Syntax)?.into(),
        other if other.bytes().all(|byte| byte.is_ascii_digit()) && !other.is_empty() => {
            return Err(AddressError::Family);
        }
        _ => return Err(AddressError::Syntax),
    };
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressError::Syntax);
    }
    match port.parse() {
        Ok(0) | Err(_) => Err(AddressError::Syntax),
        Ok(port) => Ok(SocketAddr::new(host, port)),
    }
}

/// Parses the argument of `EPSV`.
///
/// # Errors
/// [`AddressError`].
pub fn parse_epsv(argument: &[u8]) -> Result<EpsvArgument, AddressError> {
    match argument {
        b"" => Ok(EpsvArgument::Any),
        b"1" => Ok(EpsvArgument::V4),
        b"2" => Ok(EpsvArgument::V6),
        all if all.eq_ignore_ascii_case(b"ALL") => Ok(EpsvArgument::All),
        number if number.iter().all(u8::is_ascii_digit) => Err(AddressError::Family),
        _ => Err(AddressError::Syntax),
    }
}

/// The text of a 227 reply.
pub fn passive_text(host: Ipv4Addr, port: u16) -> String {
    let [a, b, c, d] = host.octets();
    let [high, low] = port.to_be_bytes();
    format!("Entering passive mode ({a},{b},{c},{d},{high},{low})")
}

/// The text of a 229 reply.
pub fn extended_passive_text(port: u16) -> String {
    format!("Entering extended passive mode (|||{port}|)")
}

/// The address in the text of a 227 reply: the first six numbers with commas between, with or without brackets
/// (RFC 1123 §4.1.2.6).
///
/// # Errors
/// [`AddressError::Syntax`].
pub fn parse_passive_text(text: &[u8]) -> Result<SocketAddr, AddressError> {
    let is_body = |byte: &u8| byte.is_ascii_digit() || *byte == b',';
    text.split(|byte| !is_body(byte))
        .find_map(|run| parse_port(run).ok())
        .ok_or(AddressError::Syntax)
}

/// The port in the text of a 229 reply.
///
/// # Errors
/// [`AddressError::Syntax`].
pub fn parse_extended_passive_text(text: &[u8]) -> Result<u16, AddressError> {
    let open = text
        .iter()
        .position(|&byte| byte == b'(')
        .ok_or(AddressError::Syntax)?;
    let body = &text[open + 1..];
    let close = body
        .iter()
        .position(|&byte| byte == b')')
        .ok_or(AddressError::Syntax)?;
    let [a, b, c, port @ .., d] = &body[..close] else {
        return Err(AddressError::Syntax);
    };
    if a != b || b != c || c != d || port.is_empty() || !port.iter().all(u8::is_ascii_digit) {
        return Err(AddressError::Syntax);
    }
    let digits = std::str::from_utf8(port).map_err(|_| AddressError::Syntax)?;
    match digits.parse() {
        Ok(0) | Err(_) => Err(AddressError::Syntax),
        Ok(port) => Ok(port),
    }
}

fn decimal(part: &[u8]) -> Result<u8, AddressError> {
    if part.is_empty() || part.len() > 3 || !part.iter().all(u8::is_ascii_digit) {
        return Err(AddressError::Syntax);
    }
    let value = part
        .iter()
        .fold(0u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    u8::try_from(value).map_err(|_| AddressError::Syntax)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn port_takes_six_small_numbers_and_nothing_else() {
        assert_eq!(
            parse_port(b"127,0,0,1,4,1").unwrap(),
            "127.0.0.1:1025".parse().unwrap()
        );
        for wrong in [
            "",
            "1,2,3,4,5",
            "1,2,3,4,5,6,7",
            "256,0,0,1,4,1",
            "1,2,3,4,0,0",
            "1,2,3,4,5,",
            "+1,2,3,4,5,6",
        ] {
            assert_eq!(parse_port(wrong.as_bytes()), Err(AddressError::Syntax), "{wrong}");
        }
    }

    #[test]
    fn eprt_takes_both_families_and_any_delimiter() {
        assert_eq!(
            parse_eprt(b"|1|132.235.1.2|6275|").unwrap(),
            "132.235.1.2:6275".parse().unwrap()
        );
        assert_eq!(
            parse_eprt(b"!2!::1!5282!").unwrap(),
            "[::1]:5282".parse().unwrap()
        );
        assert_eq!(parse_eprt(b"|3|x|1|"), Err(AddressError::Family));
        for wrong in [
            "",
            "|",
            "|1|1.2.3.4|0|",
            "|1|::1|5|",
            "|2|1.2.3.4|5|",
            "|1|1.2.3.4|5",
            "|1|1.2.3.4|70000|",
            "|1|1.2.3.4|+5|",
            "|2|fe80::1%1|5|",
        ] {
            assert_eq!(parse_eprt(wrong.as_bytes()), Err(AddressError::Syntax), "{wrong}");
        }
    }

    #[test]
    fn epsv_takes_nothing_a_family_or_all() {
        assert_eq!(parse_epsv(b""), Ok(EpsvArgument::Any));
        assert_eq!(parse_epsv(b"1"), Ok(EpsvArgument::V4));
        assert_eq!(parse_epsv(b"2"), Ok(EpsvArgument::V6));
        assert_eq!(parse_epsv(b"all"), Ok(EpsvArgument::All));
        assert_eq!(parse_epsv(b"3"), Err(AddressError::Family));
        assert_eq!(parse_epsv(b"x"), Err(AddressError::Syntax));
    }

    #[test]
    fn passive_replies_of_other_servers_are_read() {
        let expected = "10.0.0.1:1025".parse().unwrap();
        for text in [
            "Entering Passive Mode (10,0,0,1,4,1).",
            "=10,0,0,1,4,1",
            "ok 10,0,0,1,4,1 go",
        ] {
            assert_eq!(parse_passive_text(text.as_bytes()), Ok(expected), "{text}");
        }
        assert_eq!(parse_extended_passive_text(b"Entering (|||1025|)"), Ok(1025));
        assert_eq!(
            parse_extended_passive_text(b"Entering (|||x|)"),
            Err(AddressError::Syntax)
        );
        assert_eq!(parse_extended_passive_text(b"()"), Err(AddressError::Syntax));
    }

    proptest! {
        #[test]
        fn addresses_survive_the_round_trip(host: [u8; 4], port in 1u16..) {
            let address = SocketAddr::new(Ipv4Addr::from(host).into(), port);
            let text = passive_text(host.into(), port);
            prop_assert_eq!(parse_passive_text(text.as_bytes()), Ok(address));
            prop_assert_eq!(parse_extended_passive_text(extended_passive_text(port).as_bytes()), Ok(port));
        }

        #[test]
        fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse_passive_text(&bytes);
            let _ = parse_extended_passive_text(&bytes);
            prop_assert!(parse_port(&bytes).map_or(true, |address| address.port() != 0));
            prop_assert!(parse_eprt(&bytes).map_or(true, |address| address.port() != 0));
            let _ = parse_epsv(&bytes);
        }
    }
}
