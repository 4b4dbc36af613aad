//! What is special about the embedded engine: the file. What every engine promises is in [`crate::conformance`].
#![allow(clippy::unwrap_used)]

use std::fs;

use proptest::prelude::*;
use redb::Durability;

use super::*;
use crate::conformance::{self, new_topic};

fn open(dir: &Path) -> Result<EmbeddedMeta, MetaError> {
    EmbeddedMeta::open(dir, os_random())
}

/// A random source that gives the same bytes every time it is made.
fn seeded() -> RandomSource {
    let mut state = 1_u64;
    Box::new(move |bytes| {
        for byte in bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 33) as u8;
        }
        Ok(())
    })
}

/// A closed store with two topics and a config in it.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let meta = open(dir.path()).unwrap();
    for result in meta.create_topics(&[new_topic("first"), new_topic("second")], 1).unwrap() {
        result.unwrap();
    }
    meta.alter_configs(&ConfigResource::topic("first"), &mut |_| {
        Ok(ConfigMap::from([("retention.ms".to_owned(), "77".to_owned())]))
    })
    .unwrap();
    dir
}

#[test]
fn the_file_passes_the_conformance_suite() {
    let mut dirs = Vec::new();
    conformance::run(&mut || {
        dirs.push(tempfile::tempdir().unwrap());
        Box::new(open(dirs.last().unwrap().path()).unwrap())
    });
    let dir = tempfile::tempdir().unwrap();
    conformance::run_reopened(&mut || Box::new(open(dir.path()).unwrap()));
}

#[test]
fn memory_passes_the_conformance_suite() {
    conformance::run(&mut || Box::new(EmbeddedMeta::in_memory(os_random()).unwrap()));
}

#[test]
fn a_seed_makes_the_ids() {
    let ids = || {
        let meta = EmbeddedMeta::in_memory(seeded()).unwrap();
        let topic = meta.create_topics(&[new_topic("t")], 0).unwrap().remove(0).unwrap();
        (meta.image().cluster_id(), topic.id)
    };
    assert_eq!(ids(), ids());
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, MetaError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains("meta.redb is in use by another process"), "{error}");
    drop(first);
    open(dir.path()).unwrap();
}

#[test]
fn a_crashed_first_start_leaves_nothing_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join(format!("{FILE_NAME}.{}.new", std::process::id()));
    let other = dir.path().join(format!("{FILE_NAME}.1.new"));
    fs::write(&own, b"half a file").unwrap();
    fs::write(&other, b"half a file").unwrap();
    drop(open(dir.path()).unwrap());
    drop(open(dir.path()).unwrap());
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, [FILE_NAME]);
}

#[test]
fn a_missing_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(&dir.path().join("nope")).unwrap_err();
    assert!(matches!(error, MetaError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("nope"), "{error}");
}

#[test]
fn a_file_that_is_something_else_is_damage() {
    for content in [&b"hello"[..], &[0; 10_000], b""] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), content).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(error, MetaError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(FILE_NAME), "{error}");
    }
}

#[test]
fn a_newer_format_is_refused() {
    let dir = filled();
    let database = builder().open(dir.path().join(FILE_NAME)).unwrap();
    let mut transaction = database.begin_write().unwrap();
    transaction.set_durability(Durability::Immediate).unwrap();
    transaction.open_table(STATE).unwrap().insert(FORMAT, 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = open(dir.path()).unwrap_err();
    assert!(
        matches!(error, MetaError::UnsupportedFormat { found: 2, supported: 1, .. }),
        "{error:?}"
    );
}

#[test]
fn rows_that_make_no_sense_are_damage() {
    let damages: [fn(&WriteTransaction); 6] = [
        |t| drop(t.open_table(STATE).unwrap().remove(NEXT_PRODUCER_ID).unwrap()),
        |t| drop(t.open_table(STATE).unwrap().insert(SESSION_EPOCH, -4).unwrap()),
        |t| drop(t.open_table(IDS).unwrap().remove(CLUSTER_ID).unwrap()),
        |t| drop(t.open_table(TOPICS).unwrap().insert(5, ("first", 1, 1, 0, false)).unwrap()),
        |t| drop(t.open_table(TOPICS).unwrap().insert(5, ("x", 0, 1, 0, false)).unwrap()),
        |t| drop(t.open_table(CONFIGS).unwrap().insert((2, "nope", "a"), "b").unwrap()),
    ];
    for damage in damages {
        let dir = filled();
        let database = builder().open(dir.path().join(FILE_NAME)).unwrap();
        let transaction = database.begin_write().unwrap();
        damage(&transaction);
        transaction.commit().unwrap();
        drop(database);
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(error, MetaError::Corrupt { .. }), "{error:?}");
    }
}

#[test]
fn a_copy_taken_while_open_opens_like_after_a_crash() {
    let dir = filled();
    let meta = open(dir.path()).unwrap();
    let ids = meta.allocate_producer_ids().unwrap();
    let crashed = tempfile::tempdir().unwrap();
    fs::copy(dir.path().join(FILE_NAME), crashed.path().join(FILE_NAME)).unwrap();
    let recovered = open(crashed.path()).unwrap();
    assert_eq!(recovered.image().topics(), meta.image().topics());
    assert_eq!(recovered.allocate_producer_ids().unwrap().start, ids.end);
}

#[test]
fn after_a_failed_write_nothing_is_written_or_shown() {
    let meta = EmbeddedMeta::in_memory(os_random()).unwrap();
    let before = meta.image();
    let failed = meta.writer().unwrap().commit(|_| Err(redb::StorageError::PreviousIo.into()));
    assert!(failed.is_err());
    let error = meta.create_topics(&[new_topic("t")], 0).unwrap_err();
    assert!(matches!(error, MetaError::Poisoned { .. }), "{error:?}");
    assert!(meta.allocate_producer_ids().is_err());
    assert_eq!(meta.image(), before);
}

#[test]
fn producer_ids_end_with_an_error() {
    let meta = EmbeddedMeta::in_memory(os_random()).unwrap();
    meta.writer.lock().unwrap().next_producer_id = i64::MAX - 5;
    let error = meta.allocate_producer_ids().unwrap_err();
    assert!(matches!(error, MetaError::Exhausted { .. }), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Damage either is noticed, or hit bytes that do not matter: never a panic, never other content.
    #[test]
    fn a_damaged_file_is_never_taken_for_a_good_one(
        position in any::<prop::sample::Index>(),
        length in 1_usize..5000,
        byte in any::<u8>(),
        cut in prop::bool::weighted(0.1),
    ) {
        let dir = filled();
        let path = dir.path().join(FILE_NAME);
        let mut bytes = fs::read(&path).unwrap();
        // Most of a fresh file is free space; the part in use is what is interesting.
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let at = position.index(used);
        if cut {
            bytes.truncate(at);
        } else {
            let end = (at + length).min(used);
            bytes[at..end].fill(byte);
        }
        fs::write(&path, bytes).unwrap();
        match open(dir.path()) {
            Ok(meta) => {
                let image = meta.image();
                prop_assert_eq!(image.topics().len(), 2);
                prop_assert_eq!(&image.topic("first").unwrap().configs["retention.ms"], "77");
                prop_assert_eq!(image.session_epoch(), 1);
            }
            Err(error) => prop_assert!(error.to_string().contains(FILE_NAME), "{}", error),
        }
    }
}
