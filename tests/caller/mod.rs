//! A caller of a signer's port, closer to the wire than lsm's own client: many calls at once on one connection.

mod psbt;

use hyper_util::rt::TokioIo;
use lsm::signer::certificate::Certificate;
use lsm::signer::channel::{Endpoint, tls_settings};
use lsm::signer::macaroon::Macaroon;
use lsm::signer::proof;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Extensions;
use tonic::client::Grpc;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

/// The generator of secp256k1, compressed: the other party of every session, and its nonces.
const GENERATOR: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

/// The largest answer that is taken: a signed PSBT is as large as the one that was asked with.
const LARGEST: usize = 64 << 20;

/// What is signed.
const MESSAGE: &[u8] = b"a message of the load";

/// A signer's port as one caller sees it: the address and the certificate that it presents.
#[derive(Clone)]
pub struct Port {
    address: SocketAddr,
    tls: TlsConnector,
}

impl Port {
    /// The port at `address`, which has to present `pin`.
    pub fn new(address: SocketAddr, pin: &Certificate) -> Self {
        let endpoint = Endpoint::Tcp { host: address.ip().to_string(), port: address.port() };
        Self { address, tls: TlsConnector::from(Arc::new(tls_settings(&endpoint, pin.as_ref()))) }
    }

    /// Connects, from the address `from` where it is given. Only as long as the caller waits.
    pub async fn connect(&self, from: Option<IpAddr>) -> io::Result<TcpStream> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        socket.set_nodelay(true)?;
        socket.connect(self.address).await
    }

    /// Shakes hands on a connection that stands.
    pub async fn shake_hands(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.tls.connect(ServerName::from(self.address.ip()), stream).await
    }

    /// One gRPC connection that is dialled when first used, from `from` where it is given.
    fn channel(&self, from: Option<IpAddr>) -> Channel {
        let port = self.clone();
        let dial = tower::service_fn(move |_: http::Uri| {
            let port = port.clone();
            async move { port.shake_hands(port.connect(from).await?).await.map(TokioIo::new) }
        });
        tonic::transport::Endpoint::from_static("https://lnd").connect_with_connector_lazy(dial)
    }
}

/// What a watch-only node has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A message, by the node's identity.
    Message,
    /// A PSBT with one input, by the same key.
    Psbt,
    /// One party's part of a MuSig2 signature: create a session, register the other's nonces, sign, clean up.
    MuSig2,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Message, Self::Psbt, Self::MuSig2];

    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "SignMessage",
            Self::Psbt => "SignPsbt",
            Self::MuSig2 => "MuSig2 session",
        }
    }
}

/// A holder of a signing macaroon with one connection. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    macaroon: AsciiMetadataValue,
    /// The node's public key, compressed, in hex.
    identity: String,
    psbt: Vec<u8>,
}

impl Client {
    /// A client of the node `identity` (hex) at `port`; inside a runtime, and with sockets of the thread's network.
    pub fn new(port: &Port, from: Option<IpAddr>, macaroon: &Macaroon, identity: &str) -> Self {
        let macaroon = AsciiMetadataValue::try_from(macaroon.to_hex().as_str()).expect("hex is ASCII");
        let psbt = psbt::one_input(&hex::decode(identity).expect("a public key"));
        Self { channel: port.channel(from), macaroon, identity: identity.to_owned(), psbt }
    }

