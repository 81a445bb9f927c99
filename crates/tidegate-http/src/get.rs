//! A download as a source: GET, redirects, and resuming where it was cut.
//!
//! Resumes only when the server can be held to the same version: by `Range` with `If-Range` and a strong validator.
//! Knows nothing of sinks.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use tidegate_io::{Blame, Buffers, EndpointError, ErrorKind, Source};
use tokio_rustls::rustls;

use crate::body::Body;
use crate::client::{Client, Target, answer, causes, host, refused, strip_private};
use crate::connect::About;
use crate::incoming::IncomingBody;
use crate::range::parse_content_range;
use crate::validators::Validators;
use crate::wire::{Lookout, Watch};

const RETRY_WAIT_MAX: Duration = Duration::from_secs(10);

/// A download. Made by [`Client::get`].
pub struct GetSource {
    client: Client,
    target: Target,
    version: Validators,
    changed: Option<SystemTime>,
    /// Of the whole representation.
    size: Option<u64>,
    /// The offset of the next byte.
    at: u64,
    failures: u32,
    state: State,
    headers: HeaderMap,
}

enum State {
    Body(Box<Arriving>),
    Resuming(Pin<Box<dyn Future<Output = Result<Arriving, EndpointError>> + Send>>),
    Ended,
    Failed(EndpointError),
}

/// A body, and what there is to know of its connection while nobody reads.
struct Arriving {
    body: IncomingBody,
    lookout: Option<Lookout>,
    watch: Option<Watch>,
}

