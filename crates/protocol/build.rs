//! Writes the Rust of every message schema in `schemas/` and of the error table into `OUT_DIR`.
//!
//! `codegen/grammar.rs` reads the schema language, `codegen/rust.rs` writes the structs and their codec,
//! `codegen/tables.rs` writes the `ApiKey` and `ErrorCode` tables. Nothing generated is checked in.

#[allow(unreachable_pub)]
#[path = "codegen/mod.rs"]
mod codegen;

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=codegen");
    println!("cargo:rerun-if-changed=schemas");

    let mut documents = Vec::new();
    let mut files: Vec<_> = fs::read_dir("schemas")?.collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(|entry| entry.path());
    for file in files {
        let path = file.path();
        if path.extension().is_some_and(|extension| extension == "msg") {
            let text = fs::read_to_string(&path)?;
            let document = codegen::grammar::parse(&text)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            documents.push(document);
        }
    }

    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);
    fs::write(out.join("messages.rs"), codegen::rust::messages(&documents))?;
    fs::write(out.join("api_key.rs"), codegen::tables::api_keys(&documents))?;
    let errors = fs::read_to_string("schemas/error_codes.tsv")?;
    fs::write(out.join("error_code.rs"), codegen::tables::error_codes(&errors)?)?;
    Ok(())
}
