//! The bugs made by hand that the campaign has to find, and the seeds that find them.
//!
//! They are behind `mutant("name")` in `kavka-coordinator` and `kavka-member`, and exist only in a build with `--cfg kavka_mutants`.
//! The table is a file, `mutants.table`, with the rows of the one in `docs/simulation.md`; `mutants --record` writes both.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// A bug made by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// What the switch is called.
    pub name: &'static str,
    /// The machine that has it.
    pub machine: &'static str,
    /// What it does, or where such a bug was seen.
    pub what: &'static str,
    /// The seed that found it; `None` if none has.
    pub seed: Option<u64>,
    /// How: the first words of the failure.
    pub how: String,
}

/// Every mutant, with the seed that is recorded for it.
///
/// # Panics
/// If the table that is compiled in cannot be read: a test sees to it that it can.
pub fn all() -> Vec<Mutant> {
    TABLE.lines().map(|line| parse(line).expect("a row of five cells")).collect()
}

const TABLE: &str = include_str!("../mutants.table");

/// What a row has instead of a seed.
const NOT_FOUND: &str = "?";

fn parse(line: &'static str) -> Option<Mutant> {
    let line = line.strip_prefix("| `")?.strip_suffix(" |")?;
    let (name, line) = line.split_once("` | ")?;
    let (machine, line) = line.split_once(" | ")?;
    let (what, line) = line.split_once(" | ")?;
    let (seed, how) = line.split_once(" | ").or_else(|| Some((line.strip_suffix(" |")?, "")))?;
    let seed = if seed == NOT_FOUND { None } else { Some(seed.parse().ok()?) };
    Some(Mutant { name, machine, what, seed, how: how.to_owned() })
}

impl Mutant {
    /// As a row of the table.
    pub fn row(&self) -> String {
        let Self { name, machine, what, seed, how } = self;
        let seed = seed.map_or(NOT_FOUND.to_owned(), |seed| seed.to_string());
        format!("| `{name}` | {machine} | {what} | {seed} | {how} |")
    }

    /// Takes note of the seed that found it, and how.
    pub fn found_by(&mut self, failure: &crate::Failure) {
        let first = failure.message.lines().next().unwrap_or_default();
        let place = first.rfind(" [").unwrap_or(first.len());
        let words = first[..place].chars().filter(|c| *c != '|').take(60).collect::<String>();
        self.seed = Some(failure.case.seed);
        self.how = words.trim().to_owned();
    }
}

/// Writes the table, and the one of the documentation.
///
/// # Errors
/// A file cannot be read or written, or the documentation has no such table.
pub fn record(mutants: &[Mutant]) -> anyhow::Result<()> {
    let rows: Vec<String> = mutants.iter().map(Mutant::row).collect();
    let table = rows.join("\n") + "\n";
    let docs = docs();
    let text = std::fs::read_to_string(&docs).with_context(|| docs.display().to_string())?;
    let rows = rows_of(&text);
    ensure!(!rows.is_empty(), "{} has no table of mutants", docs.display());
    let text = text.replacen(&rows, &table, 1);
    std::fs::write(&docs, text).with_context(|| docs.display().to_string())?;
    let file = root().join("mutants.table");
    std::fs::write(&file, table).with_context(|| file.display().to_string())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn docs() -> PathBuf {
    root().join("../../docs/simulation.md")
}

/// The rows of the table in a text: the only ones that begin with a name in code, and have such a seed.
fn rows_of(text: &str) -> String {
    let after = text.split_once(HEAD).map_or("", |(_, after)| after);
    after
        .lines()
        .take_while(|line| line.starts_with("| `"))
        .map(|line| format!("{line}\n"))
        .collect()
}

const HEAD: &str = "| Mutant | Machine | What it does, or where it was seen | Seed | First words of the failure |\n|---|---|---|---|---|\n";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_can_be_read_and_the_documentation_has_the_same() {
        let rows: String = all().iter().map(|mutant| mutant.row() + "\n").collect();
        assert_eq!(rows, TABLE);
        let text = std::fs::read_to_string(docs()).unwrap();
        assert_eq!(rows_of(&text), TABLE, "write both with `kavka-sim mutants --record`");
    }

    /// A mutant in the code is in the table, and one in the table is in the code, once.
    #[test]
    fn the_table_names_the_mutants_that_there_are() {
        for machine in ["coordinator", "member"] {
            let mut markers = Vec::new();
            collect(&root().join("..").join(machine).join("src"), &mut markers);
            let known: Vec<&str> =
                all().iter().filter(|of| of.machine == machine).map(|of| of.name).collect();
            let in_code: BTreeSet<&str> = markers.iter().map(String::as_str).collect();
            let in_table: BTreeSet<&str> = known.iter().copied().collect();
            assert_eq!(in_code, in_table);
            assert_eq!(known.len(), in_table.len(), "a name is there once");
        }
    }

    fn collect(folder: &Path, markers: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, markers);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let names = text.split("mutant(\"").skip(1);
                markers.extend(names.map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
    }

    #[test]
    fn nearly_all_are_found() {
        let all = all();
        let found = all.iter().filter(|mutant| mutant.seed.is_some()).count();
        assert!(all.len() >= 30 && found * 100 >= all.len() * 95, "{found} of {}", all.len());
    }
}
