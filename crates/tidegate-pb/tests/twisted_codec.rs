//! Banana and jelly against Twisted's own: what it encodes we read and encode alike, what we encode it reads and encodes
//! alike.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::python;
use tidegate_pb::banana::{Decoder, Dialect, Expr, Limits, encode};
use tidegate_pb::jelly::{Value, jelly, unjelly};
use tidegate_pb::{Integer, Sign};

fn peer(python: PathBuf, mode: &str) -> Command {
    let mut command = Command::new(python);
    command
        .arg("-u")
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/twisted/peer.py"))
        .arg(mode);
    command
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn decode(bytes: &[u8], dialect: Dialect) -> Expr {
    let mut decoder = Decoder::default();
    decoder.set_dialect(dialect);
    decoder.space().extend_from_slice(bytes);
    let expr = decoder.next_expr().unwrap().expect("a whole expression");
    assert_eq!(decoder.waiting_bytes(), 0);
    expr
}

fn dialect(name: &str) -> Dialect {
    if name == "pb" { Dialect::Pb } else { Dialect::None }
}

#[test]
fn what_twisted_encodes_we_read_and_encode_alike() {
    let Some(python) = python("pb samples") else {
        return;
    };
    let output = peer(python, "samples").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut count = 0;
    for line in text.lines() {
        let mut fields = line.splitn(3, ' ');
        let (name, data, shown) = (
            fields.next().unwrap(),
            unhex(fields.next().unwrap()),
            fields.next().unwrap(),
        );
        let expr = decode(&data, dialect(name));
        let encoded = encode(&expr, dialect(name), &Limits::default())
            .unwrap()
            .into_bytes();
        assert_eq!(hex(&encoded), hex(&data), "{shown}");
        let value = unjelly(&expr).unwrap();
        assert_eq!(jelly(&value), expr, "{shown}");
        if let Value::Int(integer) = &value {
            assert_eq!(integer.to_string(), shown);
        }
        count += 1;
    }
    assert_eq!(count, 2 * 35, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_we_encode_twisted_reads_and_encodes_alike() {
    let Some(python) = python("pb codec") else { return };
    let mut child = peer(python, "codec")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    let mut from = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = |dialect: Dialect, layer: &str, data: &[u8]| {
        writeln!(to, "{} {layer} {}", dialect.name(), hex(data)).unwrap();
        from.next().unwrap().unwrap()
    };
    let shared = Value::List([Value::int(1)].into());
    let values = [
        Value::Tuple([Value::None, Value::Bool(true), Value::Bool(false)].into()),
        Value::Int(Integer::from_digits(Sign::Minus, &[127; 64])),
        Value::Int(Integer::from_digits(Sign::Plus, &[1; 10])),
        Value::int(i64::MIN),
        Value::Float(f64::MAX),
        Value::Bytes(vec![b'x'; 655_360].into()),
        Value::text("dictionary \u{1f980}"),
        Value::Dict(
            [
                (Value::int(1), Value::text("a")),
                (Value::text("b"), Value::List([].into())),
            ]
            .into(),
        ),
        Value::List([shared.clone(), Value::Tuple([shared].into())].into()),
        Value::FrozenSet([Value::int(3)].into()),
    ];
    for value in values {
        for dialect in [Dialect::None, Dialect::Pb] {
            let data = encode(&jelly(&value), dialect, &Limits::default())
                .unwrap()
                .into_bytes();
            for layer in ["banana", "jelly"] {
                assert!(
                    ask(dialect, layer, &data) == format!("ok {}", hex(&data)),
                    "{layer} {dialect:?}"
                );
            }
        }
    }
    // Twisted refuses the same numbers and strings that we do.
    for refused in [
        &b"\x01\x00\x28\x82"[..],
        b"\x01\x00\x28\x80",
        &[1u8; 66],
        b"\x01\x99",
    ] {
        let answer = ask(Dialect::None, "banana", refused);
        assert!(answer.starts_with("error"), "{answer}");
        let mut decoder = Decoder::default();
        decoder.space().extend_from_slice(refused);
        assert!(decoder.next_expr().is_err());
    }
    drop(to);
    child.wait().unwrap();
}
