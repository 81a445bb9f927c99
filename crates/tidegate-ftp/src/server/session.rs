//! A session: one client, from greeting to goodbye.
//!
//! Knows the order of things (line, policy, verb, reply) and no verb's work.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::control::{Control, Line};
use super::opening::Plan;
use super::transfer::Transfer;
use super::{Shared, Stage, failure, policy, transfer, verbs};
use crate::grammar::command::{Protection, TransferType, verb_of};
use crate::grammar::{Command, FactSet, Reply, VirtualPath};
use crate::storage::{HashRange, Storage};

/// What one client has said so far.
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) control: Control,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) login: Login,
    pub(crate) attempts: u32,
    pub(crate) cwd: VirtualPath,
    pub(crate) transfer_type: TransferType,
    pub(crate) restart: u64,
    /// Of the next `HASH`; of the whole file without it.
    pub(crate) hash_range: Option<HashRange>,
    pub(crate) rename_from: Option<VirtualPath>,
    pub(crate) plan: Plan,
    pub(crate) extended: Extended,
    pub(crate) protection: Protection,
    pub(crate) buffer_size: BufferSize,
    pub(crate) facts: FactSet,
    /// Heard during a transfer and not yet served.
    pub(crate) queue: VecDeque<Line>,
    pub(crate) stage: watch::Receiver<Stage>,
}

/// Who the client is.
#[derive(Debug)]
pub(crate) enum Login {
    Nobody,
    /// A name was given; a password has to follow.
    Named(String),
    In(LoggedIn),
}

/// A client who has logged in.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) name: String,
    pub(crate) storage: Storage,
}

/// Whether `EPSV ALL` was given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Extended {
    Also,
    Only,
}

/// Whether `PBSZ` was given, which must come before `PROT`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BufferSize {
    NotGiven,
    Given,
}

/// What a verb wants done.
pub(crate) enum Answer {
    Reply(Reply),
    Transfer(Box<Transfer>),
    /// Reply, then the handshake.
    StartTls(Reply),
    /// Reply, then goodbye.
    Quit(Reply),
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

enum Heard {
    Line(Line),
    Closed,
    Idle,
    ShuttingDown,
}

impl Session {
    pub(crate) fn new(
        shared: Arc<Shared>,
        stream: TcpStream,
        peer: SocketAddr,
        stage: watch::Receiver<Stage>,
    ) -> io::Result<Self> {
        let local = stream.local_addr()?;
        Ok(Self {
            control: Control::new(stream, shared.options.limits.command_bytes_max)?,
            shared,
            peer,
            local,
            login: Login::Nobody,
            attempts: 0,
            cwd: VirtualPath::root(),
            transfer_type: TransferType::default(),
            restart: 0,
            hash_range: None,
            rename_from: None,
            plan: Plan::None,
            extended: Extended::Also,
            protection: Protection::default(),
            buffer_size: BufferSize::NotGiven,
            facts: FactSet::default(),
            queue: VecDeque::new(),
            stage,
        })
    }

    /// Serves the client until one of us has enough.
    pub(crate) async fn run(mut self) {
        let peer = self.peer;
        tracing::info!(%peer, "connected");
        if let Err(error) = self.serve().await {
            tracing::debug!(%peer, %error, "control connection lost");
        }
        tracing::info!(%peer, "disconnected");
    }

    async fn serve(&mut self) -> io::Result<()> {
        self.reply(&Reply::new(220, "Tidegate FTP server ready")).await?;
        loop {
            let line = match self.hear().await? {
                Heard::Line(line) => line,
                Heard::Closed => return Ok(()),
                Heard::Idle => return self.goodbye(&Reply::new(421, "Idle for too long; goodbye")).await,
                Heard::ShuttingDown => {
                    return self
                        .goodbye(&Reply::new(421, "The server is shutting down; goodbye"))
                        .await;
                }
            };
            // In a box, so that a session that only waits is small.
            match Box::pin(self.obey(line)).await? {
                Answer::Reply(reply) => self.reply(&reply).await?,
                Answer::Transfer(transfer) => {
                    let last = Box::pin(transfer::run(self, *transfer)).await?;
                    self.reply(&last).await?;
                }
                Answer::StartTls(reply) => {
                    self.reply(&reply).await?;
                    Box::pin(self.start_tls()).await?;
                }
                Answer::Quit(reply) => return self.goodbye(&reply).await,
            }
        }
    }