impl Client {
    /// Asks for `url` and waits for the head of the answer; the body is the source. `from` is the offset of the first
    /// byte wanted, 0 for all; at the very end the source is empty.
    ///
    /// # Errors
    /// No connection, no answer, or one that is no success, after the retries that the options allow.
    ///
    /// # Cancel safety
    /// Dropping the future drops the request.
    pub async fn get(&self, url: &str, from: u64) -> Result<GetSource, EndpointError> {
        let mut target = Target::parse(url)?;
        let mut failures = 0;
        let mut hops = 0;
        loop {
            let mut headers = self.headers(&target);
            if hops > 0 && !target.same_origin(&Target::parse(url)?) {
                strip_private(&mut headers);
            }
            match self.ask(&target, &headers, from).await {
                Ok(Asked::Answer(answer)) => return self.source(target, headers, *answer, from),
                Ok(Asked::NoMore(answer)) => return Ok(self.nothing_left(target, headers, &answer, from)),
                Ok(Asked::Elsewhere(location)) => {
                    hops += 1;
                    if hops > self.options.redirects_max {
                        let what = format!("{} redirects too often", host(&target.uri));
                        return Err(EndpointError::new(ErrorKind::Open, Blame::Peer, what));
                    }
                    target = target.follow(&location)?;
                }
                Err(error)
                    if failures < self.options.retries
                        && is_passing(&error)
                        && (failures > 0 || !nobody_listens(&error)) =>
                {
                    let pause = wait(self.options.retry_wait, failures);
                    tell_pause(&error, pause);
                    tokio::time::sleep(pause).await;
                    failures += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn ask(&self, target: &Target, headers: &HeaderMap, from: u64) -> Result<Asked, EndpointError> {
        let mut asked = headers.clone();
        if from > 0 {
            asked.insert(RANGE, from_offset(from));
        }
        let underway = self.send(Method::GET, &target.uri, asked, Body::empty());
        let answer = answer(underway, &target.uri, self.options.answer_timeout).await?;
        let status = answer.status();
        let location = answer
            .headers()
            .get(LOCATION)
            .and_then(|location| location.to_str().ok());
        match (status, location) {
            (
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT,
                Some(location),
            ) => Ok(Asked::Elsewhere(location.to_owned())),
            _ if status.is_success() => Ok(Asked::Answer(Box::new(answer))),
            (StatusCode::RANGE_NOT_SATISFIABLE, _) if from > 0 => {
                self.ask_for_the_end(target, headers.clone(), from).await
            }
            _ => Err(refused(&target.uri, status)),
        }
    }

    /// No byte follows the offset: is it the end?
    async fn ask_for_the_end(
        &self,
        target: &Target,
        headers: HeaderMap,
        from: u64,
    ) -> Result<Asked, EndpointError> {
        let underway = self.send(Method::HEAD, &target.uri, headers, Body::empty());
        let answer = answer(underway, &target.uri, self.options.answer_timeout).await?;
        let length = answer
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        match length.filter(|_| answer.status().is_success()) {
            Some(length) if length == from => Ok(Asked::NoMore(Box::new(answer))),
            Some(length) => {
                let what = format!(
                    "{} has {length} bytes, not the {from} to go on behind",
                    target.uri
                );
                Err(EndpointError::new(ErrorKind::Mismatch, Blame::Peer, what))
            }
            None => Err(refused(&target.uri, StatusCode::RANGE_NOT_SATISFIABLE)),
        }
    }

    fn nothing_left(
        &self,
        target: Target,
        headers: HeaderMap,
        answer: &Response<Incoming>,
        from: u64,
    ) -> GetSource {
        GetSource {
            client: self.clone(),
            target,
            version: Validators::of_answer(answer.headers()),
            changed: changed(answer.headers()),
            size: Some(from),
            at: from,
            failures: 0,
            state: State::Ended,
            headers,
        }
    }

    fn source(
        &self,
        target: Target,
        headers: HeaderMap,
        answer: Response<Incoming>,
        from: u64,
    ) -> Result<GetSource, EndpointError> {
        let version = Validators::of_answer(answer.headers());
        let changed = changed(answer.headers());
        let part = part_of(answer.headers());
        let partial = answer.status() == StatusCode::PARTIAL_CONTENT;
        if from > 0 && !(partial && part.is_some_and(|(start, _)| start == from)) {
            let what = format!("{} does not serve from an offset", host(&target.uri));
            return Err(EndpointError::new(ErrorKind::Open, Blame::Peer, what));
        }
        let arriving = self.body(&target, answer);
        let size = if partial {
            part.and_then(|(_, size)| size)
        } else {
            arriving.body.announced()
        };
        Ok(GetSource {
            client: self.clone(),
            target,
            version,
            changed,
            size,
            at: from,
            failures: 0,
            state: State::Body(Box::new(arriving)),
            headers,
        })
    }

    fn body(&self, target: &Target, answer: Response<Incoming>) -> Arriving {
        let name = target.uri.to_string();
        let about = answer.extensions().get::<About>();
        let version = answer.version();
        Arriving {
            lookout: about.map(|about| about.lookout.clone()),
            watch: None,
            body: IncomingBody::new(answer.into_body(), u64::MAX, self.options.stall_timeout, name)
                .over(version),
        }
    }
}

enum Asked {
    Answer(Box<Response<Incoming>>),
    /// The offset is the end. The answer has no body.
    NoMore(Box<Response<Incoming>>),
    Elsewhere(String),
}

impl GetSource {
    /// The version that is being downloaded, as the server names it.
    pub fn version(&self) -> &Validators {
        &self.version
    }

    /// When it was last changed, by the server's clock and in whole seconds, where the server told.
    pub fn changed(&self) -> Option<SystemTime> {
        self.changed
    }

    /// The size of the whole, where the server told.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// What names the version to go on with after a failure that may pass, if it is possible and allowed to go on.
    fn resumable(&self) -> Option<HeaderValue> {
        let again = self.failures < self.client.options.retries;
        again.then(|| self.version.if_range()).flatten()
    }

    /// Takes a failure: goes on where it was cut, if that can be.
    fn cut(&mut self, error: EndpointError) {
        let Some(if_range) = self.resumable().filter(|_| is_passing(&error)) else {
            self.state = State::Failed(error);
            return;
        };
        let pause = wait(self.client.options.retry_wait, self.failures);
        tell_pause(&error, pause);
        self.failures += 1;
        let resume = Resume {
            client: self.client.clone(),
            target: self.target.clone(),
            headers: self.headers.clone(),
            if_range,
            at: self.at,
            size: self.size,
        };
        self.state = State::Resuming(Box::pin(async move {
            tokio::time::sleep(pause).await;
            resume.run().await
        }));
    }
}

/// One attempt to go on from an offset.
struct Resume {
    client: Client,
    target: Target,
    headers: HeaderMap,
    if_range: HeaderValue,
    at: u64,
    size: Option<u64>,
}

impl Resume {
    async fn run(mut self) -> Result<Arriving, EndpointError> {
        if self.at > 0 {
            self.headers.insert(RANGE, from_offset(self.at));
            self.headers.insert(IF_RANGE, self.if_range.clone());
        }
        let uri = &self.target.uri;
        let underway = self
            .client
            .send(Method::GET, uri, self.headers.clone(), Body::empty());
        let answer = answer(underway, uri, self.client.options.answer_timeout).await?;
        let changed = || {
            let what = format!("{uri} changed while it was being fetched");
            EndpointError::new(ErrorKind::Mismatch, Blame::Peer, what)
        };
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let same_version = match Validators::of_answer(answer.headers()).if_range() {
                    Some(version) => version == self.if_range,
                    None => true, // a 206 need not repeat them; If-Range held the server to its word
                };
                let same_place = part_of(answer.headers()).is_some_and(|(start, size)| {
                    start == self.at && (size.is_none() || self.size.is_none() || size == self.size)
                });
                if !same_version || !same_place {
                    return Err(changed());
                }
                Ok(self.client.body(&self.target, answer))
            }
            StatusCode::OK if self.at == 0 => {
                if Validators::of_answer(answer.headers())
                    .if_range()
                    .is_some_and(|version| version != self.if_range)
                {
                    return Err(changed());
                }
                Ok(self.client.body(&self.target, answer))
            }
            StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE => Err(changed()),
            status => Err(refused(uri, status)),
        }
    }
}

fn changed(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(LAST_MODIFIED)?.to_str().ok()?).ok()
}

fn from_offset(offset: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("bytes={offset}-"))
        .unwrap_or_else(|_| HeaderValue::from_static("bytes=0-"))
}

