//! Being asked by lnd, as its read-only RPC middleware, whether a call may be answered (lnd's rpcperms/middleware_handler.go).

use super::accounts::Accounts;
use super::channel::Outcome;
use super::wire::lnrpc::lightning_client::LightningClient;
use super::wire::lnrpc::rpc_middleware_request::InterceptType;
use super::wire::lnrpc::rpc_middleware_response::MiddlewareMessage;
use super::wire::lnrpc::{InterceptFeedback, MiddlewareRegistration, RpcMiddlewareRequest, RpcMiddlewareResponse};
use super::wire::walletrpc::wallet_kit_client::WalletKitClient;
use super::wire::walletrpc::{ListAccountsRequest, ListAccountsResponse};
use super::{BROKEN, LARGEST_ANSWER, Node, explain};
use crate::error::{Error, Result};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// The name under which the guard registers, and that lnd holds as mandatory.
pub const NAME: &str = "lsm-guard";

/// The name of the guard's macaroon among the credentials of its unit.
pub const CREDENTIAL: &str = "guard-macaroon";

/// What that macaroon permits: to be asked, and to learn which public keys the wallet has. Neither signs, nor changes anything.
pub const URIS: [&str; 2] = ["/lnrpc.Lightning/RegisterRPCMiddleware", "/walletrpc.WalletKit/ListAccounts"];

/// The largest message that is taken: lnd takes requests of 200 MiB (lnd's lnrpc/rpc_utils.go, MaxGrpcMsgSize), and puts the
/// call's name and metadata around each.
const LARGEST_MESSAGE: usize = 256 << 20;

/// How many answers may wait to be sent: more than lnd ever has open, since each is given before the next message is read.
const WAITING: usize = 64;

/// What a middleware hears.
pub enum Event<'a> {
    /// lnd asks from now on, and the wallet has these keys.
    Ready(Box<Accounts>),
    /// Whether this call may be answered. Of a call that is a stream it is asked for each message, and first for none.
    Asked {
        /// The call, `/package.Service/Call`.
        uri: &'a str,
        /// Its message.
        message: &'a [u8],
        /// Another middleware may put another message in its place once this one was passed: the caller's macaroon asks for it.
        replaceable: bool,
    },
    /// Nothing was asked for a while.
    Idle,
}

impl Node {
    /// Registers as the middleware `name` and has `hear` say to each call why it is refused, or nothing; at least every `tick` it
    /// hears something. Goes on until the stream ends. Needs the macaroon's permission for `RegisterRPCMiddleware` and
    /// `ListAccounts`.
    ///
    /// # Errors
    /// Why it ended, or did not begin.
    pub fn judge_calls(
        &self,
        name: &str,
        tick: Duration,
        hear: impl FnMut(Event<'_>) -> Option<String>,
    ) -> Result<std::convert::Infallible> {
        let stream = Stream { node: self, name, tick };
        match self.channel.call(Duration::MAX, |channel| stream.run(channel, hear)) {
            Outcome::Answer(()) => Err(Error::new(BROKEN, format!("{} ended the stream", self.endpoint()))),
            Outcome::Unreached(fault) => Err(fault),
            Outcome::Refusal(status) => Err(explain(self.endpoint(), &status)),
        }
    }
}

struct Stream<'a> {
    node: &'a Node,
    name: &'a str,
    tick: Duration,
}

