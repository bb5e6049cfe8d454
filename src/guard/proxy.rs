//! What stands between the port and lnd where a guard enforces: it passes on to lnd whatever comes, and back only what the guard
//! has proved that it was asked about (signer/fence.rs). It reads nothing of it: that is TLS between the caller and lnd.

use crate::error::{Code, Error, Result};
use crate::ui;
use futures_util::future::{Either, select};
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

const NO_GUARD: Code = Code::refused("E-GUARD-007");
const CANNOT: Code = Code::lacking("E-GUARD-006");

/// How many connections there may be at a time; as many as in lsm-proxy@.service.
const CONNECTIONS: usize = 64;
/// How much of lnd's answers is held back at a time, of each connection.
const HELD: usize = 64 << 10;
/// How long it waits where the system has nothing left for another connection.
const AGAIN: Duration = Duration::from_millis(100);

/// With so few bytes at most, in TLS, lnd acknowledges a request before it answers it (HTTP/2's PING and WINDOW_UPDATE).
const ACKNOWLEDGED: usize = 64;
/// How long such bytes wait for the answer, so that one proof does for both.
const FOR_ITS_ANSWER: Duration = Duration::from_millis(5);

/// Those who hold back what they have read of lnd, each until it is proved.
type Holding = mpsc::UnboundedSender<oneshot::Sender<()>>;

/// Passes connections to `port` on to `lnd`, as long as the guard at `fence` proves that it is asked.
///
/// # Errors
/// Where it cannot begin.
pub fn run(port: TcpListener, lnd: &Path, fence: &Path) -> Result<()> {
    let cannot = |e: io::Error| Error::new(CANNOT, format!("the port cannot be served: {e}")).because(e);
    port.set_nonblocking(true).map_err(cannot)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    runtime.block_on(async {
        let no_guard = |e| Error::new(NO_GUARD, format!("the guard cannot be asked for its proof: {e}")).because(e);
        let port = tokio::net::TcpListener::from_std(port).map_err(cannot)?;
        let guard = UnixStream::connect(fence).await.map_err(no_guard)?;
        let (holding, held) = mpsc::unbounded_channel();
        tokio::spawn(accept(port, Arc::from(lnd), holding));
        // With the runtime all connections end.
        if let Err(e) = prove(guard, held).await {
            ui::note(&format!("lnd's answers are held back, and all connections cut: the guard proves nothing ({e})"));
        }
        Ok(())
    })
}

/// Has the guard prove that it was asked about what was read of lnd before, for all who wait for that.
async fn prove(mut guard: UnixStream, mut held: mpsc::UnboundedReceiver<oneshot::Sender<()>>) -> io::Result<()> {
    loop {
        // Who waits now has read before the proof begins; who comes later waits for the next one.
        let mut waiting = Vec::new();
        if held.recv_many(&mut waiting, CONNECTIONS).await == 0 {
            return Ok(());
        }
        guard.write_all(&[0]).await?;
        guard.read_exact(&mut [0]).await?;
        for one in waiting {
            // It may have hung up.
            let _ = one.send(());
        }
    }
}

async fn accept(port: tokio::net::TcpListener, lnd: Arc<Path>, holding: Holding) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((caller, _)) = port.accept().await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        // Who is one too many is hung up on.
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let (lnd, holding) = (Arc::clone(&lnd), holding.clone());
        tokio::spawn(async move {
            // That either of them hangs up is an end as good as any.
            let _ = pass(caller, &lnd, &holding).await;
            drop(place);
        });
    }
}

/// Passes everything on between the two until either has no more to say.
async fn pass(caller: TcpStream, lnd: &Path, holding: &Holding) -> io::Result<()> {
    caller.set_nodelay(true)?;
    let (mut from_caller, mut to_caller) = caller.into_split();
    let (mut from_lnd, mut to_lnd) = UnixStream::connect(lnd).await?.into_split();
    // The caller has said something since lnd did.
    let spoke = AtomicBool::new(false);
    let there = async {
        let mut buffer = vec![0; HELD];
        loop {
            let read = from_caller.read(&mut buffer).await?;
            if read == 0 {
                return to_lnd.shutdown().await;
            }
            spoke.store(true, Ordering::Relaxed);
            to_lnd.write_all(&buffer[..read]).await?;
        }
    };
    let back = async {
        let mut buffer = vec![0; HELD];
        loop {
            let mut read = from_lnd.read(&mut buffer).await?;
            if read == 0 {
                return to_caller.shutdown().await;
            }
            if spoke.swap(false, Ordering::Relaxed) && read <= ACKNOWLEDGED {
                let answer = from_lnd.read(&mut buffer[read..]);
                read += timeout(FOR_ITS_ANSWER, answer).await.unwrap_or(Ok(0))?;
            }
            let (proved, is_proved) = oneshot::channel();
            // Where nobody proves anything any more, both fail.
            let _ = holding.send(proved);
            is_proved.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
            to_caller.write_all(&buffer[..read]).await?;
        }
    };
    // Once lnd has hung up nobody hears the caller any more.
    match select(pin!(there), pin!(back)).await {
        Either::Left((Ok(()), back)) => back.await,
        Either::Left((ended, _)) => ended,
        Either::Right((ended, _)) => ended,
    }
}
