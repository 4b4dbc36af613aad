//! Something is made wrong in valid histories, and the checker finds it: each way a thousand times.
// All mutators have one type; only some of them add or remove events.
#![allow(clippy::ptr_arg)]

use std::collections::BTreeSet;

use kavka_checker::{
    AnomalyKind as Kind, Commit, Committed, Event, EventKind, GroupState, History, Limits, Op,
    Record, Step, TopicPartition, check,
};

use crate::{random::Random, story::MS, valid};

/// Makes something wrong, unless there is nothing that could be.
type Mutator = fn(&mut Vec<Event>, &mut Random) -> Option<()>;

const OF_RECORDS: &[(&str, Mutator, &[Kind])] = &[
    ("a value in the middle is lost", lose_value, &[Kind::LostWrite]),
    ("the last value is lost", lose_last_value, &[Kind::Unseen]),
    ("two values change places in one poll", swap_values, &[Kind::InconsistentOffsets]),
    ("a value is there twice", copy_value, &[Kind::Duplicate]),
    ("an aborted value is read", reveal_aborted, &[Kind::AbortedRead]),
    ("a failed value is read", reveal_failed, &[Kind::AbortedRead]),
    ("a value comes from nowhere", invent_value, &[Kind::UnknownValue]),
    ("a consumer reads its last record again", read_again, &[Kind::NonmonotonicPoll]),
    ("a consumer leaves out a record", skip_first, &[Kind::PollSkip]),
    ("a poll leaves out a record", skip_within, &[Kind::IntPollSkip]),
    ("a poll goes backwards", turn_around, &[Kind::IntNonmonotonicPoll]),
    ("two sends overtake each other", reorder_sends, &[Kind::NonmonotonicSend]),
    ("a transaction stores in another order", reorder_within, &[Kind::IntNonmonotonicSend]),
    ("a transaction reads what it sends", read_own, &[Kind::PrecommittedRead]),
    ("two transactions read from each other", read_each_other, &[Kind::G1c]),
    ("a value is read before it is sent", read_the_future, &[Kind::G1cRealtime, Kind::G1cProcess]),
    ("two transactions consume a value", consume_twice, &[Kind::ConsumeCounts]),
];

const OF_GROUPS: &[(&str, Mutator, &[Kind])] = &[
    ("a commit is forgotten", forget_commit, &[Kind::CommitLost]),
    ("an older commit is found", rewind_commit, &[Kind::CommitLost]),
    ("metadata changes", change_metadata, &[Kind::CommitPhantom]),
    ("a refused commit is found", find_refused, &[Kind::CommitPhantom]),
    ("a look goes back", look_back, &[Kind::CommitRegress]),
    ("two commits change places", look_twice, &[Kind::CommitNotLinearizable]),
    ("a partition is not given back", keep_partition, &[Kind::DualOwnership]),
    ("a partition is given away twice", give_twice, &[Kind::DualOwnership]),
    ("a fenced commit is taken", take_fenced, &[Kind::CommitFromFenced]),
    ("a commit goes too far", overrun, &[Kind::CommitOverrun]),
    ("a consumer begins too early", begin_early, &[Kind::SpuriousReset, Kind::CommittedTooFar]),
    ("a consumer begins too late", begin_late, &[Kind::SpuriousReset]),
    ("a rebalance does not end", never_stable, &[Kind::StuckRebalance]),
    ("a partition is forgotten", forget_partition, &[Kind::OrphanPartition]),
    ("a generation comes again", lower_generation, &[Kind::GenerationRegress]),
    ("two partitions are exchanged", exchange, &[Kind::NeedlessMove]),
];

#[test]
fn what_is_made_wrong_with_records_is_found() {
    find(OF_RECORDS);
}

#[test]
fn what_is_made_wrong_with_groups_is_found() {
    find(OF_GROUPS);
}

fn find(mutators: &[(&str, Mutator, &[Kind])]) {
    const WANTED: usize = 1_000;
    let mut found = vec![0; mutators.len()];
    let limits = Limits::default();
    for seed in 0..40_000 {
        if found.iter().all(|found| *found >= WANTED) {
            break;
        }
        let history = valid::history(seed);
        for (index, (name, mutate, kinds)) in mutators.iter().enumerate() {
            if found[index] >= WANTED {
                continue;
            }
            let mut events = history.events.clone();
            let mut random = Random::new(seed ^ (index as u64) << 32);
            if mutate(&mut events, &mut random).is_none() {
                continue;
            }
            assert_ne!(events, history.events, "seed {seed}: {name}: nothing has changed");
            let report = check(&History::new(events), &limits).unwrap();
            assert!(
                kinds.iter().any(|kind| report.has(*kind)),
                "seed {seed}: {name}: {:#?}",
                report.anomalies
            );
            found[index] += 1;
        }
    }
    for ((name, ..), found) in mutators.iter().zip(found) {
        println!("{found:5} {name}");
        assert!(found >= WANTED, "{name}: only {found}");
    }
}

