//! The messages brokers exchange, as expressions: reading and writing them.
//!
//! Pure; knows nothing of who is called. (Twisted: the `proto_…` methods of `spread.pb.Broker`.)

use bytes::Bytes;

use crate::banana::Expr;
use crate::jelly::{Luid, Value, jelly, unjelly};
use crate::{PbError, RemoteError};

/// The version both ends must speak.
pub(crate) const VERSION: i64 = 6;

const COPYABLE_FAILURE: &str = "twisted.spread.pb.CopyableFailure";

/// One message.
#[derive(Debug)]
pub(crate) enum Message {
    Version(i64),
    Call {
        request: i64,
        object: Luid,
        method: String,
        answer: AnswerWanted,
        args: Expr,
        kwargs: Expr,
    },
    Answer {
        request: i64,
        value: Expr,
    },
    Error {
        request: i64,
        error: RemoteError,
    },
    Decref(Luid),
    DidNotUnderstand,
    Unknown(Bytes),
}

/// Whether a message ends a call of this end, so that it may overtake the calls of the peer.
pub(crate) fn ends_a_call(expr: &Expr) -> bool {
    let Expr::List(parts) = expr else { return false };
    matches!(parts.first(), Some(Expr::Bytes(command)) if [&b"answer"[..], b"error"].contains(&&command[..]))
}

/// Whether a call is to be answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AnswerWanted {
    Yes,
    No,
}

impl Message {
    pub(crate) fn read(expr: Expr) -> Result<Self, PbError> {
        let Expr::List(list) = expr else {
            return Err(PbError::Protocol("a message that is no list"));
        };
        let mut parts = list.into_iter();
        let Some(Expr::Bytes(command)) = parts.next() else {
            return Err(PbError::Protocol("a message without a command"));
        };
        let parts: Vec<Expr> = parts.collect();
        match &command[..] {
            b"version" => match &parts[..] {
                [Expr::Int(version)] => Ok(Self::Version(version.to_i64().unwrap_or(-1))),
                _ => Err(PbError::Protocol("malformed version")),
            },
            b"message" => read_call(parts).ok_or(PbError::Protocol("malformed message")),
            b"answer" => match <[Expr; 2]>::try_from(parts) {
                Ok([request, value]) => {
                    let request = small(&request).ok_or(PbError::Protocol("malformed answer"))?;
                    Ok(Self::Answer { request, value })
                }
                Err(_) => Err(PbError::Protocol("malformed answer")),
            },
            b"error" => match &parts[..] {
                [request, failure] => {
                    let request = small(request).ok_or(PbError::Protocol("malformed error"))?;
                    Ok(Self::Error {
                        request,
                        error: read_failure(failure),
                    })
                }
                _ => Err(PbError::Protocol("malformed error")),
            },
            b"decref" => match &parts[..] {
                [object] => luid(object)
                    .map(Self::Decref)
                    .ok_or(PbError::Protocol("malformed decref")),
                _ => Err(PbError::Protocol("malformed decref")),
            },
            b"didNotUnderstand" => Ok(Self::DidNotUnderstand),
            _ => Ok(Self::Unknown(command)),
        }
    }
}

fn read_call(parts: Vec<Expr>) -> Option<Message> {
    let [request, object, method, answer, args, kwargs] = <[Expr; 6]>::try_from(parts).ok()?;
    let method = match unjelly(&method).ok()? {
        Value::Bytes(name) => String::from_utf8(name.to_vec()).ok()?,
        Value::Str(name) => name.to_string(),
        _ => return None,
    };
    let answer = if small(&answer)? == 0 {
        AnswerWanted::No
    } else {
        AnswerWanted::Yes
    };
    Some(Message::Call {
        request: small(&request)?,
        object: luid(&object)?,
        method,
        answer,
        args,
        kwargs,
    })
}

/// The text of an exception. What cannot be read still is an error: the call failed, whatever it says.
fn read_failure(failure: &Expr) -> RemoteError {
    let Expr::List(parts) = failure else {
        return RemoteError::new("unknown", format!("{failure:?}"));
    };
    let tag = match parts.first() {
        Some(Expr::Bytes(tag)) => String::from_utf8_lossy(tag).into_owned(),
        _ => "unknown".to_owned(),
    };
    let state = match parts.get(1).map(unjelly) {
        Some(Ok(Value::Dict(state))) => state,
        _ => return RemoteError::new(tag, "without a readable text"),
    };
    let field = |name: &str| {
        let found = state
            .iter()
            .find(|(key, _)| key.as_bytes() == Some(name.as_bytes()));
        found
            .and_then(|(_, value)| value.as_bytes())
            .map(|text| String::from_utf8_lossy(text).into_owned())
    };
    RemoteError::new(field("type").unwrap_or(tag), field("value").unwrap_or_default())
}

fn small(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Int(number) => number.to_i64(),
        _ => None,
    }
}

