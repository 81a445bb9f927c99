//! A broker under whatever a peer may send: nearly right messages in any order, never a panic, always bounded.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tidegate::channel;

use super::*;
use crate::banana::Expr;

/// Lends, calls back, keeps and gives back: enough to move every table.
struct Busy;

impl Referenceable for Busy {
    fn call(&self, call: Call) {
        match call.args.first() {
            Some(Value::Remote(_)) => {
                let reference = call.reference(&call.args[0]).unwrap();
                let shared = &call.broker().shared;
                let (waiter, _answer) = waiter();
                let pieces = shared
                    .encode_call(reference.luid(), "again", vec![], vec![], Some(waiter))
                    .unwrap();
                shared.send_pieces(pieces, None);
            }
            Some(value) => call.responder.answer(value.clone()),
            None => {
                if let Ok(value) = call.broker().lend(Arc::new(Self)) {
                    call.responder.answer(value);
                }
            }
        }
    }
}

fn small_expr() -> impl Strategy<Value = Expr> {
    const WORDS: [&str; 10] = [
        "tuple",
        "list",
        "dictionary",
        "remote",
        "local",
        "reference",
        "dereference",
        "unicode",
        "root",
        "None",
    ];
    let leaf = prop_oneof![
        (-2i64..6).prop_map(Expr::int),
        proptest::sample::select(&WORDS[..]).prop_map(Expr::word)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        proptest::collection::vec(inner, 0..4).prop_map(Expr::List)
    })
}

fn nearly_a_message() -> impl Strategy<Value = Expr> {
    let call = |args: Vec<Expr>| {
        let mut tuple = vec![Expr::word("tuple")];
        tuple.extend(args);
        (Expr::List(tuple), Expr::List(vec![Expr::word("dictionary")]))
    };
    let object = || prop_oneof![Just(Expr::word("root")), (0i64..4).prop_map(Expr::int)];
    prop_oneof![
        4 => (1i64..5, object(), 0i64..2, proptest::collection::vec(small_expr(), 0..3)).prop_map(
            move |(request, object, answer, args)| {
                let (args, kwargs) = call(args);
                let head = vec![Expr::word("message"), Expr::int(request), object, Expr::word("any"), Expr::int(answer)];
                Expr::List(head.into_iter().chain([args, kwargs]).collect())
            }
        ),
        2 => (1i64..5, small_expr()).prop_map(|(request, value)| {
            Expr::List(vec![Expr::word("answer"), Expr::int(request), value])
        }),
        1 => (1i64..5, small_expr()).prop_map(|(request, value)| {
            Expr::List(vec![Expr::word("error"), Expr::int(request), value])
        }),
        2 => object().prop_map(|object| Expr::List(vec![Expr::word("decref"), object])),
        1 => small_expr(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_order_of_messages_panics_or_grows_past_the_limits(messages in proptest::collection::vec(nearly_a_message(), 0..40)) {
        let (out, receiver) = channel(Marks::default());
        let shared = Shared::new(out, Marks::default(), Limits::default(), 4, Some(Arc::new(Busy)));
        shared.open(Dialect::Pb).unwrap();
        for message in messages {
            let _ = shared.handle(message);
            prop_assert!(shared.tables().objects.len() <= 5);
            prop_assert!(shared.out.held() < 1 << 20);
        }
        shared.lose(&PbError::Closed);
        prop_assert!(shared.tables().objects.is_empty() && shared.tables().waiting.is_empty());
        drop(receiver);
        // Law 16: when the connection is over nothing keeps the broker.
        prop_assert_eq!(Arc::strong_count(&shared), 1);
    }
}
