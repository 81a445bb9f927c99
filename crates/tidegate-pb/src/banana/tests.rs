//! Banana three ways (whole, byte at a time, with trailing bytes), its limits, and bytes that are none.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::Sign;

fn decoder(dialect: Dialect, limits: Limits) -> Decoder {
    let mut decoder = Decoder::with_limits(limits);
    decoder.set_dialect(dialect);
    decoder
}

/// Decodes `bytes` whole, byte by byte, and with trailing bytes; all three must agree.
fn three_ways(bytes: &[u8], dialect: Dialect, limits: Limits) -> Result<Option<Expr>, BananaError> {
    let mut whole = decoder(dialect, limits);
    whole.space().extend_from_slice(bytes);
    let first = whole.next_expr();

    let mut slow = decoder(dialect, limits);
    let mut slowly = Ok(None);
    for (at, byte) in bytes.iter().enumerate() {
        slow.space().extend_from_slice(&[*byte]);
        slowly = slow.next_expr();
        if slowly != Ok(None) {
            let all = at + 1 == bytes.len();
            assert!(all || slowly.is_err(), "complete before its last byte");
            break;
        }
    }
    assert_same(&slowly, &first);

    if let Ok(Some(_)) = first {
        let mut trailing = decoder(dialect, limits);
        trailing.space().extend_from_slice(bytes);
        trailing.space().extend_from_slice(b"\x07\x81\x05");
        assert_same(&trailing.next_expr(), &first);
        assert_eq!(trailing.next_expr(), Ok(Some(Expr::int(7))));
        assert_eq!((trailing.next_expr(), trailing.waiting_bytes()), (Ok(None), 1));
    }
    first
}

/// Equality that takes two NaN for equal.
fn assert_same(one: &Result<Option<Expr>, BananaError>, other: &Result<Option<Expr>, BananaError>) {
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}

fn list(elements: impl IntoIterator<Item = Expr>) -> Expr {
    Expr::List(elements.into_iter().collect())
}

#[test]
fn every_element_type_both_ways() {
    let big = Integer::from_digits(Sign::Plus, &[0, 0, 0, 0, 8]);
    let cases: Vec<(Expr, &[u8])> = vec![
        (Expr::int(0), b"\x00\x81"),
        (Expr::int(127), b"\x7f\x81"),
        (Expr::int(128), b"\x00\x01\x81"),
        (Expr::int(i64::from(i32::MAX)), b"\x7f\x7f\x7f\x7f\x07\x81"),
        (Expr::Int(big), b"\x00\x00\x00\x00\x08\x85"),
        (Expr::int(-1), b"\x01\x83"),
        (Expr::int(i64::from(i32::MIN)), b"\x00\x00\x00\x00\x08\x83"),
        (Expr::int(i64::from(i32::MIN) - 1), b"\x01\x00\x00\x00\x08\x86"),
        (Expr::Float(1.5), b"\x84\x3f\xf8\x00\x00\x00\x00\x00\x00"),
        (Expr::word(""), b"\x00\x82"),
        (Expr::word("hello"), b"\x05\x82hello"),
        (list([]), b"\x00\x80"),
        (
            list([list([list([])]), Expr::int(1), list([])]),
            b"\x03\x80\x01\x80\x00\x80\x01\x81\x00\x80",
        ),
    ];
    for (expr, bytes) in cases {
        for dialect in [Dialect::None, Dialect::Pb] {
            assert_eq!(
                three_ways(bytes, dialect, Limits::default()),
                Ok(Some(expr.clone()))
            );
            assert_eq!(
                &encode(&expr, dialect, &Limits::default()).unwrap().into_bytes()[..],
                bytes
            );
        }
    }
}

#[test]
fn the_vocabulary_belongs_to_the_pb_dialect() {
    for number in 1..=31u8 {
        let expr = Expr::word(word(number.into()).unwrap());
        assert_eq!(
            three_ways(&[number, 0x87], Dialect::Pb, Limits::default()),
            Ok(Some(expr.clone()))
        );
        let bytes = encode(&expr, Dialect::Pb, &Limits::default())
            .unwrap()
            .into_bytes();
        assert_eq!(&bytes[..], [number, 0x87]);
        let plain = encode(&expr, Dialect::None, &Limits::default())
            .unwrap()
            .into_bytes();
        assert_eq!(
            three_ways(&plain, Dialect::None, Limits::default()),
            Ok(Some(expr))
        );
    }
    assert_eq!(
        three_ways(b"\x01\x87", Dialect::None, Limits::default()),
        Err(BananaError::WordOutsidePb)
    );
    for unknown in [
        &b"\x00\x87"[..],
        b"\x20\x87",
        b"\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x87",
    ] {
        assert_eq!(
            three_ways(unknown, Dialect::Pb, Limits::default()),
            Err(BananaError::UnknownWord)
        );
    }
}