// What there is.

/// An operation that has ended.
#[derive(Clone, Copy)]
struct Done {
    invoke: usize,
    end: usize,
}

fn done(events: &[Event], kind: EventKind, is: impl Fn(&Op) -> bool) -> Vec<Done> {
    let ends = events.iter().enumerate().filter(|(_, event)| event.kind == kind && is(&event.op));
    ends.filter(|(_, event)| event.op.is_operation())
        .map(|(end, event)| {
            let is_begin =
                |other: &Event| other.process == event.process && other.kind == EventKind::Invoke;
            Done { invoke: events[..end].iter().rposition(is_begin).unwrap(), end }
        })
        .collect()
}

fn notes(events: &[Event], is: impl Fn(&Op) -> bool) -> Vec<usize> {
    (0..events.len()).filter(|index| is(&events[*index].op)).collect()
}

/// The records of an event that polls, of each partition.
fn lists_mut(op: &mut Op) -> Vec<(&TopicPartition, &mut Vec<Record>)> {
    match op {
        Op::Poll { records, .. } => records.iter_mut().collect(),
        Op::Txn { steps } => steps
            .iter_mut()
            .filter_map(|step| match step {
                Step::Poll { records } => Some(records.iter_mut()),
                _ => None,
            })
            .flatten()
            .collect(),
        _ => Vec::new(),
    }
}

fn list_mut<'e>(op: &'e mut Op, partition: &TopicPartition) -> &'e mut Vec<Record> {
    match op {
        Op::Poll { records, .. } => records.entry(partition.clone()).or_default(),
        Op::Txn { steps } => match &mut steps[0] {
            Step::Poll { records } => records.entry(partition.clone()).or_default(),
            _ => unreachable!("transactions begin with a poll"),
        },
        _ => unreachable!("only polls have records"),
    }
}

/// Polls with at least so many records of a partition.
fn polls(
    events: &[Event],
    least: usize,
    is: impl Fn(&Event) -> bool,
) -> Vec<(usize, TopicPartition)> {
    let mut found = Vec::new();
    for (index, event) in events.iter().enumerate() {
        if let (EventKind::Ok, Op::Poll { records, .. }) = (event.kind, &event.op)
            && is(event)
        {
            let many = records.iter().filter(|(_, list)| list.len() >= least);
            found.extend(many.map(|(partition, _)| (index, partition.clone())));
        }
    }
    found
}

fn is_final(event: &Event) -> bool {
    matches!(event.op, Op::Poll { last: true, .. })
}

/// What is in a partition's log, as the final polls find it.
fn log(events: &[Event], partition: &TopicPartition) -> Vec<Record> {
    let finals = events.iter().filter(|event| is_final(event));
    finals
        .filter_map(|event| match &event.op {
            Op::Poll { records, .. } => records.get(partition),
            _ => None,
        })
        .flatten()
        .copied()
        .collect()
}

/// Sends outside of transactions that were acknowledged: partition, value, offset.
fn acknowledged(events: &[Event]) -> Vec<(usize, TopicPartition, i64, Option<i64>)> {
    let ends = events.iter().enumerate().filter(|(_, event)| event.kind == EventKind::Ok);
    ends.filter_map(|(index, event)| match &event.op {
        Op::Send { partition, value, offset } => Some((index, partition.clone(), *value, *offset)),
        _ => None,
    })
    .collect()
}

fn remove_from_polls(events: &mut [Event], partition: &TopicPartition, value: i64) {
    for event in events {
        for (of, list) in lists_mut(&mut event.op) {
            if of == partition {
                list.retain(|record| record.value != value);
            }
        }
    }
}

/// Puts a record where its offset belongs.
fn insert(op: &mut Op, partition: &TopicPartition, record: Record) {
    let list = list_mut(op, partition);
    let at = list.iter().position(|other| other.offset > record.offset).unwrap_or(list.len());
    list.insert(at, record);
}

// Records.

fn lose_value(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let mut candidates = acknowledged(events);
    candidates.retain(|(_, partition, value, _)| {
        log(events, partition).last().is_some_and(|last| last.value != *value)
    });
    let (_, partition, value, offset) = random.pick(&candidates)?;
    offset.as_ref()?;
    remove_from_polls(events, partition, *value);
    Some(())
}

