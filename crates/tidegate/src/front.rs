//! Hands the front of what is held to a consumer, at most so many bytes of it.
//!
//! Knows nothing of why there is a limit: the pull side of a proxy, the shaper and the throttle each have their own.

use bytes::Bytes;

use crate::{Accepted, Consumer, Refusal};

/// Offers up to `bytes_max` (at least 1) from the front of `held`, as one write.
pub(crate) fn pass(consumer: &dyn Consumer, held: &[Bytes], bytes_max: usize) -> Accepted {
    let first = held[0].slice(..held[0].len().min(bytes_max));
    if held.len() > 1 && first.len() < bytes_max {
        let pieces = cut(held, bytes_max);
        let bytes = pieces.iter().map(Bytes::len).sum();
        match consumer.write_list(pieces) {
            Ok(_) => return Accepted::Took(bytes),
            // Too much at once; perhaps the first piece alone is not.
            Err(error) if matches!(error.refusal, Refusal::OverMax { .. }) => {}
            Err(error) => return Accepted::Fail(error.refusal.into_stop()),
        }
    }
    let bytes = first.len();
    match consumer.write(first) {
        Ok(_) => Accepted::Took(bytes),
        Err(error) if matches!(error.refusal, Refusal::OverMax { .. }) => Accepted::Wait,
        Err(error) => Accepted::Fail(error.refusal.into_stop()),
    }
}

/// Bytes in all of `held`.
pub(crate) fn total(held: &[Bytes]) -> usize {
    held.iter().map(Bytes::len).sum()
}

fn cut(held: &[Bytes], bytes_max: usize) -> Vec<Bytes> {
    let mut left = bytes_max;
    let mut pieces = Vec::with_capacity(held.len());
    for piece in held {
        if left == 0 {
            break;
        }
        let bytes = piece.len().min(left);
        pieces.push(piece.slice(..bytes));
        left -= bytes;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_takes_the_front_in_order_and_nothing_empty() {
        let held = ["ab", "cd", "ef"].map(|text| Bytes::from_static(text.as_bytes()));
        let cut = |bytes_max| cut(&held, bytes_max).concat();
        assert_eq!(
            (cut(2), cut(3), cut(100)),
            (b"ab".to_vec(), b"abc".to_vec(), b"abcdef".to_vec())
        );
        assert_eq!(super::cut(&held, 4).len(), 2);
        assert_eq!(total(&held), 6);
    }
}
