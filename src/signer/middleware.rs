//! Being asked by lnd, as its read-only RPC middleware, whether a call may be answered (lnd's rpcperms/middleware_handler.go).

use super::accounts::Accounts;
use super::channel::Outcome;
use super::fence::{Fence, OwnCalls};
use super::wire::lnrpc::lightning_client::LightningClient;
use super::wire::lnrpc::rpc_middleware_request::InterceptType;
use super::wire::lnrpc::rpc_middleware_response::MiddlewareMessage;
use super::wire::lnrpc::{InterceptFeedback, MiddlewareRegistration, RpcMiddlewareRequest, RpcMiddlewareResponse};
use super::wire::walletrpc::wallet_kit_client::WalletKitClient;
use super::wire::walletrpc::{ListAccountsRequest, ListAccountsResponse};
use super::{BROKEN, LARGEST_ANSWER, Node, explain};
use crate::error::{Error, Result};
use futures_util::Stream as _;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// The name under which the guard registers, and that lnd holds as mandatory.
pub const NAME: &str = "lsm-guard";

/// The name of the guard's macaroon among the credentials of its unit.
pub const CREDENTIAL: &str = "guard-macaroon";

/// What that macaroon permits: to be asked, and to learn which public keys the wallet has. Neither signs, nor changes anything.
pub const URIS: [&str; 2] = ["/lnrpc.Lightning/RegisterRPCMiddleware", "/walletrpc.WalletKit/ListAccounts"];

/// The largest message that is taken: lnd takes requests of 200 MiB (lnd's lnrpc/rpc_utils.go, MaxGrpcMsgSize), and puts the
/// call's name and metadata around each.
const LARGEST_MESSAGE: usize = 256 << 20;

/// How long lnd may take to say which accounts there are.
const LONGEST: Duration = Duration::from_secs(30);

/// A call, of which lnd asks whether it may be answered. Of a stream it asks for each message, and first for none.
pub struct Call {
    /// Its number, the same when lnd asks whether its answer may leave.
    pub id: u64,
    /// The call, `/package.Service/Call`.
    pub uri: String,
    /// Its message.
    pub message: Vec<u8>,
    /// Another middleware may put another message in its place once this one was passed: the caller's macaroon asks for it.
    pub replaceable: bool,
}

/// What lnd has answered, before it leaves.
pub struct Answer {
    /// The call, `/package.Service/Call`.
    pub uri: String,
    /// Its message; none where the call has failed.
    pub message: Option<Vec<u8>>,
}

/// Whether what lnd has answered leaves it.
pub enum Leave {
    /// At once.
    Now,
    /// Not, and why.
    Never(String),
    /// As will be told, nothing or why not; never where nothing will.
    Told(oneshot::Receiver<Option<String>>),
}

/// Who is asked.
pub trait Middleware {
    /// lnd asks from now on, and the wallet has these keys, where lnd could say.
    ///
    /// # Errors
    /// Where it cannot do without them.
    fn begin(&mut self, accounts: Result<Accounts>) -> Result<()>;
    /// Why this call is refused, where it is.
    fn ask(&mut self, call: Call) -> Option<String>;
    /// Whether this answer to the call with this number leaves lnd.
    fn leave(&mut self, id: u64, answer: Answer) -> Leave;
    /// Nothing was asked for a while.
    fn idle(&mut self);
}

