//! Plain data there and back, sharing, and everything that is refused.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::banana::Expr;

fn tagged(tag: &'static str, rest: impl IntoIterator<Item = Expr>) -> Expr {
    Expr::List(std::iter::once(Expr::word(tag)).chain(rest).collect())
}

#[test]
fn what_would_make_code_or_classes_is_refused_by_name() {
    for tag in [
        "class",
        "module",
        "function",
        "instance",
        "method",
        "persistent",
        "unpersistable",
        "copy",
        "cache",
    ] {
        let expr = tagged(tag, [Expr::word("os.system")]);
        assert_eq!(unjelly(&expr), Err(JellyError::Unsupported(tag.to_owned())));
        // Also deep inside, and as a key.
        let hidden = tagged(
            "list",
            [tagged("dictionary", [Expr::List(vec![expr, Expr::int(1)])])],
        );
        assert_eq!(unjelly(&hidden), Err(JellyError::Unsupported(tag.to_owned())));
    }
    for tag in ["twisted.internet.reactor", "datetime", "decimal", ""] {
        assert_eq!(
            unjelly(&tagged(tag, [])),
            Err(JellyError::Unsupported(tag.to_owned()))
        );
    }
}

#[test]
fn malformed_data_is_a_typed_error() {
    let cases = [
        (Expr::List(vec![]), JellyError::NoTag),
        (Expr::List(vec![Expr::int(1)]), JellyError::NoTag),
        (tagged("None", [Expr::int(1)]), JellyError::Malformed("None")),
        (
            tagged("boolean", [Expr::word("maybe")]),
            JellyError::Malformed("boolean"),
        ),
        (tagged("boolean", []), JellyError::Malformed("boolean")),
        (
            tagged("unicode", [Expr::int(1)]),
            JellyError::Malformed("unicode"),
        ),
        (
            tagged("unicode", [Expr::Bytes(Bytes::from_static(b"\xff"))]),
            JellyError::NotUtf8,
        ),
        (
            tagged("dictionary", [Expr::int(1)]),
            JellyError::Malformed("dictionary"),
        ),
        (
            tagged("dictionary", [Expr::List(vec![Expr::int(1)])]),
            JellyError::Malformed("dictionary"),
        ),
        (
            tagged("remote", [Expr::word("root")]),
            JellyError::Malformed("remote"),
        ),
        (tagged("local", []), JellyError::Malformed("local")),
        (
            tagged("reference", [Expr::int(1)]),
            JellyError::Malformed("reference"),
        ),
        (tagged("dereference", [Expr::int(9)]), JellyError::Incomplete(9)),
    ];
    for (expr, error) in cases {
        assert_eq!(unjelly(&expr), Err(error), "{expr:?}");
    }
}

#[test]
fn shared_data_is_shared_and_a_cycle_is_refused() {
    let shared = tagged("reference", [Expr::int(1), tagged("list", [Expr::int(5)])]);
    let again = tagged("dereference", [Expr::int(1)]);
    let value = unjelly(&tagged("tuple", [shared.clone(), again.clone()])).unwrap();
    let Value::Tuple(items) = &value else {
        panic!("a tuple")
    };
    let (Value::List(one), Value::List(other)) = (&items[0], &items[1]) else {
        panic!("two lists")
    };
    assert!(Arc::ptr_eq(one, other));
    assert_eq!(jelly(&value), tagged("tuple", [shared.clone(), again.clone()]));

    let cycle = tagged("reference", [Expr::int(1), tagged("list", [again])]);
    assert_eq!(unjelly(&cycle), Err(JellyError::Incomplete(1)));
    assert_eq!(
        unjelly(&tagged("list", [shared.clone(), shared])),
        Err(JellyError::Twice(1))
    );
}

/// Two lists of the one before, forty times: 2^40 leaves, written in forty references.
#[test]
fn nested_sharing_stays_small_both_ways() {
    let mut value = Value::List([Value::int(1)].into());
    for _ in 0..40 {
        value = Value::List([value.clone(), value].into());
    }
    let expr = jelly(&value);
    let back = unjelly(&expr).unwrap();
    assert_eq!(jelly(&back), expr);
}

#[test]
fn too_deep_is_an_error_and_no_overflow() {
    let deep = (0..200).fold(Expr::int(1), |inner, _| tagged("list", [inner]));
    assert_eq!(unjelly(&deep), Err(JellyError::TooDeep(128)));
}

pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::int),
        (-1e300..1e300).prop_map(Value::Float),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bytes(bytes.into())),
        ".{0,12}".prop_map(|text| Value::text(&text)),
        any::<i64>().prop_map(Value::Remote),
        any::<i64>().prop_map(|number| Value::Local(Luid::Number(number))),
        Just(Value::Local(Luid::Name(Bytes::from_static(b"root")))),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let items = || proptest::collection::vec(inner.clone(), 0..6);
        prop_oneof![
            items().prop_map(|items| Value::List(items.into())),
            items().prop_map(|items| Value::Tuple(items.into())),
            items().prop_map(|items| Value::Set(items.into())),
            items().prop_map(|items| Value::FrozenSet(items.into())),
            proptest::collection::vec((inner.clone(), inner.clone()), 0..5)
                .prop_map(|pairs| Value::Dict(pairs.into())),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_survives_the_trip(value in any_value()) {
        prop_assert_eq!(unjelly(&jelly(&value)).unwrap(), value);
    }
}
