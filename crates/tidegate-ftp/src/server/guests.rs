//! How many connections there are, in all and by address.
//!
//! Knows nothing of what they do.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::Limits;

/// The count of connections.
#[derive(Debug)]
pub(crate) struct Guests {
    counts: Arc<Mutex<Counts>>,
    connections_max: usize,
    per_address_max: usize,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    counts: Arc<Mutex<Counts>>,
    address: IpAddr,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refused {
    TooMany,
    TooManyFromAddress,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany => "Too many connections; try again later",
            Self::TooManyFromAddress => "Too many connections from your address; try again later",
        })
    }
}

impl Guests {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            counts: Arc::default(),
            connections_max: limits.connections_max,
            per_address_max: limits.connections_per_address_max,
        }
    }

    pub(crate) fn admit(&self, address: IpAddr) -> Result<Seat, Refused> {
        let address = address.to_canonical();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.all >= self.connections_max {
            return Err(Refused::TooMany);
        }
        if counts.by_address.get(&address).copied().unwrap_or(0) >= self.per_address_max {
            return Err(Refused::TooManyFromAddress);
        }
        counts.all += 1;
        *counts.by_address.entry(address).or_insert(0) += 1;
        Ok(Seat {
            counts: Arc::clone(&self.counts),
            address,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn seats_are_counted_in_all_and_by_address_and_given_back() {
        let limits = Limits {
            connections_max: 3,
            connections_per_address_max: 2,
            ..Limits::default()
        };
        let guests = Guests::new(&limits);
        let (here, there) = ("127.0.0.1".parse().unwrap(), "::1".parse().unwrap());
        let mapped = "::ffff:127.0.0.1".parse().unwrap();
        let first = guests.admit(here).unwrap();
        let _second = guests.admit(mapped).unwrap();
        assert_eq!(guests.admit(here).unwrap_err(), Refused::TooManyFromAddress);
        let third = guests.admit(there).unwrap();
        assert_eq!(guests.admit(there).unwrap_err(), Refused::TooMany);
        drop((first, third));
        let _again = guests.admit(here).unwrap();
        assert_eq!(
            guests.counts.lock().unwrap().by_address.len(),
            1,
            "an address without connections is forgotten"
        );
    }
}
