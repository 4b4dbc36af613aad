//! The bytes under a connection, and where connections come from: TCP, or what the broker's environment has in its place.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use kavka_environment::Socket;
use tokio::{io::AsyncWrite, net::TcpListener};

use crate::environment::{Accept, Accepted};

/// Where connections come from.
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Other(Box<dyn Accept>),
}

impl Acceptor {
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Acceptor::Tcp(listener) => listener.local_addr(),
            Acceptor::Other(acceptor) => acceptor.local_addr(),
        }
    }

    /// The next connection, who is at its other end, and the address here that it has connected to, if that is known.
    pub(super) async fn accept(&mut self) -> io::Result<(Socket, SocketAddr, Option<SocketAddr>)> {
        match self {
            Acceptor::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let local = stream.local_addr().ok();
                Ok((Socket::Tcp(stream), peer, local))
            }
            Acceptor::Other(acceptor) => {
                let accepted = std::future::poll_fn(|cx| acceptor.poll_accept(cx)).await?;
                let Accepted { stream, peer, local } = accepted;
                Ok((Socket::Other(stream), peer, Some(local)))
            }
        }
    }
}

/// Answers are written whole; waiting to fill a segment would only delay them.
pub(super) fn set_nodelay(socket: &Socket) -> io::Result<()> {
    match socket {
        Socket::Tcp(stream) => stream.set_nodelay(true),
        Socket::Other(_) => Ok(()),
    }
}

/// Writes as much of `slices` as there is room for; at least something when ready.
pub(super) fn poll_write_vectored(
    socket: &mut Socket,
    cx: &mut Context<'_>,
    slices: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match socket {
        // Tried first: mostly there is room, and nobody has to be woken.
        Socket::Tcp(stream) => loop {
            match stream.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!(stream.poll_write_ready(cx))?;
                }
                written => return Poll::Ready(written),
            }
        },
        Socket::Other(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
    }
}
