//! A consumer for tests to stand below others: it takes nothing until it is opened, and then only so much.
//!
//! Knows nothing of gates: it obeys the contract by hand.
#![allow(dead_code)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidegate::{
    AbortReason, AlreadyRegistered, Consumer, FinishableConsumer, Pressure, Producer, Refusal, StopReason,
    WriteError,
};

pub(crate) fn cause() -> tidegate::Cause {
    Arc::new(std::io::Error::other("the device died"))
}

/// A scripted panic may poison a lock; what it guards is whole all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the file's own line.
pub(crate) struct Dam(pub(crate) Mutex<DamState>);

pub(crate) struct DamState {
    pub(crate) out: Vec<u8>,
    pub(crate) events: Vec<String>,
    pub(crate) end: &'static str,
    pub(crate) reason: Option<AbortReason>,
    producer: Option<Producer>,
    credit: usize,
    paused: bool,
}

impl Dam {
    pub(crate) fn open() -> Self {
        Self::with(usize::MAX)
    }

    pub(crate) fn closed() -> Self {
        Self::with(0)
    }

    fn with(credit: usize) -> Self {
        Self(Mutex::new(DamState {
            out: Vec::new(),
            events: Vec::new(),
            end: "open",
            reason: None,
            producer: None,
            credit,
            paused: false,
        }))
    }

    /// Takes at least `bytes`, as whole writes, then stands still again.
    pub(crate) fn open_for(&self, bytes: usize) {
        let producer = {
            let mut state = lock(&self.0);
            state.credit = bytes;
            if bytes == 0 {
                return;
            }
            match &state.producer {
                Some(Producer::Push(_)) if !state.paused => None,
                producer => producer.clone(),
            }
        };
        match producer {
            Some(Producer::Push(push)) => {
                lock(&self.0).paused = false;
                push.resume_producing();
            }
            Some(Producer::Pull(pull)) => pull.resume_producing(),
            None => {}
        }
    }

    pub(crate) fn die(&self) {
        let producer = {
            let mut state = lock(&self.0);
            if state.end == "open" {
                state.end = "dead";
            }
            state.producer.take()
        };
        if let Some(producer) = producer {
            producer.stop(StopReason::Failed(cause()));
        }
    }

    fn pause_if_spent(&self) {
        let push = {
            let mut state = lock(&self.0);
            match &state.producer {
                Some(Producer::Push(push)) if state.credit == 0 && !state.paused => {
                    let push = Arc::clone(push);
                    state.paused = true;
                    push
                }
                _ => return,
            }
        };
        push.pause_producing();
    }

    fn take<D>(&self, pieces: &[Bytes], data: D) -> Result<Pressure, WriteError<D>> {
        {
            let mut state = lock(&self.0);
            if state.end == "dead" {
                let refusal = Refusal::Dead(StopReason::Failed(cause()));
                return Err(WriteError { refusal, data });
            }
            assert_eq!(state.end, "open", "written to after the end");
            let bytes = pieces.iter().map(Bytes::len).sum();
            assert!(bytes > 0, "an empty write reached the consumer below");
            pieces.iter().for_each(|piece| state.out.extend_from_slice(piece));
            let text = String::from_utf8_lossy(&pieces.concat()).into_owned();
            state.events.push(text);
            state.credit = state.credit.saturating_sub(bytes);
        }
        self.pause_if_spent();
        Ok(Pressure::Open)
    }

    fn close(&self, end: &'static str, reason: Option<AbortReason>) {
        let mut state = lock(&self.0);
        if state.end == "open" {
            state.end = end;
            state.reason = reason;
            state.events.push(end.to_owned());
        }
    }
}

impl Consumer for Dam {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        let dead = {
            let mut state = lock(&self.0);
            if state.producer.is_some() {
                return Err(AlreadyRegistered(producer));
            }
            state.paused = false;
            if state.end == "open" {
                state.producer = Some(producer.clone());
            }
            state.end != "open"
        };
        if dead {
            producer.stop(StopReason::Failed(cause()));
        }
        self.pause_if_spent();
        Ok(())
    }

    fn unregister_producer(&self) {
        let producer = {
            let mut state = lock(&self.0);
            let producer = state.producer.take();
            if producer.is_some() {
                state.events.push("unregister".to_owned());
            }
            producer
        };
        drop(producer);
    }

    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        self.take(std::slice::from_ref(&data.clone()), data)
    }

    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        self.take(&data.clone(), data)
    }
}

impl FinishableConsumer for Dam {
    fn finish(&self) {
        self.close("finished", None);
    }

    fn abort(&self, reason: AbortReason) {
        self.close("aborted", Some(reason));
    }
}
