//! What a peer can do to the port: connections that say nothing, floods of them, requests that are huge, slow or taken back.

use crate::caller::Port;
use crate::lab::net::Peer;
use h2::client::SendRequest;
use h2::{Reason, SendStream};
use http::HeaderMap;
use prost::bytes::Bytes;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// The largest gRPC message that lnd takes (lnrpc.MaxGrpcMsgSize).
const LARGEST: usize = 200 << 20;
/// Long after a connection on this network would have been accepted.
const SOON: Duration = Duration::from_secs(1);
/// How long an abuser waits for the end of what it does.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is sent at once.
static BLOCK: [u8; 64 << 10] = [0; 64 << 10];

/// How far an idle connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// It is accepted.
    Tcp,
    /// It has shaken hands.
    Tls,
}

/// Runs `work` at `peer`, asynchronously, to its end.
fn at<T: Send, F: Future<Output = T>>(peer: &Peer, work: impl FnOnce() -> F + Send) -> T {
    peer.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { work().await })
    })
}

/// Tries `count` connections at once from the address `from`, and holds those that come to be.
pub fn hold(peer: &Peer, port: &Port, from: &str, count: usize, idle: Idle) -> Vec<std::net::TcpStream> {
    let from: IpAddr = from.parse().expect("an address");
    at(peer, || async move {
        let connect = |port: Port| async move {
            let stream = timeout(SOON, port.connect(Some(from))).await.ok()?.ok()?;
            Some(match idle {
                Idle::Tcp => stream,
                Idle::Tls => timeout(PATIENCE, port.shake_hands(stream)).await.ok()?.ok()?.into_inner().0,
            })
        };
        let held = all((0..count).map(|_| connect(port.clone()))).await.into_iter().flatten();
        held.map(|stream: tokio::net::TcpStream| stream.into_std().expect("a socket")).collect()
    })
}

/// How many of the held connections the other side has not closed.
pub fn count_open(held: &[std::net::TcpStream]) -> usize {
    let open = |stream: &&std::net::TcpStream| match stream.peek(&mut [0]) {
        Ok(read) => read > 0,
        // Nothing to read: tokio's sockets do not block.
        Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
    };
    held.iter().filter(open).count()
}

/// Connects and hangs up, 256 at a time, for `lasting` and `count` times at least.
pub fn flood(peer: &Peer, port: &Port, from: &str, lasting: Duration, count: usize) {
    let from: IpAddr = from.parse().expect("an address");
    let start = Instant::now();
    let tried = Arc::new(AtomicUsize::new(0));
    at(peer, || async move {
        let one = |port: Port, tried: Arc<AtomicUsize>| async move {
            while start.elapsed() < lasting || tried.load(Ordering::Relaxed) < count {
                tried.fetch_add(1, Ordering::Relaxed);
                // A dropped packet would be sent again only after a second.
                let _ = timeout(Duration::from_millis(20), port.connect(Some(from))).await;
            }
        };
        all((0..256).map(|_| one(port.clone(), Arc::clone(&tried)))).await;
    });
}

/// Makes `count` calls with messages of [`LARGEST`] bytes at once, each on a connection of its own. Gives what came of each.
pub fn call_huge(
    peer: &Peer,
    port: &Port,
    from: &str,
    call: &'static str,
    macaroon: Option<&str>,
    count: usize,
) -> Vec<String> {
    let from: IpAddr = from.parse().expect("an address");
    at(peer, || async move {
        let one = |port: Port, macaroon: Option<String>| async move {
            let connection = Connection::open(&port, from).await?;
            connection.call_huge(call, macaroon.as_deref()).await
        };
        let calls = (0..count).map(|_| one(port.clone(), macaroon.map(str::to_owned)));
        all(calls).await.into_iter().map(|said: Result<String, String>| said.unwrap_or_else(|e| e)).collect()
    })
}

/// Makes twenty calls on each of `count` connections that promise huge messages and send them slowly, for `lasting`.
pub fn call_slowly(peer: &Peer, port: &Port, from: &str, count: usize, lasting: Duration) {
    let from: IpAddr = from.parse().expect("an address");
    at(peer, || async move {
        let one = |port: Port| async move {
            if let Ok(connection) = Connection::open(&port, from).await {
                let connection = Arc::new(connection);
                let slow = |connection: Arc<Connection>| async move { connection.call_slowly(CALLS[0], lasting).await };
                all((0..20).map(|_| slow(Arc::clone(&connection)))).await;
            }
        };
        all((0..count).map(|_| one(port.clone()))).await;
    });
}

/// Begins calls and takes each back at once, for `lasting` and `count` times at least.
pub fn reset_rapidly(peer: &Peer, port: &Port, from: &str, lasting: Duration, count: usize) {
    let from: IpAddr = from.parse().expect("an address");
    at(peer, || async move {
        let connection = Connection::open(port, from).await.expect("a connection");
        connection.reset_rapidly(CALLS[0], lasting, count).await.expect("calls");
    });
}

/// Does all of them at once.
async fn all<T: Send + 'static>(works: impl Iterator<Item = impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let tasks: Vec<_> = works.map(tokio::spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("no panic"));
    }
    results
}

