//! The bytes under a connection: a socket, with or without TLS.

use bytestring::ByteString;
use kavka_environment::Socket;
use tokio::{
    net::{TcpStream, lookup_host},
    time::Instant,
};
use tokio_rustls::client::TlsStream;

use super::Setup;
use crate::{
    Error, ErrorKind,
    settings::{Address, CommonSettings},
};

/// What frames are written to and read from.
#[derive(Debug)]
pub(super) enum Stream {
    /// As they are.
    Plain(Socket),
    /// In TLS.
    Tls(Box<TlsStream<Socket>>),
}

/// Connects to the first address of the host that answers; says when that attempt began.
pub(super) async fn connect(
    address: &Address,
    settings: &CommonSettings,
    setup: Setup,
) -> Result<(Socket, Instant), Error> {
    let failed = |why: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Connect, format!("cannot connect to {address}: {why}"))
    };
    let host = ByteString::as_ref(&address.host) as &str;
    if let Some(environment) = settings.machine.environment() {
        let begun = Instant::now();
        let connecting = environment.connect(host, address.port);
        return match tokio::time::timeout_at(begun + setup.timeout, connecting).await {
            Ok(Ok(stream)) => Ok((Socket::Other(stream), begun)),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&"nobody answered in time")),
        };
    }
    let found = tokio::time::timeout(setup.timeout, lookup_host((host, address.port)));
    let mut candidates: Vec<_> = match found.await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => {
            return Err(failed(&format_args!("the name cannot be resolved: {error}")));
        }
        Err(_) => return Err(failed(&"the name was not resolved in time")),
    };
    turn(&mut candidates, setup.failures);
    let mut last = failed(&"the name has no address");
    for candidate in candidates {
        let begun = Instant::now();
        let attempt = tokio::time::timeout_at(begun + setup.timeout, TcpStream::connect(candidate));
        match attempt.await {
            Ok(Ok(stream)) => {
                let socket = prepare(stream, settings).map_err(|error| failed(&error))?;
                return Ok((Socket::Tcp(socket), begun));
            }
            Ok(Err(error)) => last = failed(&error),
            Err(_) => last = failed(&format_args!("{candidate} did not answer in time")),
        }
    }
    Err(last)
}

/// Begins with the next address after each failure: one may take connections and then not be of use.
fn turn<T>(candidates: &mut [T], failures: usize) {
    let length = candidates.len().max(1);
    candidates.rotate_left(failures % length);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn buffers_of_sockets_are_as_asked() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut sizes = Vec::new();
        for bytes in [None, Some(20_000), Some(60_000)] {
            let settings = CommonSettings {
                send_buffer_bytes: bytes,
                receive_buffer_bytes: bytes,
                ..Default::default()
            };
            let stream = TcpStream::connect(address).await.expect("a connection");
            let stream = prepare(stream, &settings).expect("a socket");
            assert!(stream.nodelay().expect("a socket"));
            let socket = socket2::SockRef::from(&stream);
            let sent = socket.send_buffer_size().expect("a size");
            sizes.push((sent, socket.recv_buffer_size().expect("a size")));
        }
        // Linux takes twice what it is asked for; others may round.
        for ((sent, received), asked) in sizes[1..].iter().zip([20_000, 60_000]) {
            let range = asked..=asked * 2;
            assert!(range.contains(sent) && range.contains(received), "{sizes:?}");
        }
        assert_ne!(sizes[0], sizes[1], "what the system chooses");
    }

    #[test]
    fn each_failure_lets_another_address_of_the_host_be_first() {
        let first = |failures| {
            let mut addresses = ["a", "b", "c"];
            turn(&mut addresses, failures);
            addresses[0]
        };
        assert_eq!([0, 1, 2, 3, 4].map(first), ["a", "b", "c", "a", "b"]);
        turn::<&str>(&mut [], 1);
    }
}
