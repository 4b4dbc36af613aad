//! Cycles of what depends on what.
//!
//! An operation depends on another if it read what that wrote (wr), if it wrote right behind it (ww), if the same process did it
//! later (process), or if it began after the other was over (realtime). Kafka does not isolate the writes of
//! transactions from each other, so cycles with ww are told but allowed. A cycle without ww says that something was read before it was committed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    AnomalyKind,
    context::Context,
    evidence::Evidence,
    operation::{Operation, Outcome},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Wr,
    Ww,
    Process,
    Realtime,
}

impl Edge {
    fn name(self) -> &'static str {
        match self {
            Edge::Wr => "wr",
            Edge::Ww => "ww",
            Edge::Process => "process",
            Edge::Realtime => "realtime",
        }
    }
}

/// Which cycles are looked for, and of which edges; first those that are bad, then those that are allowed, small sets before large
/// ones. What contains something that was found before is not told again.
const SEARCHES: &[(AnomalyKind, bool, &[Edge])] = &[
    (AnomalyKind::G1c, false, &[Edge::Wr]),
    (AnomalyKind::G1cProcess, false, &[Edge::Wr, Edge::Process]),
    (AnomalyKind::G1cRealtime, false, &[Edge::Wr, Edge::Process, Edge::Realtime]),
    (AnomalyKind::G0, true, &[Edge::Ww]),
    (AnomalyKind::G0Process, true, &[Edge::Ww, Edge::Process]),
    (AnomalyKind::G0Realtime, true, &[Edge::Ww, Edge::Process, Edge::Realtime]),
    (AnomalyKind::G1c, true, &[Edge::Wr, Edge::Ww]),
    (AnomalyKind::G1cProcess, true, &[Edge::Wr, Edge::Ww, Edge::Process]),
    (AnomalyKind::G1cRealtime, true, &[Edge::Wr, Edge::Ww, Edge::Process, Edge::Realtime]),
];

pub(crate) fn check(context: &Context<'_>, evidence: &mut Evidence) {
    let graph = Graph::new(context);
    let mut found: Vec<BTreeSet<usize>> = Vec::new();
    for (kind, allowed, edges) in SEARCHES {
        for component in graph.components(edges) {
            if found.iter().any(|known| known.is_subset(&component)) {
                continue;
            }
            let Some(cycle) = graph.cycle(&component, edges) else { continue };
            found.push(component);
            evidence.add(
                *kind,
                *allowed,
                "",
                format!("a cycle of {} operations: {}", cycle.len(), describe(context, &cycle)),
                cycle.iter().map(|(node, _)| context.operations[*node].event()),
            );
        }
    }
}

fn describe(context: &Context<'_>, cycle: &[(usize, Edge)]) -> String {
    let name = |node: usize| {
        let operation = &context.operations[node];
        format!("{} of {} (event {})", operation.op.name(), operation.client, operation.event())
    };
    let mut text: String =
        cycle.iter().map(|(node, edge)| format!("{} -{}-> ", name(*node), edge.name())).collect();
    text.push_str(&name(cycle[0].0));
    text
}

/// What depends on each operation.
struct Graph {
    edges: Vec<BTreeSet<(usize, Edge)>>,
}

impl Graph {
    fn new(context: &Context<'_>) -> Self {
        let operations = &context.operations;
        let mut graph = Self { edges: vec![BTreeSet::new(); operations.len()] };
        for (node, operation) in operations.iter().enumerate() {
            if operation.outcome != Outcome::Ok {
                continue;
            }
            for (partition, records) in operation.reads() {
                let log = &context.versions.logs[partition];
                for record in records {
                    if let Some(write) = log.writes.get(&record.value) {
                        graph.add(write.operation, node, Edge::Wr);
                    }
                }
            }
        }
        for log in context.versions.logs.values() {
            let committed_writer = |value: &i64| {
                let writer = log.writes.get(value)?.operation;
                context.versions.committed.contains(&writer).then_some(writer)
            };
            let mut before: Option<usize> = None;
            for values in log.offsets.values() {
                let Some(writer) = values.keys().find_map(committed_writer) else { continue };
                if let Some(before) = before {
                    graph.add(before, writer, Edge::Ww);
                }
                before = Some(writer);
            }
        }
        graph.order_of_processes(context);
        graph.order_of_time(context);
        graph
    }

