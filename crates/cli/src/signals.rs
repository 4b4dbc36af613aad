//! What asks the process to stop: SIGTERM and SIGINT, or Ctrl-C where there are no signals.

#[cfg(unix)]
mod system {
    use anyhow::Context;
    use tokio::signal::unix::{Signal, SignalKind, signal};

    pub(crate) struct Signals {
        terminate: Signal,
        interrupt: Signal,
    }

    impl Signals {
        /// From now on the signals no longer end the process.
        pub(crate) fn new() -> anyhow::Result<Self> {
            Ok(Self {
                terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
                interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
            })
        }

        /// Waits for the next one; its name. Cancel safe.
        pub(crate) async fn next(&mut self) -> &'static str {
            tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
            }
        }
    }
}

#[cfg(not(unix))]
mod system {
    pub(crate) struct Signals;

    impl Signals {
        pub(crate) fn new() -> anyhow::Result<Self> {
            Ok(Self)
        }

        /// Waits for the next one; its name. Cancel safe.
        pub(crate) async fn next(&mut self) -> &'static str {
            if let Err(failed) = tokio::signal::ctrl_c().await {
                tracing::error!("cannot listen for Ctrl-C: {failed}");
                std::future::pending::<()>().await;
            }
            "Ctrl-C"
        }
    }
}

pub(crate) use system::Signals;
