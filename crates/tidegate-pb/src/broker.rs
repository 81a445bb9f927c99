//! The broker: who is called on this connection, who waits for an answer, who holds a reference.
//!
//! Knows the messages and the tables, and one consumer to write to; knows nothing of sockets or tasks.
//! (Twisted: `spread.pb.Broker`.)

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidegate::{AbortReason, Consumer as _, FinishableConsumer as _, Marks, Outcome, Sender, StopReason};
use tokio::sync::{oneshot, watch};

use crate::banana::{Dialect, Expr, Limits, encode};
use crate::jelly::{Luid, Value, unjelly};
use crate::message::{self, AnswerWanted, Message};
use crate::mux::{Mux, Ticket};
use crate::reads::Reads;
use crate::reference::{Answer, Reference};
use crate::{PbError, RemoteError};

/// An object the peer may call. (Twisted: `Referenceable`.)
pub trait Referenceable: Send + Sync {
    /// A call came in. Runs on the task that drives the connection: answer later from another task if it takes time.
    fn call(&self, call: Call);

    /// The peer holds no reference any more, or the connection is gone (then with its error).
    fn released(&self, error: Option<&PbError>) {
        let _ = error;
    }
}

/// A call from the peer.
#[derive(Debug)]
pub struct Call {
    /// Which method.
    pub method: String,
    /// The arguments by position.
    pub args: Arc<[Value]>,
    /// The arguments by name.
    pub kwargs: Vec<(String, Value)>,
    /// How to answer.
    pub responder: Responder,
    references: Vec<Reference>,
}

impl Call {
    /// The peer's object that an argument stands for. Not kept, it is given back to the peer when the call is dropped.
    pub fn reference(&self, value: &Value) -> Option<Reference> {
        crate::reference::find(&self.references, value)
    }

    /// The broker the call came over.
    pub fn broker(&self) -> &Broker {
        &self.responder.broker
    }
}

/// Answers one call. Dropped without an answer, it answers with an error. On a call that wants none it does nothing.
pub struct Responder {
    broker: Broker,
    request: Option<i64>,
}

impl Responder {
    /// Whether the caller waits for an answer.
    pub fn is_awaited(&self) -> bool {
        self.request.is_some()
    }

    /// The call's result.
    pub fn answer(mut self, value: Value) {
        if let Some(request) = self.request.take() {
            self.broker
                .shared
                .send_answer(message::answer(request, &value), request);
        }
    }

    /// The call raised.
    pub fn fail(mut self, error: RemoteError) {
        self.fail_now(&error);
    }

    fn fail_now(&mut self, error: &RemoteError) {
        if let Some(request) = self.request.take() {
            self.broker
                .shared
                .send_answer(message::error(request, error), request);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.fail_now(&RemoteError::new(
            "tidegate.Unanswered",
            "the call was dropped without an answer",
        ));
    }
}

/// A handle to one connection. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    out: Sender,
    marks: Marks,
    limits: Limits,
    objects_max: usize,
    pub(crate) mux: Arc<Mux>,
    pub(crate) reads: Arc<Reads>,
    tables: Mutex<Tables>,
    ended: watch::Sender<Option<PbError>>,
}

#[derive(Default)]
struct Tables {
    dialect: Dialect,
    waiting: HashMap<i64, Waiter>,
    requests: i64,
    objects: HashMap<Luid, Lent>,
    by_address: HashMap<usize, i64>,
    numbers: i64,
    over: Option<PbError>,
}

/// What to do with an answer. Called without a lock.
pub(crate) type Waiter = Box<dyn FnOnce(Result<Answer, PbError>) + Send>;

struct Lent {
    object: Arc<dyn Referenceable>,
    count: usize,
}

impl Broker {
    /// The peer's root object.
    pub fn root(&self) -> Reference {
        self.named("root")
    }

    /// The peer's object of this name.
    pub fn named(&self, name: &str) -> Reference {
        Reference::uncounted(self, Luid::Name(Bytes::copy_from_slice(name.as_bytes())))
    }

    /// Lends an object to the peer: the value stands for it in one argument or answer.
    ///
    /// # Errors
    /// Too many objects are lent, or the connection is gone.
    pub fn lend(&self, object: Arc<dyn Referenceable>) -> Result<Value, PbError> {
        let shared = &self.shared;
        let address = Arc::as_ptr(&object).cast::<u8>().addr();
        let mut tables = shared.tables();
        if let Some(error) = &tables.over {
            return Err(error.clone());
        }
        if let Some(number) = tables.by_address.get(&address).copied() {
            if let Some(lent) = tables.objects.get_mut(&Luid::Number(number)) {
                lent.count += 1;
            }
            return Ok(Value::Remote(number));
        }
        if tables.objects.len() >= shared.objects_max {
            return Err(PbError::TooManyObjects(shared.objects_max));
        }
        tables.numbers += 1;
        let number = tables.numbers;
        tables.by_address.insert(address, number);
        tables
            .objects
            .insert(Luid::Number(number), Lent { object, count: 1 });
        Ok(Value::Remote(number))
    }