    /// Has one thing signed, and looks at what came.
    ///
    /// # Errors
    /// What the signer said, or what is wrong with its answer.
    pub async fn sign(&self, kind: Kind) -> Result<(), String> {
        let answer = self.ask(kind).await?;
        if kind == Kind::Message {
            proof::verify_compact(MESSAGE, &answer, &self.identity).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Has one thing signed. Gives the signature, which is not checked.
    ///
    /// # Errors
    /// What the signer said, or that nothing was signed.
    pub async fn ask(&self, kind: Kind) -> Result<Vec<u8>, String> {
        match kind {
            Kind::Message => self.sign_message().await,
            Kind::Psbt => self.sign_psbt().await,
            Kind::MuSig2 => self.sign_musig2().await,
        }
    }

    /// Makes the call `path` with an empty request. What a stream sends is not waited for: that it was begun is enough.
    ///
    /// # Errors
    /// What the signer said.
    pub async fn call_empty(&self, path: &str) -> Result<(), String> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|e| format!("{path}: {e}"))?;
        let mut request = tonic::Request::new(());
        request.metadata_mut().insert("macaroon", self.macaroon.clone());
        let path: http::uri::PathAndQuery = path.parse().map_err(|e| format!("{path}: {e}"))?;
        let answer = grpc.server_streaming(request, path, ProstCodec::<(), ()>::default()).await;
        let mut stream = answer.map_err(|e| e.message().to_owned())?.into_inner();
        let first = tokio::time::timeout(std::time::Duration::from_secs(2), stream.message()).await;
        first.unwrap_or(Ok(None)).map(drop).map_err(|e| e.message().to_owned())
    }

    async fn sign_message(&self) -> Result<Vec<u8>, String> {
        let question = SignMessage { message: MESSAGE.to_vec(), key: Some(KEY), double_hash: true, compact: true };
        Ok(self.call::<_, Bytes>("/signrpc.Signer/SignMessage", question).await?.first)
    }

    async fn sign_psbt(&self) -> Result<Vec<u8>, String> {
        let question = Bytes { first: self.psbt.clone() };
        let answer: SignedPsbt = self.call("/walletrpc.WalletKit/SignPsbt", question).await?;
        if answer.inputs == [0] { Ok(answer.psbt) } else { Err(format!("inputs {:?} were signed", answer.inputs)) }
    }

    async fn sign_musig2(&self) -> Result<Vec<u8>, String> {
        let generator = hex::decode(GENERATOR).expect("hex");
        let keys = vec![hex::decode(&self.identity).expect("hex"), generator.clone()];
        let question = CreateSession { key: Some(KEY), keys, version: 2 };
        let id = self.call::<_, Bytes>("/signrpc.Signer/MuSig2CreateSession", question).await?.first;
        let nonces = vec![[generator.as_slice(), &generator].concat()];
        let register = RegisterNonces { id: id.clone(), nonces };
        let all: Flag = self.call("/signrpc.Signer/MuSig2RegisterNonces", register).await?;
        let sign = SignSession { id: id.clone(), digest: vec![7; 32], cleanup: false };
        let part: Bytes = self.call("/signrpc.Signer/MuSig2Sign", sign).await?;
        let _: Bytes = self.call("/signrpc.Signer/MuSig2Cleanup", Bytes { first: id }).await?;
        if all.set && part.first.len() == 32 { Ok(part.first) } else { Err("no partial signature".to_owned()) }
    }

    /// One MuSig2 session in which somebody else has combined the nonces (lnd 0.21 and later): register, read back, clean up.
    ///
    /// # Errors
    /// What the signer said, or that it is another nonce.
    pub async fn combine_nonces(&self) -> Result<(), String> {
        let generator = hex::decode(GENERATOR).expect("hex");
        let keys = vec![hex::decode(&self.identity).expect("hex"), generator.clone()];
        let question = CreateSession { key: Some(KEY), keys, version: 2 };
        let id = self.call::<_, Bytes>("/signrpc.Signer/MuSig2CreateSession", question).await?.first;
        let combined = [generator.as_slice(), &generator].concat();
        let register = Combined { id: id.clone(), nonce: combined.clone() };
        let _: Bytes = self.call("/signrpc.Signer/MuSig2RegisterCombinedNonce", register).await?;
        let read: Bytes = self.call("/signrpc.Signer/MuSig2GetCombinedNonce", Bytes { first: id.clone() }).await?;
        let _: Bytes = self.call("/signrpc.Signer/MuSig2Cleanup", Bytes { first: id }).await?;
        if read.first == combined { Ok(()) } else { Err("another combined nonce".to_owned()) }
    }