fn lose_last_value(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let mut candidates = acknowledged(events);
    candidates.retain(|(_, partition, value, _)| {
        log(events, partition).last().is_some_and(|last| last.value == *value)
    });
    let (_, partition, value, _) = random.pick(&candidates)?;
    remove_from_polls(events, partition, *value);
    Some(())
}

fn swap_values(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let known: BTreeSet<(TopicPartition, i64)> = acknowledged(events)
        .into_iter()
        .filter_map(|(_, partition, value, offset)| offset.map(|_| (partition, value)))
        .collect();
    let (poll, partition) = random.pick(&polls(events, 2, |_| true))?.clone();
    let list = list_mut(&mut events[poll].op, &partition);
    let at = random.below(list.len() as u64 - 1) as usize;
    if !known.contains(&(partition, list[at].value)) {
        return None;
    }
    let value = list[at].value;
    list[at].value = list[at + 1].value;
    list[at + 1].value = value;
    Some(())
}

fn copy_value(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let (poll, partition) = random.pick(&polls(events, 1, |_| true))?.clone();
    let copied = *random.pick(list_mut(&mut events[poll].op, &partition))?;
    let end = log(events, &partition).last()?.offset + 1;
    let last = polls(events, 1, is_final).into_iter().rfind(|(_, of)| *of == partition)?.0;
    insert(&mut events[last].op, &partition, Record { offset: end, value: copied.value });
    Some(())
}

fn reveal_aborted(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let aborted = done(events, EventKind::Fail, |op| matches!(op, Op::Txn { .. }));
    let Op::Txn { steps } = &events[random.pick(&aborted)?.end].op else { return None };
    let sent: Vec<(TopicPartition, Record)> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Send { partition, value, offset } => {
                Some((partition.clone(), Record { offset: (*offset)?, value: *value }))
            }
            _ => None,
        })
        .collect();
    let (partition, record) = random.pick(&sent)?.clone();
    let poll = *random.pick(&notes(events, |op| matches!(op, Op::Poll { last: true, .. })))?;
    if events[poll].kind != EventKind::Ok {
        return None;
    }
    insert(&mut events[poll].op, &partition, record);
    Some(())
}

fn reveal_failed(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let failed = done(events, EventKind::Fail, |op| matches!(op, Op::Send { .. }));
    let Op::Send { partition, value, .. } = events[random.pick(&failed)?.end].op.clone() else {
        return None;
    };
    let end = log(events, &partition).last()?.offset + 1;
    let last = polls(events, 1, is_final).into_iter().rfind(|(_, of)| *of == partition)?.0;
    insert(&mut events[last].op, &partition, Record { offset: end, value });
    Some(())
}

fn invent_value(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let (poll, partition) = random.pick(&polls(events, 1, |_| true))?.clone();
    let list = list_mut(&mut events[poll].op, &partition);
    let at = random.below(list.len() as u64) as usize;
    list[at].value = 1_000_000 + random.below(1_000_000) as i64;
    Some(())
}

/// Two polls of a client that reads what it wants, one right after the other: of a partition.
fn successive_polls(events: &[Event], least: usize) -> Vec<(usize, usize, TopicPartition)> {
    let reads = |event: &Event| event.client == "reader" || event.client == "final";
    let all = polls(events, 1, reads);
    let mut pairs = Vec::new();
    for (index, (poll, partition)) in all.iter().enumerate() {
        let same = |(other, of): &&(usize, TopicPartition)| {
            of == partition && events[*other].client == events[*poll].client
        };
        if let Some((before, _)) = all[..index].iter().rfind(same)
            && let Op::Poll { records, .. } = &events[*poll].op
            && records[partition].len() >= least
        {
            pairs.push((*before, *poll, partition.clone()));
        }
    }
    pairs
}

fn read_again(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let (before, after, partition) = random.pick(&successive_polls(events, 1))?.clone();
    let last = *list_mut(&mut events[before].op, &partition).last()?;
    list_mut(&mut events[after].op, &partition).insert(0, last);
    Some(())
}

fn skip_first(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let mut pairs = successive_polls(events, 2);
    // What the final polls leave out nobody may know of.
    pairs.retain(|(_, after, _)| events[*after].client == "reader");
    let (_, after, partition) = random.pick(&pairs)?.clone();
    list_mut(&mut events[after].op, &partition).remove(0);
    Some(())
}

/// Whether nothing was noted of the client while it polled.
fn is_undisturbed(events: &[Event], poll: usize) -> bool {
    let process = events[poll].process;
    let begin = events[..poll].iter().rposition(|event| event.process == process);
    let between = &events[begin.unwrap_or(0)..poll];
    between.iter().all(|event| event.client != events[poll].client || event.op.is_operation())
}

