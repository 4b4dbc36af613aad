//! The broker under load, as the command line names it.

use std::{net::SocketAddr, net::ToSocketAddrs, str::FromStr};

use anyhow::{Context, bail};

/// A broker: where it listens, and which process it is.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// What tables and JSON call it.
    pub(crate) name: String,
    /// Where it answers. One node: the coordinator of every group and the leader of every partition.
    pub(crate) address: SocketAddr,
    /// Its process on this machine. Without it there are no figures of CPU and memory.
    pub(crate) pid: Option<u32>,
}

impl FromStr for Target {
    type Err = anyhow::Error;

    /// Reads `HOST:PORT[,pid=N][,name=TEXT]`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.split(',');
        let host_port = parts.next().unwrap_or_default();
        let address = host_port
            .to_socket_addrs()
            .with_context(|| format!("'{host_port}' is not HOST:PORT"))?
            .next()
            .with_context(|| format!("'{host_port}' has no address"))?;
        let mut target = Target { name: host_port.to_owned(), address, pid: None };
        for part in parts {
            match part.split_once('=') {
                Some(("pid", pid)) => {
                    target.pid =
                        Some(pid.parse().with_context(|| format!("'{pid}' is not a process id"))?);
                }
                Some(("name", name)) if !name.is_empty() => target.name = name.to_owned(),
                _ => bail!("'{part}' is neither pid=N nor name=TEXT"),
            }
        }
        Ok(target)
    }
}
