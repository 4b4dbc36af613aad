//! The bytes under a connection: a socket, with or without TLS.

use bytestring::ByteString;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::client::TlsStream;

use crate::{
    Error, ErrorKind,
    settings::{Address, CommonSettings},
};

/// What frames are written to and read from.
#[derive(Debug)]
pub(super) enum Stream {
    /// Bare TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to the first address of the host that answers.
pub(super) async fn connect(
    address: &Address,
    settings: &CommonSettings,
) -> Result<TcpStream, Error> {
    let failed = |why: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Connect, format!("cannot connect to {address}: {why}"))
    };
    let host = ByteString::as_ref(&address.host) as &str;
    let found =
        tokio::time::timeout(settings.connection_setup_timeout, lookup_host((host, address.port)));
    let candidates: Vec<_> = match found.await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => {
            return Err(failed(&format_args!("the name cannot be resolved: {error}")));
        }
        Err(_) => return Err(failed(&"the name was not resolved in time")),
    };
    let mut last = failed(&"the name has no address");
    for candidate in candidates {
        let attempt =
            tokio::time::timeout(settings.connection_setup_timeout, TcpStream::connect(candidate));
        match attempt.await {
            Ok(Ok(stream)) => return prepare(stream, settings).map_err(|error| failed(&error)),
            Ok(Err(error)) => last = failed(&error),
            Err(_) => last = failed(&format_args!("{candidate} did not answer in time")),
        }
    }
    Err(last)
}

fn prepare(stream: TcpStream, settings: &CommonSettings) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(&stream);
    if let Some(bytes) = settings.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = settings.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(stream)
}
