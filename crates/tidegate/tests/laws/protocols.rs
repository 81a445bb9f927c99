//! Consumers with a protocol behind them, or given to one: relay, loopback, protocol consumer, and their transports.
//!
//! Knows no law. The far side is the protocol.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tidegate::laws::{Control, Device, FarEnd, Harness, Subject};
use tidegate::loopback::{self, Loopback, Relay};
use tidegate::{
    AbortReason, AlreadyRegistered, Consumer, Delivered, FinishableConsumer, Loss, Marks, Outcome, Pressure,
    Producer, Protocol, ProtocolConsumer, ReadHold, StopReason, Transport, WriteError,
};

use crate::dam::Dam;
use crate::over_dam::Begins;

/// A protocol that keeps what it hears.
#[derive(Default)]
struct Heard(Mutex<HeardState>);

#[derive(Default)]
struct HeardState {
    transport: Option<Arc<dyn Transport>>,
    out: Vec<u8>,
    end: Option<FarEnd>,
}

impl Heard {
    fn transport(&self) -> Option<Arc<dyn Transport>> {
        self.0.lock().unwrap().transport.clone()
    }
}

impl Protocol for Heard {
    fn connection_made(&self, transport: Arc<dyn Transport>) {
        self.0.lock().unwrap().transport = Some(transport);
    }

    fn data_received(&self, data: Bytes) {
        self.0.lock().unwrap().out.extend_from_slice(&data);
    }

    fn connection_lost(&self, loss: Loss) {
        let transport = {
            let mut state = self.0.lock().unwrap();
            assert_eq!(state.end, None, "a connection is lost once");
            state.end = Some(match loss {
                Loss::Clean => FarEnd::Finished,
                Loss::Cut(_) => FarEnd::Cut,
            });
            state.transport.take()
        };
        drop(transport);
    }
}

/// The far side: a protocol, and whoever lets it hear.
struct HeardDevice {
    heard: Arc<Heard>,
    outcome: Outcome,
    opens: bool,
    /// One turn; told whether it may deliver.
    turn: Box<dyn FnMut(bool)>,
}

impl HeardDevice {
    fn new(heard: Arc<Heard>, outcome: Outcome, turn: impl FnMut(bool) + 'static) -> Box<Self> {
        Box::new(Self {
            heard,
            outcome,
            opens: false,
            turn: Box::new(turn),
        })
    }
}

impl Device for HeardDevice {
    fn allow(&mut self, bytes: usize) {
        self.opens |= bytes > 0;
    }

    fn turn(&mut self) {
        (self.turn)(self.opens);
    }

    fn output(&mut self) -> Vec<u8> {
        self.heard.0.lock().unwrap().out.clone()
    }

    fn kill(&mut self) {
        if let Some(transport) = self.heard.transport() {
            transport.abort_connection(AbortReason::TimedOut);
        }
    }

    fn end(&mut self) -> FarEnd {
        self.heard.0.lock().unwrap().end.unwrap_or(FarEnd::Open)
    }

    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
        self.outcome.now()
    }
}

/// A relay: bytes are heard when somebody clears it.
struct Relayed;

impl Harness for Relayed {
    fn make(&self, marks: Marks) -> Subject {
        let heard = Arc::new(Heard::default());
        // Nobody reads the answers: there are none, and their end is not ours to look at.
        let relay = Arc::new(Relay::new(heard.clone(), Arc::new(Dam::open()), marks).unwrap());
        let cleared = Arc::downgrade(&relay);
        let clear = move |opens| {
            let relay = cleared.upgrade().filter(|relay| opens || relay.held() == 0);
            if let Some(relay) = relay {
                let _ = relay.clear();
            }
        };
        let device = HeardDevice::new(heard, relay.outcome(), clear);
        let consumer = relay;
        Subject { consumer, device }
    }

    fn control(&self) -> Control {
        Control::Coarse
    }