fn skip_within(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let (poll, partition) = random.pick(&polls(events, 3, |event| !is_final(event)))?.clone();
    if !is_undisturbed(events, poll) {
        return None;
    }
    let list = list_mut(&mut events[poll].op, &partition);
    list.remove(1 + random.below(list.len() as u64 - 2) as usize);
    Some(())
}

fn turn_around(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let (poll, partition) = random.pick(&polls(events, 2, |_| true))?.clone();
    if !is_undisturbed(events, poll) {
        return None;
    }
    let list = list_mut(&mut events[poll].op, &partition);
    let at = random.below(list.len() as u64 - 1) as usize;
    list.swap(at, at + 1);
    Some(())
}

/// As if two values had been stored in the places of each other, and everybody had seen that.
fn exchange_values(events: &mut [Event], partition: &TopicPartition, a: i64, b: i64) {
    let other = |value: i64| if value == a { b } else { a };
    let places: Vec<Record> = log(events, partition)
        .into_iter()
        .filter(|record| record.value == a || record.value == b)
        .collect();
    let offset_of =
        |value: i64| places.iter().find(|record| record.value == value).map(|record| record.offset);
    for event in events.iter_mut() {
        for (of, list) in lists_mut(&mut event.op) {
            let both = list.iter_mut().filter(|record| record.value == a || record.value == b);
            both.filter(|_| of == partition).for_each(|record| record.value = other(record.value));
        }
        let fix = |of: &TopicPartition, value: i64, offset: &mut Option<i64>| {
            if of == partition && (value == a || value == b) && offset.is_some() {
                *offset = offset_of(other(value));
            }
        };
        match &mut event.op {
            Op::Send { partition, value, offset } => fix(partition, *value, offset),
            Op::Txn { steps } => {
                for step in steps {
                    if let Step::Send { partition, value, offset } = step {
                        fix(partition, *value, offset);
                    }
                }
            }
            _ => {}
        }
    }
}

fn reorder_sends(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let sends = acknowledged(events);
    let (first, partition, a, _) = random.pick(&sends)?;
    let process = events[*first].process;
    let (_, _, b, _) = sends.iter().find(|(event, of, ..)| {
        event > first && of == partition && events[*event].process == process
    })?;
    exchange_values(events, partition, *a, *b);
    Some(())
}

fn reorder_within(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let committed = done(events, EventKind::Ok, |op| matches!(op, Op::Txn { .. }));
    let Op::Txn { steps } = &events[random.pick(&committed)?.end].op else { return None };
    let sent: Vec<(TopicPartition, i64)> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Send { partition, value, .. } => Some((partition.clone(), *value)),
            _ => None,
        })
        .collect();
    let [(partition, a), (_, b), ..] = &sent[..] else { return None };
    exchange_values(events, partition, *a, *b);
    Some(())
}

/// A transaction that committed, and a record that it sent.
fn committed_sends(events: &[Event]) -> Vec<(usize, TopicPartition, Record)> {
    let mut found = Vec::new();
    for done in done(events, EventKind::Ok, |op| matches!(op, Op::Txn { .. })) {
        let Op::Txn { steps } = &events[done.end].op else { continue };
        for step in steps {
            if let Step::Send { partition, value, offset: Some(offset) } = step {
                found.push((
                    done.end,
                    partition.clone(),
                    Record { offset: *offset, value: *value },
                ));
            }
        }
    }
    found
}

fn read_own(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let (txn, partition, record) = random.pick(&committed_sends(events))?.clone();
    insert(&mut events[txn].op, &partition, record);
    Some(())
}

fn read_each_other(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let sends = committed_sends(events);
    let (a, partition, of_a) = random.pick(&sends)?.clone();
    let others: Vec<_> = sends.into_iter().filter(|(txn, ..)| *txn != a).collect();
    let (b, _, of_b) = random.pick(&others)?.clone();
    insert(&mut events[a].op, &partition, of_b);
    insert(&mut events[b].op, &partition, of_a);
    Some(())
}

fn read_the_future(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let sends = done(events, EventKind::Ok, |op| matches!(op, Op::Send { .. }));
    let send = *random.pick(&sends)?;
    let Op::Send { partition, value, .. } = events[send.end].op.clone() else { return None };
    let record = log(events, &partition).into_iter().find(|record| record.value == value)?;
    let earlier: Vec<usize> = done(events, EventKind::Ok, |op| matches!(op, Op::Poll { .. }))
        .into_iter()
        .map(|poll| poll.end)
        .filter(|end| events[*end].time < events[send.invoke].time)
        .collect();
    insert(&mut events[*random.pick(&earlier)?].op, &partition, record);
    Some(())
}

