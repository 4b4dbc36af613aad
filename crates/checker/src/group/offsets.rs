//! Whether what is committed is found again.

use crate::{AnomalyKind, Committed, Limits, Metrics, evidence::Evidence};

use super::{
    linearizability::{Search, search},
    registers::{Read, Register, Registers},
};

pub(crate) fn check(
    registers: &Registers<'_>,
    limits: &Limits,
    evidence: &mut Evidence,
    metrics: &mut Metrics,
) {
    for ((group, partition), register) in &registers.registers {
        let subject = format!("{group}/{partition}");
        let known = evidence.anomalies.len();
        for read in &register.reads {
            found(&subject, register, read, evidence);
        }
        regress(&subject, register, evidence);
        metrics.registers += 1;
        match search(register, limits.max_search_steps) {
            Search::Linearizable => {}
            Search::Undecided => metrics.registers_undecided += 1,
            // What has a name of its own is told once.
            Search::Not { .. } if evidence.anomalies.len() > known => {}
            Search::Not { stuck_at } => evidence.bad(
                AnomalyKind::CommitNotLinearizable,
                &subject,
                format!(
                    "no order of the commits explains what was found; the longest one fails at {}",
                    show(stuck_at.value)
                ),
                [stuck_at.event],
            ),
        }
    }
}

/// One look at what is committed, by itself.
fn found(subject: &str, register: &Register<'_>, read: &Read<'_>, evidence: &mut Evidence) {
    if !register.possible(read).is_empty() {
        return;
    }
    let is_known = register.first_of(read.value).is_some_and(|write| write.start <= read.end);
    if !is_known {
        let refused = register.refused.iter().find(|write| write.value == read.value);
        let why = if refused.is_some() {
            "a commit of which was refused"
        } else {
            "which nobody had committed"
        };
        evidence.bad(
            AnomalyKind::CommitPhantom,
            subject,
            format!("{} was found, {why}", show(read.value)),
            refused.and_then(|write| write.event).into_iter().chain([read.event]),
        );
        return;
    }
    let start = register.overwritten_before(read.start);
    let lost = register.writes.iter().find(|write| write.start == start && write.end < read.start);
    evidence.bad(
        AnomalyKind::CommitLost,
        subject,
        format!(
            "{} was found, though {} had been acknowledged after it",
            show(read.value),
            show(lost.and_then(|write| write.value))
        ),
        lost.and_then(|write| write.event).into_iter().chain([read.event]),
    );
}

/// Two looks, one after the other, and the second found what was written before what the first found.
fn regress(subject: &str, register: &Register<'_>, evidence: &mut Evidence) {
    // What each look found began at the earliest then; in the order of the ends of the looks, the latest so far.
    let mut earliest: Vec<(u64, u64, &Read<'_>)> = register
        .reads
        .iter()
        .filter_map(|read| {
            Some((read.end, register.possible(read).iter().map(|write| write.start).min()?, read))
        })
        .collect();
    earliest.sort_by_key(|(end, start, read)| (*end, *start, read.event));
    for index in 1..earliest.len() {
        if earliest[index - 1].1 > earliest[index].1 {
            (earliest[index].1, earliest[index].2) = (earliest[index - 1].1, earliest[index - 1].2);
        }
    }
    for read in &register.reads {
        let before = earliest.partition_point(|(end, ..)| *end < read.start);
        let Some((_, start, first)) = before.checked_sub(1).map(|before| earliest[before]) else {
            continue;
        };
        let Some(over) = register.possible(read).iter().map(|write| write.end).max() else {
            continue;
        };
        if over < start {
            evidence.bad(
                AnomalyKind::CommitRegress,
                subject,
                format!(
                    "{} was found, later {}, which was committed before it",
                    show(first.value),
                    show(read.value)
                ),
                [first.event, read.event],
            );
        }
    }
}

fn show(value: Option<&Committed>) -> String {
    let Some(committed) = value else { return "nothing".to_owned() };
    let mut text = format!("offset {}", committed.offset);
    if committed.leader_epoch >= 0 {
        text.push_str(&format!(" of leader epoch {}", committed.leader_epoch));
    }
    if !committed.metadata.is_empty() {
        text.push_str(&format!(" with metadata {:?}", committed.metadata));
    }
    text
}
