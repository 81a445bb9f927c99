//! From an expression to plain data.
//!
//! Refuses everything outside the table; knows nothing of the broker.

use std::collections::HashMap;
use std::sync::Arc;

use super::{JellyError, Luid, Value};
use crate::banana::Expr;

/// Deeper than any expression that banana's default limits let through.
const DEPTH_MAX: usize = 128;

/// Reads plain data.
///
/// ```
/// use tidegate_pb::banana::Expr;
/// use tidegate_pb::jelly::{JellyError, Value, unjelly};
/// let expr = Expr::List(vec![Expr::word("tuple"), Expr::int(1), Expr::List(vec![Expr::word("None")])]);
/// assert_eq!(unjelly(&expr).unwrap(), Value::Tuple([Value::int(1), Value::None].into()));
/// let code = Expr::List(vec![Expr::word("function"), Expr::word("os.system")]);
/// assert_eq!(unjelly(&code), Err(JellyError::Unsupported("function".into())));
/// ```
///
/// # Errors
/// [`JellyError`] names what is wrong; nothing of the data is used.
pub fn unjelly(expr: &Expr) -> Result<Value, JellyError> {
    Reader::default().read(expr, 0)
}

#[derive(Default)]
struct Reader {
    /// What `reference` defined. `None` while its data is being read.
    shared: HashMap<i64, Option<Value>>,
}

impl Reader {
    fn read(&mut self, expr: &Expr, depth: usize) -> Result<Value, JellyError> {
        if depth > DEPTH_MAX {
            return Err(JellyError::TooDeep(DEPTH_MAX));
        }
        match expr {
            Expr::Int(integer) => Ok(Value::Int(integer.clone())),
            Expr::Float(float) => Ok(Value::Float(*float)),
            Expr::Bytes(bytes) => Ok(Value::Bytes(bytes.clone())),
            Expr::List(elements) => match elements.split_first() {
                Some((Expr::Bytes(tag), rest)) => self.tagged(tag, rest, depth + 1),
                _ => Err(JellyError::NoTag),
            },
        }
    }

    fn tagged(&mut self, tag: &[u8], rest: &[Expr], depth: usize) -> Result<Value, JellyError> {
        match tag {
            b"None" if rest.is_empty() => Ok(Value::None),
            b"None" => Err(JellyError::Malformed("None")),
            b"boolean" => boolean(rest),
            b"unicode" => unicode(rest),
            b"list" => Ok(Value::List(self.all(rest, depth)?)),
            b"tuple" => Ok(Value::Tuple(self.all(rest, depth)?)),
            b"set" => Ok(Value::Set(self.all(rest, depth)?)),
            b"frozenset" => Ok(Value::FrozenSet(self.all(rest, depth)?)),
            b"dictionary" => self.dictionary(rest, depth),
            b"reference" => self.reference(rest, depth),
            b"dereference" => self.dereference(rest),
            b"remote" => match rest {
                [Expr::Int(number)] => number.to_i64().map(Value::Remote),
                _ => None,
            }
            .ok_or(JellyError::Malformed("remote")),
            b"local" => luid(rest).map(Value::Local).ok_or(JellyError::Malformed("local")),
            other => Err(JellyError::Unsupported(
                String::from_utf8_lossy(other).into_owned(),
            )),
        }
    }

    fn all(&mut self, elements: &[Expr], depth: usize) -> Result<Arc<[Value]>, JellyError> {
        elements.iter().map(|element| self.read(element, depth)).collect()
    }

    fn dictionary(&mut self, pairs: &[Expr], depth: usize) -> Result<Value, JellyError> {
        let pairs: Result<Arc<[_]>, _> = pairs
            .iter()
            .map(|pair| match pair {
                Expr::List(pair) if pair.len() == 2 => {
                    Ok((self.read(&pair[0], depth)?, self.read(&pair[1], depth)?))
                }
                _ => Err(JellyError::Malformed("dictionary")),
            })
            .collect();
        pairs.map(Value::Dict)
    }

    fn reference(&mut self, rest: &[Expr], depth: usize) -> Result<Value, JellyError> {
        let [Expr::Int(id), data] = rest else {
            return Err(JellyError::Malformed("reference"));
        };
        let id = id.to_i64().ok_or(JellyError::Malformed("reference"))?;
        if self.shared.insert(id, None).is_some() {
            return Err(JellyError::Twice(id));
        }
        let value = self.read(data, depth)?;
        self.shared.insert(id, Some(value.clone()));
        Ok(value)
    }

    fn dereference(&self, rest: &[Expr]) -> Result<Value, JellyError> {
        let [Expr::Int(id)] = rest else {
            return Err(JellyError::Malformed("dereference"));
        };
        let id = id.to_i64().ok_or(JellyError::Malformed("dereference"))?;
        self.shared
            .get(&id)
            .cloned()
            .flatten()
            .ok_or(JellyError::Incomplete(id))
    }
}

fn boolean(rest: &[Expr]) -> Result<Value, JellyError> {
    match rest {
        [Expr::Bytes(truth)] if truth == "true" => Ok(Value::Bool(true)),
        [Expr::Bytes(truth)] if truth == "false" => Ok(Value::Bool(false)),
        _ => Err(JellyError::Malformed("boolean")),
    }
}

fn unicode(rest: &[Expr]) -> Result<Value, JellyError> {
    let [Expr::Bytes(text)] = rest else {
        return Err(JellyError::Malformed("unicode"));
    };
    let text = std::str::from_utf8(text).map_err(|_| JellyError::NotUtf8)?;
    Ok(Value::text(text))
}

fn luid(rest: &[Expr]) -> Option<Luid> {
    match rest {
        [Expr::Int(number)] => number.to_i64().map(Luid::Number),
        [Expr::Bytes(name)] => Some(Luid::Name(name.clone())),
        _ => None,
    }
}
