//! A relay with a listener: takes connections, dials the other side for each and leaves the two to a task.
//!
//! Knows when connections are taken and refused. Memory of an idle connection is watched here: its task is the relay,
//! its number and its place, and nothing that only dialling needed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use serde_json::Value;
use tidegate::AbortReason;
use tidegate_io::{Duplex, EndpointError, RelayRun, Side};

use super::Settings;
use super::cores::{self, Seats};
use super::live::{self, Live};
use super::{drain, log};
use crate::address::Address;
use crate::display;
use crate::exit::Exit;
use crate::open::{Accepted, Acceptor, Dialler, Peer};
use crate::report::{self, Failure, Names};
use crate::signals::{self, Ending, Signals, Wish};

/// What all connections share.
struct Server {
    settings: Settings,
    dialler: Dialler,
    listens: Listens,
    live: Live,
    seats: Seats,
}

/// Which address listens: the listener's connections are the relay's `a` or its `b`.
#[derive(Clone, Copy)]
enum Listens {
    A,
    B,
}

/// Serves until a signal ends it and the last connection has gone.
pub(super) async fn serve(
    a: &Address,
    b: &Address,
    settings: Settings,
    names: &Names,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let (listening, dialled, listens) = if a.row().listens() {
        (a, b, Listens::A)
    } else {
        (b, a, Listens::B)
    };
    let (side, other) = match listens {
        Listens::A => (Side::Source, Side::Sink),
        Listens::B => (Side::Sink, Side::Source),
    };
    let acceptor = Acceptor::bind(listening, &settings.ends)
        .await
        .map_err(|error| Failure::open(side, &error))?;
    let dialler = Dialler::bind(dialled, &settings.ends, settings.flow.connect_timeout)
        .await
        .map_err(|error| Failure::open(other, &error))?;
    announce(&acceptor.address(), &settings, names);
    if let Some(address) = dialler.listens_at() {
        announce(&address, &settings, names);
    }
    tracing::debug!(connections_max = settings.connections_max, "ready");
    let (seats, cores) = cores::start().map_err(|error| crate::other(format!("cannot start: {error}")))?;
    let server = Arc::new(Server {
        live: Live::new(settings.connections_max),
        seats,
        settings,
        dialler,
        listens,
    });
    let ending = match server.accept(&acceptor, signals).await {
        Ok(ending) => ending,
        Err(error) => return Err(Failure::open(side, &error)),
    };
    drop(acceptor);
    let (limit, json) = (server.settings.flow.drain, server.settings.output.json);
    let exit = drain::drain(&server.live, limit, json, ending, signals).await;
    // What was cut and has not let go by now is let go of.
    drop(cores);
    Ok(exit)
}

fn announce(address: &str, settings: &Settings, names: &Names) {
    if settings.output.quiet {
        return;
    }
    if settings.output.json {
        let mut object = report::blank("listening", names);
        object["address"] = Value::from(address);
        display::print_json(&object);
    } else {
        tracing::info!("listening on {address}");
    }
}

impl Server {
    /// Takes connections until a signal ends it.
    async fn accept(
        self: &Arc<Self>,
        acceptor: &Acceptor,
        signals: &mut Signals,
    ) -> Result<Ending, EndpointError> {
        let mut id = 0;
        loop {
            tokio::select! {
                biased;
                wish = signals.next() => match wish {
                    Wish::End(ending) => return Ok(ending),
                    Wish::Look => live::look(&self.live.list(), self.settings.output.json),
                    Wish::Suspend => signals::suspend(),
                    Wish::Continue => {}
                },
                (core, accepted) = self.seats.open(acceptor.accept()) => {
                    let accepted = accepted?;
                    id += 1;
                    self.take(id, core, accepted);
                }
            }
        }
    }

    fn take(self: &Arc<Self>, id: u64, core: usize, accepted: Accepted) {
        if self.live.try_take() {
            self.seats.take(core);
            let place = Place {
                server: Arc::clone(self),
                id,
                core,
            };
            self.seats.spawn(core, place.connect(accepted));
        } else {
            tracing::warn!(
                connection = id,
                peer = %accepted.peer(),
                most = self.live.most(),
                "refused: too many connections"
            );
            accepted.refuse();
        }
    }
}

/// A connection's place under the limit, given back when it is dropped.
struct Place {
    server: Arc<Server>,
    id: u64,
    core: usize,
}

impl Place {
    /// Dials the other side at once, before any byte has come, then leaves the relay to a task that keeps none of what
    /// dialling needed.
    async fn connect(self, accepted: Accepted) {
        let began = Instant::now();
        let peer = accepted.peer().clone();
        let Server {
            settings, dialler, ..
        } = &*self.server;
        let near = match accepted.greet(settings.flow.connect_timeout).await {
            Ok(near) => near,
            Err(error) => {
                tracing::warn!(connection = self.id, %peer, %error, "connection failed before it began");
                return;
            }
        };
        let far = match dialler.dial().await {
            Ok(far) => far,
            Err(error) => {
                tracing::warn!(connection = self.id, %peer, %error, "cannot reach the other side");
                abort(near).await;
                return;
            }
        };
        tracing::debug!(
            connection = self.id,
            seconds = began.elapsed().as_secs_f64(),
            "joined"
        );
        self.relay(peer, near, far);
    }

    fn relay(self, peer: Peer, near: Duplex, far: Duplex) {
        let relay = match self.server.listens {
            Listens::A => self.server.settings.relay(near, far),
            Listens::B => self.server.settings.relay(far, near),
        };
        self.server.live.join(self.id, peer, relay.handle());
        tokio::spawn(Connection {
            run: Some(relay.run()),
            place: self,
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.server.seats.leave(self.core);
        self.server.live.leave(self.id);
    }
}

/// A connection under way, as a task.
struct Connection {
    run: Option<RelayRun>,
    place: Place,
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(run) = &mut self.run else {
            return Poll::Ready(());
        };
        let result = ready!(Pin::new(run).poll(cx));
        // The descriptors go before the end is told.
        self.run = None;
        if let Some(peer) = self.place.server.live.peer(self.place.id) {
            log::end(self.place.id, &peer, &result);
        }
        Poll::Ready(())
    }
}

/// Lets go of an end so that it does not look finished.
async fn abort(mut end: Duplex) {
    drop(end.source);
    end.sink.abort(&AbortReason::Requested);
    std::future::poll_fn(|cx| end.sink.poll_aborted(cx)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_of_a_connection_is_little_more_than_its_relay() {
        let (task, relay) = (size_of::<Connection>(), size_of::<RelayRun>());
        assert!(task <= relay + 24, "{task} bytes around {relay}");
        assert!(size_of::<Peer>() <= 16, "{} bytes", size_of::<Peer>());
    }
}
