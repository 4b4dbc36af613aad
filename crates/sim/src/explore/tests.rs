#![allow(clippy::unwrap_used)]

use super::*;

const SMALL: Limits = Limits { depth: None, states: 1_500, threads: 1 };

fn two_members() -> Rules {
    Rules { members: 2, perturbations: 1, settled: true, ..Rules::default() }
}

#[test]
fn the_first_states_of_small_worlds_hold() {
    crate::keep_panics();
    for rules in [
        Rules::default(),
        Rules { cooperative: true, ..two_members() },
        Rules { is_static: true, auto_commit: true, ..two_members() },
    ] {
        let seen = explore(&rules, SMALL, || {});
        assert!(seen.violation.is_none(), "{:?}", seen.violation);
        assert!(seen.states == 1_500 && !seen.is_exhausted, "{seen:?}");
    }
}

#[test]
fn a_world_that_nothing_happens_to_is_exhausted_and_two_threads_see_the_same_of_it() {
    let rules = Rules { members: 2, perturbations: 0, restarts: 0, ..Rules::default() };
    let limits = Limits { depth: None, states: u64::MAX, threads: 1 };
    let one = explore(&rules, limits, || {});
    let two = explore(&rules, Limits { threads: 2, ..limits }, || {});
    assert!(one.is_exhausted && two.is_exhausted, "{one:?} {two:?}");
    assert_eq!((one.states, one.transitions), (two.states, two.transitions));
}

#[test]
fn what_does_not_depend_on_each_other_leads_to_one_state_in_either_order() {
    let world = SmallWorld::new(&Rules { members: 2, ..Rules::default() });
    let take = |order: [usize; 2]| {
        let mut world = world.clone();
        for slot in order {
            let (acts, _) = world.acts();
            let of_slot = |act: &&Act| matches!(act, Act::Breaks { slot: of } if *of == slot);
            let act = *acts.iter().find(of_slot).unwrap();
            world.take(act);
        }
        world.fingerprint()
    };
    assert_eq!(take([0, 1]), take([1, 0]));
    assert_ne!(take([0, 1]), world.clone().fingerprint());
}

#[test]
fn heartbeats_lead_back_to_the_same_state() {
    let mut world = SmallWorld::new(&Rules { perturbations: 0, restarts: 0, ..two_members() });
    let mut fingerprints = std::collections::BTreeSet::new();
    let came_back = (0..200).any(|_| {
        let (acts, _) = world.acts();
        world.take(acts[0]);
        !fingerprints.insert(world.fingerprint())
    });
    assert!(came_back, "{} states of a group that nothing happens to", fingerprints.len());
}

#[test]
fn paths_are_written_and_read_and_lead_to_where_they_led() {
    let path: Path = "0.0.3.1".parse().unwrap();
    assert_eq!(path.to_string(), "0.0.3.1");
    assert_eq!("-".parse::<Path>().unwrap(), Path::default());
    "0.x".parse::<Path>().unwrap_err();
    let rules = two_members();
    let (lines, held) = replay(&rules, &path, true);
    assert_eq!(held, Ok(()));
    assert_eq!((lines, held), replay(&rules, &path, true));
    let (_, held) = replay(&rules, &Path(vec![999]), false);
    held.unwrap_err();
    assert_eq!(
        replay_arguments(&rules, &path),
        " --members 2 --perturbations 1 --settled --path 0.0.3.1"
    );
}
