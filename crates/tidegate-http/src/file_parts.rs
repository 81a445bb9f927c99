//! The pull producer over parts of a file: the whole of it, one range, or several with text between them.
//!
//! Knows nothing of HTTP beyond the order of the parts. What is in the page cache is read on the spot; what is not, on
//! the blocking pool, and is written later. (Twisted: `NoRangeStaticProducer`, `SingleRangeStaticProducer`,
//! `MultipleRangeStaticProducer`.)

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use tidegate::{AbortReason, FinishableConsumer, PullProducer, StopReason};
use tidegate_io::Buffers;
use tidegate_io::page_cache::{self, Cached};

use crate::range::ByteRange;
use crate::system::read_at;

/// The chunk of one pull. 64 KiB: four frames. A chunk stays in memory until its last frame is sent, so a download that
/// stalls holds what waits in hyper and two chunks besides; larger ones cost memory and gain nothing.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// One part of what is to be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part {
    /// Bytes that are here already.
    Text(Bytes),
    /// Bytes of the file.
    File(ByteRange),
}

/// What told one state of a file from the next when it was opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    /// That of an open file, now.
    ///
    /// # Errors
    /// The system's.
    pub fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|metadata| Self::told_by(&metadata))
    }

    pub(crate) fn told_by(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

/// Why a file could not be sent to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It ends before the bytes that were announced.
    #[error("the file ends at {at}, before the announced bytes")]
    Truncated {
        /// Where it ended.
        at: u64,
    },
    /// It is not the file it was when the answer began.
    #[error("the file changed while it was being sent")]
    Changed,
    /// Reading failed.
    #[error("cannot read the file")]
    Read(#[source] io::Error),
}

/// Sends parts of a file, one chunk a pull, and finishes the consumer; or aborts it when the file is not what was
/// announced. Does not own the consumer.
pub struct FileParts {
    inner: Arc<Inner>,
}

struct Inner {
    to: Weak<dyn FinishableConsumer>,
    chunk: usize,
    work: Mutex<Option<Work>>,
    stopped: AtomicBool,
}

struct Work {
    file: Arc<File>,
    stamp: Stamp,
    parts: VecDeque<Part>,
    buffers: Buffers,
}

/// How a chunk may be read.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Wait {
    /// Only what the page cache has.
    Never,
    /// The disk may be waited for.
    Disk,
}

/// What a read came to.
enum Chunk {
    Pieces(Vec<Bytes>),
    /// It would have to wait for the disk.
    Later,
    Failed(FileError),
}

impl FileParts {
    /// A producer for `to`. The file must be as `stamp` says when the last chunk has been read, else the consumer is
    /// aborted instead of finished.
    pub fn new(
        file: Arc<File>,
        stamp: Stamp,
        parts: impl Into<VecDeque<Part>>,
        to: Weak<dyn FinishableConsumer>,
    ) -> Self {
        Self::with_chunk(file, stamp, parts, to, CHUNK_BYTES)
    }

    /// The same with another chunk, in bytes.
    pub fn with_chunk(
        file: Arc<File>,
        stamp: Stamp,
        parts: impl Into<VecDeque<Part>>,
        to: Weak<dyn FinishableConsumer>,
        chunk: usize,
    ) -> Self {
        let work = Work {
            file,
            stamp,
            parts: parts.into(),
            buffers: Buffers::default(),
        };
        let inner = Inner {
            to,
            chunk: chunk.max(1),
            work: Mutex::new(Some(work)),
            stopped: AtomicBool::new(false),
        };
        Self {
            inner: Arc::new(inner),
        }
    }
}

impl PullProducer for FileParts {
    fn resume_producing(&self) {
        let Some(mut work) = self.inner.take() else { return };
        // Where it cannot be asked, each part would be a chunk of its own.
        let chunk = if page_cache::CAN_BE_ASKED {
            work.read_chunk(self.inner.chunk, Wait::Never)
        } else {
            Chunk::Later
        };
        match chunk {
            Chunk::Later => Inner::read_later(&self.inner, work),
            chunk => self.inner.deliver(work, chunk),
        }
    }

    /// Lets go of the file. A read under way on the blocking pool comes to nothing.
    fn stop_producing(&self, _reason: StopReason) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        drop(self.inner.take());
    }
}

