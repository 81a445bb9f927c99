//! The delivery as a core consumer: whatever produces writes to a gate, and a task takes the bytes to the disk.
//!
//! Knows the channel and the sink and how the ends of one become the ends of the other.

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tidegate::{Marks, Ready, Receiver, Sender, channel};
use tidegate_io::{EndpointError, Held, Sink as _};

use crate::sink::{MaildirSink, sink};
use crate::{MaildirError, Options};

/// The task of one delivery: ends with the message's path once it is durable.
pub type Delivering = Pin<Box<dyn Future<Output = Result<PathBuf, EndpointError>> + Send>>;

/// A consumer that appends one message to the mailbox at `path`, and the task to be spawned that does it.
///
/// The task ends with the message's path once it is durable. `finish` on the consumer delivers; an abort, a drop of the
/// consumer or of the task, or an error leaves nothing. The consumer's own `outcome` says the same.
///
/// ```no_run
/// # async fn example() {
/// use tidegate::{Consumer as _, FinishableConsumer as _, Marks};
/// let (message, delivery) = tidegate_maildir::append("Maildir", tidegate_maildir::Options::default(), Marks::default());
/// let delivery = tokio::spawn(delivery);
/// message.write("Subject: hello\n\nworld\n".into()).unwrap();
/// message.finish();
/// println!("{}", delivery.await.unwrap().unwrap().display());
/// # }
/// ```
pub fn append(path: impl Into<PathBuf>, options: Options, marks: Marks) -> (Sender, Delivering) {
    append_to(sink(path, options), marks)
}

pub(crate) fn append_to(sink: MaildirSink, marks: Marks) -> (Sender, Delivering) {
    let (sender, receiver) = channel(marks);
    (sender, Box::pin(deliver(receiver, sink)))
}

async fn deliver(mut receiver: Receiver, mut sink: MaildirSink) -> Result<PathBuf, EndpointError> {
    loop {
        match receiver.ready().await {
            Ok(Ready::Bytes) => {
                if let Err(error) = take_to_disk(&mut receiver, &mut sink).await {
                    receiver.fail(Arc::new(error.clone()));
                    return Err(error);
                }
            }
            Ok(Ready::End) => {
                return match poll_fn(|cx| sink.poll_finish(cx)).await {
                    Ok(_) => {
                        receiver.complete();
                        Ok(sink.delivered().map(PathBuf::from).unwrap_or_default())
                    }
                    Err(error) => {
                        receiver.fail(Arc::new(error.clone()));
                        Err(error)
                    }
                };
            }
            Err(aborted) => {
                sink.abort(&aborted.0);
                poll_fn(|cx| sink.poll_aborted(cx)).await;
                return Err(EndpointError::from(MaildirError::Aborted).caused_by(aborted));
            }
        }
    }
}

/// Writes what waits now. The producer gets its credit when the system has the bytes.
async fn take_to_disk(receiver: &mut Receiver, sink: &mut MaildirSink) -> Result<(), EndpointError> {
    let mut held = Held::default();
    receiver.pieces().for_each(|piece| held.push(piece.clone()));
    let bytes = poll_fn(|cx| sink.poll_write(cx, &held)).await?;
    receiver.advance(bytes);
    Ok(())
}

#[cfg(test)]
mod tests;
