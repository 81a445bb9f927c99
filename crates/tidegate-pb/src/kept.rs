//! Calls that wait, in their order, until the peer takes the answers it is owed.
//!
//! While they wait the connection goes on reading, for what comes behind them may be the answers this end waits for:
//! two peers that both ask much and answer much would otherwise stand still for ever. Knows nothing of sockets; the bound
//! is on memory.

use std::collections::VecDeque;

use crate::banana::Expr;

/// How much is kept before the connection stops reading.
pub(crate) const KEPT_BYTES: usize = 2 * 1024 * 1024;

/// See the module's page.
#[derive(Default)]
pub(crate) struct Kept {
    messages: VecDeque<(Expr, usize)>,
    bytes: usize,
}

impl Kept {
    /// Keeps one for later.
    pub(crate) fn push(&mut self, message: Expr) {
        let bytes = weight(&message);
        self.bytes += bytes;
        self.messages.push_back((message, bytes));
    }

    /// The one that came first.
    pub(crate) fn pop(&mut self) -> Option<Expr> {
        let (message, bytes) = self.messages.pop_front()?;
        self.bytes -= bytes;
        Some(message)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether no more is to be read.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > KEPT_BYTES
    }
}

/// What an expression takes in memory, about.
fn weight(expr: &Expr) -> usize {
    let inner = match expr {
        Expr::Int(_) | Expr::Float(_) => 0,
        Expr::Bytes(bytes) => bytes.len(),
        Expr::List(items) => items.iter().map(weight).sum(),
    };
    size_of::<Expr>() + inner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_in_order_and_its_weight_with_it() {
        let mut kept = Kept::default();
        let long = |byte: u8| Expr::List(vec![Expr::Bytes(vec![byte; KEPT_BYTES / 2].into()), Expr::int(1)]);
        kept.push(long(1));
        assert!(!kept.is_full());
        kept.push(long(2));
        assert!(kept.is_full());
        assert_eq!(kept.pop(), Some(long(1)));
        assert!(!kept.is_full());
        assert_eq!((kept.pop(), kept.pop()), (Some(long(2)), None));
        assert_eq!(kept.bytes, 0);
        assert!(kept.is_empty());
    }
}
