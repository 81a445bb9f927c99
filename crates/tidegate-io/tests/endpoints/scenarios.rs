//! Over which descriptors the scenarios of the house are played. Knows none of the scenarios.

use crate::cases::{Cut, over, over_descriptors};
use crate::laws;

/// Enough that nothing waits for the kernel's timers.
const BUFFER_BYTES: usize = 256 * 1024;

over_descriptors! {
    the_scenarios_hold_over_tcp_connected: over("tcp, connected", Cut::Shown, laws::tcp_connected::<BUFFER_BYTES>);
    the_scenarios_hold_over_tcp_accepted: over("tcp, accepted", Cut::Shown, laws::tcp_accepted::<BUFFER_BYTES>);
    the_scenarios_hold_over_a_unix_socket: over("unix", Cut::NotShown, laws::unix_connected::<BUFFER_BYTES>);
    the_scenarios_hold_over_a_fifo: over("pipe", Cut::NotShown, laws::fifo::<BUFFER_BYTES>);
    the_scenarios_hold_over_an_inherited_pipe: over("fd, pipe", Cut::NotShown, laws::adopted_pipe::<BUFFER_BYTES>);
    the_scenarios_hold_over_an_inherited_socket: over("fd, socket", Cut::NotShown, laws::adopted_socket::<BUFFER_BYTES>);
    the_scenarios_hold_over_a_child: over("process", Cut::Shown, laws::child);
}

#[cfg(feature = "tls")]
over_descriptors! {
    the_scenarios_hold_over_tls_as_client: over("tls, client", Cut::Shown, laws::tls_client::<BUFFER_BYTES>);
    the_scenarios_hold_over_tls_as_server: over("tls, server", Cut::Shown, laws::tls_server::<BUFFER_BYTES>);
}
