//! Offsets: committed, read, removed, and what becomes of them when their topic goes.

use kavka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, create_topics_request::CreatableTopic,
};

use super::stage::{Join, Partitions, Stage};
use crate::topics;

type Done = anyhow::Result<()>;

const A: Partitions<'static> = &[("topic-a", &[0, 1, 2])];
/// Partitions that are there, some that are not, a topic that is not.
const MIXED: Partitions<'static> =
    &[("topic-a", &[0, 3, -1]), ("absent-topic", &[0]), ("topic-b", &[5]), ("topic-b", &[1])];

pub(super) fn commit_simple(s: &mut Stage<'_>) -> Done {
    for version in 2..=10 {
        s.new_group();
        for generation in [0, 1] {
            s.commit(version, ("", generation), A)?;
        }
        s.commit(version, ("unknown", 1), A)?;
        s.commit(version, ("unknown", -1), A)?;
        s.commit(version, ("", -1), A)?;
        s.look()?;
        s.commit(version, ("", -1), A)?;
        s.commit(version, ("", 0), A)?;
        s.commit(version, ("unknown", -1), A)?;
        let group = s.group();
        s.fetch(9, &[&group], None, false)?;
    }
    Ok(())
}

pub(super) fn commit_of_members(s: &mut Stage<'_>) -> Done {
    let (id, _) = s.member("a", &Join::default())?;
    s.commit(9, (&id, 1), A)?;
    s.commit(9, ("", -1), A)?;
    s.sync(5, &id, None, 1, &[&id])?;
    for (id, generation) in
        [(id.as_str(), 1), (&id, 0), (&id, 2), (&id, -1), ("", -1), ("", 1), ("x", 1)]
    {
        s.commit(9, (id, generation), A)?;
        s.commit(3, (id, generation), A)?;
    }
    s.join("p", &Join::default())?;
    s.join("a", &Join { id: &id, ..Join::default() })?;
    // While the rebalance waits for the other one.
    s.commit(9, (&id, 1), &[("topic-a", &[1])])?;
    s.leave(5, &[(&id, None)])?;
    s.commit(9, (&id, 1), A)?;
    s.commit(9, ("", -1), A)?;
    Ok(())
}

pub(super) fn commit_every_version(s: &mut Stage<'_>) -> Done {
    for version in 2..=10 {
        s.new_group();
        s.commit(version, ("", -1), MIXED)?;
        s.commit(version, ("", -1), &[("absent-topic", &[0])])?;
        s.commit(version, ("", -1), &[])?;
        s.commit(version, ("", -1), &[("topic-a", &[])])?;
        for length in [0, 4096, 4097] {
            s.commit_with(version, ("", -1), A, &"ä".repeat(length), -1)?;
        }
        if version <= 4 {
            for retention in [0, 1, 3_600_000] {
                s.commit_with(version, ("", -1), A, "", retention)?;
            }
        }
        let group = s.group();
        s.fetch(9, &[&group], None, false)?;
    }
    Ok(())
}

pub(super) fn fetch_every_version(s: &mut Stage<'_>) -> Done {
    s.commit(9, ("", -1), &[("topic-a", &[0, 2]), ("topic-b", &[1])])?;
    let group = s.group();
    for version in 1..=10 {
        for require_stable in [false, true] {
            if require_stable && version < 7 {
                continue;
            }
            for name in [group.as_str(), "absent", ""] {
                s.fetch(version, &[name], Some(MIXED), require_stable)?;
                s.fetch(version, &[name], Some(&[]), require_stable)?;
                if version >= 2 {
                    s.fetch(version, &[name], None, require_stable)?;
                }
            }
            if version >= 8 {
                s.fetch(version, &[], None, require_stable)?;
                s.fetch(version, &[&group, "absent", &group], None, require_stable)?;
            }
        }
    }
    Ok(())
}

pub(super) fn delete_offsets(s: &mut Stage<'_>) -> Done {
    s.delete_offsets_of("", A)?;
    s.delete_offsets(A)?;
    s.commit(9, ("", -1), &[("topic-a", &[0, 1]), ("topic-b", &[0, 1])])?;
    s.delete_offsets(&[])?;
    s.delete_offsets(MIXED)?;
    s.delete_offsets(&[("topic-a", &[1, 2])])?;
    let (id, _) = s.member("a", &Join::default())?;
    s.delete_offsets(&[("topic-b", &[0])])?;
    s.sync(5, &id, None, 1, &[&id])?;
    s.commit(9, (&id, 1), A)?;
    s.delete_offsets(&[("topic-a", &[0]), ("topic-b", &[0, 1])])?;
    s.leave(5, &[(&id, None)])?;
    s.delete_offsets(&[("topic-a", &[0, 0])])?;
    let group = s.group();
    s.fetch(9, &[&group], None, true)?;
    Ok(())
}

pub(super) fn delete_groups(s: &mut Stage<'_>) -> Done {
    for version in 0..=2 {
        s.new_group();
        let group = s.group();
        s.delete_groups(version, &[])?;
        s.delete_groups(version, &[&group, ""])?;
        let (id, _) = s.member("a", &Join::default())?;
        s.delete_groups(version, &[&group])?;
        s.sync(5, &id, None, 1, &[&id])?;
        s.commit(9, (&id, 1), A)?;
        s.delete_groups(version, &[&group, "absent"])?;
        s.leave(5, &[(&id, None)])?;
        s.delete_groups(version, &[&group])?;
        s.delete_groups(version, &[&group])?;
        s.look()?;
        s.fetch(9, &[&group], None, true)?;
        s.commit(9, ("", -1), A)?;
        s.delete_groups(version, &[&group])?;
        s.look()?;
    }
    Ok(())
}

pub(super) fn deleted_topic(s: &mut Stage<'_>) -> Done {
    let topic = s.name.clone();
    let make = CreatableTopic {
        name: topic.as_str().into(),
        num_partitions: 2,
        replication_factor: 1,
        ..Default::default()
    };
    s.pair.ask(7, |_| CreateTopicsRequest {
        topics: vec![make.clone()],
        timeout_ms: 30_000,
        ..Default::default()
    })?;
    topics::learn_id(s.pair, &topic)?;
    s.commit(9, ("", -1), &[(&topic, &[0, 1]), ("topic-a", &[0])])?;
    s.pair.ask(3, |_| DeleteTopicsRequest {
        topic_names: vec![topic.as_str().into()],
        timeout_ms: 30_000,
        ..Default::default()
    })?;
    topics::await_absence(s.pair, &topic)?;
    let group = s.group();
    s.fetch(9, &[&group], None, true)?;
    s.commit(9, ("", -1), &[(&topic, &[0])])?;
    s.commit(10, ("", -1), &[(&topic, &[0])])?;
    Ok(())
}
