//! A port that stays this broker's own while it is down.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use socket2::{Domain, SockAddr, Socket, Type};

/// A free port of 127.0.0.1.
///
/// A socket that is bound and never listens keeps it on Linux: nobody else is given the port while the broker is down, and
/// clients are refused as they are where nothing runs. Elsewhere a listening socket could not be bound beside it, and the port
/// is only remembered.
#[derive(Debug)]
pub(crate) struct Port {
    address: SocketAddr,
    _keeper: Option<Socket>,
}

impl Port {
    pub(crate) fn take() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let shares = cfg!(target_os = "linux");
        if shares {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self { address, _keeper: shares.then_some(socket) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
