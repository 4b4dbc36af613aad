//! The limits that keep one client from hurting the others.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use crate::config::NetworkConfig;

const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Limits on connections and on the bytes they hold.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Largest request frame, in bytes, the four of its length left out. A larger one closes the connection.
    pub(crate) max_frame_bytes: usize,
    /// Bytes of requests and responses that may be in memory at once, over all connections. When they are used up, reading
    /// stops until answers have left.
    pub(crate) budget_bytes: usize,
    /// Connections at once.
    pub(crate) max_connections: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64.
    pub(crate) max_connections_per_ip: usize,
    /// The same, for some sources.
    pub(crate) max_connections_per_ip_overrides: BTreeMap<IpAddr, usize>,
    /// Connections accepted in one second.
    pub(crate) max_connections_per_second: u32,
    /// From accepting a connection to its first complete frame.
    pub(crate) first_frame_timeout: Duration,
    /// Without any request; `None`: for ever.
    pub(crate) idle_timeout: Option<Duration>,
    /// From the first byte of a frame; from then on it has to arrive at `frame_min_rate`.
    pub(crate) frame_grace: Duration,
    /// The slowest a frame may arrive, in bytes a second; 0 for any.
    pub(crate) frame_min_rate: u32,
    /// A client that takes nothing of its answers for this long is closed while memory is short.
    pub(crate) slow_reader_timeout: Duration,
    /// Memory is short when more of the budget than this is in use.
    pub(crate) slow_reader_budget_bytes: usize,
    /// Requests of one connection that are worked on at once. Answers leave in the order of the requests.
    pub(crate) max_in_flight: usize,
    /// Connections that the system may hold before they are accepted.
    pub(crate) backlog: u32,
    /// The socket's send buffer; `None` leaves it to the system.
    pub(crate) send_buffer_bytes: Option<usize>,
    /// The socket's receive buffer; `None` leaves it to the system.
    pub(crate) receive_buffer_bytes: Option<usize>,
    /// On a clean stop: how long answers under way may take to leave.
    pub(crate) drain_timeout: Duration,
}

impl Limits {
    /// The limits among the broker's settings.
    pub(crate) fn of(network: &NetworkConfig) -> Self {
        Self {
            max_frame_bytes: network.max_request_bytes,
            budget_bytes: network.budget_bytes,
            max_connections: network.max_connections,
            max_connections_per_ip: network.max_connections_per_ip,
            max_connections_per_ip_overrides: network.max_connections_per_ip_overrides.clone(),
            max_connections_per_second: network.max_connection_rate,
            first_frame_timeout: network.first_frame_timeout,
            idle_timeout: network.idle_timeout,
            frame_grace: network.frame_grace,
            frame_min_rate: network.frame_min_rate,
            slow_reader_timeout: network.slow_reader_timeout,
            slow_reader_budget_bytes: network.slow_reader_budget_bytes,
            max_in_flight: network.max_in_flight,
            backlog: network.backlog,
            send_buffer_bytes: network.send_buffer_bytes,
            receive_buffer_bytes: network.receive_buffer_bytes,
            drain_timeout: DRAIN_TIMEOUT,
        }
    }
}
