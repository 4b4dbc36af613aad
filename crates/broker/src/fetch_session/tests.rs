use super::*;

fn wanted(partition: i32, fetch_offset: i64) -> Wanted {
    Wanted {
        topic: TopicKey::Name("t".into()),
        partition,
        fetch_offset,
        max_bytes: 1,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
    }
}

fn request(id: i32, epoch: i32, wanted: Vec<Wanted>) -> SessionRequest {
    SessionRequest { id, epoch, wanted, forgotten: Vec::new(), by_topic_id: false }
}

fn told(high_watermark: i64, has_records: bool) -> Told {
    Told { high_watermark, log_start_offset: 0, has_records, error: ErrorCode::None }
}

const START: Monotonic = Monotonic::ORIGIN;

#[test]
fn an_incremental_answer_names_only_what_changed() {
    let sessions = FetchSessions::new(10, Machine::default());
    let first = sessions.plan(request(0, 0, vec![wanted(0, 5), wanted(1, 5)]), START).expect("new");
    assert_ne!(first.session_id, 0);
    assert_eq!(first.answer(&[told(5, false), told(5, false)]), [true, true], "full");

    let second = sessions.plan(request(first.session_id, 1, vec![]), START).expect("incremental");
    assert_eq!(second.wanted.len(), 2, "remembered");
    assert_eq!(second.answer(&[told(5, false), told(6, false)]), [false, true]);
}

#[test]
fn a_partition_with_records_goes_to_the_end_of_the_line() {
    let sessions = FetchSessions::new(10, Machine::default());
    let all = vec![wanted(0, 0), wanted(1, 0), wanted(2, 0)];
    let first = sessions.plan(request(0, 0, all), START).expect("new");
    first.answer(&[told(1, true), told(1, false), told(1, false)]);
    let second = sessions.plan(request(first.session_id, 1, vec![]), START).expect("incremental");
    let order: Vec<_> = second.wanted.iter().map(|wanted| wanted.partition).collect();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn after_an_error_the_next_good_answer_is_told() {
    let sessions = FetchSessions::new(10, Machine::default());
    let first = sessions.plan(request(0, 0, vec![wanted(0, 0)]), START).expect("new");
    first.answer(&[told(7, false)]);
    let second = sessions.plan(request(first.session_id, 1, vec![]), START).expect("second");
    let failed = Told { error: ErrorCode::KafkaStorageError, ..told(7, false) };
    assert_eq!(second.answer(&[failed]), [true]);
    let third = sessions.plan(request(first.session_id, 2, vec![]), START).expect("third");
    assert_eq!(third.answer(&[told(7, false)]), [true]);
}

#[test]
fn wrong_ids_and_epochs_are_refused() {
    let sessions = FetchSessions::new(10, Machine::default());
    let plan = sessions.plan(request(0, 0, vec![wanted(0, 0)]), START).expect("new");
    let id = plan.session_id;
    let refusal = |request| sessions.plan(request, START).map(|_| ()).expect_err("refused");
    assert_eq!(refusal(request(id + 1, 1, vec![])), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(refusal(request(id, 2, vec![])), ErrorCode::InvalidFetchSessionEpoch);
    let by_id = SessionRequest { by_topic_id: true, ..request(id, 1, vec![]) };
    assert_eq!(refusal(by_id), ErrorCode::FetchSessionTopicIdError);
    sessions.plan(request(id, 1, vec![]), START).expect("refusals change nothing");
}

#[test]
fn the_final_epoch_ends_the_session() {
    let sessions = FetchSessions::new(10, Machine::default());
    let id = sessions.plan(request(0, 0, vec![wanted(0, 0)]), START).expect("new").session_id;
    let last = sessions.plan(request(id, -1, vec![wanted(0, 0)]), START).expect("final");
    assert_eq!((last.session_id, last.wanted.len()), (0, 1));
    assert!(sessions.plan(request(id, 1, vec![]), START).is_err());
}

#[test]
fn a_full_cache_evicts_only_who_is_idle() {
    let sessions = FetchSessions::new(1, Machine::default());
    let id = sessions.plan(request(0, 0, vec![wanted(0, 0)]), START).expect("new").session_id;
    let refused = sessions.plan(request(0, 0, vec![wanted(1, 0)]), START).expect("sessionless");
    assert_eq!(refused.session_id, 0, "served all the same, without a session");
    let later = START + EVICT_AFTER + Duration::from_millis(1);
    assert_ne!(sessions.plan(request(0, 0, vec![wanted(1, 0)]), later).expect("new").session_id, 0);
    assert!(sessions.plan(request(id, 1, vec![]), later).is_err(), "evicted");
}

/// Whoever has a session keeps it while it is used; the others are served without one, round after round.
#[test]
fn kafka_17182_twice_as_many_clients_as_slots_do_not_take_sessions_from_each_other() {
    const SLOTS: usize = 4;
    let sessions = FetchSessions::new(SLOTS, Machine::default());
    let mut ids = [0; 2 * SLOTS];
    for round in 0..100 {
        let now = START + EVICT_AFTER / 2 * round;
        for (client, id) in ids.iter_mut().enumerate() {
            let partition = i32::try_from(client).expect("small");
            let offset = i64::from(round);
            let epoch = if *id == 0 { 0 } else { i32::try_from(round).expect("small") };
            let asked = request(*id, epoch, vec![wanted(partition, offset)]);
            let plan = sessions.plan(asked, now).expect("nobody is refused");
            assert_eq!(plan.wanted.len(), 1, "round {round}: client {client} is served");
            assert!(round == 0 || plan.session_id == *id, "round {round}: client {client}");
            *id = plan.session_id;
        }
    }
    assert_eq!(ids.iter().filter(|id| **id != 0).count(), SLOTS);
}

#[test]
fn a_session_without_partitions_is_closed() {
    let sessions = FetchSessions::new(10, Machine::default());
    let id = sessions.plan(request(0, 0, vec![wanted(0, 0)]), START).expect("new").session_id;
    let mut forget = request(id, 1, vec![]);
    forget.forgotten = vec![(TopicKey::Name("t".into()), 0)];
    assert_eq!(sessions.plan(forget, START).expect("closed").session_id, 0);
    assert!(sessions.plan(request(id, 2, vec![]), START).is_err());
}

#[test]
fn epochs_wrap_to_one() {
    assert_eq!(following(i32::MAX), 1);
}
