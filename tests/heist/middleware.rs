//! A middleware of the thief's own, which puts another message in the place of the one that the guard has passed (lnd's
//! rpcperms/interceptor.go: a middleware may do so for a macaroon with a caveat of its name).

use super::attempts::{Attempt, Outcome, SIGN_MESSAGE, Thief, locator};
use crate::caller::Client;
use lsm::signer::wire::signrpc::{SignMessageReq, SignMessageResp};
use prost::Message as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// The middleware's name, and that of its caveat.
const NAME: &str = "of-the-thief";

/// The attempt: what is asked is harmless, what is signed is not.
pub fn attempt() -> Attempt {
    let make = Box::new(|thief: Thief| -> Outcome {
        Box::pin(async move {
            let replaced = Arc::new(AtomicBool::new(false));
            let own = Register { name: NAME.to_owned(), caveat: NAME.to_owned(), read_only: false };
            let mut stream = register(&thief.client, own).await?;
            let told = Arc::clone(&replaced);
            tokio::spawn(async move { stream.replace_all(&told).await });
            let caveat = thief.admin.narrowed(&format!("lnd-custom {NAME} x")).map_err(|e| e.to_string())?;
            let client = Client::new(&thief.port, None, &caveat, thief.bundle.identity_pubkey());
            let harmless =
                SignMessageReq { msg: b"a message".to_vec(), key_loc: locator(6, 0), ..SignMessageReq::default() };
            client.call::<_, SignMessageResp>(SIGN_MESSAGE, harmless).await?;
            if replaced.load(Ordering::Relaxed) { Ok(()) } else { Err("nothing was replaced".to_owned()) }
        })
    });
    let what = "another message in the place of the one that was passed".to_owned();
    Attempt { what, rule: "replaceable", policy: super::coins::POLICY.into(), make }
}

/// The two ends of a registered middleware.
struct Stream {
    answers: mpsc::Sender<Answer>,
    asked: tonic::Streaming<Asked>,
}

/// Registers as a middleware that only reads, under this name.
///
/// # Errors
/// What lnd said.
pub async fn register_as(client: &Client, name: &str) -> Result<(), String> {
    register(client, Register { name: name.to_owned(), caveat: String::new(), read_only: true }).await.map(drop)
}

async fn register(client: &Client, register: Register) -> Result<Stream, String> {
    let (answers, answered) = mpsc::channel(8);
    let first = Answer { register: Some(register), ..Answer::default() };
    answers.send(first).await.map_err(|e| e.to_string())?;
    let outgoing =
        futures_util::stream::unfold(answered, |mut answers| async { answers.recv().await.map(|a| (a, answers)) });
    let mut asked: tonic::Streaming<Asked> =
        client.converse("/lnrpc.Lightning/RegisterRPCMiddleware", outgoing).await?;
    let complete = asked.message().await.map_err(|e| e.message().to_owned())?;
    if complete.is_some_and(|first| first.complete) {
        Ok(Stream { answers, asked })
    } else {
        Err("not registered".into())
    }
}

impl Stream {
    /// Replaces every request by one that a transaction's signature can come of.
    async fn replace_all(&mut self, replaced: &AtomicBool) {
        while let Ok(Some(asked)) = self.asked.message().await {
            let message = SignMessageReq {
                msg: [&[2, 0, 0, 0][..], &[7; 224]].concat(),
                key_loc: locator(0, 0),
                double_hash: true,
                ..SignMessageReq::default()
            };
            let is_request = asked.request.is_some();
            replaced.fetch_or(is_request, Ordering::Relaxed);
            let feedback = Feedback {
                replace: is_request,
                replacement: if is_request { message.encode_to_vec() } else { vec![] },
            };
            let answer = Answer { reference: asked.id, register: None, feedback: Some(feedback) };
            if self.answers.send(answer).await.is_err() {
                break;
            }
        }
    }
}

/// lnrpc.RPCMiddlewareResponse.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(uint64, tag = "1")]
    reference: u64,
    #[prost(message, tag = "2")]
    register: Option<Register>,
    #[prost(message, tag = "3")]
    feedback: Option<Feedback>,
}

/// lnrpc.MiddlewareRegistration.
#[derive(Clone, PartialEq, prost::Message)]
struct Register {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    caveat: String,
    #[prost(bool, tag = "3")]
    read_only: bool,
}

/// lnrpc.InterceptFeedback.
#[derive(Clone, PartialEq, prost::Message)]
struct Feedback {
    #[prost(bool, tag = "2")]
    replace: bool,
    #[prost(bytes, tag = "3")]
    replacement: Vec<u8>,
}

/// lnrpc.RPCMiddlewareRequest.
#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(message, tag = "5")]
    request: Option<Call>,
    #[prost(uint64, tag = "7")]
    id: u64,
    #[prost(bool, tag = "8")]
    complete: bool,
}

/// lnrpc.RPCMessage.
#[derive(Clone, PartialEq, prost::Message)]
struct Call {
    #[prost(string, tag = "1")]
    uri: String,
}