impl Stream<'_> {
    async fn run(
        &self,
        channel: Channel,
        mut hear: impl FnMut(Event<'_>) -> Option<String>,
    ) -> Result<Response<()>, Status> {
        let (answers, answered) = mpsc::channel(WAITING);
        let register = MiddlewareRegistration { middleware_name: self.name.to_owned(), read_only_mode: true };
        send(&answers, 0, MiddlewareMessage::Register(register)).await?;
        let outgoing =
            futures_util::stream::unfold(answered, |mut answers| async { answers.recv().await.map(|a| (a, answers)) });
        let client = LightningClient::new(channel.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        let mut incoming = { client }.register_rpc_middleware(self.request(outgoing)).await?.into_inner();
        let mut accounts = None;
        loop {
            let message = match tokio::time::timeout(self.tick, incoming.message()).await {
                Ok(Ok(Some(message))) => Some(message),
                Ok(Ok(None)) => return Ok(Response::new(())),
                Ok(Err(status)) => return Err(status),
                Err(_) => None,
            };
            match message {
                Some(RpcMiddlewareRequest { intercept_type: Some(InterceptType::RegComplete(_)), .. }) => {
                    accounts = Some(self.ask_accounts(channel.clone()));
                }
                Some(message) => {
                    let error = answer(&message, &mut hear);
                    send(&answers, message.msg_id, MiddlewareMessage::Feedback(InterceptFeedback { error })).await?;
                }
                None => drop(hear(Event::Idle)),
            }
            if let Some(known) = accounts.as_mut().and_then(|asked| asked.try_recv().ok()) {
                let known = Accounts::from_wire(known?).map_err(|e| Status::internal(e.to_string()))?;
                hear(Event::Ready(Box::new(known)));
                accounts = None;
            }
        }
    }

    /// Asks beside the stream: lnd answers only once this very middleware has said that it may.
    fn ask_accounts(&self, channel: Channel) -> oneshot::Receiver<Result<ListAccountsResponse, Status>> {
        let (told, asked) = oneshot::channel();
        let request = self.request(ListAccountsRequest {});
        tokio::spawn(async move {
            let mut client = WalletKitClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
            let answer = client.list_accounts(request).await.map(Response::into_inner);
            // Nobody waits for it where the stream has ended.
            let _ = told.send(answer);
        });
        asked
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(macaroon) = &self.node.macaroon {
            request.metadata_mut().insert("macaroon", macaroon.clone());
        }
        request
    }
}

/// What a macaroon's caveat begins with that hands the call to another middleware, which may then replace what is asked (lnd's
/// macaroons/constraints.go, CondLndCustom). In a macaroon's binary forms a caveat stands as it is.
const CUSTOM: &[u8] = b"lnd-custom";

/// Why what is asked is refused; empty where it is not. What lnd answers is no longer anybody's to refuse.
fn answer(asked: &RpcMiddlewareRequest, hear: &mut impl FnMut(Event<'_>) -> Option<String>) -> String {
    let (uri, message) = match &asked.intercept_type {
        Some(InterceptType::Request(call)) => (call.method_full_uri.as_str(), call.serialized.as_slice()),
        Some(InterceptType::StreamAuth(stream)) => (stream.method_full_uri.as_str(), &[][..]),
        Some(InterceptType::Response(_)) => return String::new(),
        // A later lnd asks what is not known here.
        Some(InterceptType::RegComplete(_)) | None => ("", &[][..]),
    };
    let replaceable = asked.raw_macaroon.windows(CUSTOM.len()).any(|bytes| bytes == CUSTOM);
    hear(Event::Asked { uri, message, replaceable }).unwrap_or_default()
}

async fn send(
    answers: &mpsc::Sender<RpcMiddlewareResponse>,
    ref_msg_id: u64,
    message: MiddlewareMessage,
) -> Result<(), Status> {
    let answer = RpcMiddlewareResponse { ref_msg_id, middleware_message: Some(message) };
    answers.send(answer).await.map_err(|_| Status::unavailable("the stream has ended"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::wire::lnrpc::RpcMessage;

    #[test]
    fn a_macaroon_that_hands_its_call_to_another_middleware_is_told() {
        for (macaroon, told) in
            [(&b"\x02\x06lnd-time-before"[..], false), (b"\x02\x10lnd-custom evil 1", true), (b"", false)]
        {
            let call = RpcMessage { method_full_uri: "/a.B/C".into(), ..Default::default() };
            let asked = RpcMiddlewareRequest {
                raw_macaroon: macaroon.to_vec(),
                intercept_type: Some(InterceptType::Request(call)),
                ..Default::default()
            };
            let said = answer(&asked, &mut |event| match event {
                Event::Asked { replaceable, .. } => Some(replaceable.to_string()),
                _ => None,
            });
            assert_eq!(said, told.to_string());
        }
    }
}
