//! An array's count is held against the bytes that remain, by the smallest size of its elements. That size must not be larger
//! than an element can really be, in any version: here arrays are made of the smallest elements there are.

#![allow(clippy::unwrap_used)]

mod golden;

use kavka_protocol::{
    Message, Reader,
    messages::{self, Visitor},
    wire::DecodeErrorKind,
};
use serde_json::Value;

use golden::Vector;

/// The way from a message to one of its arrays.
#[derive(Clone)]
enum Step {
    Name(String),
    First,
}

fn arrays(value: &Value, path: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                path.push(Step::Name(name.clone()));
                arrays(field, path, found);
                path.pop();
            }
        }
        Value::Array(elements) => {
            if let Some(first) = elements.first() {
                found.push(path.clone());
                path.push(Step::First);
                arrays(first, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

fn at<'a>(value: &'a mut Value, path: &[Step]) -> &'a mut Value {
    path.iter().fold(value, |value, step| match step {
        Step::Name(name) => &mut value[name],
        Step::First => &mut value[0],
    })
}

/// Makes the value at `path` as small as the message's writer lets it be.
fn shrink<M: Message>(message: &mut Value, version: i16, path: &[Step]) {
    let size = |message: &Value| {
        let message = M::from_json(message, version).ok()?;
        message.encoded_size(version).ok()
    };
    let value = at(message, path).clone();
    let mut smallest = (size(message).unwrap(), message.clone());
    let mut attempt = |candidate: Value| {
        let size = size(&candidate);
        if let Some(size) = size.filter(|size| *size < smallest.0) {
            smallest = (size, candidate);
        }
    };
    let candidates: &[Value] = match value {
        Value::String(_) => &[Value::Null, Value::String(String::new())],
        Value::Array(_) => &[Value::Null, Value::Array(Vec::new())],
        _ => &[Value::Null],
    };
    for small in candidates {
        let mut candidate = message.clone();
        *at(&mut candidate, path) = small.clone();
        attempt(candidate);
    }
    if let Some((Step::Name(name), parent)) = path.split_last() {
        // A tagged field may be absent.
        let mut candidate = message.clone();
        at(&mut candidate, parent).as_object_mut().unwrap().remove(name);
        attempt(candidate);
    }
    *message = smallest.1;

    let mut rest = message.clone();
    let fields: Vec<String> = match path.iter().try_fold(&mut rest, |value, step| match step {
        Step::Name(name) => value.get_mut(name),
        Step::First => value.get_mut(0),
    }) {
        Some(Value::Object(fields)) => fields.keys().cloned().collect(),
        _ => return,
    };
    for name in fields {
        let mut path = path.to_vec();
        path.push(Step::Name(name));
        shrink::<M>(message, version, &path);
    }
}

struct Smallest<'a>(&'a Vector);

impl Visitor for Smallest<'_> {
    type Output = usize;

    fn visit<M: Message>(self) -> usize {
        let Vector { label, version, line, .. } = self.0;
        let mut paths = Vec::new();
        arrays(&line["json"], &mut Vec::new(), &mut paths);
        for path in &paths {
            let mut json = line["json"].clone();
            at(&mut json, path).as_array_mut().unwrap().truncate(1);
            let element = [&path[..], &[Step::First]].concat();
            shrink::<M>(&mut json, *version, &element);
            let array = at(&mut json, path).as_array_mut().unwrap();
            *array = vec![array[0].clone(); 2_000];

            let bytes = M::from_json(&json, *version).unwrap().to_bytes(*version).unwrap();
            // Behind the array stands little else, so that a smallest size one byte too large shows.
            let read = M::decode(&mut Reader::new(bytes), *version);
            let honest = match &read {
                Ok(_) => true,
                Err(error) => error.kind == DecodeErrorKind::TooDense,
            };
            assert!(honest, "{label}: {:?}", read.err());
        }
        paths.len()
    }
}

#[test]
fn arrays_of_the_smallest_elements_are_not_taken_for_cut_off() {
    let mut arrays = 0;
    for vector in golden::vectors("messages.jsonl") {
        if vector.line["variant"] == "full" {
            arrays += messages::visit(&vector.name, Smallest(&vector)).unwrap();
        }
    }
    println!("{arrays} arrays");
    assert!(arrays > 500, "{arrays} arrays");
}
