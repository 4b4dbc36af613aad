//! Rules: what becomes of chosen requests, in place of a network or a broker that fails.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kavka_broker::{InterceptedRequest, Interceptor, Verdict};
use kavka_protocol::{ApiKey, ErrorCode};
use tokio::sync::watch;

use crate::{Error, TestBroker};

/// Requests that the log keeps; of more, the newest.
const LOGGED: usize = 1 << 16;

/// All rules of a broker, and the log of what it was asked. They outlive its crashes.
#[derive(Default)]
pub(crate) struct Rules {
    rules: Mutex<Vec<Arc<State>>>,
    log: Mutex<VecDeque<SeenRequest>>,
}

/// A request that reached the broker: what it was, and who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenRequest {
    /// The API.
    pub api: ApiKey,
    /// The version.
    pub version: i16,
    /// `client.id`; empty if there is none.
    pub client_id: String,
    /// The groups that it was about.
    pub groups: Vec<String>,
    /// The topics that it was about.
    pub topics: Vec<String>,
}

/// Which requests a rule is for. Made by [`TestBroker::on`]; the methods that say what becomes of them put the rule in force.
#[derive(Debug)]
#[must_use = "a rule is in force only once it says what becomes of requests, such as by `fail`"]
pub struct RuleBuilder<'a> {
    rules: &'a Rules,
    selection: Selection,
    turns: Turns,
}

/// A rule in force, and how often it hit. Clones are the same rule. Dropping it leaves it in force: see [`remove`](Self::remove).
#[derive(Clone)]
pub struct Rule {
    state: Arc<State>,
}

/// What a rule looks at.
#[derive(Debug, Clone, Default)]
struct Selection {
    api: Option<ApiKey>,
    client_id: Option<String>,
    group: Option<String>,
    topic: Option<String>,
}

/// Which of the requests that are selected, counted from 1.
#[derive(Debug, Clone, Copy)]
struct Turns {
    from: u64,
    to: u64,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Action {
    Delay(Duration),
    DelayAnswer(Duration),
    Hold,
    HoldAnswer,
    Fail(ErrorCode),
    Ignore,
    LoseAnswer,
    Close,
    CloseUnanswered,
}

struct State {
    selection: Selection,
    turns: Turns,
    action: Action,
    /// Requests that were selected so far.
    selected: Mutex<u64>,
    /// Requests that the rule acted on so far.
    hits: watch::Sender<u64>,
    /// No more requests are looked at.
    removed: AtomicBool,
    /// What is held may go on.
    released: watch::Sender<bool>,
}

impl TestBroker {
    /// Begins a rule for requests of this API: which of them, and what becomes of them.
    ///
    /// Of the rules that are for a request, in the order in which they were made, the first acts whose turn it is. Those before
    /// it have counted the request, those after it have not seen it. A rule holds for all lives of the broker until it is
    /// removed.
    ///
    /// ```no_run
    /// # use kavka_testkit::{ApiKey, ErrorCode, TestBroker};
    /// # async fn example(broker: TestBroker) {
    /// let rule = broker
    ///     .on(ApiKey::Heartbeat)
    ///     .client_id("billing-1")
    ///     .first(2)
    ///     .fail(ErrorCode::NotCoordinator);
    /// // ...
    /// assert_eq!(rule.hits(), 2);
    /// # }
    /// ```
    pub fn on(&self, api: ApiKey) -> RuleBuilder<'_> {
        let selection = Selection { api: Some(api), ..Default::default() };
        RuleBuilder { selection, ..self.on_any() }
    }

    /// As [`on`](Self::on), for requests of any API.
    pub fn on_any(&self) -> RuleBuilder<'_> {
        let turns = Turns { from: 1, to: u64::MAX };
        RuleBuilder { rules: self.rules(), selection: Selection::default(), turns }
    }

    /// Removes all rules, as [`Rule::remove`] does.
    pub fn clear_rules(&self) {
        for state in std::mem::take(&mut *self.rules().rules()) {
            state.remove();
        }
    }

    /// Waits until the rule has acted on this many requests, and returns on how many it has.
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// [`Error::Hits`] after `timeout`. [`Error::Down`] when the broker is down or goes down.
    pub async fn wait_for_hits(
        &self,
        rule: &Rule,
        hits: u64,
        timeout: Duration,
    ) -> Result<u64, Error> {
        let mut watched = rule.state.hits.subscribe();
        let shown = rule.to_string();
        self.ask(async move |_| {
            let reached = watched.wait_for(|found| *found >= hits);
            let in_time = matches!(tokio::time::timeout(timeout, reached).await, Ok(Ok(_)));
            let found = *watched.borrow();
            if in_time {
                Ok(found)
            } else {
                Err(Error::Hits { rule: shown, wanted: hits, found, timeout })
            }
        })
        .await
    }

    /// The requests that reached the broker, oldest first, over all of its lives; the newest 65,536. Those that a rule acted on
    /// are among them, those that were no valid requests are not.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.rules().log().iter().cloned().collect()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.rules().log().clear();
    }
}

