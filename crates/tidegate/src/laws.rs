//! The laws as a suite that any consumer can be put through: a technology compatibility kit. (feature `laws`)
//!
//! Knows no consumer. What it needs to know of one, a [`Harness`] tells: how to make a fresh one with given marks, and
//! how to play its device. Everything else is done through the public traits.
//!
//! [`law_suite!`](crate::law_suite) expands to one `#[test]` for each law, so that a report names the law that broke.
//! Each law is also a plain function that panics when it is broken, and [`ALL`] has all sixteen.
//!
//! # A consumer of your own
//!
//! This one is a [`Stage`](crate::Stage) with a lower half of its own; one made from nothing is asked in the same way.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use bytes::Bytes;
//! use tidegate::laws::{self, Control, Device, FarEnd, Harness, Subject};
//! use tidegate::{
//!     AbortReason, Accepted, Below, BelowPause, Delivered, Finished, Marks, Outcome, Stage, StageHandle, StopReason,
//! };
//!
//! /// What is to be tested: bytes are put on a shelf, as many as there is room for.
//! struct Shelver(Arc<Mutex<Shelf>>);
//! struct Shelf { room: usize, bytes: Vec<u8>, end: FarEnd }
//! impl Below for Shelver {
//!     fn accept(&self, held: &[Bytes]) -> Accepted {
//!         let mut shelf = self.0.lock().unwrap();
//!         let taken = held[0].len().min(shelf.room);
//!         if taken == 0 {
//!             return Accepted::Wait;
//!         }
//!         shelf.room -= taken;
//!         shelf.bytes.extend_from_slice(&held[0][..taken]);
//!         Accepted::Took(taken)
//!     }
//!     fn finish(&self) -> Finished {
//!         self.0.lock().unwrap().end = FarEnd::Finished;
//!         Finished::Done
//!     }
//!     fn abort(&self, _: AbortReason) {
//!         self.0.lock().unwrap().end = FarEnd::Cut;
//!     }
//! }
//!
//! /// How to make one: a fresh one for each question.
//! struct Shelves;
//! impl Harness for Shelves {
//!     fn make(&self, marks: Marks) -> Subject {
//!         let shelf = Shelf { room: 0, bytes: Vec::new(), end: FarEnd::Open };
//!         let shelf = Arc::new(Mutex::new(shelf));
//!         let stage = Stage::new(marks, BelowPause::Buffer, |_| Shelver(shelf.clone()));
//!         let (handle, outcome) = (stage.handle(), stage.outcome());
//!         let device = Box::new(ShelfDevice { shelf, handle, outcome });
//!         Subject { consumer: Arc::new(stage), device }
//!     }
//!     fn control(&self) -> Control {
//!         Control::Exact // `allow` is obeyed to the byte
//!     }
//!     fn name(&self) -> &'static str {
//!         "shelver"
//!     }
//! }
//!
//! /// How to play what is behind it. It keeps no handle that would keep the write end alive.
//! struct ShelfDevice { shelf: Arc<Mutex<Shelf>>, handle: StageHandle, outcome: Outcome }
//! impl Device for ShelfDevice {
//!     fn allow(&mut self, bytes: usize) {
//!         let mut shelf = self.shelf.lock().unwrap();
//!         shelf.room = shelf.room.saturating_add(bytes);
//!     }
//!     fn turn(&mut self) {
//!         self.handle.poke();
//!     }
//!     fn output(&mut self) -> Vec<u8> {
//!         self.shelf.lock().unwrap().bytes.clone()
//!     }
//!     fn kill(&mut self) {
//!         self.handle.close(StopReason::Failed(Arc::new(std::io::Error::other("the shelf broke"))));
//!     }
//!     fn end(&mut self) -> FarEnd {
//!         self.shelf.lock().unwrap().end
//!     }
//!     fn outcome(&mut self) -> Option<Result<Delivered, StopReason>> {
//!         self.outcome.now()
//!     }
//! }
//!
//! // In a test: `tidegate::law_suite!(shelver, Shelves);`. Here, one after the other:
//! for (name, law) in laws::ALL {
//!     println!("{name}");
//!     law(&Shelves);
//! }
//! ```
//!
//! # How it asks
//!
//! Nothing waits for a time. A law says what must come to be and gives the device [`turn`](Device::turn)s until it has,
//! at most [`turns_max`](Harness::turns_max); to see that nothing happens it gives a few turns and looks again. A device
//! over a real socket lets its runtime run a little in each turn.
//!
//! What a device cannot do ([`Control`]) is not asked of it; the part of the law that was not shown is printed to stderr
//! as `NOT-SHOWN: <consumer>: <law>: <why>`.
//!
//! Flows (one source, one sink, one task) have no registered producer. Of the laws 1, 2, 9, 10, 11, 13 and 15 speak of
//! flows too: `tidegate_io::laws::flow` asks them, with the driver crate's `Source` and `Sink`.

