//! How many descriptors this process may have.
//!
//! Knows nothing of what they are for.

/// Raises the soft descriptor limit to the hard one and says what it is.
#[cfg(unix)]
pub(crate) fn raise_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() {
        limit.maximum
    } else {
        limit.current
    };
    now.unwrap_or(1 << 20)
}

/// There is no such limit here.
#[cfg(not(unix))]
pub(crate) fn raise_limit() -> u64 {
    1 << 16
}