/// The start of a partial answer, and the size of the whole where it is told.
fn part_of(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    parse_content_range(value).map(|(part, size)| (part.start, size))
}

/// Whether trying again may help.
fn is_passing(error: &EndpointError) -> bool {
    // Neither does a certificate get better, nor does a server learn HTTP.
    if cause::<rustls::Error>(error).is_some()
        || cause::<hyper::Error>(error).is_some_and(hyper::Error::is_parse)
    {
        return false;
    }
    match error.kind {
        ErrorKind::Truncated | ErrorKind::TimedOut | ErrorKind::BrokenPipe => true,
        ErrorKind::Failed | ErrorKind::Open => error.blame == Blame::Peer,
        _ => false,
    }
}

/// Where nobody listens at first, nobody is expected to in a moment either.
fn nobody_listens(error: &EndpointError) -> bool {
    cause::<io::Error>(error).is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn cause<T: std::error::Error + 'static>(error: &EndpointError) -> Option<&T> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// A pause that people notice is told to everybody, a shorter one to who wants to know much.
fn tell_pause(error: &EndpointError, pause: Duration) {
    if pause < Duration::from_secs(1) {
        tracing::info!("{error}; trying again");
    } else {
        tracing::warn!("{error}; trying again in {} s", pause.as_secs_f32());
    }
}

fn wait(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.min(16)).min(RETRY_WAIT_MAX)
}

impl Source for GetSource {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, EndpointError>> {
        loop {
            match &mut self.state {
                State::Ended => return Poll::Ready(Ok(None)),
                State::Failed(error) => return Poll::Ready(Err(error.clone())),
                State::Body(arriving) => match ready!(arriving.body.poll_read(cx, buffers, max)) {
                    Ok(Some(bytes)) => {
                        self.at += bytes.len() as u64;
                        self.failures = 0;
                        return Poll::Ready(Ok(Some(bytes)));
                    }
                    Ok(None) if self.size.is_some_and(|size| self.at < size) => {
                        let what = format!("{} ended after {} bytes", self.target.uri, self.at);
                        self.cut(EndpointError::new(ErrorKind::Truncated, Blame::Peer, what));
                    }
                    Ok(None) => self.state = State::Ended,
                    Err(error) => self.cut(error),
                },
                State::Resuming(resuming) => match ready!(resuming.as_mut().poll(cx)) {
                    Ok(arriving) => self.state = State::Body(Box::new(arriving)),
                    Err(error) => self.cut(error),
                },
            }
        }
    }

    /// A reset of the connection. A download that can be resumed does not mind: it resumes when it is read on.
    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<EndpointError> {
        if self.resumable().is_some() {
            return Poll::Pending;
        }
        let State::Body(arriving) = &mut self.state else {
            return Poll::Pending;
        };
        if arriving.watch.is_none() {
            arriving.watch = arriving.lookout.take().and_then(|lookout| lookout.watch());
        }
        let Some(watch) = &mut arriving.watch else {
            return Poll::Pending;
        };
        ready!(watch.as_mut().poll(cx));
        arriving.watch = None;
        let what = format!("{} was reset after {} bytes", self.target.uri, self.at);
        Poll::Ready(EndpointError::new(ErrorKind::Truncated, Blame::Peer, what))
    }

    fn size_hint(&self) -> Option<u64> {
        Some(self.size?.saturating_sub(self.at))
    }

    fn name(&self) -> String {
        self.target.uri.to_string()
    }
}
