//! Names for what each broker makes up by itself: member ids, topic ids, producer ids, the cluster's id.
//!
//! A request is built with symbols, and sent to each broker with what it calls them. An answer is compared after what a broker
//! made up was replaced by the symbol.

use std::collections::HashMap;

use kavka_protocol::{ByteString, Uuid, json::Value};

/// The side of Apache Kafka, and that of Kavka.
pub(crate) const SIDES: [usize; 2] = [0, 1];

/// Two vocabularies for the same things.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    real: [HashMap<String, String>; 2],
    symbol: [HashMap<String, String>; 2],
}

/// One vocabulary: turns symbols into what this broker calls them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    symbols: &'a Symbols,
    side: usize,
}

impl Symbols {
    pub(crate) fn names(&self, side: usize) -> Names<'_> {
        Names { symbols: self, side }
    }

    /// Makes `symbol` stand for `real[0]` with Apache Kafka and for `real[1]` with Kavka.
    pub(crate) fn define(&mut self, symbol: &str, real: [&str; 2]) {
        for side in SIDES {
            self.real[side].insert(symbol.to_owned(), real[side].to_owned());
            self.symbol[side].insert(real[side].to_owned(), symbol.to_owned());
        }
    }

    /// Gives two member ids that answers brought in the same place a common symbol, if both are new and made the same way.
    ///
    /// `number` is part of the symbol, and not given twice.
    pub(crate) fn meet(&mut self, number: u64, apache: &str, kavka: &str) {
        let unknown = !self.symbol[0].contains_key(apache) && !self.symbol[1].contains_key(kavka);
        let (Some((left, _)), Some((right, _))) = (split_uuid(apache), split_uuid(kavka)) else {
            return;
        };
        if unknown && left == right {
            let symbol = format!("<{left}#{number}>");
            self.define(&symbol, [apache, kavka]);
        }
    }

    /// What a broker made up, replaced by symbols, in every string of a value. A made-up id without a symbol loses its random part.
    pub(crate) fn canonical(&self, side: usize, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(symbol) = self.symbol[side].get(text) {
                    text.clone_from(symbol);
                } else if let Some((prefix, _)) = split_uuid(text) {
                    *text = format!("<{prefix}-uuid>");
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.canonical(side, value)),
            Value::Object(fields) => {
                fields.values_mut().for_each(|value| self.canonical(side, value));
            }
            _ => {}
        }
    }
}

impl Names<'_> {
    /// What this broker calls the symbol; other text as it is.
    pub(crate) fn of(&self, symbol: &str) -> ByteString {
        self.symbols.real[self.side].get(symbol).map_or(symbol, |real| real).into()
    }

    /// As [`Names::of`], for ids of topics; zero for a symbol that has none.
    pub(crate) fn uuid(&self, symbol: &str) -> Uuid {
        self.of(symbol).parse().unwrap_or(Uuid::ZERO)
    }

    /// As [`Names::of`], for producer ids; a number that nobody has for an unknown symbol.
    pub(crate) fn number(&self, symbol: &str) -> i64 {
        self.of(symbol).parse().unwrap_or(987_654_321)
    }
}

/// Splits `prefix-00000000-0000-0000-0000-000000000000`, the form of a generated member id.
fn split_uuid(text: &str) -> Option<(&str, &str)> {
    let at = text.len().checked_sub(37)?;
    let (prefix, uuid) = (text.get(..at)?, text.get(at + 1..)?);
    let well_formed = text.as_bytes()[at] == b'-'
        && uuid.bytes().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase(),
        });
    well_formed.then_some((prefix, uuid))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const A: &str = "c1-00000000-1111-2222-3333-444444444444";
    const B: &str = "c1-aaaaaaaa-1111-2222-3333-444444444444";

    #[test]
    fn ids_that_meet_get_one_symbol() {
        let mut symbols = Symbols::default();
        symbols.meet(1, A, B);
        let (mut apache, mut kavka) = (json!({"leader": A}), json!({"leader": B}));
        symbols.canonical(0, &mut apache);
        symbols.canonical(1, &mut kavka);
        assert_eq!(apache, kavka);
        assert_eq!(symbols.names(1).of("<c1#1>"), B);
    }

    #[test]
    fn an_id_that_is_known_to_one_side_only_stays_different() {
        let mut symbols = Symbols::default();
        symbols.meet(1, A, B);
        let (mut apache, mut kavka) = (json!(A), json!(A));
        symbols.canonical(0, &mut apache);
        symbols.canonical(1, &mut kavka);
        assert_ne!(apache, kavka);
    }

    #[test]
    fn ids_of_other_clients_and_other_forms_do_not_meet() {
        let mut symbols = Symbols::default();
        symbols.meet(1, A, "c2-aaaaaaaa-1111-2222-3333-444444444444");
        symbols.meet(1, "c1-short", B);
        assert!(symbols.symbol[0].is_empty());
    }
}
