//! The stand-in where the kernel offers no lanes: everything is copied.
//!
//! Knows the shape of `lane` and does nothing.

use std::io;
use std::task::{Context, Poll};

use crate::{Lane, LaneChoice, LaneKind, Sink, Source};

#[derive(Debug, Default)]
pub(crate) struct Kernel {}

#[derive(Debug)]
#[allow(dead_code, reason = "the steps of lanes that other systems have")]
pub(crate) enum Step {
    In(usize),
    Across(usize),
    SourceWaits,
    SinkWaits,
    Works,
    CopyOnce,
    Refused,
}

pub(crate) fn choose(_: LaneChoice, _: LaneKind, _: LaneKind) -> Option<Lane> {
    None
}

impl Kernel {
    pub(crate) fn is_chosen(&mut self, _: LaneChoice, _: &dyn Source, _: &dyn Sink, _: u64) -> bool {
        false
    }

    pub(crate) fn lane(&self) -> Lane {
        Lane::Copy
    }

    pub(crate) fn held(&self) -> usize {
        0
    }

    pub(crate) fn poll_step(
        &mut self,
        _: &mut Context<'_>,
        _: &mut dyn Source,
        _: &mut dyn Sink,
        _: usize,
    ) -> Step {
        Step::Refused
    }

    pub(crate) fn poll_out(&mut self, _: &mut Context<'_>, _: &mut dyn Sink) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }

    pub(crate) fn take_back(&mut self) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    pub(crate) fn rest(&mut self) {}
}
