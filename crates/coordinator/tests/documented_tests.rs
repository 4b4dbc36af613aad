//! Pages that say which test shows what: `docs/classic-protocol.md` and `docs/regressions.md`. The tests they name exist.
//!
//! A name in the last cell of a row is a test of any of the crates, or, as `file.rs::name`, a test in that file below `crates/`. A
//! row that has no test yet says `open:` and why; how many do is written down here, so that none is added unnoticed.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// How many rows of `docs/regressions.md` are open.
const OPEN: usize = 0;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// The tests in the `.rs` files below a folder, by their names, and by `file.rs::name`.
fn tests_below(folder: &Path, crates: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, crates, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file: Vec<_> = path.strip_prefix(crates).unwrap().iter().collect();
            let file = file.iter().map(|part| part.to_str().unwrap()).collect::<Vec<_>>().join("/");
            let mut is_test = false;
            for line in fs::read_to_string(&path).unwrap().lines() {
                let line = line.trim();
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                let line = line.strip_prefix("async ").unwrap_or(line);
                if let Some(rest) = line.strip_prefix("fn ")
                    && std::mem::take(&mut is_test)
                {
                    let name = rest.split('(').next().unwrap();
                    names.insert(name.to_owned());
                    names.insert(format!("{file}::{name}"));
                }
            }
        }
    }
}

/// The tests of all crates.
fn tests() -> BTreeSet<String> {
    let crates = root().join("crates");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(&crates).unwrap() {
        for folder in ["src", "tests"] {
            let folder = entry.as_ref().unwrap().path().join(folder);
            if folder.is_dir() {
                tests_below(&folder, &crates, &mut names);
            }
        }
    }
    names
}

/// The last cell of each row of the page's tables, and the row.
fn rows(page: &str) -> Vec<(&str, &str)> {
    let is_row = |line: &&str| line.starts_with('|') && !line.starts_with("|---");
    page.lines()
        .filter(is_row)
        .filter(|line| !line.ends_with("| Tests |"))
        .map(|line| (line.trim_end_matches('|').rsplit('|').next().unwrap(), line))
        .collect()
}

/// Looks for every test that the rows name; returns how many rows are open.
fn check(rows: &[(&str, &str)]) -> usize {
    let tests = tests();
    let mut missing = BTreeSet::new();
    let mut open = 0;
    for (cell, row) in rows {
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        let is_open = cell.trim_start().starts_with("open: ");
        assert!(is_open || !names.is_empty(), "a row names no test: {row}");
        open += usize::from(is_open);
        missing.extend(names.into_iter().filter(|name| !tests.contains(*name)));
    }
    assert!(missing.is_empty(), "there are no such tests: {missing:#?}");
    open
}

#[test]
fn every_test_of_the_classic_protocol_exists() {
    let page = page("classic-protocol.md");
    let rows = rows(&page);
    assert!(rows.len() > 100, "only {} rows were found", rows.len());
    assert_eq!(check(&rows), 0);
}

#[test]
fn every_report_about_classic_groups_has_its_row() {
    let page = page("classic-protocol.md");
    for number in (1..=25).chain([27, 28]).chain(38..=48) {
        assert!(page.contains(&format!("\n| {number} | ")), "no row for report {number}");
    }
}

#[test]
fn every_test_of_the_regressions_exists() {
    let page = page("regressions.md");
    let rows = rows(&page);
    assert_eq!(check(&rows), OPEN);
    for (cell, row) in &rows {
        let is_by_file = |name: &str| name.contains(".rs::");
        assert!(cell.split('`').skip(1).step_by(2).all(is_by_file), "without a file: {row}");
    }
}

#[test]
fn every_report_about_classic_groups_consumers_and_logs_has_its_row() {
    let page = page("regressions.md");
    for number in (1..=28).chain(34..=40).chain(59..=71).chain([73, 74]) {
        let count = page.matches(&format!("\n| {number} | ")).count();
        assert_eq!(count, 1, "rows for report {number}");
    }
}
