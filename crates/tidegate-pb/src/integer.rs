//! Whole numbers of any size, as banana carries them: a sign and base-128 digits.
//!
//! Knows nothing of type bytes or limits, and does no arithmetic beyond what showing a number needs.

use std::fmt;

/// A whole number. Small ones are an `i64`; the rest keep their digits.
///
/// ```
/// use tidegate_pb::Integer;
/// assert_eq!(Integer::from(-300).to_i64(), Some(-300));
/// assert_eq!(Integer::from_digits(tidegate_pb::Sign::Plus, &[0; 9]), Integer::from(0));
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Integer(Repr);

/// Which side of zero.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Sign {
    /// Zero or more.
    Plus,
    /// Less than zero.
    Minus,
}

/// `Big` holds only what `i64` cannot, without leading zeros, so that equal numbers are equal values.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Repr {
    Small(i64),
    Big(Sign, Vec<u8>),
}

impl Integer {
    /// A number from its base-128 digits, least significant first. Leading (that is: last) zeros do no harm.
    pub fn from_digits(sign: Sign, digits: &[u8]) -> Self {
        let significant = digits
            .iter()
            .rposition(|digit| *digit != 0)
            .map_or(0, |last| last + 1);
        let digits = &digits[..significant];
        if digits.len() <= 10 {
            let magnitude = digits
                .iter()
                .rev()
                .fold(0i128, |sum, digit| sum << 7 | i128::from(*digit));
            let value = if sign == Sign::Minus {
                -magnitude
            } else {
                magnitude
            };
            if let Ok(small) = i64::try_from(value) {
                return Self(Repr::Small(small));
            }
        }
        Self(Repr::Big(sign, digits.to_vec()))
    }

    /// The sign and the base-128 digits, least significant first; none for zero.
    pub fn digits(&self) -> (Sign, Vec<u8>) {
        match &self.0 {
            Repr::Small(small) => {
                let sign = if *small < 0 { Sign::Minus } else { Sign::Plus };
                let mut rest = small.unsigned_abs();
                let mut digits = Vec::with_capacity(10);
                while rest != 0 {
                    digits.push((rest & 0x7f) as u8);
                    rest >>= 7;
                }
                (sign, digits)
            }
            Repr::Big(sign, digits) => (*sign, digits.clone()),
        }
    }

    /// The number as an `i64`, if it fits.
    pub fn to_i64(&self) -> Option<i64> {
        match &self.0 {
            Repr::Small(small) => Some(*small),
            Repr::Big(..) => None,
        }
    }
}

impl From<i64> for Integer {
    fn from(small: i64) -> Self {
        Self(Repr::Small(small))
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, digits) = match &self.0 {
            Repr::Small(small) => return small.fmt(f),
            Repr::Big(sign, digits) => (sign, digits),
        };
        // Base 10^9 groups, least significant first.
        let mut groups: Vec<u64> = vec![0];
        for digit in digits.iter().rev() {
            let mut carry = u64::from(*digit);
            for group in &mut groups {
                let sum = *group * 128 + carry;
                *group = sum % 1_000_000_000;
                carry = sum / 1_000_000_000;
            }
            if carry > 0 {
                groups.push(carry);
            }
        }
        let mut text = groups.pop().unwrap_or(0).to_string();
        for group in groups.iter().rev() {
            text.push_str(&format!("{group:09}"));
        }
        f.pad_integral(*sign == Sign::Plus, "", &text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_edges_of_i64_are_small_and_the_next_are_not() {
        for edge in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX] {
            let (sign, digits) = Integer::from(edge).digits();
            assert_eq!(Integer::from_digits(sign, &digits), Integer::from(edge));
        }
        // 2^63
        let big = Integer::from_digits(Sign::Plus, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(big.to_i64(), None);
        assert_eq!(big.to_string(), "9223372036854775808");
        assert_eq!(Integer::from_digits(Sign::Minus, &[0; 64]), Integer::from(0));
    }

    proptest! {
        #[test]
        fn a_number_of_128_bits_is_shown_as_std_shows_it(number: i128) {
            let sign = if number < 0 { Sign::Minus } else { Sign::Plus };
            let magnitude = number.unsigned_abs();
            let digits: Vec<u8> = (0..19).map(|at| (magnitude >> (7 * at) & 0x7f) as u8).collect();
            let integer = Integer::from_digits(sign, &digits);
            prop_assert_eq!(integer.to_string(), number.to_string());
            let (sign, digits) = integer.digits();
            prop_assert_eq!(Integer::from_digits(sign, &digits), integer);
        }
    }
}