#[test]
fn limits_are_typed_errors() {
    let limits = Limits::default();
    let decode = |bytes: &[u8]| three_ways(bytes, Dialect::Pb, limits);
    // 640 Ki is 0, 0, 40 in base 128.
    assert_eq!(decode(b"\x00\x00\x28\x82"), Ok(None));
    assert_eq!(
        decode(b"\x01\x00\x28\x82"),
        Err(BananaError::StringTooLong { max: 655_360 })
    );
    assert_eq!(decode(b"\x00\x00\x28\x80"), Ok(None));
    assert_eq!(
        decode(b"\x01\x00\x28\x80"),
        Err(BananaError::ListTooLong { max: 655_360 })
    );
    assert_eq!(
        decode(&[b"\x01".repeat(64), b"\x85".to_vec()].concat()).map(|e| e.is_some()),
        Ok(true)
    );
    assert_eq!(
        decode(&[b"\x01".repeat(65), b"\x85".to_vec()].concat()),
        Err(BananaError::PrefixTooLong { max: 64 })
    );
    assert_eq!(
        decode(&b"\x01".repeat(65)),
        Err(BananaError::PrefixTooLong { max: 64 })
    );
    assert_eq!(decode(&b"\x01".repeat(64)), Ok(None));
    assert_eq!(decode(b"\x01\x88"), Err(BananaError::UnknownType(0x88)));
    assert_eq!(decode(b"\xff"), Err(BananaError::UnknownType(0xff)));
    assert_eq!(decode(&b"\x01\x80".repeat(128)), Ok(None));
    assert_eq!(
        decode(&b"\x01\x80".repeat(129)),
        Err(BananaError::TooDeep { max: 128 })
    );
    let few = Limits {
        elements_max: 3,
        ..limits
    };
    assert_eq!(
        three_ways(b"\x02\x80\x02\x80", Dialect::Pb, few),
        Err(BananaError::TooManyElements { max: 3 })
    );
    let short = Limits {
        message_bytes_max: 8,
        ..limits
    };
    let error = Err(BananaError::MessageTooLong { max: 8 });
    assert_eq!(
        three_ways(b"\x03\x80\x02\x82ab\x02\x82cd", Dialect::Pb, short),
        error
    );
}

#[test]
fn what_the_peer_would_refuse_is_not_encoded() {
    let limits = Limits::default();
    let encode = |expr: Expr| encode(&expr, Dialect::Pb, &limits).map(|pieces| pieces.into_list().len());
    assert_eq!(encode(Expr::Bytes(vec![0; 655_360].into())), Ok(2));
    assert_eq!(
        encode(Expr::Bytes(vec![0; 655_361].into())),
        Err(BananaError::StringTooLong { max: 655_360 })
    );
    let long = Expr::Int(Integer::from_digits(Sign::Minus, &[1; 65]));
    assert_eq!(encode(long), Err(BananaError::PrefixTooLong { max: 64 }));
    let deep = (0..129).fold(Expr::int(1), |inner, _| list([inner]));
    assert_eq!(encode(deep), Err(BananaError::TooDeep { max: 128 }));
}

#[test]
fn an_error_is_repeated_for_ever() {
    let mut decoder = Decoder::default();
    decoder.space().extend_from_slice(b"\xff");
    assert_eq!(decoder.next_expr(), Err(BananaError::UnknownType(0xff)));
    decoder.space().extend_from_slice(b"\x01\x81");
    assert_eq!(decoder.next_expr(), Err(BananaError::UnknownType(0xff)));
}

/// A claim of many elements costs nothing until they come.
#[test]
fn a_claimed_length_takes_no_memory() {
    let mut decoder = Decoder::default();
    decoder.space().extend_from_slice(&b"\x00\x00\x01\x80".repeat(30));
    assert_eq!(decoder.next_expr(), Ok(None));
    assert!(decoder.space().capacity() < 4096);
}

fn any_expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Expr::int),
        (any::<bool>(), proptest::collection::vec(0u8..128, 0..64)).prop_map(|(negative, digits)| {
            let sign = if negative { Sign::Minus } else { Sign::Plus };
            Expr::Int(Integer::from_digits(sign, &digits))
        }),
        any::<f64>().prop_map(Expr::Float),
        proptest::collection::vec(any::<u8>(), 0..2000).prop_map(|bytes| Expr::Bytes(bytes.into())),
        (1usize..=31).prop_map(|number| Expr::word(word(number).unwrap())),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        proptest::collection::vec(inner, 0..8).prop_map(Expr::List)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_expression_survives_the_trip(expr in any_expr(), pb: bool) {
        let dialect = if pb { Dialect::Pb } else { Dialect::None };
        let bytes = encode(&expr, dialect, &Limits::default()).unwrap().into_bytes();
        assert_same(&three_ways(&bytes, dialect, Limits::default()), &Ok(Some(expr)));
    }

    #[test]
    fn no_bytes_panic_and_the_cut_does_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 1usize..9) {
        let limits = Limits { size_max: 64, depth_max: 4, elements_max: 32, message_bytes_max: 128, ..Limits::default() };
        let collect = |cut: usize| {
            let mut decoder = decoder(Dialect::Pb, limits);
            let mut found = Vec::new();
            for piece in bytes.chunks(cut) {
                decoder.space().extend_from_slice(piece);
                loop {
                    match decoder.next_expr() {
                        Ok(Some(expr)) => found.push(format!("{expr:?}")),
                        Ok(None) => break,
                        Err(error) => return (found, Some(error)),
                    }
                }
            }
            (found, None)
        };
        prop_assert_eq!(collect(cut), collect(200));
    }

    /// Bytes that are nearly right find more than noise does.
    #[test]
    fn a_damaged_message_never_panics(expr in any_expr(), at: prop::sample::Index, byte: u8) {
        let mut bytes = encode(&expr, Dialect::Pb, &Limits::default()).unwrap().into_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let mut decoder = decoder(Dialect::Pb, Limits::default());
        decoder.space().extend_from_slice(&bytes);
        while let Ok(Some(_)) = decoder.next_expr() {}
        prop_assert!(decoder.waiting_bytes() <= bytes.len());
    }
}
