//! Consumers that pass a pause from below straight up.
//!
//! Over a closed dam such a consumer is on hold before anybody comes, and a newcomer is not signalled as one at rest
//! would be: the first pull of a registration waits for holds. The three laws that begin with a first signal are
//! therefore asked over an open dam; all others over a closed one. A test holds that it is these three and no others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tidegate::laws::{self, Harness};
use tidegate::{ConsumerProtocol, ProtocolConsumer, proxy};

use crate::dam::Dam;
use crate::over_dam::{Begins, Make, OverDam};
use crate::protocols::{Listened, transport_of_a_protocol_consumer};

fn basic_proxy(begins: Begins) -> OverDam {
    let make: Make = |dam, marks| {
        let proxy = proxy::basic(dam, marks).unwrap();
        let outcome = proxy.outcome();
        (Arc::new(proxy), outcome)
    };
    let name = "basic proxy";
    OverDam { name, make, begins }
}

/// Written to a protocol that writes what it receives to the dam.
fn both_adapters(begins: Begins) -> OverDam {
    let make: Make = |dam, marks| {
        let protocol = Arc::new(ConsumerProtocol::new(dam));
        let consumer = ProtocolConsumer::new(protocol, Arc::new(Dam::open()), marks).unwrap();
        let outcome = consumer.outcome();
        (Arc::new(consumer), outcome)
    };
    let name = "adapters both ways";
    OverDam { name, make, begins }
}

/// What a protocol behind a consumer writes to; the dam takes its answers.
fn answers(begins: Begins) -> OverDam {
    let make: Make = transport_of_a_protocol_consumer;
    let name = "answers of a protocol consumer";
    OverDam { name, make, begins }
}

macro_rules! relaying_suite {
    ($name:ident, $rig:expr) => {
        mod $name {
            use super::*;

            tidegate::law_suite!(@each $rig(Begins::Closed);
                law_01_order law_02_bound law_03_pause_once law_05_stop_is_last law_07_reentrancy law_08_threads
                law_09_closing_waits law_10_reasons_travel law_11_a_pause_is_not_blind
                law_12_registrations_are_separate law_13_no_spin_no_stall law_15_outcome law_16_no_leaks);
            tidegate::law_suite!(@each $rig(Begins::Open);
                law_04_one_chunk_per_pull law_06_second_registration law_14_panics_end_one_registration);

            #[test]
            fn only_laws_that_begin_with_a_signal_need_an_open_start() {
                let failing = laws_that_need_an_open_start(&$rig(Begins::Closed));
                assert_eq!(failing, ["law_04", "law_06", "law_14"]);
            }
        }
    };
}

relaying_suite!(basic_proxy_suite, basic_proxy);
relaying_suite!(protocol_consumer, Listened);
relaying_suite!(adapters_both_ways, both_adapters);
relaying_suite!(answers_of_a_protocol_consumer, answers);

fn laws_that_need_an_open_start(closed: &dyn Harness) -> Vec<&'static str> {
    let fails = |law: laws::Law| catch_unwind(AssertUnwindSafe(|| law(closed))).is_err();
    let failing = laws::ALL.into_iter().filter(|(_, law)| fails(*law));
    failing.map(|(name, _)| &name[..6]).collect()
}
