//! `docs/classic-protocol.md` says which test shows which line of the protocol: those tests exist.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The names of all tests in the `.rs` files below a folder.
fn tests_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let mut is_test = false;
            for line in fs::read_to_string(&path).unwrap().lines() {
                let line = line.trim();
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                let line = line.strip_prefix("async ").unwrap_or(line);
                if let Some(rest) = line.strip_prefix("fn ")
                    && std::mem::take(&mut is_test)
                {
                    names.insert(rest.split('(').next().unwrap().to_owned());
                }
            }
        }
    }
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

#[test]
fn every_test_that_the_page_names_exists() {
    let root = root();
    let mut tests = BTreeSet::new();
    for folder in ["coordinator/src", "broker/src", "broker/tests", "protocol/tests"] {
        tests_below(&root.join("crates").join(folder), &mut tests);
    }
    let page = fs::read_to_string(root.join("docs/classic-protocol.md")).unwrap();
    let rows = rows(&page);
    assert!(rows.len() > 100, "only {} rows were found", rows.len());
    let mut missing = BTreeSet::new();
    for (cell, row) in &rows {
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "a row names no test: {row}");
        missing.extend(names.into_iter().filter(|name| !tests.contains(*name)));
    }
    assert!(missing.is_empty(), "there are no such tests: {missing:#?}");
}

#[test]
fn every_report_about_classic_groups_has_its_row() {
    let page = fs::read_to_string(root().join("docs/classic-protocol.md")).unwrap();
    for number in (1..=25).chain([27, 28]).chain(38..=48) {
        assert!(page.contains(&format!("\n| {number} | ")), "no row for report {number}");
    }
}
