//! `kavka-sim explore`.

use std::time::Instant;

use anyhow::bail;
use kavka_sim::explore::{
    Limits, Path, Rules, Seen, Violation, explore, replay, replay_arguments, shortest,
};

/// What to explore, and how far.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rules: Rules,
    /// Not beyond so many steps. Exact: a state that is met again after fewer steps is visited again.
    #[arg(long)]
    depth: Option<usize>,
    /// Not beyond so many states. Without this and `--depth`, until every state was visited.
    #[arg(long)]
    states: Option<u64>,
    /// How many to visit at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
    /// Takes this path again, and tells what happens: `0.3.1.2`, as a violation prints it.
    #[arg(long)]
    path: Option<Path>,
    /// Gives the machines one bug after the other, of all or of these, and looks for a small world that finds it; the other settings
    /// do not count then. Only in a build with `--cfg kavka_mutants`.
    #[arg(long, num_args = 0.., value_name = "NAME")]
    mutants: Option<Vec<String>>,
}

/// For something that was found, a shorter way is looked for among so many states.
const STATES_FOR_A_SHORTER_WAY: usize = 150_000;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if let (None, Some(names)) = (&options.path, &options.mutants) {
        return hunt(names, options.states.unwrap_or(300_000), options.threads);
    }
    if let Some(path) = &options.path {
        // With a mutant, if one is named as well.
        #[cfg(kavka_mutants)]
        if let Some(name) = options.mutants.iter().flatten().next() {
            activate(name);
        }
        let (lines, held) = replay(&options.rules, path, true);
        lines.iter().for_each(|line| println!("{line}"));
        return held.map_err(|message| anyhow::anyhow!("{message}"));
    }
    let began = Instant::now();
    let limits = Limits {
        depth: options.depth,
        states: options.states.unwrap_or(u64::MAX),
        threads: options.threads.into(),
    };
    let seen = explore(&options.rules, limits, || {});
    let took = began.elapsed().as_secs_f64();
    let Seen { states, transitions, calm, max_depth, is_exhausted, violation } = seen;
    println!(
        "{states} distinct states, {transitions} transitions, {calm} calm states from which the group comes to rest, depth {max_depth}; \
         {took:.1} s, {:.0} states per second; {}",
        states as f64 / took,
        if is_exhausted { "exhausted" } else { "not exhausted" },
    );
    let Some(found) = violation else { return Ok(()) };
    let shorter = shortest(&options.rules, STATES_FOR_A_SHORTER_WAY);
    let Violation { message, path } = shorter.unwrap_or(found);
    let (lines, _) = replay(&options.rules, &path, false);
    println!("\n{message}");
    lines.iter().for_each(|line| println!("{line}"));
    println!(
        "  replay: cargo run --release -p kavka-sim -- explore{}",
        replay_arguments(&options.rules, &path)
    );
    bail!("not every state holds");
}

#[cfg(not(kavka_mutants))]
fn hunt(_: &[String], _: u64, _: u8) -> anyhow::Result<()> {
    bail!(
        "there are no mutants in this build: RUSTFLAGS='--cfg kavka_mutants' cargo run --target-dir target/mutants ..."
    )
}

/// The worlds in which a mutant is looked for, one after the other.
#[cfg(kavka_mutants)]
fn hunting_grounds() -> Vec<Rules> {
    let two = Rules { members: 2, settled: true, ..Rules::default() };
    let cooperative = Rules { cooperative: true, ..two.clone() };
    vec![
        two.clone(),
        Rules { auto_commit: true, ..cooperative.clone() },
        Rules { is_static: true, auto_commit: true, ..two.clone() },
        Rules { settled: false, is_static: true, perturbations: 1, ..two.clone() },
        Rules { settled: false, perturbations: 1, ..two },
        Rules { members: 3, ..cooperative },
    ]
}

/// Of the ones that there are.
#[cfg(kavka_mutants)]
fn activate(name: &str) {
    let known = kavka_sim::mutants::all().into_iter().find(|known| known.name == name);
    kavka_mutants::activate(known.map_or("", |known| known.name));
}

#[cfg(kavka_mutants)]
fn hunt(names: &[String], states: u64, threads: u8) -> anyhow::Result<()> {
    use std::sync::{Mutex, PoisonError};

    let began = Instant::now();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let all: Vec<&str> =
        kavka_sim::mutants::all().iter().map(|of| of.name).filter(|name| wanted(name)).collect();
    let next = Mutex::new(all.iter());
    let found = Mutex::new(0);
    let work = || {
        loop {
            let mutant = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(name) = mutant else { return };
            activate(name);
            let violation = hunting_grounds().into_iter().find_map(|rules| {
                let limits = Limits { depth: None, states, threads: 1 };
                let near = usize::try_from(states / 10).unwrap_or(usize::MAX);
                let found = shortest(&rules, near)
                    .or_else(|| explore(&rules, limits, || activate(name)).violation)?;
                Some((rules, found))
            });
            activate("");
            match violation {
                None => println!("| `{name}` | not found | | |"),
                Some((rules, Violation { message, path })) => {
                    *found.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    let words: String =
                        message.lines().next().unwrap_or("").chars().take(70).collect();
                    let arguments = replay_arguments(&rules, &path);
                    println!("| `{name}` | {} | `{}` | {words} |", path.len(), arguments.trim());
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{found} of {} mutants found in {:.0} s", all.len(), began.elapsed().as_secs_f64());
    anyhow::ensure!(found > 0, "none");
    Ok(())
}
