//! Who may do what. Asked once for each request, in the dispatch, with the request's row of the table of APIs.

use crate::{api::Api, dispatch::Peer};

/// Decides whether a request goes to its handler.
pub(crate) trait Authorizer: Send + Sync {
    /// Whether `peer` may use this API: its `operation` on its `resource`.
    fn allows(&self, peer: &Peer, api: &Api) -> bool;
}

/// Everyone may do everything: there is no authentication yet.
#[derive(Debug)]
pub(crate) struct AllowAll;

impl Authorizer for AllowAll {
    fn allows(&self, _peer: &Peer, _api: &Api) -> bool {
        true
    }
}
