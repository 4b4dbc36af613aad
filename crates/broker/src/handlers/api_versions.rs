//! ApiVersions: what this broker can do. Open to everyone, before anything else.
//!
//! # References
//! KIP-511 (client software), KIP-584 (features), KIP-1242 (a client says whom it means to talk to).

use kavka_protocol::{
    ErrorCode,
    messages::{
        ApiVersionsRequest, ApiVersionsResponse,
        api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey},
    },
};

use crate::{api, dispatch::Context};

/// Name, lowest and highest level that this broker can work at, and the level it works at.
///
/// What is absent here is not there: without `transaction.version` a producer uses the first form of transactions, without
/// `group.version`, `share.version` and `streams.version` there are classic groups only.
const FEATURES: &[(&str, i16, i16, i16)] = &[("metadata.version", 7, 29, 29)];

pub(crate) async fn handle(context: Context, request: ApiVersionsRequest) -> ApiVersionsResponse {
    let image = context.broker.meta.image();
    let cluster_id = image.cluster_id().to_string();
    if let Err(error_code) =
        check(context.version, &request, &cluster_id, context.broker.config.node_id)
    {
        return ApiVersionsResponse { error_code, ..Default::default() };
    }
    ApiVersionsResponse {
        api_keys: api::advertised(),
        supported_features: supported_features(context.version),
        // Features change with the program, and another program means another session. Clients go by the highest epoch seen.
        finalized_features_epoch: i64::from(image.session_epoch()),
        finalized_features: FEATURES
            .iter()
            .map(|(name, _, _, level)| FinalizedFeatureKey {
                name: (*name).into(),
                max_version_level: *level,
                min_version_level: *level,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn check(
    version: i16,
    request: &ApiVersionsRequest,
    cluster_id: &str,
    node_id: i32,
) -> Result<(), ErrorCode> {
    if version >= 3
        && !(is_software_word(&request.client_software_name)
            && is_software_word(&request.client_software_version))
    {
        return Err(ErrorCode::InvalidRequest);
    }
    let other_cluster = request.cluster_id.as_deref().is_some_and(|id| id != cluster_id);
    let other_node = request.node_id != -1 && request.node_id != node_id;
    if version >= 5 && (other_cluster || other_node) {
        // The client took us for another broker: it must start over from its bootstrap servers.
        return Err(ErrorCode::RebootstrapRequired);
    }
    Ok(())
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_word(word: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = word.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

fn supported_features(version: i16) -> Vec<SupportedFeatureKey> {
    FEATURES
        .iter()
        // Before version 4 clients fail on a lowest level of 0.
        .filter(|(_, lowest, _, _)| version >= 4 || *lowest > 0)
        .map(|(name, lowest, highest, _)| SupportedFeatureKey {
            name: (*name).into(),
            min_version: *lowest,
            max_version: *highest,
            ..Default::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, version: &str) -> ApiVersionsRequest {
        ApiVersionsRequest {
            client_software_name: name.into(),
            client_software_version: version.into(),
            ..Default::default()
        }
    }

    #[test]
    fn software_names_are_words_from_version_3_on() {
        for good in ["a", "librdkafka", "1.2.3-RC1", "apache-kafka-java"] {
            assert_eq!(check(3, &request(good, good), "c", 1), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "a.", "a b", "ä", "a_b"] {
            assert_eq!(
                check(3, &request(bad, "1"), "c", 1),
                Err(ErrorCode::InvalidRequest),
                "{bad}"
            );
            assert_eq!(
                check(3, &request("a", bad), "c", 1),
                Err(ErrorCode::InvalidRequest),
                "{bad}"
            );
            assert_eq!(check(2, &request(bad, bad), "c", 1), Ok(()), "{bad}");
        }
    }

    #[test]
    fn a_client_that_means_another_broker_is_sent_back_to_its_bootstrap_servers() {
        let meant = |cluster_id: Option<&str>, node_id| {
            let cluster_id = cluster_id.map(Into::into);
            check(5, &ApiVersionsRequest { cluster_id, node_id, ..request("a", "1") }, "c", 1)
        };
        assert_eq!(meant(None, -1), Ok(()));
        assert_eq!(meant(Some("c"), 1), Ok(()));
        assert_eq!(meant(Some("other"), 1), Err(ErrorCode::RebootstrapRequired));
        assert_eq!(meant(Some("c"), 2), Err(ErrorCode::RebootstrapRequired));
    }
}
