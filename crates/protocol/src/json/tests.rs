#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::messages::{AlterClientQuotasRequest, ApiVersionsResponse, HeartbeatRequest};

#[test]
fn a_misspelled_name_is_an_error() {
    let value = json!({"groupId": "g", "generationId": 1, "memberId": "m", "groupInstance": null});
    let error = HeartbeatRequest::from_json(&value, 2).unwrap_err();
    assert_eq!(error.to_string(), "HeartbeatRequest: this version has no field \"groupInstance\"");
}

#[test]
fn a_missing_field_is_an_error() {
    let error = HeartbeatRequest::from_json(&json!({"groupId": "g"}), 0).unwrap_err();
    assert_eq!(error.to_string(), "HeartbeatRequest.generation_id: \"generationId\" is missing");
}

#[test]
fn a_number_out_of_range_is_an_error() {
    let value = json!({"groupId": "g", "generationId": 1_i64 << 31, "memberId": "m"});
    let error = HeartbeatRequest::from_json(&value, 0).unwrap_err();
    let expected = "HeartbeatRequest.generation_id: expected an int32, found 2147483648";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_version_that_the_schema_lacks_is_an_error() {
    let error = HeartbeatRequest::from_json(&json!({}), 5).unwrap_err();
    assert_eq!(error, JsonError::UnsupportedVersion { message: "HeartbeatRequest", version: 5 });
}

#[test]
fn tagged_fields_are_absent_at_their_default_and_in_versions_without_them() {
    let response = ApiVersionsResponse { finalized_features_epoch: 7, ..Default::default() };
    assert_eq!(response.to_json(3)["finalizedFeaturesEpoch"], 7);
    assert_eq!(ApiVersionsResponse::default().to_json(3).get("finalizedFeaturesEpoch"), None);
    assert_eq!(response.to_json(2).get("finalizedFeaturesEpoch"), None);
}

#[test]
fn floats_without_a_json_number_lead_back() {
    for value in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 0.1, f64::MIN_POSITIVE] {
        let read = f64::from_value(&value.to_value(0), 0, "value").unwrap();
        assert_eq!(read.to_bits(), value.to_bits());
    }
    let value = json!({"entries": [{"entity": [], "ops": [{"key": "k", "value": "much", "remove": false}]}],
        "validateOnly": false});
    assert!(AlterClientQuotasRequest::from_json(&value, 1).is_err());
}
