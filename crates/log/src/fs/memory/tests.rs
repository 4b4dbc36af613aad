//! The disk in memory is held to the simulated one, which the crash tests of the engine run on.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use kavka_protocol::SplitMix64;

use super::*;
use crate::testing::{SimFs, Survival};

/// Everything that can be seen: names, and bytes of files.
fn everything(fs: &dyn Fs, dir: &Path, seen: &mut BTreeMap<PathBuf, Option<Vec<u8>>>) {
    for entry in fs.list(dir).unwrap() {
        let path = dir.join(entry.name);
        if entry.is_dir {
            everything(fs, &path, seen);
            seen.insert(path, None);
        } else {
            let mut bytes = vec![0; usize::try_from(fs.file_len(&path).unwrap()).unwrap()];
            let file = fs.open(&path, OpenMode::Read).unwrap();
            assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
            seen.insert(path, Some(bytes));
        }
    }
}

fn seen(fs: &dyn Fs) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    everything(fs, Path::new("/"), &mut all);
    all
}

/// One change, chosen by the seed; whether it was possible.
fn change(fs: &dyn Fs, random: &mut SplitMix64) -> bool {
    let dir = PathBuf::from(format!("/d{}", random.below(3)));
    let mut file = || dir.join(format!("f{}", random.below(3)));
    let (one, other) = (file(), file());
    let done = match random.below(12) {
        0 => fs.create_dir_all(&dir),
        1 => fs.open(&one, OpenMode::Create).map(|_| ()),
        2 | 3 => fs.open(&one, OpenMode::Write).and_then(|file| {
            let bytes: Vec<u8> = (0..random.below(20)).map(|_| random.draw() as u8).collect();
            file.write_at(&bytes, random.below(30)).map(|_| ())
        }),
        4 => fs
            .open(&one, OpenMode::Write)
            .and_then(|file| file.write_at(b"end", file.size().unwrap()).map(|_| ())),
        5 => fs.open(&one, OpenMode::Write).and_then(|file| file.set_len(random.below(40))),
        6 | 7 => fs.open(&one, OpenMode::Write).and_then(|file| file.sync_data()),
        8 => fs.sync_dir(&dir),
        9 => fs.sync_dir(Path::new("/")),
        10 => fs.rename(&one, &other),
        _ => match random.below(2) {
            0 => fs.remove_file(&one),
            _ => fs.remove_dir(&dir),
        },
    };
    done.is_ok()
}

#[test]
fn what_survives_a_loss_of_power_is_what_was_synced() {
    for seed in 0..2000 {
        let (disk, mut simulated) = (MemoryDisk::new(), SimFs::default());
        let mut mount = disk.mount();
        let (mut here, mut there) = (SplitMix64::new(seed), SplitMix64::new(seed));
        for step in 0..120 {
            let context = format!("seed {seed}, step {step}");
            assert_eq!(change(&*mount, &mut here), change(&simulated, &mut there), "{context}");
            assert_eq!(seen(&*mount), seen(&simulated), "{context}");
            if step % 40 == 39 {
                disk.power_loss();
                simulated = simulated.crash(Survival::Synced);
                mount = disk.mount();
                assert_eq!(seen(&*mount), seen(&simulated), "{context}: after the loss");
            }
        }
    }
}

#[test]
fn an_earlier_life_can_touch_nothing_any_more() {
    let disk = MemoryDisk::new();
    let earlier = disk.mount();
    let path = Path::new("/file");
    let file = earlier.open(path, OpenMode::Create).unwrap();
    file.write_at(b"before", 0).unwrap();

    let later = disk.mount();
    assert_eq!(file.write_at(b"behind", 0).unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert_eq!(file.sync_data().unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert!(earlier.list(Path::new("/")).is_err());
    assert!(earlier.open(path, OpenMode::Read).is_err());
    // Nothing was lost: the power was not.
    let mut bytes = [0; 6];
    later.open(path, OpenMode::Read).unwrap().read_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"before");
}

#[test]
fn what_nobody_names_takes_no_memory() {
    let disk = MemoryDisk::new();
    let fs = disk.mount();
    let write = |name: &str| {
        let file = fs.open(Path::new(name), OpenMode::Create).unwrap();
        file.write_at(&[1; 100], 0).unwrap();
        file
    };
    let (kept, _brief) = (write("/kept"), write("/brief"));
    fs.remove_file(Path::new("/brief")).unwrap();
    assert_eq!(disk.used_bytes(), 100);
    fs.sync_dir(Path::new("/")).unwrap();
    fs.remove_file(Path::new("/kept")).unwrap();
    assert_eq!(disk.used_bytes(), 100, "its name may come back");
    fs.sync_dir(Path::new("/")).unwrap();
    assert_eq!(disk.used_bytes(), 0);
    assert_eq!(kept.size().unwrap(), 100, "who has it open still reads it");
}
