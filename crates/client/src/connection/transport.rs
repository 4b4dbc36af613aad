//! The bytes under a connection: a socket.

use bytestring::ByteString;
use tokio::net::{TcpStream, lookup_host};

use crate::{
    Error, ErrorKind,
    settings::{Address, CommonSettings, SecurityProtocol},
};

/// What frames are written to and read from.
#[derive(Debug)]
pub(super) enum Stream {
    /// Bare TCP.
    Plain(TcpStream),
}

/// Connects to the first address of the host that answers.
pub(super) async fn connect(address: &Address, settings: &CommonSettings) -> Result<Stream, Error> {
    let failed = |why: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Connect, format!("cannot connect to {address}: {why}"))
    };
    if settings.security_protocol != SecurityProtocol::Plaintext {
        return Err(Error::new(
            ErrorKind::Config,
            "security.protocol: only PLAINTEXT is supported so far",
        ));
    }
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

fn prepare(stream: TcpStream, settings: &CommonSettings) -> std::io::Result<Stream> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(&stream);
    if let Some(bytes) = settings.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = settings.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(Stream::Plain(stream))
}