fn consume_twice(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let committed = done(events, EventKind::Ok, |op| matches!(op, Op::Txn { .. }));
    let (first, second) = (*random.pick(&committed)?, *random.pick(&committed)?);
    let mut op = events[first.end].op.clone();
    let (partition, list) = lists_mut(&mut op).into_iter().next()?;
    if first.end == second.end {
        return None;
    }
    insert(&mut events[second.end].op, partition, *random.pick(list)?);
    Some(())
}

// Offsets.

/// What was written to the committed offset of a partition, and when: event of the beginning, event of the end if it is certain.
fn writes(
    events: &[Event],
    group: &str,
    partition: &TopicPartition,
) -> Vec<(usize, Option<usize>, Option<Committed>)> {
    let mut found = Vec::new();
    for (index, event) in
        events.iter().enumerate().filter(|(_, event)| event.kind == EventKind::Invoke)
    {
        let end = (index + 1..events.len())
            .find(|end| events[*end].process == event.process && events[*end].op.is_operation());
        let kind = end.map_or(EventKind::Info, |end| events[end].kind);
        if kind == EventKind::Fail {
            continue;
        }
        let certain = end.filter(|_| kind == EventKind::Ok);
        let commits: Vec<_> = match end.map_or(&event.op, |end| &events[end].op) {
            Op::Commit(commit) => vec![commit.clone()],
            Op::Txn { steps } => steps
                .iter()
                .filter_map(|step| {
                    if let Step::Commit(commit) = step { Some(commit.clone()) } else { None }
                })
                .collect(),
            Op::DeleteOffsets { group: of, partitions }
                if of == group && partitions.contains(partition) =>
            {
                found.push((index, certain, None));
                continue;
            }
            _ => continue,
        };
        for commit in commits.into_iter().filter(|commit| commit.group == group) {
            if let Some(value) = commit.offsets.get(partition) {
                found.push((index, certain, Some(value.clone())));
            }
        }
    }
    found
}

/// Looks at a committed offset that found something.
fn looks(
    events: &[Event],
    is: impl Fn(&str) -> bool,
) -> Vec<(Done, String, TopicPartition, Committed)> {
    let mut found = Vec::new();
    for look in done(events, EventKind::Ok, |op| matches!(op, Op::FetchOffsets { .. })) {
        if let Op::FetchOffsets { group, offsets } = &events[look.end].op
            && is(group)
        {
            for (partition, value) in offsets {
                if let Some(value) = value {
                    found.push((look, group.clone(), partition.clone(), value.clone()));
                }
            }
        }
    }
    found
}

fn set_look(
    events: &mut [Event],
    look: Done,
    partition: &TopicPartition,
    value: Option<Committed>,
) {
    let Op::FetchOffsets { offsets, .. } = &mut events[look.end].op else {
        unreachable!("it looks at offsets")
    };
    offsets.insert(partition.clone(), value);
}

fn forget_commit(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let (look, group, partition, _) = random.pick(&looks(events, |group| group != "h"))?.clone();
    let start = events[look.invoke].time;
    writes(events, &group, &partition)
        .iter()
        .find(|(_, end, _)| end.is_some_and(|end| events[end].time < start))?;
    set_look(events, look, &partition, None);
    Some(())
}

fn rewind_commit(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let (look, group, partition, _) = random.pick(&looks(events, |_| true))?.clone();
    let start = events[look.invoke].time;
    let writes = writes(events, &group, &partition);
    let over = |end: &Option<usize>| end.map_or(u64::MAX, |end| events[end].time);
    let newest = writes
        .iter()
        .filter(|(_, end, _)| over(end) < start)
        .map(|(begin, ..)| events[*begin].time)
        .max()?;
    let is_old = |value: &Option<Committed>| {
        writes.iter().filter(|(.., of)| of == value).all(|(_, end, _)| over(end) < newest)
    };
    let old: Vec<Committed> = writes
        .iter()
        .filter(|(.., value)| is_old(value))
        .filter_map(|(.., value)| value.clone())
        .collect();
    set_look(events, look, &partition, Some(random.pick(&old)?.clone()));
    Some(())
}

fn change_metadata(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let (look, _, partition, mut value) = random.pick(&looks(events, |_| true))?.clone();
    if random.percent(50) {
        value.metadata.push('!')
    } else {
        value.leader_epoch += 7
    }
    set_look(events, look, &partition, Some(value));
    Some(())
}

