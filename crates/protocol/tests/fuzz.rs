//! The functions that `fuzz/` hands to libFuzzer, over the golden vectors as they are and mutated, for a bounded number of inputs.

#![cfg(feature = "zstd")]
#![allow(clippy::unwrap_used)]

mod golden;
#[allow(unreachable_pub)]
#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use kavka_protocol::messages;
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};

use golden::Vector;

/// One change to an input.
#[derive(Clone, Debug)]
enum Mutation {
    Cut(Index),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Overwrite(Index, Vec<u8>),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..9),
        Just(vec![0x7f, 0xff, 0xff, 0xff]),
        Just(vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        Just(vec![0; 64]),
    ];
    let bytes = bytes.boxed();
    prop_oneof![
        any::<Index>().prop_map(Mutation::Cut),
        (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (any::<Index>(), bytes.clone()).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (any::<Index>(), bytes).prop_map(|(at, bytes)| Mutation::Overwrite(at, bytes)),
    ]
}

impl Mutation {
    fn apply(&self, input: &mut Vec<u8>) {
        match self {
            Mutation::Cut(at) => input.truncate(at.index(input.len() + 1)),
            Mutation::Flip(at, bit) if !input.is_empty() => {
                let at = at.index(input.len());
                input[at] ^= 1 << bit;
            }
            Mutation::Flip(..) => {}
            Mutation::Insert(at, bytes) => {
                let at = at.index(input.len() + 1);
                input.splice(at..at, bytes.iter().copied());
            }
            Mutation::Overwrite(at, bytes) => {
                let at = at.index(input.len() + 1);
                let end = input.len().min(at + bytes.len());
                input.splice(at..end, bytes.iter().copied());
            }
        }
    }
}

/// Runs `target` on every seed, and on `cases` mutated ones.
fn run(target: fn(&[u8]), seeds: &[Vec<u8>], cases: u32) {
    assert!(!seeds.is_empty(), "no seeds");
    seeds.iter().for_each(|seed| target(seed));
    let strategy = (any::<Index>(), prop::collection::vec(mutation(), 1..4));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&strategy, |(seed, mutations)| {
        let mut input = seed.get(seeds).clone();
        mutations.iter().for_each(|mutation| mutation.apply(&mut input));
        target(&input);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// The seeds of messages, each with two int16 before it.
fn message_seeds(first: impl Fn(&Vector) -> Option<i16>) -> Vec<Vec<u8>> {
    let vectors = golden::vectors("messages.jsonl").into_iter();
    vectors
        .chain(golden::vectors("malformed.jsonl"))
        .filter_map(|vector| {
            let first = first(&vector)?.to_be_bytes();
            Some([&first[..], &vector.version.to_be_bytes(), &vector.bytes].concat())
        })
        .collect()
}

fn api(vector: &Vector, kind: &str) -> Option<i16> {
    if vector.line["type"] != kind {
        return None;
    }
    i16::try_from(vector.line["api_key"].as_i64()?).ok()
}

#[test]
fn any_bytes_as_a_request() {
    run(targets::request, &message_seeds(|vector| api(vector, "request")), 20_000);
}

#[test]
fn any_bytes_as_a_response() {
    run(targets::response, &message_seeds(|vector| api(vector, "response")), 20_000);
}

#[test]
fn any_bytes_as_any_message() {
    let index = |vector: &Vector| {
        let index = messages::NAMES.iter().position(|name| *name == vector.name)?;
        i16::try_from(index).ok()
    };
    run(targets::message, &message_seeds(index), 20_000);
}

fn batch_seeds() -> Vec<Vec<u8>> {
    let lines = golden::lines("record_batches.jsonl").into_iter();
    lines.map(|line| golden::bytes(&line["hex"])).collect()
}

#[test]
fn any_bytes_as_batches() {
    run(targets::batches, &batch_seeds(), 5_000);
}

#[test]
fn any_bytes_to_any_codec() {
    let seeds = batch_seeds().into_iter().filter_map(|batch| {
        // Magic 2: the codec is in the attributes, the compressed records stand behind the header.
        (*batch.get(16)? == 2).then_some(())?;
        Some([&[batch.get(22)? & 7][..], batch.get(61..)?].concat())
    });
    run(targets::codec, &seeds.collect::<Vec<_>>(), 1_000);
}
