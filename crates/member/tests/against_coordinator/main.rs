//! Members against the real coordinator: both machines in one thread, between them a network that delays, loses, cuts and lets
//! requests of different connections overtake each other, all from one seed.
//!
//! `KAVKA_SEEDS=1000` runs so many in place of the usual few. `KAVKA_SEED=7 cargo test -p kavka-member --test against_coordinator` runs one seed and prints what happens.
#![allow(clippy::unwrap_used)]

mod world;

use world::{Faults, Setup, World};

/// Runs worlds until `count` seeds have held, or the one that is asked for.
fn run(name: &str, count: u64, setup: impl Fn(u64) -> Setup + std::panic::RefUnwindSafe) {
    let seeds = match std::env::var("KAVKA_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).expect("KAVKA_SEED is a number"),
        Err(_) => match std::env::var("KAVKA_SEEDS") {
            Ok(many) => 0..many.parse().expect("KAVKA_SEEDS is a number"),
            Err(_) => 0..count,
        },
    };
    for seed in seeds {
        println!("{name}: seed {seed}");
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, setup(seed));
            world.run();
        });
        if let Err(panic) = result {
            eprintln!(
                "replay: KAVKA_SEED={seed} cargo test -p kavka-member --test against_coordinator {name}"
            );
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn eager_members_keep_the_invariants_and_converge() {
    run("eager", 40, |seed| Setup {
        cooperative: false,
        static_members: seed % 3 == 0,
        faults: Faults::swarm(seed),
        ..Setup::default()
    });
}

#[test]
fn cooperative_members_keep_the_invariants_and_converge() {
    run("cooperative", 40, |seed| Setup {
        cooperative: true,
        sticky: seed % 2 == 0,
        static_members: seed % 3 == 0,
        faults: Faults::swarm(seed),
        ..Setup::default()
    });
}

#[test]
fn without_faults_a_group_settles_at_once_and_stays() {
    run("without_faults", 6, |seed| Setup {
        cooperative: seed % 2 == 0,
        faults: Faults::none(),
        churn: false,
        ..Setup::default()
    });
}

#[test]
fn same_seed_gives_the_same_trace() {
    for seed in 0..4 {
        let setup = || Setup {
            cooperative: seed % 2 == 0,
            faults: Faults::swarm(seed),
            ..Setup::default()
        };
        let mut first = World::new(seed, setup());
        first.traced = true;
        first.run();
        let mut second = World::new(seed, setup());
        second.traced = true;
        second.run();
        assert_eq!(first.trace_hash(), second.trace_hash());
    }
}