impl Inner {
    fn take(&self) -> Option<Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn read_later(this: &Arc<Self>, mut work: Work) {
        let inner = Arc::clone(this);
        let read = move || {
            let chunk = work.read_chunk(inner.chunk, Wait::Disk);
            inner.deliver(work, chunk);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(read)),
            Err(_) => read(),
        }
    }

    /// Hands one chunk over. The work is back in its place before the consumer may ask for more.
    fn deliver(&self, work: Work, chunk: Chunk) {
        let Some(to) = self.to.upgrade() else { return };
        let error = match chunk {
            Chunk::Later => return,
            Chunk::Failed(error) => error,
            Chunk::Pieces(pieces) if !work.parts.is_empty() => {
                *self.work.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
                if self.stopped.load(Ordering::SeqCst) {
                    drop(self.take());
                }
                // A refusal comes with a stop of its own.
                let _ = to.write_list(pieces);
                return;
            }
            Chunk::Pieces(pieces) => match Stamp::of(&work.file) {
                Ok(now) if now == work.stamp => {
                    let _ = to.write_list(pieces);
                    to.unregister_producer();
                    to.finish();
                    return;
                }
                Ok(_) => FileError::Changed,
                Err(error) => FileError::Read(error),
            },
        };
        to.abort(AbortReason::Truncated(Arc::new(error)));
    }
}

impl Work {
    /// Reads until a chunk is full or the parts are used up.
    fn read_chunk(&mut self, chunk: usize, wait: Wait) -> Chunk {
        let mut pieces = Vec::new();
        let mut gathered = 0;
        while gathered < chunk {
            match self.parts.front_mut() {
                None => break,
                Some(Part::Text(text)) => {
                    gathered += text.len();
                    pieces.push(std::mem::take(text));
                    self.parts.pop_front();
                }
                Some(Part::File(range)) => {
                    let want = usize::try_from(range.length)
                        .unwrap_or(usize::MAX)
                        .min(chunk - gathered);
                    match read_piece(&self.file, range.start, want, wait, &mut self.buffers) {
                        Ok(piece) if piece.is_empty() => {
                            return Chunk::Failed(FileError::Truncated { at: range.start });
                        }
                        Ok(piece) => {
                            gathered += piece.len();
                            range.start += piece.len() as u64;
                            range.length -= piece.len() as u64;
                            pieces.push(piece);
                            if range.length == 0 {
                                self.parts.pop_front();
                            }
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            return if pieces.is_empty() {
                                Chunk::Later
                            } else {
                                Chunk::Pieces(pieces)
                            };
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Chunk::Failed(FileError::Read(error)),
                    }
                }
            }
        }
        Chunk::Pieces(pieces)
    }
}

/// Reads at most `want` bytes at `offset`; fewer than a buffer's worth at first, since buffers grow with use.
fn read_piece(file: &File, offset: u64, want: usize, wait: Wait, buffers: &mut Buffers) -> io::Result<Bytes> {
    let mut buffer = buffers.take(want);
    let space = buffer.space();
    let asked = space.len().min(want);
    let got = match wait {
        Wait::Never => match page_cache::read(file, &mut space[..asked], offset)? {
            Cached::Read(got) => got,
            Cached::Later | Cached::Never => return Err(io::ErrorKind::WouldBlock.into()),
        },
        Wait::Disk => read_at(file, &mut space[..asked], offset)?,
    };
    buffers.learn(asked, got);
    Ok(buffer.freeze(got))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;
    use tidegate::{Consumer as _, Marks, Producer, Receiver, Sender, channel};

    fn file(bytes: &[u8]) -> (tempfile::NamedTempFile, Arc<File>, Stamp) {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        named.write_all(bytes).unwrap();
        let file = Arc::new(File::open(named.path()).unwrap());
        let stamp = Stamp::of(&file).unwrap();
        (named, file, stamp)
    }

    fn range(start: u64, length: u64) -> Part {
        Part::File(ByteRange { start, length })
    }

    fn text(text: &'static str) -> Part {
        Part::Text(Bytes::from_static(text.as_bytes()))
    }

    /// Runs a producer to its end; each inner list is what one pull wrote.
    async fn run(
        file: Arc<File>,
        stamp: Stamp,
        parts: Vec<Part>,
        chunk: usize,
    ) -> Result<Vec<Vec<u8>>, tidegate::Aborted> {
        let (sender, mut receiver) = start(file, stamp, parts, chunk);
        let mut writes = Vec::new();
        while receiver.ready().await? == tidegate::Ready::Bytes {
            let write: Vec<u8> = receiver.pieces().flat_map(|piece| piece.to_vec()).collect();
            receiver.advance(write.len());
            writes.push(write);
        }
        receiver.complete();
        assert!(sender.outcome().await.is_ok(), "finish was called (CASES 205)");
        Ok(writes)
    }

    fn start(file: Arc<File>, stamp: Stamp, parts: Vec<Part>, chunk: usize) -> (Arc<Sender>, Receiver) {
        let (sender, receiver) = channel(Marks::TWISTED);
        let sender = Arc::new(sender);
        let weak = Arc::downgrade(&sender);
        let producer = FileParts::with_chunk(file, stamp, parts, weak, chunk);
        sender
            .register_producer(Producer::pull(Arc::new(producer)))
            .unwrap();
        (sender, receiver)
    }

    #[tokio::test]
    async fn parts_come_in_chunks() {
        // CASES 205, 207.
        let (_named, whole, stamp) = file(b"abcdef");
        assert_eq!(
            run(Arc::clone(&whole), stamp, vec![range(0, 6)], 65_536)
                .await
                .unwrap(),
            [b"abcdef"]
        );
        assert_eq!(
            run(Arc::clone(&whole), stamp, vec![range(1, 3)], 65_536)
                .await
                .unwrap(),
            [b"bcd"]
        );
        // CASES 210.
        let parts = vec![text("1"), range(1, 3), text("2"), range(5, 1)];
        assert_eq!(run(whole, stamp, parts, 65_536).await.unwrap(), [b"1bcd2f"]);
        // CASES 208.
        let (_named, large, stamp) = file(&vec![7; 196_608]);
        let writes = run(large, stamp, vec![range(1, 65_546)], 65_536).await.unwrap();
        assert_eq!(writes.iter().map(Vec::len).collect::<Vec<_>>(), [65_536, 10]);
        // CASES 211: text counts towards the chunk.
        let (_named, digits, stamp) = file(b"01234567890123456789");
        let parts = vec![text("a"), range(0, 2), text("b"), range(5, 10), text("c")];
        let writes = run(digits, stamp, parts, 10).await.unwrap();
        assert_eq!(writes, [b"a01b567890".to_vec(), b"1234c".to_vec()]);
    }

    #[tokio::test]
    async fn a_stop_lets_go_of_the_file_and_a_late_resume_does_nothing() {
        // CASES 204, D110.
        let (_named, file, stamp) = file(&[1; 100]);
        let (sender, receiver) = channel(Marks::TWISTED);
        let sender = Arc::new(sender);
        let weak = Arc::downgrade(&sender);
        let producer = Arc::new(FileParts::with_chunk(
            Arc::clone(&file),
            stamp,
            vec![range(0, 100)],
            weak,
            10,
        ));
        sender
            .register_producer(Producer::pull(Arc::clone(&producer)))
            .unwrap();
        receiver.close(StopReason::Closed);
        // Where a thread has to read, it lets go when it is done.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while Arc::strong_count(&file) > 1 {
            assert!(std::time::Instant::now() < deadline, "the file is not let go");
            tokio::task::yield_now().await;
        }
        producer.resume_producing();
        producer.stop_producing(StopReason::Closed);
        assert_eq!(Arc::strong_count(&file), 1);
    }

