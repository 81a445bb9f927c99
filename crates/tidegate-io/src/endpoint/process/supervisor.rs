//! One task a child: waits for its exit, keeps the last line of its standard error, and ends it gently, then hard.
//!
//! Knows nothing of the bytes on the child's input and output; it only keeps the input open while it kills.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, watch};

use super::Stderr;
use super::os::{Child, Errors, Input};

/// The most that is kept of a line of standard error.
const LINE_BYTES_MAX: usize = 400;
/// How long after the exit the rest of standard error is waited for: somebody else may hold it open.
const LAST_LINE_WAIT: Duration = Duration::from_millis(250);
/// How long a child that closed its input is given to exit before its broken pipe is reported without the exit.
const SOON: Duration = Duration::from_millis(500);

/// How a child ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) status: io::Result<ExitStatus>,
    pub(super) last_line: Option<String>,
}

impl Ending {
    pub(super) fn is_success(&self) -> bool {
        self.status.as_ref().is_ok_and(ExitStatus::success)
    }
}

/// Where a child is in its life. Only ever goes on.
#[derive(Clone, Debug)]
enum Stage {
    Running,
    /// The exit was seen; the last line may follow.
    Exited,
    /// All is known.
    Ended(Arc<Ending>),
}

type Wait<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A handle to a running child. Its clones share the child; each waits on its own.
pub(super) struct Supervised {
    id: Option<u32>,
    stage: watch::Receiver<Stage>,
    orders: Arc<Orders>,
    exited: Option<Wait<()>>,
    ended: Option<Wait<Arc<Ending>>>,
    soon: Option<Wait<Option<Arc<Ending>>>>,
    gone: Option<Wait<()>>,
}

/// What the handles tell the task.
#[derive(Default)]
struct Orders {
    stop: Notify,
    /// The child's input, kept open until it has ended.
    input: Mutex<Option<Input>>,
    /// Nobody reads the child's output, or it was read to its end.
    is_output_over: watch::Sender<bool>,
    is_gone: watch::Sender<bool>,
}

impl Supervised {
    pub(super) fn new(mut child: Child, stderr: Stderr, grace: Duration) -> Self {
        let id = child.id();
        let (stage, watched) = watch::channel(Stage::Running);
        let orders = Arc::new(Orders::default());
        let last_line = child.take_errors().map(|end| LastLine::spawn(end, stderr));
        let task = Supervisor {
            is_done: false,
            child,
            orders: Arc::clone(&orders),
            grace,
        };
        tokio::spawn(task.run(stage, last_line));
        Self::with(id, watched, orders)
    }

    fn with(id: Option<u32>, stage: watch::Receiver<Stage>, orders: Arc<Orders>) -> Self {
        Self {
            id,
            stage,
            orders,
            exited: None,
            ended: None,
            soon: None,
            gone: None,
        }
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.id.filter(|_| matches!(*self.stage.borrow(), Stage::Running))
    }

    /// Ends the child: asked first where that can be, then killed. Its input, if given, stays open until it has gone. Idempotent.
    pub(super) fn stop(&mut self, input: Option<Input>) {
        if input.is_some() {
            *self.orders.input.lock().unwrap_or_else(PoisonError::into_inner) = input;
        }
        self.orders.stop.notify_one();
    }

    /// Ready once the child has exited.
    pub(super) fn poll_exited(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !matches!(*self.stage.borrow(), Stage::Running) {
            return Poll::Ready(());
        }
        let mut stage = self.stage.clone();
        let wait = self.exited.get_or_insert_with(|| {
            Box::pin(async move {
                drop(stage.wait_for(|stage| !matches!(stage, Stage::Running)).await);
            })
        });
        ready!(wait.as_mut().poll(cx));
        self.exited = None;
        Poll::Ready(())
    }

    /// Ready once the child has exited and its last words were read.
    pub(super) fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<Arc<Ending>> {
        let stage = &self.stage;
        let wait = self.ended.get_or_insert_with(|| Box::pin(ending(stage.clone())));
        let ending = ready!(wait.as_mut().poll(cx));
        self.ended = None;
        Poll::Ready(ending)
    }

