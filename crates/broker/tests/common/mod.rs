//! A broker with a directory and settings of its own, and the test kit's client that speaks the protocol and nothing else.
#![allow(dead_code, unused_imports, unreachable_pub, clippy::unwrap_used)]

use std::path::Path;

use kavka_broker::{
    Broker, RunningBroker,
    config::{BrokerConfig, LoadOptions},
};
pub use kavka_testkit::raw::{
    PATIENCE, RawClient as Client, batch, decode_response, fetch_request, groups, now_ms,
    produce_request, values,
};

pub async fn start(data_dir: &Path) -> RunningBroker {
    start_with(data_dir, &[]).await
}

pub async fn start_with(data_dir: &Path, settings: &[(&str, &str)]) -> RunningBroker {
    let mut properties = vec![
        ("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned()),
        ("log.dirs".to_owned(), data_dir.to_str().unwrap().to_owned()),
        ("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned()),
    ];
    properties
        .extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let options =
        LoadOptions { file: None, properties, env: std::iter::empty(), reserved_env: &[] };
    let config = BrokerConfig::load(options).unwrap();
    Broker::start(config).await.unwrap()
}