    async fn hear(&mut self) -> io::Result<Heard> {
        if let Some(line) = self.queue.pop_front() {
            return Ok(Heard::Line(line));
        }
        self.queue = VecDeque::new();
        let idle = self.shared.options.limits.idle;
        tokio::select! {
            line = self.control.next_line() => Ok(line?.map_or(Heard::Closed, Heard::Line)),
            _ = self.stage.wait_for(|stage| *stage == Stage::Closing) => Ok(Heard::ShuttingDown),
            () = tokio::time::sleep(idle) => Ok(Heard::Idle),
        }
    }

    async fn obey(&mut self, line: Line) -> io::Result<Answer> {
        let line = match line {
            Ok(line) => line,
            Err(error) => return Ok(failure::not_a_line(error).into()),
        };
        tracing::debug!(peer = %self.peer, verb = %verb_of(&line), "command");
        let command = match Command::parse(&line) {
            Ok(command) => command,
            Err(error) => return Ok(failure::not_a_command(error).into()),
        };
        if let Some(reply) = policy::judge(self, &command) {
            return Ok(reply.into());
        }
        // RNFR, and RNTO at once (RFC 959 §4.1.3).
        let rename_from = self.rename_from.take();
        if let Command::Rnto(_) = command {
            self.rename_from = rename_from;
        }
        Ok(verbs::run(self, command).await)
    }

    /// Sends a reply; a client that does not take it is given up.
    pub(crate) async fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        let idle = self.shared.options.limits.idle;
        tokio::time::timeout(idle, self.control.reply(reply)).await?
    }

    async fn goodbye(&mut self, reply: &Reply) -> io::Result<()> {
        self.reply(reply).await?;
        let patience = self.shared.options.limits.data_open;
        let _ = tokio::time::timeout(patience, self.control.close()).await;
        Ok(())
    }

    async fn start_tls(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let Some(acceptors) = &shared.tls else {
            return Ok(());
        };
        let patience = shared.options.limits.data_open;
        self.queue.clear();
        tokio::time::timeout(patience, self.control.start_tls(&acceptors.control)).await??;
        // RFC 4217 §4: whoever was logged in is not any more.
        self.forget_user();
        Ok(())
    }

    /// Back to the beginning, as after the greeting. A transfer plan goes too.
    pub(crate) fn forget_user(&mut self) {
        self.login = Login::Nobody;
        self.cwd = VirtualPath::root();
        self.transfer_type = TransferType::default();
        self.restart = 0;
        self.hash_range = None;
        self.rename_from = None;
        self.plan = Plan::None;
        self.extended = Extended::Also;
        self.facts = FactSet::default();
    }

    /// Who is logged in.
    pub(crate) fn user(&self) -> Option<&LoggedIn> {
        match &self.login {
            Login::In(user) => Some(user),
            _ => None,
        }
    }

    /// The files of whoever is logged in.
    pub(crate) fn storage(&self) -> Storage {
        self.user()
            .map_or_else(|| self.shared.storage.clone(), |user| user.storage.clone())
    }

    /// The path an argument names, or the reply that refuses it.
    pub(crate) fn path(&self, argument: &[u8]) -> Result<VirtualPath, Reply> {
        let path_bytes_max = self.shared.options.limits.path_bytes_max;
        self.cwd
            .resolve(argument, path_bytes_max)
            .map_err(failure::not_a_path)
    }
}