fn find_refused(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let refused = done(events, EventKind::Fail, |op| matches!(op, Op::Commit(_)));
    let Op::Commit(commit) = events[random.pick(&refused)?.end].op.clone() else { return None };
    let (partition, value) = commit.offsets.into_iter().next()?;
    if writes(events, &commit.group, &partition).iter().any(|(.., of)| of.as_ref() == Some(&value))
    {
        return None;
    }
    let later = looks(events, |group| group == commit.group);
    let (look, ..) = random.pick(&later)?;
    set_look(events, *look, &partition, Some(value));
    Some(())
}

/// Something that happens somewhere in the middle: each event a millisecond after the one before.
fn happens(events: &mut Vec<Event>, random: &mut Random, what: &[(u64, EventKind, Op)]) {
    let mut time = events[random.below(events.len() as u64) as usize].time;
    for (process, kind, op) in what {
        time += MS;
        events.push(Event::new(time, 900 + process, "mutant", *kind, op.clone()));
    }
    events.sort_by_key(|event| event.time);
}

fn commit_and_look(offset: i64) -> (Op, Op) {
    let partition = TopicPartition::new("t", 0);
    let committed = Committed::new(offset);
    let commit = Commit {
        group: "z".into(),
        offsets: [(partition.clone(), committed.clone())].into(),
        source: kavka_checker::CommitSource::Chosen,
        ..Default::default()
    };
    let look =
        Op::FetchOffsets { group: "z".into(), offsets: [(partition, Some(committed))].into() };
    (Op::Commit(commit), look)
}

fn look_back(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    use EventKind::{Invoke, Ok};
    let ((a, find_a), (b, find_b)) = (commit_and_look(1), commit_and_look(2));
    let what = [
        (0, Invoke, a.clone()),
        (0, Ok, a),
        (0, Invoke, b.clone()),
        (1, Invoke, find_b.clone()),
        (1, Ok, find_b),
        (1, Invoke, find_a.clone()),
        (1, Ok, find_a),
        (0, Ok, b),
    ];
    happens(events, random, &what);
    Some(())
}

fn look_twice(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    use EventKind::{Invoke, Ok};
    let ((a, find_a), (b, find_b)) = (commit_and_look(1), commit_and_look(2));
    let what = [
        (0, Invoke, a.clone()),
        (1, Invoke, b.clone()),
        (1, Ok, b),
        (0, Ok, a),
        (2, Invoke, find_b.clone()),
        (2, Ok, find_b),
        (2, Invoke, find_a.clone()),
        (2, Ok, find_a),
    ];
    happens(events, random, &what);
    Some(())
}

// Groups.

fn removals_noted(events: &[Event]) -> bool {
    events
        .iter()
        .any(|event| matches!(&event.op, Op::Group { settings, .. } if settings.removals_noted))
}

/// Who was given a partition, from which event to which: `(client, member id, from, to)`.
fn owners(events: &[Event], partition: &TopicPartition) -> Vec<(String, String, usize, usize)> {
    let mut found: Vec<(String, String, usize, usize)> = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let mut end = |client: &str| {
            for owner in &mut found {
                if owner.0 == client && owner.3 == usize::MAX {
                    owner.3 = index;
                }
            }
        };
        match &event.op {
            Op::Revoked { partitions, .. } | Op::Lost { partitions, .. }
                if partitions.contains(partition) =>
            {
                end(&event.client);
            }
            Op::Crash {} => end(&event.client),
            Op::Assigned { member, partitions, .. } if partitions.contains(partition) => {
                found.push((event.client.clone(), member.member_id.clone(), index, usize::MAX));
            }
            _ => {}
        }
    }
    found
}

fn was_removed(events: &[Event], member: &str, before: usize) -> bool {
    events[..before].iter().any(
        |event| matches!(&event.op, Op::MemberRemoved { member_id, .. } if member_id == member),
    )
}

fn any_partition(random: &mut Random) -> TopicPartition {
    TopicPartition::new("t", random.below(3) as u32)
}

fn keep_partition(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    if !removals_noted(events) {
        return None;
    }
    let partition = any_partition(random);
    let owners = owners(events, &partition);
    let handed: Vec<(usize, &str, usize)> = owners
        .windows(2)
        .filter(|pair| pair[0].0 != pair[1].0)
        .map(|pair| (pair[0].3, pair[0].1.as_str(), pair[1].2))
        .filter(|(end, member, next)| *end < *next && !was_removed(events, member, *next))
        .collect();
    let (end, _, next) = *random.pick(&handed)?;
    // It may go away in between.
    let client = events[end].client.clone();
    if events[..next].iter().any(|event| event.client == client && matches!(event.op, Op::Crash {}))
    {
        return None;
    }
    match &mut events[end].op {
        Op::Revoked { partitions, .. } | Op::Lost { partitions, .. } => {
            partitions.remove(&partition)
        }
        _ => return None,
    };
    Some(())
}