    #[tokio::test]
    async fn a_truncated_file_ends_as_an_abort() {
        // D111, D112, B64: single and several ranges end, bounded, and never as complete.
        for parts in [
            vec![range(0, 100)],
            vec![text("x"), range(0, 50), text("y"), range(50, 50)],
        ] {
            let (named, file, stamp) = file(&[1; 100]);
            named.as_file().set_len(30).unwrap();
            let aborted = run(file, stamp, parts, 10).await.unwrap_err();
            assert!(matches!(aborted.0, AbortReason::Truncated(_)), "{aborted}");
        }
    }

    #[tokio::test]
    async fn a_file_that_grew_or_changed_ends_as_an_abort() {
        let (named, file, stamp) = file(&[1; 100]);
        let (_sender, mut receiver) = start(file, stamp, vec![range(0, 100)], 60);
        assert_eq!(receiver.ready().await.unwrap(), tidegate::Ready::Bytes);
        named.as_file().write_all(&[2; 10]).unwrap();
        receiver.advance(60);
        loop {
            match receiver.ready().await {
                Ok(tidegate::Ready::Bytes) => {
                    let bytes = receiver.pieces().map(Bytes::len).sum();
                    receiver.advance(bytes);
                }
                Ok(tidegate::Ready::End) => panic!("a file that grew looked complete"),
                Err(aborted) => return assert!(aborted.to_string().contains("changed"), "{aborted}"),
            }
        }
    }
}