impl RuleBuilder<'_> {
    /// Only requests with this `client.id`.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.selection.client_id = Some(client_id.into());
        self
    }

    /// Only requests that are about this group, perhaps among others.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.selection.group = Some(group.into());
        self
    }

    /// Only requests that are about this topic, perhaps among others. A Fetch in a session names only topics that are new to
    /// the session or changed.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.selection.topic = Some(topic.into());
        self
    }

    /// Only the nth of these requests from now on, counted from 1.
    pub fn nth(mut self, n: u64) -> Self {
        self.turns = Turns { from: n, to: n };
        self
    }

    /// Only the first `n` of these requests from now on.
    pub fn first(mut self, n: u64) -> Self {
        self.turns = Turns { from: 1, to: n };
        self
    }

    /// None of the first `n` of these requests from now on, but all later ones.
    pub fn after(mut self, n: u64) -> Self {
        self.turns = Turns { from: n.saturating_add(1), to: u64::MAX };
        self
    }

    /// They are not handled and fail with this error. It stands in the answer where Kafka puts an error that concerns the request
    /// as a whole: at the top, or at each topic, partition or group that was asked about. A produce with acks=0 has no answer:
    /// its connection is closed.
    pub fn fail(self, error: ErrorCode) -> Rule {
        self.put_in_force(Action::Fail(error))
    }

    /// They are handled later by this long. Later requests of the same connection are worked on meanwhile, but their answers
    /// wait for those of earlier requests.
    pub fn delay(self, delay: Duration) -> Rule {
        self.put_in_force(Action::Delay(delay))
    }

    /// They are handled at once; their answers leave this much later.
    pub fn delay_answer(self, delay: Duration) -> Rule {
        self.put_in_force(Action::DelayAnswer(delay))
    }

    /// They wait until the rule is [released](Rule::release), or removed, and are handled then.
    pub fn hold(self) -> Rule {
        self.put_in_force(Action::Hold)
    }

    /// They are handled at once; their answers wait until the rule is [released](Rule::release), or removed.
    pub fn hold_answer(self) -> Rule {
        self.put_in_force(Action::HoldAnswer)
    }

    /// They are not handled and never answered, as if the broker hung: nothing after them on the same connection is answered
    /// either.
    pub fn ignore(self) -> Rule {
        self.put_in_force(Action::Ignore)
    }

    /// They are handled and never answered, as if the answer was lost: nothing after them on the same connection is answered
    /// either.
    pub fn lose_answer(self) -> Rule {
        self.put_in_force(Action::LoseAnswer)
    }

    /// They are not handled; the connection is closed.
    pub fn close(self) -> Rule {
        self.put_in_force(Action::Close)
    }

    /// They are handled; the connection is closed in place of an answer.
    pub fn close_unanswered(self) -> Rule {
        self.put_in_force(Action::CloseUnanswered)
    }

    fn put_in_force(self, action: Action) -> Rule {
        let state = Arc::new(State {
            selection: self.selection,
            turns: self.turns,
            action,
            selected: Mutex::new(0),
            hits: watch::Sender::new(0),
            removed: AtomicBool::new(false),
            released: watch::Sender::new(false),
        });
        self.rules.rules().push(Arc::clone(&state));
        Rule { state }
    }
}

impl Rule {
    /// On how many requests it acted so far.
    pub fn hits(&self) -> u64 {
        *self.state.hits.borrow()
    }

    /// Takes it out of force. What it holds goes on; what it delays is still delayed, and what it left unanswered stays so.
    pub fn remove(&self) {
        self.state.remove();
    }

