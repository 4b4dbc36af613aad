//! Stands between clients and an honest broker, and spoils answers.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use kavka_protocol::{
    ApiKey, Message, Reader, Request,
    messages::{DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::{AbortHandle, JoinSet},
};

use crate::lies::{Lie, Numbers, Temper};

/// No honest frame of these tests is larger.
const MAX_FRAME_BYTES: usize = 64 << 20;

pub(crate) struct Proxy {
    address: SocketAddr,
    accepting: AbortHandle,
    lies: Arc<AtomicU64>,
}

/// What came in and is not answered yet: API and version.
type Asked = Arc<Mutex<VecDeque<(i16, i16)>>>;

impl Proxy {
    pub(crate) async fn start(broker: SocketAddr, seed: u64, temper: Temper) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lies = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&lies);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut seeds = Numbers::new(seed);
            while let Ok((client, _)) = listener.accept().await {
                let numbers = Numbers::new(seeds.next());
                let told = Arc::clone(&told);
                connections.spawn(async move {
                    // Whatever ends it, ends it: for the client it is a broker that closes.
                    let _ = serve(client, broker, address, numbers, temper, &told).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, accepting: accepting.abort_handle(), lies }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn lies(&self) -> u64 {
        self.lies.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    client: TcpStream,
    broker: SocketAddr,
    own: SocketAddr,
    numbers: Numbers,
    temper: Temper,
    told: &AtomicU64,
) -> std::io::Result<()> {
    let upstream = TcpStream::connect(broker).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (client_read, client_write) = client.into_split();
    let (broker_read, broker_write) = upstream.into_split();
    let asked = Asked::default();
    tokio::select! {
        done = pass_requests(client_read, broker_write, &asked) => done,
        done = spoil_answers(broker_read, client_write, &asked, own, numbers, temper, told) => done,
    }
}

async fn read_frame(read: &mut OwnedReadHalf) -> std::io::Result<Bytes> {
    let length = read.read_i32().await?;
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_FRAME_BYTES);
    let length = length.ok_or(std::io::ErrorKind::InvalidData)?;
    let mut frame = BytesMut::zeroed(length);
    read.read_exact(&mut frame).await?;
    Ok(frame.freeze())
}

async fn pass_requests(
    mut client: OwnedReadHalf,
    mut broker: OwnedWriteHalf,
    asked: &Asked,
) -> std::io::Result<()> {
    loop {
        let frame = read_frame(&mut client).await?;
        assert!(frame.len() >= 8, "a client sent a request without a header");
        let api = i16::from_be_bytes([frame[0], frame[1]]);
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        asked.lock().unwrap().push_back((api, version));
        broker.write_i32(i32::try_from(frame.len()).unwrap()).await?;
        broker.write_all(&frame).await?;
    }
}

async fn spoil_answers(
    mut broker: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    asked: &Asked,
    own: SocketAddr,
    mut numbers: Numbers,
    temper: Temper,
    told: &AtomicU64,
) -> std::io::Result<()> {
    let mut before = Bytes::new();
    loop {
        let frame = read_frame(&mut broker).await?;
        let (api, version) = asked.lock().unwrap().pop_front().unwrap();
        let api = ApiKey::from_code(api).unwrap();
        let honest = with_own_address(api, version, &frame, own);
        let lie = temper.lie(api, &mut numbers);
        if lie.is_some() {
            told.fetch_add(1, Ordering::Relaxed);
        }
        let answer = match lie {
            None => framed(&honest),
            Some(lie) => match lie.spoil(api, version, &honest, &before, &mut numbers) {
                Spoiled::Bytes(bytes) => bytes,
                Spoiled::ThenClose(bytes) => {
                    client.write_all(&bytes).await?;
                    return Ok(());
                }
                Spoiled::ThenSilence(bytes) => {
                    client.write_all(&bytes).await?;
                    // The other direction ends this when the client has had enough.
                    Notify::new().notified().await;
                    return Ok(());
                }
                Spoiled::Slowly(bytes) => {
                    for byte in bytes {
                        client.write_all(&[byte]).await?;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    continue;
                }
            },
        };
        client.write_all(&answer).await?;
        before = honest;
    }
}

/// What goes to the client in place of an answer; lengths included.
pub(crate) enum Spoiled {
    Bytes(Bytes),
    ThenClose(Bytes),
    ThenSilence(Bytes),
    Slowly(Bytes),
}

impl Lie {
    fn spoil(
        self,
        api: ApiKey,
        version: i16,
        honest: &Bytes,
        before: &Bytes,
        numbers: &mut Numbers,
    ) -> Spoiled {
        crate::lies::spoil(self, api, version, honest, before, numbers)
    }
}

pub(crate) fn framed(frame: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(frame.len() + 4);
    bytes.put_i32(i32::try_from(frame.len()).unwrap());
    bytes.put_slice(frame);
    bytes.freeze()
}

/// The header of an answer, and what is behind it.
pub(crate) fn split_header(api: ApiKey, version: i16, frame: &Bytes) -> (Bytes, Bytes) {
    let header = if api.response_header_version(version) > 0 { 5 } else { 4 };
    (frame.slice(..header), frame.slice(header..))
}

/// Decodes an answer, changes it, and encodes it again; `None` if it is not an answer of this kind.
pub(crate) fn change<R: Request>(
    version: i16,
    frame: &Bytes,
    change: impl FnOnce(&mut R::Response),
) -> Option<Bytes> {
    let (header, body) = split_header(R::API_KEY, version, frame);
    let mut response = R::Response::decode(&mut Reader::new(body), version).ok()?;
    change(&mut response);
    let body = response.to_bytes(version).ok()?;
    Some([header, body].concat().into())
}

/// Has the broker's addresses be the proxy's.
fn with_own_address(api: ApiKey, version: i16, frame: &Bytes, own: SocketAddr) -> Bytes {
    let (host, port) = (own.ip().to_string(), i32::from(own.port()));
    let changed = match api {
        ApiKey::Metadata => change::<MetadataRequest>(version, frame, |answer| {
            for broker in &mut answer.brokers {
                (broker.host, broker.port) = (host.as_str().into(), port);
            }
        }),
        ApiKey::FindCoordinator => change::<FindCoordinatorRequest>(version, frame, |answer| {
            // From version 4 on, several coordinators are told of in rows.
            if version < 4 {
                (answer.host, answer.port) = (host.as_str().into(), port);
            }
            for row in &mut answer.coordinators {
                (row.host, row.port) = (host.as_str().into(), port);
            }
        }),
        ApiKey::DescribeCluster => change::<DescribeClusterRequest>(version, frame, |answer| {
            for broker in &mut answer.brokers {
                (broker.host, broker.port) = (host.as_str().into(), port);
            }
        }),
        _ => return frame.clone(),
    };
    changed.expect("the test broker's answers are right")
}
