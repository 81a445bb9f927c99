//! The answer to a request for a file: all of it, a part, several parts, or that there is no need to send it.
//!
//! Knows nothing of how the file was found.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tidegate::{Consumer as _, FinishableConsumer, Producer};

use crate::body::Body;
use crate::exchange::{Answer, Responder, plain};
use crate::file_parts::{FileParts, Part};
use crate::open_files::OpenFile;
use crate::range::{self, ByteRange, Wanted};
use crate::validators::{RangeUse, Verdict};

/// Answers with a file, or the parts of it that are asked for. `None`: it must be streamed and there is no responder.
pub(crate) fn send(
    file: &OpenFile,
    method: &Method,
    headers: &HeaderMap,
    responder: Option<&Responder>,
) -> Option<Answer> {
    let use_of_range = match file.validators.weigh(method, headers) {
        Verdict::Proceed(use_of_range) => use_of_range,
        Verdict::NotModified => return Some(bare(StatusCode::NOT_MODIFIED, file)),
        Verdict::Failed => return Some(plain(StatusCode::PRECONDITION_FAILED, "")),
    };
    let asked = headers
        .get(RANGE)
        .filter(|_| *method == Method::GET && use_of_range == RangeUse::Honour);
    let wanted = asked
        .and_then(|value| value.to_str().ok())
        .map_or(Wanted::Whole, |value| range::parse(value, file.size));
    if wanted == Wanted::Whole
        && let Some(small) = &file.small
    {
        return Some(whole(file, small, method));
    }
    let mut head = bare(StatusCode::OK, file);
    let parts = match wanted {
        Wanted::Whole if file.size == 0 => VecDeque::new(),
        Wanted::Whole => VecDeque::from([Part::File(ByteRange {
            start: 0,
            length: file.size,
        })]),
        Wanted::Single(range) => {
            *head.status_mut() = StatusCode::PARTIAL_CONTENT;
            head.headers_mut()
                .insert(CONTENT_RANGE, ascii(&range.content_range(file.size)));
            VecDeque::from([Part::File(range)])
        }
        Wanted::Several(ranges) => {
            *head.status_mut() = StatusCode::PARTIAL_CONTENT;
            several(&mut head, file, &ranges)
        }
        Wanted::Unsatisfiable => return Some(unsatisfiable(file)),
    };
    let length = parts.iter().map(part_bytes).sum::<u64>();
    head.headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
    if length == 0 || *method == Method::HEAD {
        return Some(head);
    }
    match &file.small {
        Some(small) => {
            *head.body_mut() = Body::whole(gather(small, &parts));
            Some(head)
        }
        None => Some(stream(file, head, parts, length, responder?)),
    }
}

/// No byte of what is asked for is there: says how many there are.
fn unsatisfiable(file: &OpenFile) -> Answer {
    let mut refusal = plain(StatusCode::RANGE_NOT_SATISFIABLE, "");
    refusal
        .headers_mut()
        .insert(CONTENT_RANGE, ascii(&format!("bytes */{}", file.size)));
    refusal
}

/// A small file, all of it: what most answers are.
fn whole(file: &OpenFile, small: &Bytes, method: &Method) -> Answer {
    let mut answer = Response::new(if *method == Method::HEAD {
        Body::empty()
    } else {
        Body::whole(small.clone())
    });
    answer.headers_mut().clone_from(&file.whole_headers);
    answer
}

fn part_bytes(part: &Part) -> u64 {
    match part {
        Part::Text(text) => text.len() as u64,
        Part::File(range) => range.length,
    }
}

/// Parts of a file that is in memory.
fn gather(small: &Bytes, parts: &VecDeque<Part>) -> Bytes {
    let of = |range: &ByteRange| {
        // A small file's offsets fit.
        let start = usize::try_from(range.start)
            .unwrap_or(usize::MAX)
            .min(small.len());
        let end = usize::try_from(range.end())
            .unwrap_or(usize::MAX)
            .min(small.len());
        small.slice(start..end)
    };
    if let (1, Some(Part::File(range))) = (parts.len(), parts.front()) {
        return of(range);
    }
    let mut all = BytesMut::new();
    for part in parts {
        match part {
            Part::Text(text) => all.extend_from_slice(text),
            Part::File(range) => all.extend_from_slice(&of(range)),
        }
    }
    all.freeze()
}

/// Registers a pull producer over the file on the consumer of the answer. The body that hyper reads owns both.
fn stream(
    file: &OpenFile,
    head: Answer,
    parts: VecDeque<Part>,
    length: u64,
    responder: &Responder,
) -> Answer {
    let (head, _) = head.into_parts();
    let (consumer, answer) = responder.stream(Response::from_parts(head, ()), Some(length));
    let consumer = Arc::new(consumer);
    let to: std::sync::Weak<dyn FinishableConsumer> = Arc::<crate::OutgoingBody>::downgrade(&consumer);
    let producer = FileParts::new(Arc::clone(&file.file), file.stamp, parts, to);
    // Nobody else can have registered on a consumer this young.
    let _ = consumer.register_producer(Producer::pull(Arc::new(producer)));
    answer.map(|body| body.keeping(consumer))
}

/// The parts of a `multipart/byteranges` answer. (RFC 9110, section 14.6.)
fn several(head: &mut Answer, file: &OpenFile, ranges: &[ByteRange]) -> VecDeque<Part> {
    let boundary = boundary(file);
    let kind = file
        .headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("application/octet-stream");
    let mut parts = VecDeque::with_capacity(ranges.len() * 2 + 1);
    for range in ranges {
        let range_line = range.content_range(file.size);
        let text = format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {range_line}\r\n\r\n");
        parts.push_back(Part::Text(text.into()));
        parts.push_back(Part::File(*range));
    }
    parts.push_back(Part::Text(format!("\r\n--{boundary}--\r\n").into()));
    head.headers_mut().insert(
        CONTENT_TYPE,
        ascii(&format!("multipart/byteranges; boundary={boundary}")),
    );
    parts
}

/// A boundary that the parts are unlikely to hold: nobody can choose it, since the hash is keyed anew in each process.
fn boundary(file: &OpenFile) -> String {
    use std::hash::{BuildHasher, RandomState};
    let one = RandomState::new().hash_one(file.size);
    let two = RandomState::new().hash_one(one);
    format!("tidegate{one:016x}{two:016x}")
}

fn bare(status: StatusCode, file: &OpenFile) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    *answer.headers_mut() = file.headers.clone();
    if status == StatusCode::NOT_MODIFIED {
        answer.headers_mut().remove(CONTENT_TYPE);
        answer.headers_mut().remove(CONTENT_ENCODING);
    }
    answer
}

pub(crate) fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