    /// Ends the connection in good order: what waits is sent first, pagers too.
    pub fn close(&self) {
        self.shared.out.finish();
    }

    /// Cuts the connection at once. The peer sees a reset: nothing of it can look complete.
    pub fn abort(&self, reason: AbortReason) {
        self.shared.out.abort(reason);
    }

    /// Resolves when the connection is over, with why.
    pub async fn ended(&self) -> PbError {
        let mut ended = self.shared.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(error) => error.clone().unwrap_or(PbError::Closed),
            Err(_) => PbError::Closed,
        }
    }

    /// Bytes that wait for the peer.
    pub fn held(&self) -> usize {
        self.shared.out.held()
    }
}

impl Shared {
    pub(crate) fn new(
        out: Sender,
        marks: Marks,
        limits: Limits,
        objects_max: usize,
        root: Option<Arc<dyn Referenceable>>,
    ) -> Arc<Self> {
        let mut tables = Tables::default();
        if let Some(object) = root {
            tables
                .objects
                .insert(Luid::Name(Bytes::from_static(b"root")), Lent { object, count: 1 });
        }
        let mux = Mux::new(out.consumer());
        let tables = Mutex::new(tables);
        Arc::new(Self {
            out,
            marks,
            limits,
            objects_max,
            mux,
            reads: Arc::new(Reads::new(marks)),
            tables,
            ended: watch::Sender::default(),
        })
    }