impl Node {
    /// Registers as the middleware `name` and has `who` asked, who hears something at least every `tick`. Goes on until the stream
    /// ends, and proves at `fence` that it has not. Needs the macaroon's permission for `RegisterRPCMiddleware` and `ListAccounts`.
    ///
    /// # Errors
    /// Why it ended, or did not begin.
    pub fn judge_calls(
        &self,
        name: &str,
        tick: Duration,
        fence: Option<&Fence>,
        who: &mut impl Middleware,
    ) -> Result<std::convert::Infallible> {
        let stream = Stream { node: self, name, tick, fence };
        match self.channel.call(Duration::MAX, |channel| stream.run(channel, who)) {
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
    fence: Option<&'a Fence>,
}

/// What comes next. The last of all is no message.
enum Next {
    Message(Option<Result<RpcMiddlewareRequest, Status>>),
    Accounts(Result<ListAccountsResponse, Status>),
}

/// The wallet's keys, as far as lnd was asked for them.
type Asked = Option<oneshot::Receiver<Result<ListAccountsResponse, Status>>>;

/// Answers on their way to lnd. There are no more of them than lnd has calls under way, and lnd, which does one thing at a time,
/// would read none of them while it waited for this side to read.
type Answers = mpsc::UnboundedSender<RpcMiddlewareResponse>;

impl Stream<'_> {
    async fn run(&self, channel: Channel, who: &mut impl Middleware) -> Result<Response<()>, Status> {
        let (answers, answered) = mpsc::unbounded_channel();
        let register = MiddlewareRegistration { middleware_name: self.name.to_owned(), read_only_mode: true };
        send(&answers, 0, MiddlewareMessage::Register(register))?;
        let outgoing =
            futures_util::stream::unfold(answered, |mut answers| async { answers.recv().await.map(|a| (a, answers)) });
        let client = LightningClient::new(channel.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        let mut incoming = { client }.register_rpc_middleware(self.request(outgoing)).await?.into_inner();
        let (mut accounts, own, mut proving) = (None, OwnCalls::default(), JoinSet::new());
        loop {
            match tokio::time::timeout(self.tick, next(&mut incoming, &mut accounts)).await {
                Err(_) => who.idle(),
                Ok(Next::Accounts(known)) => {
                    // Before it is said that it is asked: who waits for that asks here next.
                    if let Some(fence) = self.fence {
                        fence.serve(own.clone(), channel.clone(), &mut proving)?;
                    }
                    let known = known.map_err(|status| explain(self.node.endpoint(), &status));
                    let begun = who.begin(known.and_then(Accounts::from_wire));
                    begun.map_err(|e| Status::internal(e.to_string()))?;
                }
                Ok(Next::Message(None)) => return Ok(Response::new(())),
                Ok(Next::Message(Some(message))) => match message? {
                    RpcMiddlewareRequest { intercept_type: Some(InterceptType::RegComplete(_)), .. } => {
                        accounts = Some(self.ask_accounts(channel.clone()));
                    }
                    message => {
                        own.hear(&message);
                        hear(message, who, &answers)?;
                    }
                },
            }
        }
    }

    /// Asks beside the stream: lnd answers only once this very middleware has said that it may.
    fn ask_accounts(&self, channel: Channel) -> oneshot::Receiver<Result<ListAccountsResponse, Status>> {
        let (told, asked) = oneshot::channel();
        let request = self.request(ListAccountsRequest {});
        tokio::spawn(async move {
            let mut client = WalletKitClient::new(channel).max_decoding_message_size(LARGEST_ANSWER);
            let answer = tokio::time::timeout(LONGEST, client.list_accounts(request)).await;
            let late = |_| Err(Status::deadline_exceeded("lnd did not say in time which accounts it has"));
            let answer = answer.unwrap_or_else(late).map(Response::into_inner);
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

/// The next message, or the accounts where they are there before it.
async fn next(incoming: &mut Streaming<RpcMiddlewareRequest>, accounts: &mut Asked) -> Next {
    std::future::poll_fn(|context| {
        let known = accounts.as_mut().map(|asked| Pin::new(asked).poll(context));
        if let Some(Poll::Ready(known)) = known {
            *accounts = None;
            let none = |_| Err(Status::unavailable("lnd was not asked for its accounts"));
            return Poll::Ready(Next::Accounts(known.unwrap_or_else(none)));
        }
        Pin::new(&mut *incoming).poll_next(context).map(Next::Message)
    })
    .await
}

/// Has `who` hear one message, and lnd the answer to it.
fn hear(message: RpcMiddlewareRequest, who: &mut impl Middleware, answers: &Answers) -> Result<(), Status> {
    let feedback =
        |error: Option<String>| MiddlewareMessage::Feedback(InterceptFeedback { error: error.unwrap_or_default() });
    let RpcMiddlewareRequest { msg_id: id, request_id, raw_macaroon, intercept_type, .. } = message;
    let answer = match intercept_type {
        Some(InterceptType::Response(answer)) => answer,
        asked => return send(answers, id, feedback(ask(request_id, asked, &raw_macaroon, who))),
    };
    let said = (!answer.is_error).then_some(answer.serialized);
    match who.leave(request_id, Answer { uri: answer.method_full_uri, message: said }) {
        Leave::Now => send(answers, id, feedback(None)),
        Leave::Never(why) => send(answers, id, feedback(Some(why))),
        Leave::Told(told) => {
            let answers = answers.clone();
            tokio::spawn(async move {
                let said = told.await.unwrap_or_else(|_| Some("nobody said that this may leave".to_owned()));
                // Nobody waits for it where the stream has ended.
                let _ = send(&answers, id, feedback(said));
            });
            Ok(())
        }
    }
}

/// What a macaroon's caveat begins with that hands the call to another middleware, which may then replace what is asked (lnd's
/// macaroons/constraints.go, CondLndCustom). In a macaroon's binary forms a caveat stands as it is.
const CUSTOM: &[u8] = b"lnd-custom";

/// Why what is asked is refused, where it is.
fn ask(id: u64, asked: Option<InterceptType>, macaroon: &[u8], who: &mut impl Middleware) -> Option<String> {
    let (uri, message) = match asked {
        Some(InterceptType::Request(call)) => (call.method_full_uri, call.serialized),
        Some(InterceptType::StreamAuth(stream)) => (stream.method_full_uri, vec![]),
        // A later lnd asks what is not known here.
        Some(InterceptType::Response(_) | InterceptType::RegComplete(_)) | None => Default::default(),
    };
    let replaceable = macaroon.windows(CUSTOM.len()).any(|bytes| bytes == CUSTOM);
    who.ask(Call { id, uri, message, replaceable })
}

fn send(answers: &Answers, ref_msg_id: u64, message: MiddlewareMessage) -> Result<(), Status> {
    let answer = RpcMiddlewareResponse { ref_msg_id, middleware_message: Some(message) };
    answers.send(answer).map_err(|_| Status::unavailable("the stream has ended"))
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
            let asked = Some(InterceptType::Request(call));
            assert_eq!(ask(1, asked, macaroon, &mut Parrot), Some(told.to_string()));
        }
    }

    /// Says of each call whether it is replaceable.
    struct Parrot;

    impl Middleware for Parrot {
        fn begin(&mut self, _: Result<Accounts>) -> Result<()> {
            Ok(())
        }
        fn ask(&mut self, call: Call) -> Option<String> {
            Some(call.replaceable.to_string())
        }
        fn leave(&mut self, _: u64, _: Answer) -> Leave {
            Leave::Now
        }
        fn idle(&mut self) {}
    }
}
