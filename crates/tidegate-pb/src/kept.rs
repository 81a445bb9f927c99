//! Calls that wait, in their order, until the peer takes the answers it is owed.
//!
//! While they wait the connection goes on reading, for what comes behind them may be the answers this end waits for:
//! two peers that both ask much and answer much would otherwise stand still for ever. The bound is
//! on memory, and a gate's. Knows nothing of sockets.

use std::collections::VecDeque;

use tidegate::{Gate, HoldReason, Marks};

use crate::banana::Expr;

/// Above this the connection stops reading, at or below it goes on.
const MARKS: Marks = match Marks::new(2 * 1024 * 1024, 2 * 1024 * 1024) {
    Ok(marks) => marks,
    Err(_) => panic!("the low mark is no higher than the high one"),
};

/// See the module's page.
pub(crate) struct Kept {
    messages: VecDeque<(Expr, usize)>,
    gate: Gate,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            gate: Gate::new(MARKS),
        }
    }
}

impl Kept {
    /// Keeps one for later.
    pub(crate) fn push(&mut self, message: Expr) {
        let bytes = weight(&message);
        self.gate.wrote(bytes);
        self.messages.push_back((message, bytes));
    }

    /// The one that came first.
    pub(crate) fn pop(&mut self) -> Option<Expr> {
        let (message, bytes) = self.messages.pop_front()?;
        self.gate.drained(bytes);
        Some(message)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether no more is to be read.
    pub(crate) fn is_full(&self) -> bool {
        self.gate.is_held_by(HoldReason::Full)
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
        let long = |byte: u8| {
            Expr::List(vec![
                Expr::Bytes(vec![byte; MARKS.high() / 2].into()),
                Expr::int(1),
            ])
        };
        kept.push(long(1));
        assert!(!kept.is_full());
        kept.push(long(2));
        assert!(kept.is_full());
        assert_eq!(kept.pop(), Some(long(1)));
        assert!(!kept.is_full());
        assert_eq!((kept.pop(), kept.pop()), (Some(long(2)), None));
        assert_eq!(kept.gate.held(), 0);
        assert!(kept.is_empty());
    }
}