    /// What becomes of the connection's own stream.
    pub(crate) fn outcome(&self) -> Outcome {
        self.out.outcome()
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Writes what the handshake consists of, past everything that waits for it.
    pub(crate) fn send_first(&self, expr: &Expr) -> Result<(), PbError> {
        let pieces = self.encode(expr)?;
        // Refused only when the connection is over, which its driver finds out by itself.
        let _ = self.out.write_list(pieces);
        Ok(())
    }

    /// The dialect is chosen: says the version, and lets calls and pages go.
    pub(crate) fn open(&self, dialect: Dialect) -> Result<(), PbError> {
        self.tables().dialect = dialect;
        self.send_first(&message::version())?;
        self.mux.open();
        Ok(())
    }

    /// Takes one message of the peer.
    pub(crate) fn handle(self: &Arc<Self>, expr: Expr) -> Result<(), PbError> {
        match Message::read(expr)? {
            Message::Version(message::VERSION) | Message::DidNotUnderstand => Ok(()),
            Message::Version(other) => Err(PbError::Version(other)),
            Message::Call {
                request,
                object,
                method,
                answer,
                args,
                kwargs,
            } => {
                let request = (answer == AnswerWanted::Yes).then_some(request);
                self.called(request, &object, method, &args, &kwargs);
                Ok(())
            }
            Message::Answer { request, value } => {
                let waiter = self.waiter(request)?;
                waiter(
                    self.receive(&value)
                        .map(|(value, references)| Answer::new(value, references)),
                );
                Ok(())
            }
            Message::Error { request, error } => {
                self.waiter(request)?(Err(error.into()));
                Ok(())
            }
            Message::Decref(luid) => self.give_back(luid),
            Message::Unknown(command) => {
                let _ = self.send(&message::did_not_understand(&command), None);
                Ok(())
            }
        }
    }

    fn waiter(&self, request: i64) -> Result<Waiter, PbError> {
        self.tables()
            .waiting
            .remove(&request)
            .ok_or(PbError::Protocol("an answer to no call"))
    }

    /// Reads data of the peer and takes charge of the references in it.
    fn receive(self: &Arc<Self>, expr: &Expr) -> Result<(Value, Vec<Reference>), PbError> {
        let value = unjelly(expr)?;
        let references = crate::reference::collect(
            &Broker {
                shared: Arc::clone(self),
            },
            &value,
        );
        Ok((value, references))
    }

    fn called(
        self: &Arc<Self>,
        request: Option<i64>,
        object: &Luid,
        method: String,
        args: &Expr,
        kwargs: &Expr,
    ) {
        let broker = Broker {
            shared: Arc::clone(self),
        };
        let responder = Responder { broker, request };
        let found = self
            .tables()
            .objects
            .get(object)
            .map(|lent| Arc::clone(&lent.object));
        let Some(object) = found else {
            return responder.fail(RemoteError::new("twisted.spread.pb.Error", "Invalid Object ID"));
        };
        let read = self.receive(args).and_then(|(args, mut references)| {
            let (kwargs, more) = self.receive(kwargs)?;
            references.extend(more);
            Ok((args, kwargs, references))
        });
        match read {
            Ok((Value::Tuple(args), Value::Dict(named), references)) => {
                let name = |key: &Value| {
                    key.as_bytes()
                        .map(|key| String::from_utf8_lossy(key).into_owned())
                };
                let kwargs = named
                    .iter()
                    .filter_map(|(key, value)| Some((name(key)?, value.clone())))
                    .collect();
                object.call(Call {
                    method,
                    args,
                    kwargs,
                    responder,
                    references,
                });
            }
            Ok(_) => responder.fail(RemoteError::new("TypeError", "arguments are a tuple and a dict")),
            Err(error) => {
                responder.fail(RemoteError::new(
                    "twisted.spread.jelly.InsecureJelly",
                    error.to_string(),
                ));
            }
        }
    }

    fn give_back(&self, luid: Luid) -> Result<(), PbError> {
        let mut tables = self.tables();
        let lent = match tables.objects.get_mut(&luid) {
            Some(lent) if matches!(luid, Luid::Number(_)) => lent,
            _ => return Err(PbError::Protocol("a reference given back that was not lent")),
        };
        lent.count -= 1;
        if lent.count > 0 {
            return Ok(());
        }
        let gone = tables.objects.remove(&luid);
        if let Some(lent) = &gone {
            tables
                .by_address
                .remove(&Arc::as_ptr(&lent.object).cast::<u8>().addr());
        }
        drop(tables);
        if let Some(lent) = gone {
            lent.object.released(None);
        }
        Ok(())
    }

    /// Encodes a call and books its answer. Dropping the pieces unsent leaves the waiter to the end of the connection.
    pub(crate) fn encode_call(
        &self,
        object: &Luid,
        method: &str,
        args: Vec<Value>,
        kwargs: Vec<(String, Value)>,
        waiter: Option<Waiter>,
    ) -> Result<Vec<Bytes>, PbError> {
        let mut tables = self.tables();
        if let Some(error) = tables.over.clone() {
            drop(tables);
            if let Some(waiter) = waiter {
                waiter(Err(error.clone()));
            }
            return Err(error);
        }
        tables.requests += 1;
        let request = tables.requests;
        let answer = if waiter.is_some() {
            AnswerWanted::Yes
        } else {
            AnswerWanted::No
        };
        if let Some(waiter) = waiter {
            tables.waiting.insert(request, waiter);
        }
        drop(tables);
        let encoded = self.encode(&message::call(request, object, method, answer, args, kwargs));
        if let Err(error) = &encoded {
            let waiter = self.tables().waiting.remove(&request);
            if let Some(waiter) = waiter {
                waiter(Err(error.clone()));
            }
        }
        encoded
    }

    /// Writes a message now, or queues it for its turn when the connection is full.
    pub(crate) fn send_pieces(&self, pieces: Vec<Bytes>, ticket: Option<Ticket>) {
        if self.mux.has_queue() || self.out.held() > self.marks.high() {
            self.mux.queue(pieces, ticket);
        } else if let Err(error) = self.out.write_list(pieces) {
            tracing::debug!(%error, "a message came after the end");
        }
    }

    pub(crate) fn send(&self, expr: &Expr, ticket: Option<Ticket>) -> Result<(), PbError> {
        let pieces = self.encode(expr)?;
        self.send_pieces(pieces, ticket);
        Ok(())
    }

    /// Answers are owed: above the high mark the connection stops reading what would need more of them.
    fn send_answer(&self, expr: Expr, request: i64) {
        let pieces = self.encode(&expr).or_else(|error| {
            let error = RemoteError::new("tidegate.Unsendable", error.to_string());
            self.encode(&message::error(request, &error))
        });
        if let Ok(pieces) = pieces {
            let bytes = pieces.iter().map(Bytes::len).sum();
            self.send_pieces(pieces, Some(Box::new(self.reads.owe(bytes))));
        }
    }

    fn encode(&self, expr: &Expr) -> Result<Vec<Bytes>, PbError> {
        let dialect = self.tables().dialect;
        Ok(encode(expr, dialect, &self.limits)?.into_list())
    }

    /// The connection is over: everybody who waits or is lent learns it, once.
    pub(crate) fn lose(&self, error: &PbError) {
        let mut tables = self.tables();
        if tables.over.is_some() {
            return;
        }
        tables.over = Some(error.clone());
        let waiting = std::mem::take(&mut tables.waiting);
        let objects = std::mem::take(&mut tables.objects);
        tables.by_address.clear();
        drop(tables);
        for waiter in waiting.into_values() {
            waiter(Err(error.clone()));
        }
        self.mux.lose(StopReason::Failed(error.clone().into_cause()));
        for lent in objects.into_values() {
            lent.object.released(Some(error));
        }
        self.ended.send_replace(Some(error.clone()));
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A waiter that hands the answer to a future.
pub(crate) fn waiter() -> (Waiter, oneshot::Receiver<Result<Answer, PbError>>) {
    let (sender, receiver) = oneshot::channel();
    // Whoever called may have lost interest.
    (Box::new(move |answer| drop(sender.send(answer))), receiver)
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