    /// Lets what it holds go on, and holds nothing from now on. Without effect on rules that hold nothing.
    pub fn release(&self) {
        self.state.released.send_replace(true);
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.state, f)
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({}, {} hits)", self.state, self.hits())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Selection { api, client_id, group, topic } = &self.selection;
        match api {
            Some(api) => write!(f, "{api}")?,
            None => f.write_str("any request")?,
        }
        for (what, value) in [("client", client_id), ("group", group), ("topic", topic)] {
            if let Some(value) = value {
                write!(f, " {what}={value}")?;
            }
        }
        match self.turns {
            Turns { from: 1, to: u64::MAX } => {}
            Turns { from, to: u64::MAX } => write!(f, " after {}", from - 1)?,
            Turns { from, to } if from == to => write!(f, " number {from}")?,
            Turns { from, to } => write!(f, " number {from} to {to}")?,
        }
        match self.action {
            Action::Fail(error) => write!(f, ": fail with {}", error.name()),
            action => write!(f, ": {action:?}"),
        }
    }
}

impl State {
    fn remove(&self) {
        self.removed.store(true, Ordering::Release);
        self.released.send_replace(true);
    }

    /// What becomes of the request, if this rule says so.
    fn verdict(&self, request: &SeenRequest) -> Option<Verdict> {
        if self.removed.load(Ordering::Acquire) || !self.selection.has(request) {
            return None;
        }
        let turn = {
            let mut selected = self.selected.lock().unwrap_or_else(PoisonError::into_inner);
            *selected += 1;
            *selected
        };
        if !(self.turns.from..=self.turns.to).contains(&turn) {
            return None;
        }
        let verdict = match self.action {
            Action::Delay(delay) => Verdict::HandleAfter(Box::pin(sleep(delay))),
            Action::DelayAnswer(delay) => Verdict::AnswerAfter(Box::pin(sleep(delay))),
            Action::Hold => Verdict::HandleAfter(self.release()),
            Action::HoldAnswer => Verdict::AnswerAfter(self.release()),
            Action::Fail(error) => Verdict::Fail(error),
            Action::Ignore => Verdict::Ignore,
            Action::LoseAnswer => Verdict::LoseAnswer,
            Action::Close => Verdict::Close,
            Action::CloseUnanswered => Verdict::CloseUnanswered,
        };
        self.hits.send_modify(|hits| *hits += 1);
        Some(verdict)
    }

    /// Waits for the release.
    fn release(&self) -> kavka_broker::Wait {
        let mut released = self.released.subscribe();
        Box::pin(async move {
            // If the rule is gone, nobody can release it any more: then it holds nothing.
            let _ = released.wait_for(|released| *released).await;
        })
    }
}

/// From when the request came, however late it is polled first.
async fn sleep_until(end: Instant) {
    tokio::time::sleep_until(end.into()).await;
}

fn sleep(delay: Duration) -> impl Future<Output = ()> + Send {
    sleep_until(Instant::now() + delay)
}

impl Selection {
    fn has(&self, request: &SeenRequest) -> bool {
        self.api.is_none_or(|api| api == request.api)
            && self.client_id.as_ref().is_none_or(|client| *client == request.client_id)
            && self.group.as_ref().is_none_or(|group| request.groups.contains(group))
            && self.topic.as_ref().is_none_or(|topic| request.topics.contains(topic))
    }
}

impl Rules {
    fn rules(&self) -> MutexGuard<'_, Vec<Arc<State>>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, VecDeque<SeenRequest>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interceptor for Rules {
    fn intercept(&self, request: &InterceptedRequest) -> Verdict {
        let request = SeenRequest::from(request);
        let verdict = {
            let mut rules = self.rules();
            rules.retain(|rule| !rule.removed.load(Ordering::Acquire));
            rules.iter().find_map(|rule| rule.verdict(&request))
        };
        let mut log = self.log();
        if log.len() == LOGGED {
            log.pop_front();
        }
        log.push_back(request);
        verdict.unwrap_or(Verdict::Handle)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<_> = self.rules().iter().map(ToString::to_string).collect();
        f.debug_struct("Rules").field("rules", &rules).finish_non_exhaustive()
    }
}

impl From<&InterceptedRequest> for SeenRequest {
    fn from(request: &InterceptedRequest) -> Self {
        Self {
            api: request.api,
            version: request.version,
            client_id: request.client_id.as_deref().unwrap_or_default().to_owned(),
            groups: request.groups.iter().map(ToString::to_string).collect(),
            topics: request.topics.iter().map(ToString::to_string).collect(),
        }
    }
}