fn give_twice(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    if !removals_noted(events) {
        return None;
    }
    let partition = any_partition(random);
    let owners = owners(events, &partition);
    let assigned = notes(events, |op| matches!(op, Op::Assigned { .. }));
    let second = *random.pick(&assigned)?;
    let end = |to: usize| events.get(to).map_or(u64::MAX, |event| event.time);
    let now = events[second].time;
    owners.iter().find(|(client, member, from, to)| {
        *client != events[second].client
            && (from + 1..*to).contains(&second)
            && end(*to) > now
            && !was_removed(events, member, second)
    })?;
    let Op::Assigned { member, partitions, .. } = &mut events[second].op else { return None };
    let member = member.member_id.clone();
    partitions.insert(partition.clone());
    // It owns nothing if it was removed, whatever it believes, or if it gives everything back at once.
    let to =
        self::owners(events, &partition).into_iter().find(|(_, _, from, _)| *from == second)?.3;
    let lasts = events.get(to).is_none_or(|event| event.time > now);
    (lasts && !was_removed(events, &member, second)).then_some(())
}

fn take_fenced(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let mut refused =
        done(events, EventKind::Fail, |op| matches!(op, Op::Commit(commit) if commit.group == "g"));
    refused.retain(|refused| {
        let Op::Commit(Commit { member: Some(member), .. }) = &events[refused.end].op else {
            return false;
        };
        let (start, end) = (events[refused.invoke].time, events[refused.end].time);
        let was_empty_since = |time: u64| {
            events.iter().any(|event| {
                matches!(event.op, Op::GroupState { state: GroupState::Empty, .. })
                    && (time..=end).contains(&event.time)
            })
        };
        events.iter().take_while(|event| event.time < start).any(|event| match &event.op {
            Op::Assigned { member: other, .. } => {
                other.generation > member.generation && !was_empty_since(event.time)
            }
            Op::MemberRemoved { member_id, .. } => *member_id == member.member_id,
            _ => false,
        })
    });
    events[random.pick(&refused)?.end].kind = EventKind::Ok;
    Some(())
}

fn overrun(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let mut candidates: Vec<(Done, TopicPartition, i64)> = Vec::new();
    for commit in
        done(events, EventKind::Ok, |op| matches!(op, Op::Commit(commit) if commit.group == "g"))
    {
        let Op::Commit(committed) = &events[commit.end].op else { continue };
        let client = &events[commit.end].client;
        for partition in committed.offsets.keys() {
            let owned = owners(events, partition)
                .into_iter()
                .rfind(|(owner, _, from, _)| owner == client && *from < commit.invoke);
            let is_poll = |event: &&Event| {
                event.client == *client
                    && event.kind == EventKind::Ok
                    && matches!(&event.op, Op::Poll { records, .. } if records.contains_key(partition))
            };
            let Some((_, _, from, _)) = owned else { continue };
            let Some(last) = events[from..commit.invoke].iter().rfind(is_poll) else { continue };
            let Op::Poll { records, .. } = &last.op else { continue };
            let Some(seen) = records[partition].last() else { continue };
            let left_out =
                log(events, partition).into_iter().filter(|record| record.offset > seen.offset);
            candidates
                .extend(left_out.map(|record| (commit, partition.clone(), record.offset + 1)));
        }
    }
    let (commit, partition, offset) = random.pick(&candidates)?.clone();
    for index in [commit.invoke, commit.end] {
        let Op::Commit(commit) = &mut events[index].op else { return None };
        commit.offsets.get_mut(&partition)?.offset = offset;
    }
    Some(())
}

/// The first poll of a member, or the first with records, since it was assigned a partition: the poll, and the offsets that may
/// have been committed when it began.
fn beginnings(
    events: &[Event],
    partition: &TopicPartition,
    with_records: bool,
) -> Vec<(usize, Vec<i64>)> {
    let mut found = Vec::new();
    let writes = writes(events, "g", partition);
    for (client, _, from, to) in owners(events, partition) {
        let is_poll = |index: &usize| {
            let event = &events[*index];
            event.client == client
                && event.kind == EventKind::Ok
                && matches!(&event.op, Op::Poll { records, .. } if !with_records || records.contains_key(partition))
        };
        let Some(poll) = (from..to.min(events.len())).find(is_poll) else { continue };
        let over = |end: &Option<usize>| end.map_or(u64::MAX, |end| events[end].time);
        let newest = writes
            .iter()
            .filter(|(_, end, _)| over(end) < events[from].time)
            .map(|(begin, ..)| events[*begin].time)
            .max();
        let Some(newest) = newest else { continue };
        let possible = writes.iter().filter(|(begin, end, _)| {
            over(end) >= newest && events[*begin].time <= events[poll].time
        });
        found.push((
            poll,
            possible.filter_map(|(.., value)| Some(value.as_ref()?.offset)).collect(),
        ));
    }
    found
}

