//! What clients ask of the coordinator and what it answers, read off the wire: commits, looks at what is committed, heartbeats.
//!
//! So the history has what the clients do by themselves too. An operation begins when the last byte of its request has left the
//! client, and ends when the last byte of its answer was read. An answer that never came leaves it open.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Buf, Bytes, BytesMut};
use kavka_checker::{Commit, CommitSource, Committed, EventKind, Member, Op, TopicPartition};
use kavka_protocol::{
    ApiKey, ErrorCode, Message, Reader, Uuid,
    messages::{
        HeartbeatRequest, HeartbeatResponse, OffsetCommitRequest, OffsetCommitResponse,
        OffsetFetchRequest, OffsetFetchResponse, RequestHeader, ResponseHeader, SyncGroupRequest,
    },
};

use crate::{
    coverage::{Deed, Seen},
    history::{Begun, Notebook},
    network::Host,
};

/// See the module.
pub(crate) struct Observer {
    notebook: Arc<Notebook>,
    seen: Arc<Seen>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: BTreeMap<u64, Conversation>,
    topics: BTreeMap<Uuid, String>,
    clients: BTreeMap<Host, Client>,
    /// The highest offsets that clients know to be committed, by group.
    acknowledged: BTreeMap<(String, TopicPartition), i64>,
}

#[derive(Default)]
struct Client {
    name: String,
    source: CommitSource,
    /// As whom it spoke to the coordinator last.
    member: Option<Member>,
}

#[derive(Default)]
struct Conversation {
    requests: BytesMut,
    answers: BytesMut,
    open: BTreeMap<i32, Open>,
}

struct Open {
    api: ApiKey,
    version: i16,
    begun: Begun,
}