fn luid(expr: &Expr) -> Option<Luid> {
    match expr {
        Expr::Int(number) => number.to_i64().map(Luid::Number),
        Expr::Bytes(name) => Some(Luid::Name(name.clone())),
        Expr::Float(_) | Expr::List(_) => None,
    }
}

fn luid_expr(luid: &Luid) -> Expr {
    match luid {
        Luid::Number(number) => Expr::int(*number),
        Luid::Name(name) => Expr::Bytes(name.clone()),
    }
}

pub(crate) fn version() -> Expr {
    Expr::List(vec![Expr::word("version"), Expr::int(VERSION)])
}

pub(crate) fn call(
    request: i64,
    object: &Luid,
    method: &str,
    answer: AnswerWanted,
    args: Vec<Value>,
    kwargs: Vec<(String, Value)>,
) -> Expr {
    let kwargs: Vec<_> = kwargs
        .into_iter()
        .map(|(key, value)| (Value::text(&key), value))
        .collect();
    Expr::List(vec![
        Expr::word("message"),
        Expr::int(request),
        luid_expr(object),
        Expr::Bytes(Bytes::copy_from_slice(method.as_bytes())),
        Expr::int(i64::from(answer == AnswerWanted::Yes)),
        jelly(&Value::Tuple(args.into())),
        jelly(&Value::Dict(kwargs.into())),
    ])
}

pub(crate) fn answer(request: i64, value: &Value) -> Expr {
    Expr::List(vec![Expr::word("answer"), Expr::int(request), jelly(value)])
}

/// An exception as Twisted copies one: the state of its `CopiedFailure`, all of it text.
pub(crate) fn error(request: i64, error: &RemoteError) -> Expr {
    let bytes = |text: &str| Value::Bytes(Bytes::copy_from_slice(text.as_bytes()));
    let empty = || Value::List([].into());
    let state = [
        ("type", bytes(&error.kind)),
        ("value", Value::text(&error.message)),
        ("traceback", Value::text("Traceback unavailable\n")),
        ("parents", Value::List([bytes(&error.kind)].into())),
        ("frames", empty()),
        ("stack", empty()),
        ("tb", Value::None),
        ("count", Value::int(0)),
        ("captureVars", Value::Bool(false)),
    ];
    let state = Value::Dict(
        state
            .into_iter()
            .map(|(key, value)| (Value::text(key), value))
            .collect(),
    );
    let failure = Expr::List(vec![Expr::word(COPYABLE_FAILURE), jelly(&state)]);
    Expr::List(vec![Expr::word("error"), Expr::int(request), failure])
}

pub(crate) fn decref(luid: &Luid) -> Expr {
    Expr::List(vec![Expr::word("decref"), luid_expr(luid)])
}

pub(crate) fn did_not_understand(command: &Bytes) -> Expr {
    Expr::List(vec![Expr::word("didNotUnderstand"), Expr::Bytes(command.clone())])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(expr: Expr) -> Result<Message, PbError> {
        Message::read(expr)
    }

    #[test]
    fn a_call_and_an_error_are_read_back() {
        let args = vec![Value::int(1), Value::text("two")];
        let expr = call(
            7,
            &Luid::Number(3),
            "gotPage",
            AnswerWanted::No,
            args.clone(),
            vec![],
        );
        let Message::Call {
            request,
            object,
            method,
            answer,
            args: read_args,
            ..
        } = read(expr).unwrap()
        else {
            panic!("a call")
        };
        assert_eq!(
            (request, object, &method[..], answer),
            (7, Luid::Number(3), "gotPage", AnswerWanted::No)
        );
        assert_eq!(unjelly(&read_args).unwrap(), Value::Tuple(args.into()));

        let sent = RemoteError::new("exceptions.ValueError", "no");
        let Message::Error {
            request: 9,
            error: received,
        } = read(error(9, &sent)).unwrap()
        else {
            panic!("an error")
        };
        assert_eq!(received, sent);
    }

    #[test]
    fn malformed_messages_are_the_peers_fault() {
        let list = |parts: Vec<Expr>| Expr::List(parts);
        let cases = [
            Expr::int(1),
            list(vec![]),
            list(vec![Expr::int(1)]),
            list(vec![Expr::word("version")]),
            list(vec![Expr::word("version"), Expr::word("6")]),
            list(vec![Expr::word("message"), Expr::int(1)]),
            list(vec![Expr::word("answer"), Expr::int(1)]),
            list(vec![Expr::word("answer"), Expr::word("x"), Expr::int(1)]),
            list(vec![Expr::word("error"), Expr::int(1)]),
            list(vec![Expr::word("decref"), Expr::Float(1.0)]),
            list(vec![Expr::word("decref")]),
        ];
        for expr in cases {
            assert!(
                matches!(read(expr.clone()), Err(PbError::Protocol(_))),
                "{expr:?}"
            );
        }
        assert!(matches!(
            read(list(vec![Expr::word("cachemessage")])),
            Ok(Message::Unknown(_))
        ));
    }
}