    /// Begins the call `path`, in which both sides go on sending.
    ///
    /// # Errors
    /// What the signer said.
    pub async fn converse<Q, A>(
        &self,
        path: &'static str,
        questions: impl futures_util::Stream<Item = Q> + Send + 'static,
    ) -> Result<tonic::Streaming<A>, String>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|e| format!("{path}: {e}"))?;
        let mut request = tonic::Request::new(questions);
        request.metadata_mut().insert("macaroon", self.macaroon.clone());
        let path_ = http::uri::PathAndQuery::from_static(path);
        let answer = grpc.streaming(request, path_, ProstCodec::<Q, A>::default()).await;
        answer.map(tonic::Response::into_inner).map_err(|e| format!("{path}: {}", e.message()))
    }

    /// Makes one call.
    ///
    /// # Errors
    /// What the signer said.
    pub async fn call<Q, A>(&self, path: &'static str, question: Q) -> Result<A, String>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.call_with(path, question, MetadataMap::new()).await
    }

    /// The same with these headers besides.
    ///
    /// # Errors
    /// What the signer said.
    pub async fn call_with<Q, A>(&self, path: &'static str, question: Q, headers: MetadataMap) -> Result<A, String>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST);
        grpc.ready().await.map_err(|e| format!("{path}: {e}"))?;
        let mut request = tonic::Request::from_parts(headers, Extensions::new(), question);
        request.metadata_mut().insert("macaroon", self.macaroon.clone());
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.unary(request, http::uri::PathAndQuery::from_static(path), codec).await;
        answer.map(tonic::Response::into_inner).map_err(|e| format!("{path}: {}", e.message()))
    }
}

/// The key of the node's identity (lnd's keychain.KeyFamilyNodeKey).
const KEY: KeyLocator = KeyLocator { family: proof::IDENTITY.0, index: proof::IDENTITY.1 };

// Fields of lnd's signrpc/signer.proto and walletrpc/walletkit.proto; lnd answers only where they are right.

#[derive(Clone, PartialEq, prost::Message)]
struct KeyLocator {
    #[prost(int32, tag = "1")]
    family: i32,
    #[prost(int32, tag = "2")]
    index: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SignMessage {
    #[prost(bytes, tag = "1")]
    message: Vec<u8>,
    #[prost(message, tag = "2")]
    key: Option<KeyLocator>,
    #[prost(bool, tag = "3")]
    double_hash: bool,
    #[prost(bool, tag = "4")]
    compact: bool,
}

/// Of many messages the one field that matters here.
#[derive(Clone, PartialEq, prost::Message)]
struct Bytes {
    #[prost(bytes, tag = "1")]
    first: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SignedPsbt {
    #[prost(bytes, tag = "1")]
    psbt: Vec<u8>,
    #[prost(uint32, repeated, tag = "2")]
    inputs: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreateSession {
    #[prost(message, tag = "1")]
    key: Option<KeyLocator>,
    #[prost(bytes, repeated, tag = "2")]
    keys: Vec<Vec<u8>>,
    /// MUSIG2_VERSION_V100RC2.
    #[prost(int32, tag = "6")]
    version: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RegisterNonces {
    #[prost(bytes, tag = "1")]
    id: Vec<u8>,
    #[prost(bytes, repeated, tag = "3")]
    nonces: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Combined {
    #[prost(bytes, tag = "1")]
    id: Vec<u8>,
    #[prost(bytes, tag = "2")]
    nonce: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SignSession {
    #[prost(bytes, tag = "1")]
    id: Vec<u8>,
    #[prost(bytes, tag = "2")]
    digest: Vec<u8>,
    #[prost(bool, tag = "3")]
    cleanup: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Flag {
    #[prost(bool, tag = "1")]
    set: bool,
}
