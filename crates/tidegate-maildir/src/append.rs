//! The delivery as a core consumer: whatever produces writes to a gate, and a task takes the bytes to the disk.
//!
//! Knows only how to join a sink of this crate with the driver that any sink has.

use std::path::PathBuf;
use std::pin::Pin;

use tidegate::Marks;
use tidegate_io::{DriveError, SinkConsumer};

use crate::sink::{MaildirSink, sink};
use crate::{MaildirError, Options};

/// The task of one delivery: ends with the message's path once it is durable.
pub type Delivering = Pin<Box<dyn Future<Output = Result<PathBuf, DriveError>> + Send>>;

/// A consumer that appends one message to the mailbox at `path`, and the task to be spawned that does it.
///
/// The task ends with the message's path once it is durable. `finish` on the consumer delivers; an abort, a drop of the
/// consumer or of the task, an error, or a disk that makes no progress for the driver's deadline leave nothing. The
/// consumer's own `outcome` says the same. Needs a tokio runtime with time.
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
pub fn append(path: impl Into<PathBuf>, options: Options, marks: Marks) -> (SinkConsumer, Delivering) {
    append_to(sink(path, options), marks)
}

pub(crate) fn append_to(sink: MaildirSink, marks: Marks) -> (SinkConsumer, Delivering) {
    let delivered = sink.delivered_slot();
    let (consumer, driver) = SinkConsumer::with_driver(sink, marks);
    let delivering = async move {
        driver.await?;
        delivered
            .get()
            .cloned()
            .ok_or_else(|| DriveError::Failed(MaildirError::Interrupted.into()))
    };
    (consumer, Box::pin(delivering))
}

#[cfg(test)]
mod tests;
