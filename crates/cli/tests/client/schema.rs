//! Data that goes to programs fits the schemas that are checked in.

use std::{fs, path::PathBuf};

use serde_json::Value;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli/schemas")
}

/// Holds a document to the schema of its kind.
#[track_caller]
pub(crate) fn check(document: &Value) {
    let kind = document["kind"].as_str().unwrap();
    let path = directory().join(format!("{kind}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let schema: Value = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    fits(&schema, &schema, document, kind, &mut wrong);
    assert!(wrong.is_empty(), "{wrong:#?}\n{document:#}");
}

/// As much of JSON Schema as the schemas use; a word that is not known here fails the test.
fn fits(root: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    for (word, wanted) in schema.as_object().unwrap() {
        match word.as_str() {
            "$schema" | "$id" | "title" | "description" | "$defs" => {}
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                fits(root, &root["$defs"][name], value, at, wrong);
            }
            "const" if value != wanted => wrong.push(format!("{at} is {value}, not {wanted}")),
            "const" => {}
            "enum" if !wanted.as_array().unwrap().contains(value) => {
                wrong.push(format!("{at} is {value}, none of {wanted}"));
            }
            "enum" => {}
            "type" => {
                let types = match wanted {
                    Value::Array(types) => types.clone(),
                    one => vec![one.clone()],
                };
                let is = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "boolean",
                    Value::Number(number) if number.is_i64() => "integer",
                    Value::Number(_) => "number",
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                };
                if !types.iter().any(|name| name == is) {
                    wrong.push(format!("{at} is {is}, none of {types:?}"));
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    fits(root, wanted, item, &format!("{at}[{index}]"), wrong);
                }
            }
            "required" => {
                if let Some(object) = value.as_object() {
                    for name in wanted.as_array().unwrap() {
                        if !object.contains_key(name.as_str().unwrap()) {
                            wrong.push(format!("{at} has no {name}"));
                        }
                    }
                }
            }
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = wanted.get(name) {
                        fits(root, schema, inner, &format!("{at}.{name}"), wrong);
                    }
                }
            }
            "additionalProperties" => {
                let known = schema["properties"].as_object();
                for (name, inner) in value.as_object().into_iter().flatten() {
                    if known.is_some_and(|known| known.contains_key(name)) {
                        continue;
                    }
                    match wanted {
                        Value::Bool(false) => wrong.push(format!("{at} has {name} too")),
                        other => fits(root, other, inner, &format!("{at}.{name}"), wrong),
                    }
                }
            }
            other => panic!("this test does not know the word {other}"),
        }
    }
}

#[test]
fn every_schema_names_its_kind_and_allows_nothing_else() {
    let mut count = 0;
    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        let schema: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let kind = path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(schema["properties"]["kind"]["const"], kind);
        assert_eq!(schema["properties"]["version"]["const"], 1);
        let wrong_kind = serde_json::json!({"kind": "other", "version": 1, "data": [], "more": 1});
        let mut wrong = Vec::new();
        fits(&schema, &schema, &wrong_kind, kind, &mut wrong);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        count += 1;
    }
    assert!(count > 5);
}
