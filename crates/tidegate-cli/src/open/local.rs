//! Ends on this machine without a connection: standard streams, files, programs.
//!
//! Those that only one system has (FIFOs, descriptors) are `system`'s, who is asked first: a path may stand for a FIFO.

use tidegate_io::EndpointError;
use tidegate_io::endpoint::file::{FileSink, FileSource, Overwrite, WritesOn};
use tidegate_io::endpoint::process::Process;
use tidegate_io::endpoint::stdio::{stdin, stdout};

use super::{BoxSink, BoxSource, Opening, not_here, system};
use crate::address::{Address, Place, Scheme};
use crate::settings::{CopySettings, Existing};

/// Opens one as the source of a copy, from an offset on where it has one.
pub(super) async fn source(address: &Address, offset: u64) -> Result<BoxSource, EndpointError> {
    if let Some(source) = system::source(address)? {
        return Ok(source);
    }
    Ok(match (address.scheme, &address.place) {
        (Scheme::Stdio, _) => Box::new(stdin()?),
        (Scheme::File, Place::Path(path)) => Box::new(FileSource::open(path).await?.from_offset(offset)),
        (Scheme::Exec | Scheme::Shell, place) => Box::new(process(place, address)?.into_source()?),
        _ => return Err(not_here(address)),
    })
}

/// Opens one as the sink of a copy.
pub(super) async fn sink<'a>(
    address: &'a Address,
    settings: &CopySettings,
) -> Result<Opening<'a, BoxSink>, EndpointError> {
    if let Some(sink) = system::sink(address)? {
        return Ok(sink);
    }
    let open: BoxSink = match (address.scheme, &address.place) {
        (Scheme::Stdio, _) => Box::new(stdout()?),
        (Scheme::File, Place::Path(path)) => {
            let sink = match settings.existing {
                // What comes stays when this copy is cut short, too.
                _ if settings.resume => FileSink::go_on(path).await?,
                Existing::Refuse => FileSink::create(path, Overwrite::Refuse).await?,
                Existing::Replace => FileSink::create(path, Overwrite::Allow).await?,
                Existing::Append => FileSink::append(path).await?,
            };
            // A copy's runtime has this one flow.
            Box::new(sink.durability(settings.durability).writes_on(WritesOn::Caller))
        }
        (Scheme::Exec | Scheme::Shell, place) => Box::new(process(place, address)?.into_sink()?),
        _ => return Err(not_here(address)),
    };
    Ok(Opening::Open(open))
}

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
