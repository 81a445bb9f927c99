//! Ends on this machine without a connection: standard streams, files, FIFOs, descriptors, programs.
//!
//! Knows which of them a path stands for: what exists decides.

use std::path::Path;

use tidegate_io::EndpointError;
use tidegate_io::endpoint::file::{FileSink, FileSource, Overwrite};
#[cfg(unix)]
use tidegate_io::endpoint::{
    fd::Descriptor,
    pipe::{PipeSink, PipeSource},
};
#[cfg(any(unix, windows))]
use tidegate_io::endpoint::{
    process::Process,
    stdio::{stdin, stdout},
};

use super::{BoxSink, BoxSource, Opening, not_here};
use crate::address::{Address, Place, Scheme};
use crate::settings::{CopySettings, Existing};

/// Opens one as the source of a copy, from an offset on where it has one.
pub(super) async fn source(address: &Address, offset: u64) -> Result<BoxSource, EndpointError> {
    Ok(match (address.scheme, &address.place) {
        #[cfg(any(unix, windows))]
        (Scheme::Stdio, _) => Box::new(stdin()?),
        #[cfg(unix)]
        (Scheme::File, Place::Path(path)) if is_fifo(path) => Box::new(PipeSource::open(path)?),
        (Scheme::File, Place::Path(path)) => Box::new(FileSource::open(path).await?.from_offset(offset)),
        #[cfg(unix)]
        (Scheme::Pipe, Place::Path(path)) => Box::new(PipeSource::open(path)?),
        #[cfg(unix)]
        (Scheme::Fd, Place::Number(number)) => Box::new(Descriptor::adopt(*number)?.into_source()?),
        #[cfg(any(unix, windows))]
        (Scheme::Exec | Scheme::Shell, place) => Box::new(process(place, address)?.into_source()?),
        _ => return Err(not_here(address)),
    })
}

/// Opens one as the sink of a copy. A FIFO waits for its reader.
pub(super) async fn sink<'a>(
    address: &'a Address,
    offset: u64,
    settings: &CopySettings,
) -> Result<Opening<'a, BoxSink>, EndpointError> {
    let open: BoxSink = match (address.scheme, &address.place) {
        #[cfg(any(unix, windows))]
        (Scheme::Stdio, _) => Box::new(stdout()?),
        #[cfg(unix)]
        (Scheme::File | Scheme::Pipe, Place::Path(path))
            if address.scheme == Scheme::Pipe || is_fifo(path) =>
        {
            return Ok(Opening::later(async move {
                Ok(Box::new(PipeSink::open(path).await?) as BoxSink)
            }));
        }
        (Scheme::File, Place::Path(path)) => {
            let sink = match settings.existing {
                _ if offset > 0 => FileSink::append(path).await?,
                // An earlier copy that was cut before its first byte is to be continued as well.
                Existing::Refuse if settings.resume && is_empty(path) => {
                    FileSink::create(path, Overwrite::Allow).await?
                }
                Existing::Refuse => FileSink::create(path, Overwrite::Refuse).await?,
                Existing::Replace => FileSink::create(path, Overwrite::Allow).await?,
                Existing::Append => FileSink::append(path).await?,
            };
            Box::new(sink.durability(settings.durability))
        }
        #[cfg(unix)]
        (Scheme::Fd, Place::Number(number)) => Box::new(Descriptor::adopt(*number)?.into_sink()?),
        #[cfg(any(unix, windows))]
        (Scheme::Exec | Scheme::Shell, place) => Box::new(process(place, address)?.into_sink()?),
        _ => return Err(not_here(address)),
    };
    Ok(Opening::Open(open))
}

#[cfg(any(unix, windows))]
pub(super) fn process(place: &Place, address: &Address) -> Result<Process, EndpointError> {
    match place {
        Place::Command(words) => match words.split_first() {
            Some((program, args)) => Ok(Process::exec(program, args)),
            None => Err(not_here(address)),
        },
        Place::Line(line) => Ok(Process::shell(line)),
        _ => Err(not_here(address)),
    }
}

fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0)
}

#[cfg(unix)]
fn is_fifo(path: &Path) -> bool {
    use rustix::fs::{FileType, stat};
    stat(path).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo)
}