mod ends;
mod held;
mod recorder;
mod registrations;
mod run;
mod signals;

use std::sync::Arc;

use crate::{Delivered, FinishableConsumer, Marks, StopReason};

pub use self::ends::{
    law_09_closing_waits, law_10_reasons_travel, law_11_a_pause_is_not_blind,
    law_14_panics_end_one_registration, law_15_outcome,
};
pub use self::held::{law_01_order, law_02_bound, law_13_no_spin_no_stall};
pub use self::registrations::{
    law_05_stop_is_last, law_06_second_registration, law_12_registrations_are_separate, law_16_no_leaks,
};
pub use self::signals::{law_03_pause_once, law_04_one_chunk_per_pull, law_07_reentrancy, law_08_threads};

/// How to make the consumer under test.
pub trait Harness {
    /// A fresh consumer with these marks, and its device, which accepts nothing yet if it can be kept from it.
    fn make(&self, marks: Marks) -> Subject;

    /// How well the device can be told when to accept bytes.
    fn control(&self) -> Control;

    /// How many bytes a blocked device swallows all the same (kernel buffers). Only for [`Control::Coarse`].
    fn slack(&self) -> usize {
        0
    }

    /// How many turns a law waits for what must come to be.
    fn turns_max(&self) -> usize {
        10_000
    }

    /// A name for messages.
    fn name(&self) -> &'static str;
}

/// What can be asked of a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Control {
    /// [`Device::allow`] is obeyed to the byte.
    Exact,
    /// Anything above zero means all, zero means that it sooner or later blocks.
    Coarse,
    /// It always accepts everything.
    Open,
}

/// A consumer under test.
pub struct Subject {
    /// The write end; the last handle of it, so that dropping it drops the write end.
    pub consumer: Arc<dyn FinishableConsumer>,
    /// What is behind it.
    pub device: Box<dyn Device>,
}

/// The far side of a consumer, as far as a test plays it.
pub trait Device {
    /// Accept so many bytes more; `usize::MAX` for all that come.
    fn allow(&mut self, bytes: usize);

    /// Lets happen a bounded part of what can happen. Called from the thread of the test.
    fn turn(&mut self);

    /// All bytes that came out so far.
    fn output(&mut self) -> Vec<u8>;

    /// Fails, as hard as this kind of device can.
    fn kill(&mut self);

    /// How the stream looks from the far side.
    fn end(&mut self) -> FarEnd;

    /// What the consumer's outcome says by now.
    fn outcome(&mut self) -> Option<Result<Delivered, StopReason>>;
}

/// How a stream looks from the far side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FarEnd {
    /// Not ended.
    Open,
    /// Complete.
    Finished,
    /// Visibly cut short.
    Cut,
}

/// One `#[test]` a law for a harness: `law_suite!(name_of_module, harness)`.
#[macro_export]
macro_rules! law_suite {
    ($name:ident, $harness:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::law_suite!(@each $harness;
                law_01_order law_02_bound law_03_pause_once law_04_one_chunk_per_pull law_05_stop_is_last
                law_06_second_registration law_07_reentrancy law_08_threads law_09_closing_waits
                law_10_reasons_travel law_11_a_pause_is_not_blind law_12_registrations_are_separate
                law_13_no_spin_no_stall law_14_panics_end_one_registration law_15_outcome law_16_no_leaks);
        }
    };
    (@each $harness:expr; $($law:ident)*) => {
        $(
            #[test]
            fn $law() {
                $crate::laws::$law(&$harness);
            }
        )*
    };
}

/// A law: a function that panics when a consumer breaks it.
pub type Law = fn(&dyn Harness);

macro_rules! named {
    ($($law:ident)*) => {
        [$((stringify!($law), $law as Law)),*]
    };
}

/// Every law, with its name, in order.
pub const ALL: [(&str, Law); 16] = named!(
    law_01_order law_02_bound law_03_pause_once law_04_one_chunk_per_pull law_05_stop_is_last
    law_06_second_registration law_07_reentrancy law_08_threads law_09_closing_waits law_10_reasons_travel
    law_11_a_pause_is_not_blind law_12_registrations_are_separate law_13_no_spin_no_stall
    law_14_panics_end_one_registration law_15_outcome law_16_no_leaks
);