/// Calls that lnd reads a byte field of any length for, in their first field.
pub const CALLS: [&str; 2] = ["/signrpc.Signer/SignMessage", "/walletrpc.WalletKit/SignPsbt"];

/// An HTTP/2 connection to lnd.
struct Connection {
    requests: SendRequest<Bytes>,
    _io: JoinHandle<()>,
}

impl Connection {
    /// Opens one, from `from`.
    async fn open(port: &Port, from: IpAddr) -> Result<Self, String> {
        let stream = timeout(PATIENCE, port.connect(Some(from))).await.map_err(|e| e.to_string())?;
        let stream = port.shake_hands(stream.map_err(|e| e.to_string())?).await.map_err(|e| e.to_string())?;
        let (requests, io) = h2::client::handshake(stream).await.map_err(|e| e.to_string())?;
        Ok(Self { requests, _io: tokio::spawn(async move { drop(io.await) }) })
    }

    /// Begins a call with `macaroon` (hex), if any.
    async fn begin(
        &self,
        call: &str,
        macaroon: Option<&str>,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), String> {
        let mut ready = self.requests.clone().ready().await.map_err(|e| e.to_string())?;
        let mut request = http::Request::post(format!("https://lnd{call}"));
        request = request.header("content-type", "application/grpc").header("te", "trailers");
        if let Some(macaroon) = macaroon {
            request = request.header("macaroon", macaroon);
        }
        ready.send_request(request.body(()).expect("a request"), false).map_err(|e| e.to_string())
    }

    /// Makes `call` with a message of [`LARGEST`] bytes. Gives what lnd said to it.
    async fn call_huge(&self, call: &str, macaroon: Option<&str>) -> Result<String, String> {
        let (response, mut body) = self.begin(call, macaroon).await?;
        let head = message_head(LARGEST);
        let mut left = LARGEST + 5 - head.len();
        // Where lnd answers before it has read all, that answer is what counts.
        let mut sent = send(&mut body, head).await;
        while left > 0 && sent.is_ok() {
            let block = Bytes::from_static(&BLOCK[..left.min(BLOCK.len())]);
            left -= block.len();
            sent = send(&mut body, block).await;
        }
        let sent = sent.and_then(|()| body.send_data(Bytes::new(), true).map_err(|e| e.to_string()));
        let response = timeout(PATIENCE, response).await.map_err(|e| e.to_string())?;
        let mut response = response.map_err(|e| sent.err().unwrap_or_else(|| e.to_string()))?;
        let status = |headers: &HeaderMap| {
            let code = headers.get("grpc-status")?.to_str().ok()?;
            let words = headers.get("grpc-message").and_then(|words| words.to_str().ok()).unwrap_or_default();
            Some(format!("{code} {words}"))
        };
        if let Some(status) = status(response.headers()) {
            return Ok(status);
        }
        while response.body_mut().data().await.transpose().map_err(|e| e.to_string())?.is_some() {}
        let trailers = response.body_mut().trailers().await.map_err(|e| e.to_string())?;
        Ok(trailers.as_ref().and_then(status).unwrap_or_default())
    }

    /// Promises a message of [`LARGEST`] bytes, and sends some of it once a tenth of a second for `lasting`, without an end.
    async fn call_slowly(&self, call: &str, lasting: Duration) -> Result<(), String> {
        let start = Instant::now();
        let (_response, mut body) = self.begin(call, None).await?;
        send(&mut body, message_head(LARGEST)).await?;
        while start.elapsed() < lasting {
            send(&mut body, Bytes::from_static(&BLOCK[..1024])).await?;
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Begins calls and takes each back at once, for `lasting` and `count` times at least.
    async fn reset_rapidly(&self, call: &str, lasting: Duration, count: usize) -> Result<(), String> {
        let start = Instant::now();
        let mut begun = 0;
        while start.elapsed() < lasting || begun < count {
            let (_response, mut body) = self.begin(call, None).await?;
            body.send_reset(Reason::CANCEL);
            begun += 1;
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

/// The five bytes of gRPC before a message of `length` bytes, and the head of its one field: number 1, bytes.
fn message_head(length: usize) -> Bytes {
    let mut field = vec![0x0a];
    // Tag and length take five bytes themselves.
    prost::encoding::encode_varint((length - 5) as u64, &mut field);
    assert_eq!(field.len(), 5);
    let length = u32::try_from(length).expect("gRPC's lengths have 32 bits").to_be_bytes();
    [&[0][..], &length, &field].concat().into()
}

/// Sends `bytes` as fast as the other side takes them.
async fn send(body: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), String> {
    while !bytes.is_empty() {
        body.reserve_capacity(bytes.len());
        let room = timeout(PATIENCE, poll_fn(|cx| body.poll_capacity(cx))).await.map_err(|e| e.to_string())?;
        let room = room.ok_or("the stream is closed")?.map_err(|e| e.to_string())?;
        body.send_data(bytes.split_to(room.min(bytes.len())), false).map_err(|e| e.to_string())?;
    }
    Ok(())
}
