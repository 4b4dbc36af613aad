//! Runs load on several connections at once, and tells what it cost the broker.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;

use crate::{process, target::Target};

/// What passed between the first request and the last answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Wall time.
    pub(crate) wall: Duration,
    /// CPU time of the broker process; `None` if its process is not known.
    pub(crate) broker_cpu: Option<Duration>,
    /// CPU time of this program.
    pub(crate) own_cpu: Duration,
}

/// Runs `work` once for each of `states`, each in a thread of its own, all from the same moment on.
///
/// # Errors
/// The first failure of any of them: a figure stands only if every request was answered without an error.
pub(crate) fn run<S: Send, T: Send>(
    target: &Target,
    states: Vec<S>,
    work: impl Fn(S) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<(Window, Vec<T>)> {
    let start = Barrier::new(states.len() + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = states
            .into_iter()
            .map(|state| {
                let (start, work) = (&start, &work);
                scope.spawn(move || {
                    start.wait();
                    work(state)
                })
            })
            .collect();
        // Read before the barrier opens, whatever the reading answers: an early return would leave the threads waiting.
        let before = Times::read(target);
        start.wait();
        let results: Vec<anyhow::Result<T>> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a load thread panicked"))))
            .collect();
        let window = before?.until(&Times::read(target)?);
        Ok((window, results.into_iter().collect::<anyhow::Result<Vec<T>>>()?))
    })
}

/// Clocks at one moment.
#[derive(Debug)]
pub(crate) struct Times {
    at: Instant,
    broker_cpu: Option<Duration>,
    own_cpu: Duration,
}

impl Times {
    /// Reads all of them.
    pub(crate) fn read(target: &Target) -> anyhow::Result<Times> {
        Ok(Times {
            broker_cpu: target.pid.map(process::cpu_time).transpose()?,
            own_cpu: process::own_cpu_time()?,
            at: Instant::now(),
        })
    }

    /// What passed from here to `later`.
    pub(crate) fn until(&self, later: &Times) -> Window {
        Window {
            wall: later.at.duration_since(self.at),
            broker_cpu: later
                .broker_cpu
                .zip(self.broker_cpu)
                .map(|(later, earlier)| later.saturating_sub(earlier)),
            own_cpu: later.own_cpu.saturating_sub(self.own_cpu),
        }
    }
}
