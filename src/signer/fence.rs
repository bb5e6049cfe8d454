//! Proof that this middleware was asked about all that lnd has answered, for whoever holds the answers back until then.
//!
//! lnd drops a middleware to which it cannot send (rpcperms/middleware_handler.go, sendInterceptRequests), and a call that is
//! just then between its looks (rpcperms/interceptor.go) is answered with nobody asked. It sends a call's headers along, and one
//! that is not UTF-8 cannot be sent: so whoever may call can have it dropped, and nothing that a middleware does keeps lnd from
//! that. But a stream that was dropped is never asked again. Where lnd asks this one about a call that began after something was
//! read of lnd, the stream stood all the while until that was sent.

use super::BROKEN;
use super::wire::lnrpc::state_client::StateClient;
use super::wire::lnrpc::{GetStateRequest, RpcMiddlewareRequest};
use crate::error::{Error, Result};
use crate::host::file;
use futures_util::future::{Either, select};
use std::collections::HashMap;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::Request;
use tonic::transport::Channel;

/// How long it waits where something fails.
const AGAIN: Duration = Duration::from_millis(50);

/// The header by which a call of its own is known.
const HEADER: &str = "lsm-fence";

/// Where the proof is asked for: a byte for each, and it is given by a byte. With the stream the connection ends.
pub struct Fence(UnixListener);

impl Fence {
    /// Listens at `path`, in a folder of this process's own.
    ///
    /// # Errors
    /// Where nothing can listen there.
    pub fn bind(path: &Path) -> Result<Self> {
        let cannot = |e| Error::new(BROKEN, format!("cannot listen at {}: {e}", path.display()));
        // That of an earlier process.
        file::remove(path)?;
        let listener = UnixListener::bind(path).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        Ok(Self(listener))
    }

    /// Has one of `tasks` give the proof to whoever asks, by calls over `channel`.
    pub(super) fn serve(&self, own: OwnCalls, channel: Channel, tasks: &mut JoinSet<()>) -> std::io::Result<()> {
        let listener = tokio::net::UnixListener::from_std(self.0.try_clone()?)?;
        tasks.spawn(async move {
            let mut asking = JoinSet::new();
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(asking.spawn(answer(stream, own.clone(), channel.clone()))),
                    // The system has nothing left for it.
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            }
        });
        Ok(())
    }
}

async fn answer(mut stream: tokio::net::UnixStream, own: OwnCalls, channel: Channel) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).await.is_ok() {
        own.call(&channel).await;
        if stream.write_all(&byte).await.is_err() {
            return;
        }
    }
}

/// The calls of its own of which it was not asked yet, by what their header says.
#[derive(Clone, Default)]
pub(super) struct OwnCalls(Arc<Mutex<HashMap<String, oneshot::Sender<()>>>>);

impl OwnCalls {
    /// Calls lnd, and waits until it asks about that. lnd may have no patience to (`rpcmiddleware.intercepttimeout`), and the call
    /// fails without: then again, as long as the stream stands.
    async fn call(&self, channel: &Channel) {
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect("the kernel's random generator answers");
        let name = hex::encode(random);
        let (asked, mut is_asked) = oneshot::channel();
        self.waiting().insert(name.clone(), asked);
        loop {
            // It needs no macaroon, and lnd asks about it all the same.
            let mut request = Request::new(GetStateRequest {});
            request.metadata_mut().insert(HEADER, name.parse().expect("hexadecimal digits"));
            let mut client = StateClient::new(channel.clone());
            // Its answer tells nothing: who was dropped gets one as well.
            let call = tokio::spawn(async move { client.get_state(request).await.map(drop) });
            if let Either::Left(_) = select(&mut is_asked, call).await {
                return;
            }
            if is_asked.try_recv().is_ok() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// It was asked about a call.
    pub(super) fn hear(&self, asked: &RpcMiddlewareRequest) {
        for name in asked.metadata_pairs.get(HEADER).into_iter().flat_map(|pair| &pair.values) {
            if let Some(asked) = self.waiting().remove(name) {
                // Nobody waits any more.
                let _ = asked.send(());
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