fn begin_early(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let mut candidates = Vec::new();
    for partition in (0..3).map(|partition| TopicPartition::new("t", partition)) {
        for (poll, committed) in beginnings(events, &partition, false) {
            let lowest = committed.into_iter().min().unwrap_or(0);
            let early =
                log(events, &partition).into_iter().filter(|record| record.offset + 1 < lowest);
            candidates.extend(early.map(|record| (poll, partition.clone(), record)));
        }
    }
    let (poll, partition, record) = random.pick(&candidates)?.clone();
    list_mut(&mut events[poll].op, &partition).insert(0, record);
    Some(())
}

fn begin_late(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let mut candidates = Vec::new();
    for partition in (0..3).map(|partition| TopicPartition::new("t", partition)) {
        for (poll, committed) in beginnings(events, &partition, true) {
            let Op::Poll { records, .. } = &events[poll].op else { continue };
            let list = &records[&partition];
            if list.len() >= 2 && committed.iter().all(|committed| list[0].offset >= *committed) {
                candidates.push((poll, partition.clone()));
            }
        }
    }
    let (poll, partition) = random.pick(&candidates)?.clone();
    list_mut(&mut events[poll].op, &partition).remove(0);
    Some(())
}

fn never_stable(events: &mut Vec<Event>, _: &mut Random) -> Option<()> {
    let states = notes(events, |op| matches!(op, Op::GroupState { .. }));
    let last = *states.last()?;
    matches!(events[last].op, Op::GroupState { state: GroupState::Stable, .. })
        .then(|| events.remove(last))?;
    Some(())
}

fn forget_partition(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let partition = any_partition(random);
    let (_, _, from, to) = owners(events, &partition).pop()?;
    let Op::Assigned { partitions, .. } = &mut events[from].op else { return None };
    partitions.remove(&partition);
    // Before it, nothing was settled.
    let settled = notes(events, |op| matches!(op, Op::Debug { .. })).pop()?;
    let unrest = events[..settled].iter().rposition(|event| {
        matches!(event.op, Op::Fault { .. } | Op::Crash {} | Op::Subscribe { .. })
    })?;
    (to == usize::MAX && from > unrest).then_some(())
}

fn lower_generation(events: &mut Vec<Event>, random: &mut Random) -> Option<()> {
    let assigned = notes(events, |op| matches!(op, Op::Assigned { .. }));
    let second = *random.pick(&assigned)?;
    let client = &events[second].client;
    let first =
        *assigned.iter().rfind(|index| **index < second && events[**index].client == *client)?;
    let between = events[first].time..=events[second].time;
    let is_empty = |event: &Event| {
        matches!(event.op, Op::GroupState { state: GroupState::Empty, .. })
            && between.contains(&event.time)
    };
    if events.iter().any(is_empty) {
        return None;
    }
    let Op::Assigned { member, .. } = events[first].op.clone() else { return None };
    let before = member.generation;
    let Op::Assigned { member, .. } = &mut events[second].op else { return None };
    member.generation = before - 1;
    Some(())
}

/// In the last generation, which came about for nothing, two members have exchanged a partition.
fn exchange(events: &mut Vec<Event>, _: &mut Random) -> Option<()> {
    if !removals_noted(events) {
        return None;
    }
    let assigned = notes(events, |op| matches!(op, Op::Assigned { .. }));
    let generation = |index: usize| match &events[index].op {
        Op::Assigned { member, partitions, .. } => (member.generation, partitions.first().cloned()),
        _ => (-1, None),
    };
    let last = assigned.iter().map(|index| generation(*index).0).max()?;
    let members: Vec<(usize, TopicPartition)> = assigned
        .into_iter()
        .filter(|index| generation(*index).0 == last)
        .filter_map(|index| Some((index, generation(index).1?)))
        .collect();
    let [(a, of_a), (b, of_b), ..] = &members[..] else { return None };
    for (index, gone, come) in [(*a, of_a, of_b), (*b, of_b, of_a)] {
        let Op::Assigned { partitions, .. } = &mut events[index].op else { return None };
        partitions.remove(gone);
        partitions.insert(come.clone());
    }
    Some(())
}
