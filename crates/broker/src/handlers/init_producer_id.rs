//! InitProducerId: a new producer id for an idempotent producer. Needs IDEMPOTENT_WRITE on the cluster.
//!
//! There are no transactions yet, so a transactional id is refused.
//!
//! # References
//! KIP-98, KIP-360.

use kavka_protocol::{
    ErrorCode,
    messages::{InitProducerIdRequest, InitProducerIdResponse},
};
use tracing::{error, warn};

use crate::dispatch::Context;

pub(crate) async fn handle(
    context: Context,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    if let Err(error_code) = check(&request) {
        if error_code == ErrorCode::TransactionalIdAuthorizationFailed {
            warn!(
                "refused the transactional id {}: there are no transactions yet",
                request.transactional_id.as_deref().unwrap_or_default()
            );
        }
        return failed(error_code);
    }
    match context.broker.producer_ids.next().await {
        // Whatever id and epoch the producer had before: it may not have been the last one to use them.
        Ok(producer_id) => {
            InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() }
        }
        Err(error) => {
            error!("cannot hand out a producer id: {error}");
            // Retriable in all clients, which other codes are not; a restart of the broker heals it.
            failed(ErrorCode::CoordinatorLoadInProgress)
        }
    }
}

fn check(request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    if request.transactional_id.as_ref().is_some_and(|id| id.is_empty())
        || (request.producer_id == -1) != (request.producer_epoch == -1)
    {
        return Err(ErrorCode::InvalidRequest);
    }
    match request.transactional_id {
        // Every client takes this as final and says so at once, where others make it try for ever.
        Some(_) => Err(ErrorCode::TransactionalIdAuthorizationFailed),
        None => Ok(()),
    }
}

fn failed(error_code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse { error_code, producer_epoch: -1, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producer_id_and_epoch_go_together_and_transactional_ids_are_refused() {
        let request = |id: Option<&str>, producer_id, producer_epoch| InitProducerIdRequest {
            transactional_id: id.map(Into::into),
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        assert_eq!(check(&request(None, -1, -1)), Ok(()));
        assert_eq!(check(&request(None, 5, 0)), Ok(()));
        assert_eq!(check(&request(None, 5, -1)), Err(ErrorCode::InvalidRequest));
        assert_eq!(check(&request(None, -1, 3)), Err(ErrorCode::InvalidRequest));
        assert_eq!(check(&request(Some(""), -1, -1)), Err(ErrorCode::InvalidRequest));
        let refused = Err(ErrorCode::TransactionalIdAuthorizationFailed);
        assert_eq!(check(&request(Some("tx"), -1, -1)), refused);
    }
}
