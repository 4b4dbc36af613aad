//! What the broker and its clients take for the machine they run on.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kavka_broker::Accept;
use kavka_client::environment::{Connecting, TimeAndChance, Transport};
use kavka_sim::Random;
use tokio::time::Instant;

use crate::network::{Host, Network};

/// A host's network, clock and chances.
pub(crate) struct Machine {
    network: Network,
    host: Host,
    random: Mutex<Random>,
    began: Instant,
    /// How far the host's clock is ahead.
    skew: Duration,
}

/// When every world begins.
const BEGINNING: Duration = Duration::from_secs(1_700_000_000);

impl Machine {
    pub(crate) fn new(network: Network, host: Host, mut random: Random, began: Instant) -> Self {
        let skew = random.millis(0, 5_000);
        Self { network, host, random: Mutex::new(random), began, skew }
    }
}

impl TimeAndChance for Machine {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + BEGINNING + self.skew + self.began.elapsed()
    }

    fn random(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).draw()
    }
}

impl kavka_client::environment::Environment for Machine {
    fn connect(&self, _: &str, _: u16) -> Connecting {
        let (network, host) = (self.network.clone(), self.host);
        Box::pin(async move {
            let end = network.connect(host).await?;
            Ok(Box::new(end) as Box<dyn Transport>)
        })
    }
}

impl kavka_broker::Environment for Machine {
    fn listen(&self, _: &str, _: u16) -> io::Result<Box<dyn Accept>> {
        Ok(self.network.listen())
    }
}