    /// As [`poll_ending`](Self::poll_ending), or `None` when that takes long.
    pub(super) fn poll_ending_soon(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<Ending>>> {
        let stage = &self.stage;
        let wait = self.soon.get_or_insert_with(|| {
            let ending = ending(stage.clone());
            Box::pin(async move { tokio::time::timeout(SOON, ending).await.ok() })
        });
        let ending = ready!(wait.as_mut().poll(cx));
        self.soon = None;
        Poll::Ready(ending)
    }

    /// The child's output has been read to its end, or will not be read on.
    pub(super) fn output_is_over(&self) {
        self.orders.is_output_over.send_replace(true);
    }

    pub(super) fn is_output_over(&self) -> bool {
        *self.orders.is_output_over.borrow()
    }

    /// As [`poll_ending`](Self::poll_ending), and once the output is over too.
    pub(super) fn poll_all_over(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<Ending>>> {
        let (stage, orders) = (&self.stage, &self.orders);
        let wait = self.soon.get_or_insert_with(|| {
            let ending = ending(stage.clone());
            let mut is_over = orders.is_output_over.subscribe();
            Box::pin(async move {
                drop(is_over.wait_for(|is_over| *is_over).await);
                Some(ending.await)
            })
        });
        let ending = ready!(wait.as_mut().poll(cx));
        self.soon = None;
        Poll::Ready(ending)
    }

    /// Ready once a stopped child has exited and its group was dealt with.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let orders = &self.orders;
        let wait = self.gone.get_or_insert_with(|| {
            let mut is_gone = orders.is_gone.subscribe();
            Box::pin(async move {
                drop(is_gone.wait_for(|is_gone| *is_gone).await);
            })
        });
        ready!(wait.as_mut().poll(cx));
        self.gone = None;
        Poll::Ready(())
    }
}

impl Clone for Supervised {
    fn clone(&self) -> Self {
        Self::with(self.id, self.stage.clone(), Arc::clone(&self.orders))
    }
}

async fn ending(mut stage: watch::Receiver<Stage>) -> Arc<Ending> {
    let ended = stage.wait_for(|stage| matches!(stage, Stage::Ended(_))).await;
    match ended.as_deref() {
        Ok(Stage::Ended(ending)) => Arc::clone(ending),
        _ => Arc::new(Ending {
            status: Err(io::Error::other("the runtime was shut down")),
            last_line: None,
        }),
    }
}

struct Supervisor {
    /// Set once there is nobody left to kill.
    is_done: bool,
    child: Child,
    orders: Arc<Orders>,
    grace: Duration,
}

impl Supervisor {
    async fn run(mut self, stage: watch::Sender<Stage>, last_line: Option<LastLine>) {
        let mut is_stopped = false;
        let status = tokio::select! {
            biased;
            status = self.child.wait() => status,
            () = self.orders.stop.notified() => {
                is_stopped = true;
                self.end().await
            }
        };
        self.child.has_exited();
        stage.send_replace(Stage::Exited);
        let last_line = match last_line {
            Some(line) => line.after_exit().await,
            None => None,
        };
        stage.send_replace(Stage::Ended(Arc::new(Ending { status, last_line })));
        if !is_stopped {
            // Ended by itself: what it left behind is its own affair, also when the runtime ends now.
            self.is_done = true;
            tokio::select! {
                biased;
                () = self.orders.stop.notified() => {
                    self.is_done = false;
                    self.child.ask_to_end(self.grace);
                }
                () = stage.closed() => return,
            }
        }
        self.child.end_rest(self.grace).await;
        self.is_done = true;
        let input = self
            .orders
            .input
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(input);
        self.orders.is_gone.send_replace(true);
    }

    /// Ends the child itself, gently, then hard.
    async fn end(&mut self) -> io::Result<ExitStatus> {
        let grace = self.child.ask_to_end(self.grace);
        if let Ok(status) = tokio::time::timeout(grace, self.child.wait()).await {
            return status;
        }
        self.child.kill();
        self.child.wait().await
    }
}

impl Drop for Supervisor {
    /// The runtime ends before the child has: no time left to be gentle.
    fn drop(&mut self) {
        if !self.is_done {
            self.child.kill();
        }
    }
}

/// Reads standard error to its end and keeps the last line that says something.
struct LastLine {
    line: Arc<Mutex<Vec<u8>>>,
    task: tokio::task::JoinHandle<()>,
}

impl LastLine {
    fn spawn(end: Errors, mode: Stderr) -> Self {
        let line = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&line);
        let task = tokio::spawn(read_lines(end, mode, kept));
        Self { line, task }
    }

    async fn after_exit(mut self) -> Option<String> {
        // Held open by somebody else: what was said until now is what we have; the task reads on by itself.
        drop(tokio::time::timeout(LAST_LINE_WAIT, &mut self.task).await);
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&line);
        let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
        (!text.is_empty()).then_some(text)
    }
}

async fn read_lines(mut end: Errors, mode: Stderr, kept: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 1024];
    let mut line = Vec::new();
    let mut ours = tokio::io::stderr();
    while let Ok(got @ 1..) = end.read(&mut buffer).await {
        let read = &buffer[..got];
        if mode == Stderr::PassAndKeep {
            // Nobody to tell that standard error is closed.
            drop(ours.write_all(read).await);
        }
        for &byte in read {
            if byte == b'\n' {
                keep(&line, &kept);
                line.clear();
            } else if line.len() < LINE_BYTES_MAX {
                line.push(byte);
            }
        }
        keep(&line, &kept);
    }
    drop(ours.flush().await);
}

fn keep(line: &[u8], kept: &Mutex<Vec<u8>>) {
    if !line.trim_ascii().is_empty() {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        kept.extend_from_slice(line);
    }
}