    fn name(&self) -> &'static str {
        "relay"
    }
}

/// One end of a loopback: bytes are heard at the other when somebody turns it.
struct Joined;

impl Harness for Joined {
    fn make(&self, marks: Marks) -> Subject {
        let (near, far) = (Arc::new(Heard::default()), Arc::new(Heard::default()));
        let loopback = Loopback::new(near.clone(), far.clone(), marks, loopback::identity);
        let loopback = Arc::new(loopback);
        let [outcome, _] = loopback.outcomes();
        let turned = Arc::downgrade(&loopback);
        let turn = move |opens| {
            if let Some(loopback) = turned.upgrade().filter(|_| opens) {
                let _ = loopback.turn();
            }
        };
        let device = HeardDevice::new(far, outcome, turn);
        let consumer = Arc::new(Owned::of(&near, loopback));
        Subject { consumer, device }
    }

    fn control(&self) -> Control {
        Control::Coarse
    }

    fn name(&self) -> &'static str {
        "loopback's transport"
    }
}

/// A protocol that does not read until it is allowed to; while it does not, the consumer is on hold.
pub(crate) struct Listened(pub(crate) Begins);

impl Harness for Listened {
    fn make(&self, marks: Marks) -> Subject {
        let heard = Arc::new(Heard::default());
        let consumer = ProtocolConsumer::new(heard.clone(), Arc::new(Dam::open()), marks).unwrap();
        let mut hold: Option<ReadHold> = match self.0 {
            Begins::Closed => heard.transport().map(|transport| transport.hold_reading()),
            Begins::Open => None,
        };
        let read = move |opens: bool| {
            if opens {
                drop(hold.take());
            }
        };
        let device = HeardDevice::new(heard, consumer.outcome(), read);
        let consumer = Arc::new(consumer);
        Subject { consumer, device }
    }

    fn control(&self) -> Control {
        match self.0 {
            Begins::Closed => Control::Coarse,
            Begins::Open => Control::Open,
        }
    }

    fn name(&self) -> &'static str {
        "protocol consumer"
    }
}

/// The transport a protocol writes to, with what keeps its connection: dropping both drops the write end.
struct Owned<T> {
    transport: Arc<dyn Transport>,
    _connection: T,
}

impl<T> Owned<T> {
    fn of(heard: &Heard, connection: T) -> Self {
        Self {
            transport: heard.transport().unwrap(),
            _connection: connection,
        }
    }
}

impl<T: Send + Sync> Consumer for Owned<T> {
    fn register_producer(&self, producer: Producer) -> Result<(), AlreadyRegistered> {
        self.transport.register_producer(producer)
    }

    fn unregister_producer(&self) {
        self.transport.unregister_producer();
    }

    fn write(&self, data: Bytes) -> Result<Pressure, WriteError> {
        self.transport.write(data)
    }

    fn write_list(&self, data: Vec<Bytes>) -> Result<Pressure, WriteError<Vec<Bytes>>> {
        self.transport.write_list(data)
    }
}

impl<T: Send + Sync> FinishableConsumer for Owned<T> {
    fn finish(&self) {
        self.transport.finish();
    }

    fn abort(&self, reason: AbortReason) {
        self.transport.abort(reason);
    }
}

/// What a protocol behind a consumer answers into; `answers` is below.
pub(crate) fn transport_of_a_protocol_consumer(
    answers: Arc<dyn FinishableConsumer>,
    marks: Marks,
) -> (Arc<dyn FinishableConsumer>, Outcome) {
    let heard = Arc::new(Heard::default());
    let consumer = ProtocolConsumer::new(heard.clone(), answers, marks).unwrap();
    let outcome = consumer.answers_outcome();
    (Arc::new(Owned::of(&heard, consumer)), outcome)
}

tidegate::law_suite!(relay, Relayed);
tidegate::law_suite!(loopback_transport, Joined);
