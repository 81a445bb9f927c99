//! References to the peer's objects: calling them, and giving them back when the last handle is dropped.
//!
//! Knows nothing of what the objects are. (Twisted: `RemoteReference`.)

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::broker::{Broker, waiter};
use crate::jelly::{Luid, Value};
use crate::{PbError, message};

/// A reference to an object of the peer. Cheap to clone; the peer may forget the object when the last clone is dropped.
#[derive(Clone)]
pub struct Reference {
    inner: Arc<Inner>,
}

struct Inner {
    broker: Broker,
    luid: Luid,
    counting: Counting,
}

/// Whether the peer counts this reference: it does for what it sent, not for what is known by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Counting {
    Counted,
    ByName,
}

/// What a call came back with.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The data.
    pub value: Value,
    references: Vec<Reference>,
}

impl Answer {
    pub(crate) fn new(value: Value, references: Vec<Reference>) -> Self {
        Self { value, references }
    }

    /// The peer's object that a part of the answer stands for.
    pub fn reference(&self, value: &Value) -> Option<Reference> {
        find(&self.references, value)
    }
}

impl Reference {
    pub(crate) fn uncounted(broker: &Broker, luid: Luid) -> Self {
        Self::new(broker, luid, Counting::ByName)
    }

    fn new(broker: &Broker, luid: Luid, counting: Counting) -> Self {
        Self {
            inner: Arc::new(Inner {
                broker: broker.clone(),
                luid,
                counting,
            }),
        }
    }

    /// Calls a method and waits for the answer.
    ///
    /// # Errors
    /// The object raised, or the connection is gone.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the call back.
    pub async fn call(&self, method: &str, args: Vec<Value>) -> Result<Answer, PbError> {
        self.call_named(method, args, vec![]).await
    }

    /// As [`call`](Self::call), with arguments by name.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_named(
        &self,
        method: &str,
        args: Vec<Value>,
        kwargs: Vec<(String, Value)>,
    ) -> Result<Answer, PbError> {
        let shared = &self.inner.broker.shared;
        let (waiter, answer) = waiter();
        let pieces = shared.encode_call(&self.inner.luid, method, args, kwargs, Some(waiter))?;
        shared.send_pieces(pieces, None);
        answer.await.unwrap_or(Err(PbError::Closed))
    }

    /// Calls a method that is not answered, and waits only until the connection took it.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn notify(&self, method: &str, args: Vec<Value>) -> Result<(), PbError> {
        let shared = &self.inner.broker.shared;
        let pieces = shared.encode_call(&self.inner.luid, method, args, vec![], None)?;
        let (ticket, written) = oneshot::channel::<()>();
        shared.send_pieces(pieces, Some(Box::new(ticket)));
        // The ticket is dropped once the message is written, or never will be.
        let _ = written.await;
        Ok(())
    }

    /// The value that stands for the object when it is sent back to the peer.
    pub fn value(&self) -> Value {
        Value::Local(self.inner.luid.clone())
    }

    /// The connection it belongs to.
    pub fn broker(&self) -> &Broker {
        &self.inner.broker
    }

    pub(crate) fn luid(&self) -> &Luid {
        &self.inner.luid
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.counting == Counting::Counted {
            // After the end there is nobody to tell.
            let _ = self.broker.shared.send(&message::decref(&self.luid), None);
        }
    }
}

/// One reference for each occurrence of an object of the peer: so does the peer count. Data that is shared was sent, and
/// is looked into, once; it may be shared so often that walking every path to it would never end.
pub(crate) fn collect(broker: &Broker, value: &Value) -> Vec<Reference> {
    let mut references = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::Remote(number) => {
                references.push(Reference::new(broker, Luid::Number(*number), Counting::Counted));
            }
            Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items)
                if seen.insert(Arc::as_ptr(items).cast::<u8>().addr()) =>
            {
                open.extend(items.iter());
            }
            Value::Dict(pairs) if seen.insert(Arc::as_ptr(pairs).cast::<u8>().addr()) => {
                open.extend(pairs.iter().flat_map(|(key, item)| [key, item]));
            }
            _ => {}
        }
    }
    references
}

pub(crate) fn find(references: &[Reference], value: &Value) -> Option<Reference> {
    let Value::Remote(number) = value else { return None };
    references
        .iter()
        .find(|reference| *reference.luid() == Luid::Number(*number))
        .cloned()
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reference").field(&self.inner.luid).finish()
    }
}