impl Observer {
    pub(crate) fn new(notebook: Arc<Notebook>, seen: Arc<Seen>) -> Self {
        Self { notebook, seen, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A topic has this id.
    pub(crate) fn learn_topic(&self, id: Uuid, name: &str) {
        self.lock().topics.insert(id, name.to_owned());
    }

    /// A host is called so from now on, and the offsets that it commits come from there.
    pub(crate) fn name(&self, host: Host, name: &str, source: CommitSource) {
        let client = Client { name: name.to_owned(), source, member: None };
        self.lock().clients.insert(host, client);
    }

    /// As whom the client of a host spoke to the coordinator last.
    pub(crate) fn member(&self, host: Host) -> Option<Member> {
        self.lock().clients.get(&host)?.member.clone()
    }

    /// A client has written bytes.
    pub(crate) fn asked(&self, host: Host, link: u64, bytes: &[u8]) {
        let mut state = self.lock();
        let state = &mut *state;
        let conversation = state.links.entry(link).or_default();
        conversation.requests.extend_from_slice(bytes);
        while let Some(frame) = next_frame(&mut conversation.requests) {
            let client = state.clients.entry(host).or_default();
            let Some((header, api, body)) = read_request(frame) else { continue };
            let Some(op) = request(api, header.request_api_version, body, client, &state.topics)
            else {
                continue;
            };
            let begun = self.notebook.begin(&client.name, op);
            let open = Open { api, version: header.request_api_version, begun };
            conversation.open.insert(header.correlation_id, open);
        }
    }

    /// A client has read bytes.
    pub(crate) fn answered(&self, link: u64, bytes: &[u8]) {
        let mut state = self.lock();
        let State { links, topics, acknowledged, .. } = &mut *state;
        let conversation = links.entry(link).or_default();
        conversation.answers.extend_from_slice(bytes);
        while let Some(frame) = next_frame(&mut conversation.answers) {
            let Some(id) = frame.first_chunk::<4>().map(|id| i32::from_be_bytes(*id)) else {
                continue;
            };
            if let Some(open) = conversation.open.remove(&id) {
                answer(&self.notebook, &self.seen, open, frame, topics, acknowledged);
            }
        }
    }

    /// The highest offset of this partition that a client knows to be committed; 0 if there is none.
    pub(crate) fn acknowledged(&self, group: &str, at: &TopicPartition) -> i64 {
        let key = (group.to_owned(), at.clone());
        self.lock().acknowledged.get(&key).copied().unwrap_or(0)
    }

    /// A connection is over.
    pub(crate) fn gone(&self, link: u64) {
        self.lock().links.remove(&link);
    }
}

/// The next whole frame, without its length.
fn next_frame(bytes: &mut BytesMut) -> Option<Bytes> {
    let length = usize::try_from(i32::from_be_bytes(*bytes.first_chunk::<4>()?)).ok()?;
    if bytes.len() < 4 + length {
        return None;
    }
    bytes.advance(4);
    Some(bytes.split_to(length).freeze())
}

fn read_request(frame: Bytes) -> Option<(RequestHeader, ApiKey, Reader)> {
    let mut peek = frame.clone();
    let (key, version) = (peek.get_i16(), peek.get_i16());
    let api = ApiKey::from_code(key)?;
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader, api.request_header_version(version)).ok()?;
    Some((header, api, reader))
}

fn request(
    api: ApiKey,
    version: i16,
    mut body: Reader,
    client: &mut Client,
    topics: &BTreeMap<Uuid, String>,
) -> Option<Op> {
    match api {
        ApiKey::OffsetCommit => {
            let request = OffsetCommitRequest::decode(&mut body, version).ok()?;
            let generation = request.generation_id_or_member_epoch;
            let member = (!request.member_id.is_empty())
                .then(|| Member { member_id: request.member_id.to_string(), generation });
            let mut offsets = BTreeMap::new();
            for topic in &request.topics {
                for row in &topic.partitions {
                    let at = place(&topic.name, topic.topic_id, row.partition_index, topics);
                    let value = Committed {
                        offset: row.committed_offset,
                        leader_epoch: row.committed_leader_epoch,
                        metadata: row.committed_metadata.as_deref().unwrap_or("").to_owned(),
                    };
                    offsets.insert(at, value);
                }
            }
            let source = if member.is_some() { client.source } else { CommitSource::Chosen };
            let group = request.group_id.to_string();
            Some(Op::Commit(Commit { group, member, offsets, source, ..Commit::default() }))
        }
        ApiKey::OffsetFetch => {
            let request = OffsetFetchRequest::decode(&mut body, version).ok()?;
            let group = request.groups.first()?;
            // Who asks for everything is told nothing of what is not committed.
            group.topics.as_ref()?;
            let group = group.group_id.to_string();
            Some(Op::FetchOffsets { group, offsets: BTreeMap::new() })
        }
        ApiKey::Heartbeat => {
            let request = HeartbeatRequest::decode(&mut body, version).ok()?;
            let member = Member {
                member_id: request.member_id.to_string(),
                generation: request.generation_id,
            };
            client.member = Some(member.clone());
            Some(Op::Heartbeat { group: request.group_id.to_string(), member })
        }
        ApiKey::SyncGroup => {
            let request = SyncGroupRequest::decode(&mut body, version).ok()?;
            let member_id = request.member_id.to_string();
            client.member = Some(Member { member_id, generation: request.generation_id });
            None
        }
        _ => None,
    }
}

fn answer(
    notebook: &Notebook,
    seen: &Seen,
    open: Open,
    frame: Bytes,
    topics: &BTreeMap<Uuid, String>,
    acknowledged: &mut BTreeMap<(String, TopicPartition), i64>,
) {
    let Open { api, version, begun } = open;
    let mut body = Reader::new(frame);
    if ResponseHeader::decode(&mut body, api.response_header_version(version)).is_err() {
        return;
    }
    match api {
        ApiKey::OffsetCommit => {
            let Ok(response) = OffsetCommitResponse::decode(&mut body, version) else { return };
            let mut refused = BTreeSet::new();
            let mut all_refused = true;
            for topic in &response.topics {
                for row in &topic.partitions {
                    let at = place(&topic.name, topic.topic_id, row.partition_index, topics);
                    match row.error_code {
                        ErrorCode::None => all_refused = false,
                        // Written perhaps, and not known to be durable: left open.
                        ErrorCode::CoordinatorNotAvailable
                        | ErrorCode::NotCoordinator
                        | ErrorCode::CoordinatorLoadInProgress
                        | ErrorCode::RequestTimedOut => return,
                        _ => drop(refused.insert(at)),
                    }
                }
            }
            if all_refused {
                seen.deed(Deed::CommitRefused);
                notebook.end(begun, EventKind::Fail, |_| {});
            } else {
                seen.deed(Deed::Committed);
                notebook.end(begun, EventKind::Ok, |op| {
                    if let Op::Commit(commit) = op {
                        for (at, value) in &commit.offsets {
                            if !refused.contains(at) {
                                let key = (commit.group.clone(), at.clone());
                                let known = acknowledged.entry(key).or_default();
                                *known = value.offset.max(*known);
                            }
                        }
                        commit.failed = refused;
                    }
                });
            }
        }
        ApiKey::OffsetFetch => {
            let Ok(response) = OffsetFetchResponse::decode(&mut body, version) else { return };
            let Some(group) = response.groups.first() else { return };
            if group.error_code != ErrorCode::None {
                notebook.end(begun, EventKind::Fail, |_| {});
                return;
            }
            let mut found = BTreeMap::new();
            for topic in &group.topics {
                for row in topic.partitions.iter().filter(|row| row.error_code == ErrorCode::None) {
                    let at = place(&topic.name, topic.topic_id, row.partition_index, topics);
                    let value = (row.committed_offset >= 0).then(|| Committed {
                        offset: row.committed_offset,
                        leader_epoch: row.committed_leader_epoch,
                        metadata: row.metadata.as_deref().unwrap_or("").to_owned(),
                    });
                    found.insert(at, value);
                }
            }
            notebook.end(begun, EventKind::Ok, |op| {
                if let Op::FetchOffsets { offsets, .. } = op {
                    *offsets = found;
                }
            });
        }
        ApiKey::Heartbeat => {
            let Ok(response) = HeartbeatResponse::decode(&mut body, version) else { return };
            let kind = match response.error_code {
                ErrorCode::None | ErrorCode::RebalanceInProgress => EventKind::Ok,
                _ => EventKind::Fail,
            };
            notebook.end(begun, kind, |_| {});
        }
        _ => {}
    }
}

fn place(name: &str, id: Uuid, index: i32, topics: &BTreeMap<Uuid, String>) -> TopicPartition {
    let name = topics.get(&id).map_or(name, String::as_str);
    TopicPartition::new(name, u32::try_from(index).unwrap_or(0))
}