    fn add(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            self.edges[from].insert((to, edge));
        }
    }

    fn order_of_processes(&mut self, context: &Context<'_>) {
        let mut last: BTreeMap<u64, usize> = BTreeMap::new();
        for (node, operation) in context.operations.iter().enumerate() {
            if !is_node(context, node, operation) {
                continue;
            }
            if let Some(before) = last.insert(operation.process, node)
                && context.operations[before].outcome == Outcome::Ok
            {
                self.add(before, node, Edge::Process);
            }
        }
    }

    /// An edge from each operation to those that began after its end, leaving out what follows from other such edges.
    fn order_of_time(&mut self, context: &Context<'_>) {
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (node, operation) in context.operations.iter().enumerate() {
            if is_node(context, node, operation) {
                // Of one time, the beginning comes first: the two overlap.
                moments.push((operation.start, false, node));
                if operation.outcome == Outcome::Ok {
                    moments.push((operation.end, true, node));
                }
            }
        }
        moments.sort_unstable();
        let mut over: BTreeSet<usize> = BTreeSet::new();
        let mut before: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (_, is_end, node) in moments {
            if is_end {
                for implied in before.remove(&node).unwrap_or_default() {
                    over.remove(&implied);
                }
                over.insert(node);
            } else {
                for earlier in &over {
                    self.add(*earlier, node, Edge::Realtime);
                }
                before.insert(node, over.iter().copied().collect());
            }
        }
    }

    /// The strongly connected components of more than one operation, by Tarjan's algorithm, without recursion.
    fn components(&self, kinds: &[Edge]) -> Vec<BTreeSet<usize>> {
        const NEW: usize = usize::MAX;
        let count = self.edges.len();
        let (mut order, mut low) = (vec![NEW; count], vec![0; count]);
        let mut on_stack = vec![false; count];
        let (mut stack, mut found, mut next) = (Vec::new(), Vec::new(), 0);
        let successors = |node: usize| -> Vec<usize> {
            let of_kind = self.edges[node].iter().filter(|(_, edge)| kinds.contains(edge));
            of_kind.map(|(to, _)| *to).collect()
        };
        for root in 0..count {
            if order[root] != NEW {
                continue;
            }
            let mut work: Vec<(usize, Vec<usize>)> = vec![(root, successors(root))];
            (order[root], low[root], on_stack[root]) = (next, next, true);
            next += 1;
            stack.push(root);
            while let Some((node, left)) = work.last_mut() {
                let node = *node;
                if let Some(to) = left.pop() {
                    if order[to] == NEW {
                        (order[to], low[to], on_stack[to]) = (next, next, true);
                        next += 1;
                        stack.push(to);
                        work.push((to, successors(to)));
                    } else if on_stack[to] {
                        low[node] = low[node].min(order[to]);
                    }
                    continue;
                }
                work.pop();
                if let Some((parent, _)) = work.last() {
                    low[*parent] = low[*parent].min(low[node]);
                }
                if low[node] == order[node] {
                    let mut component = BTreeSet::new();
                    while let Some(member) = stack.pop() {
                        on_stack[member] = false;
                        component.insert(member);
                        if member == node {
                            break;
                        }
                    }
                    if component.len() > 1 {
                        found.push(component);
                    }
                }
            }
        }
        found
    }

    /// A short cycle within a component, through an edge of the last kind; an edge within a component is always part of a cycle.
    fn cycle(&self, component: &BTreeSet<usize>, kinds: &[Edge]) -> Option<Vec<(usize, Edge)>> {
        let inside = |node: usize| {
            let edges = self.edges[node].iter().copied();
            edges.filter(|(to, edge)| component.contains(to) && kinds.contains(edge))
        };
        let kind = *kinds.last()?;
        let start = *component.iter().find(|node| inside(**node).any(|(_, edge)| edge == kind))?;
        let (first, edge) = inside(start).find(|(_, edge)| *edge == kind)?;
        let mut came_from: BTreeMap<usize, (usize, Edge)> = BTreeMap::new();
        let mut queue = VecDeque::from([first]);
        while let Some(node) = queue.pop_front() {
            if node == start {
                break;
            }
            for (to, edge) in inside(node) {
                if to != first && !came_from.contains_key(&to) {
                    came_from.insert(to, (node, edge));
                    queue.push_back(to);
                }
            }
        }
        let mut back = Vec::new();
        let mut node = start;
        while node != first {
            let (from, edge) = came_from[&node];
            back.push((from, edge));
            node = from;
        }
        back.push((start, edge));
        back.reverse();
        Some(back)
    }
}

/// Whether an operation reads or writes records, and is known to have happened.
fn is_node(context: &Context<'_>, node: usize, operation: &Operation<'_>) -> bool {
    let happened = operation.outcome == Outcome::Ok || context.versions.committed.contains(&node);
    happened
        && matches!(
            operation.op,
            crate::Op::Send { .. } | crate::Op::Poll { .. } | crate::Op::Txn { .. }
        )
}
