//! From plain data to an expression.
//!
//! Data that occurs more than once is written once and referred to afterwards, as Twisted does: without that, a few
//! containers inside each other would grow without bound. Knows nothing of the broker.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Luid, Value};
use crate::banana::Expr;

/// Writes plain data.
///
/// ```
/// use tidegate_pb::banana::Expr;
/// use tidegate_pb::jelly::{Value, jelly};
/// let expr = jelly(&Value::Bool(true));
/// assert_eq!(expr, Expr::List(vec![Expr::word("boolean"), Expr::word("true")]));
/// ```
pub fn jelly(value: &Value) -> Expr {
    let mut writer = Writer::default();
    writer.count(value);
    writer.write(value)
}

#[derive(Default)]
struct Writer {
    seen: HashMap<usize, Seen>,
    ids: i64,
}

#[derive(Default)]
struct Seen {
    times: usize,
    id: Option<i64>,
}

impl Writer {
    /// Counts how often each container occurs; looks into each only once.
    fn count(&mut self, value: &Value) {
        let Some(address) = address(value) else { return };
        let seen = self.seen.entry(address).or_default();
        seen.times += 1;
        if seen.times > 1 {
            return;
        }
        match value {
            Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
                items.iter().for_each(|item| self.count(item));
            }
            Value::Dict(pairs) => pairs.iter().for_each(|(key, item)| {
                self.count(key);
                self.count(item);
            }),
            _ => {}
        }
    }

    fn write(&mut self, value: &Value) -> Expr {
        let Some(seen) = address(value).and_then(|address| self.seen.get_mut(&address)) else {
            return self.plain(value);
        };
        if let Some(id) = seen.id {
            return Expr::List(vec![Expr::word("dereference"), Expr::int(id)]);
        }
        if seen.times == 1 {
            return self.plain(value);
        }
        self.ids += 1;
        let id = self.ids;
        seen.id = Some(id);
        Expr::List(vec![Expr::word("reference"), Expr::int(id), self.plain(value)])
    }

    fn plain(&mut self, value: &Value) -> Expr {
        match value {
            Value::None => tagged("None", []),
            Value::Bool(truth) => tagged("boolean", [Expr::word(if *truth { "true" } else { "false" })]),
            Value::Int(integer) => Expr::Int(integer.clone()),
            Value::Float(float) => Expr::Float(*float),
            Value::Bytes(bytes) => Expr::Bytes(bytes.clone()),
            Value::Str(text) => tagged("unicode", [Expr::Bytes(Bytes::copy_from_slice(text.as_bytes()))]),
            Value::List(items) => self.container("list", items),
            Value::Tuple(items) => self.container("tuple", items),
            Value::Set(items) => self.container("set", items),
            Value::FrozenSet(items) => self.container("frozenset", items),
            Value::Dict(pairs) => {
                let pairs: Vec<_> = pairs
                    .iter()
                    .map(|(key, item)| Expr::List(vec![self.write(key), self.write(item)]))
                    .collect();
                tagged("dictionary", pairs)
            }
            Value::Remote(number) => tagged("remote", [Expr::int(*number)]),
            Value::Local(Luid::Number(number)) => tagged("local", [Expr::int(*number)]),
            Value::Local(Luid::Name(name)) => tagged("local", [Expr::Bytes(name.clone())]),
        }
    }

    fn container(&mut self, tag: &'static str, items: &[Value]) -> Expr {
        let items: Vec<_> = items.iter().map(|item| self.write(item)).collect();
        tagged(tag, items)
    }
}

fn tagged(tag: &'static str, rest: impl IntoIterator<Item = Expr>) -> Expr {
    Expr::List(std::iter::once(Expr::word(tag)).chain(rest).collect())
}

/// What tells two occurrences of the same container from two equal ones. Empty ones need no sharing.
fn address(value: &Value) -> Option<usize> {
    match value {
        Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
            (!items.is_empty()).then(|| Arc::as_ptr(items).cast::<u8>().addr())
        }
        Value::Dict(pairs) => (!pairs.is_empty()).then(|| Arc::as_ptr(pairs).cast::<u8>().addr()),
        _ => None,
    }
}
