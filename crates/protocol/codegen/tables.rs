//! Writes the `ApiKey` and `ErrorCode` tables.

use std::fmt::Write;

use super::{
    grammar::{Document, Kind},
    names,
};

/// `ApiKey`: one variant for each API, its number, versions and first flexible version.
pub fn api_keys(documents: &[Document]) -> String {
    let mut apis: Vec<_> = documents
        .iter()
        .filter_map(|document| match document.kind {
            Kind::Api { key } => {
                let message = document.messages.iter().find(|m| m.role == "request")?;
                Some((key, document.name.as_str(), message))
            }
            _ => None,
        })
        .collect();
    apis.sort_by_key(|(key, ..)| *key);

    let mut variants = String::new();
    let mut rows = String::new();
    for (key, name, message) in &apis {
        let (lo, hi) =
            (message.versions.lo, message.versions.hi - i16::from(message.latest_unstable));
        let flexible = match message.flexible {
            Some(versions) => format!("Some({})", versions.lo),
            None => "None".to_owned(),
        };
        let _ = writeln!(variants, "    /// `{name}`, versions {lo} to {hi}.\n    {name} = {key},");
        let _ = writeln!(
            rows,
            "    Row {{ api: ApiKey::{name}, name: \"{name}\", lo: {lo}, hi: {hi}, flexible: {flexible} }},"
        );
    }
    format!(
        "/// The number of an API: the first field of every request.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         #[repr(i16)]\n\
         pub enum ApiKey {{\n{variants}}}\n\n\
         /// Sorted by number.\n\
         static ROWS: &[Row] = &[\n{rows}];\n"
    )
}

/// `ErrorCode` from the table `code, name, retriable, refresh_retriable, text`.
pub fn error_codes(table: &str) -> Result<String, String> {
    let mut variants = String::new();
    let mut rows = String::new();
    let mut to_code = String::new();
    let mut from_code = String::new();
    for (index, line) in table.lines().skip(1).enumerate() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [code, name, retriable, refresh, text] = columns[..] else {
            return Err(format!("error table: five columns expected in {line:?}"));
        };
        let code: i16 = code.parse().map_err(|_| format!("error table: bad code {code:?}"))?;
        if i16::try_from(index).ok() != Some(code + 1) {
            return Err(format!("error table: codes must follow each other, {code} does not"));
        }
        let variant = names::camel_from_screaming(name);
        let default = if code == 0 { "    #[default]\n" } else { "" };
        let _ = writeln!(variants, "    /// `{name}` ({code}): {text}.\n{default}    {variant},");
        let _ = writeln!(to_code, "            ErrorCode::{variant} => {code},");
        let _ = writeln!(from_code, "            {code} => ErrorCode::{variant},");
        let _ = writeln!(
            rows,
            "    Row {{ code: ErrorCode::{variant}, name: {name:?}, retriable: {}, refresh: {}, text: {text:?} }},",
            retriable == "y",
            refresh == "y",
        );
    }
    Ok(format!(
        "/// What went wrong, as it crosses the wire: int16, 0 is success. Codes newer than the table are kept.\n\
         #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         pub enum ErrorCode {{\n{variants}    /// A code that this version does not know.\n    Unknown(i16),\n}}\n\n\
         impl ErrorCode {{\n    /// The number on the wire.\n    pub const fn code(self) -> i16 {{\n        match self {{\n{to_code}            ErrorCode::Unknown(code) => code,\n        }}\n    }}\n\n    \
         /// The error of this number.\n    pub const fn from_code(code: i16) -> ErrorCode {{\n        match code {{\n{from_code}            other => ErrorCode::Unknown(other),\n        }}\n    }}\n}}\n\n\
         /// Row `i` is code `i - 1`.\n\
         static ROWS: &[Row] = &[\n{rows}];\n"
    ))
}
