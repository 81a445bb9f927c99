//! The scenarios of the house over what is Windows' own: named pipes, a child, standard output; and over TCP.
//!
//! Knows none of the scenarios. A process that has gone is noticed by standard output with its next write, and wine's own
//! peers cannot reset a connection: over these two, scenarios in which the device dies are left out or are a test apart.

use crate::cases::{Cut, Over, fits, over, over_descriptors, play_those};
use crate::laws;
use crate::script::{Action, Case};

/// Enough that nothing waits for the system's timers.
const BUFFER_BYTES: usize = 256 * 1024;

over_descriptors! {
    the_scenarios_hold_over_a_named_pipe_accepted: over("npipe, accepted", Cut::Shown, laws::pipe_accepted);
    the_scenarios_hold_over_a_named_pipe_connected: over("npipe, connected", Cut::NotShown, laws::pipe_connected);
    the_scenarios_hold_over_a_child: over("process", Cut::Shown, laws::process);
    the_scenarios_hold_over_tcp_connected: over("tcp, connected", Cut::Shown, laws::tcp_connected::<BUFFER_BYTES>);
    the_scenarios_hold_over_tcp_accepted: over("tcp, accepted", Cut::Shown, laws::tcp_accepted::<BUFFER_BYTES>);
}

/// Plays those in which nothing dies, over what cannot show an abort either.
fn play_without_deaths(over: &Over) {
    let kills = |action: &Action| matches!(action, Action::Kill);
    play_those(over, |case: &Case| {
        let mut steps = case.steps.iter().flat_map(|step| &step.actions);
        let handlers = case.producers.iter().flat_map(|player| &player.handlers);
        let mut handled = handlers.flat_map(|handler| &handler.actions);
        fits(case) && !steps.any(kills) && !handled.any(kills)
    });
}

#[test]
fn the_scenarios_without_a_death_hold_over_tcp() {
    play_without_deaths(&over(
        "tcp, connected",
        Cut::NotShown,
        laws::tcp_connected::<BUFFER_BYTES>,
    ));
    play_without_deaths(&over(
        "tcp, accepted",
        Cut::NotShown,
        laws::tcp_accepted::<BUFFER_BYTES>,
    ));
}

#[test]
fn the_scenarios_without_a_death_hold_over_standard_output() {
    play_without_deaths(&over("stdout", Cut::NotShown, laws::standard_output));
}
