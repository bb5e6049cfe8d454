//! One connection to an lnd: a pinned certificate over TCP or a unix socket, every way of failing told apart.

use crate::error::{Code, Error, Result};
use crate::host::beneath::Socket;
use crate::signer::certificate::{Certificate, fingerprint};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use std::fmt;
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

/// The endpoint's text cannot be read.
pub const BAD_ENDPOINT: Code = Code::usage("E-SIGNER-001");
/// Nothing accepts connections there.
pub const REFUSED: Code = Code::refused("E-SIGNER-002");
/// No answer in time.
pub const SILENT: Code = Code::refused("E-SIGNER-003");
/// The name does not resolve, or the network has no way there.
pub const NO_ROUTE: Code = Code::refused("E-SIGNER-004");
/// What answers there does not speak TLS.
pub const NOT_TLS: Code = Code::refused("E-SIGNER-005");
/// Another certificate than the pinned one.
pub const OTHER_CERTIFICATE: Code = Code::unverified("E-SIGNER-006");
/// The certificate is not for the name or address that was dialled.
pub const NOT_ITS_NAME: Code = Code::unverified("E-SIGNER-007");
/// The certificate is not valid yet, or no longer.
pub const OUT_OF_DATE: Code = Code::unverified("E-SIGNER-008");
/// The server does not negotiate HTTP/2.
pub const NO_H2: Code = Code::refused("E-SIGNER-009");
/// What answers hangs up during the TLS handshake.
pub const HUNG_UP: Code = Code::refused("E-SIGNER-018");

/// How long reaching the port may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the TLS handshake may take: a signer's port holds its callers while lnd restarts.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// Where an lnd answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A name or address, and a port.
    Tcp {
        /// The name or address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket. lnd speaks TLS there too; the certificate's names are not asked for.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    /// Reads `HOST:PORT`, `[V6]:PORT` or `unix:///PATH`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::new(BAD_ENDPOINT, format!("{text:?} is no address of a node"))
                .hint("for example 10.0.0.7:10012, [fd00::7]:10012, signer.example:10012 or unix:///run/lnd.sock")
        };
        if let Some(path) = text.strip_prefix("unix://") {
            let is_path = path.starts_with('/') && !path.contains(char::is_control);
            return if is_path { Ok(Self::Unix(path.into())) } else { Err(bad()) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if host.contains(':') && bracketed.is_none() {
            return Err(bad());
        }
        let host = bracketed.unwrap_or(host);
        let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(bad)?;
        ServerName::try_from(host).map_err(|_| bad())?;
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

/// A blocking gRPC channel that dials when it is first used, and again after it broke.
pub struct Channel {
    endpoint: Endpoint,
    runtime: tokio::runtime::Runtime,
    grpc: tonic::transport::Channel,
    dialled: Arc<Dialler>,
}

impl Channel {
    /// A channel to `endpoint`, whose server has to present exactly one of `pins`. Nothing is dialled yet.
    pub fn new(endpoint: Endpoint, pins: &[Certificate]) -> Self {
        Self::dialling(endpoint, None, pins)
    }

    /// The same at `address`, whatever the name of `endpoint` resolves to; the certificate has to be for that name.
    pub fn at(endpoint: Endpoint, address: SocketAddr, pins: &[Certificate]) -> Self {
        Self::dialling(endpoint, Some(address), pins)
    }

    fn dialling(endpoint: Endpoint, address: Option<SocketAddr>, pins: &[Certificate]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a current-thread runtime needs only an epoll descriptor");
        let dialled = Arc::new(Dialler {
            endpoint: endpoint.clone(),
            address,
            tls: TlsConnector::from(Arc::new(tls_settings(&endpoint, pins))),
            pins: pins.to_vec(),
            fault: Mutex::new(None),
            opened: OnceLock::new(),
        });
        let connector = {
            let dialler = Arc::clone(&dialled);
            tower::service_fn(move |_: http::Uri| {
                let dialler = Arc::clone(&dialler);
                async move { dialler.dial_for_grpc().await }
            })
        };
        // The URI only fills HTTP/2's :scheme and :authority; the connector above decides where to dial.
        let grpc = {
            let _inside = runtime.enter();
            tonic::transport::Endpoint::from_static("https://lnd").connect_with_connector_lazy(connector)
        };
        Self { endpoint, runtime, grpc, dialled }
    }

    /// Where it leads.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Has `heed` see every unix socket that is connected from now on, before a byte is sent over it. Only the first `heed` counts.
    pub fn on_open(&self, heed: impl Fn(BorrowedFd<'_>) -> std::io::Result<()> + Send + Sync + 'static) {
        let _ = self.dialled.opened.set(Box::new(heed));
    }

    /// Connects once, with the whole TLS handshake, and hangs up.
    ///
    /// # Errors
    /// The first layer that fails, each with its own code.
    pub fn probe(&self) -> Result<()> {
        self.runtime.block_on(self.dialled.dial()).map(drop)
    }

    /// Makes one call and waits for its answer, at most `deadline`.
    pub(crate) fn call<T, F>(&self, deadline: Duration, call: impl FnOnce(tonic::transport::Channel) -> F) -> Outcome<T>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        self.dialled.take_fault();
        let answer = self.runtime.block_on(async { tokio::time::timeout(deadline, call(self.grpc.clone())).await });
        match (answer, self.dialled.take_fault()) {
            (Ok(Ok(response)), _) => Outcome::Answer(response.into_inner()),
            (_, Some(fault)) => Outcome::Unreached(fault),
            (Ok(Err(status)), None) => Outcome::Refusal(status),
            (Err(_), None) => Outcome::Unreached(
                Error::new(SILENT, format!("{} did not answer within {} s", self.endpoint, deadline.as_secs()))
                    .hint("the connection stands, but lnd is busy, hung or stopping: look into its log"),
            ),
        }
    }
}

/// What became of a call.
pub(crate) enum Outcome<T> {
    /// The server's answer.
    Answer(T),
    /// The server's refusal.
    Refusal(tonic::Status),
    /// It did not get through.
    Unreached(Error),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Dialled = tokio_rustls::client::TlsStream<Box<dyn Stream>>;

/// What sees a socket that was connected; where it fails the socket is not used.
type Heed = Box<dyn Fn(BorrowedFd<'_>) -> std::io::Result<()> + Send + Sync>;

struct Dialler {
    endpoint: Endpoint,
    /// Where to dial, where that is not for the endpoint's name to say.
    address: Option<SocketAddr>,
    tls: TlsConnector,
    pins: Vec<Certificate>,
    /// Why the last dial failed: gRPC's own error would say only that it could not connect.
    fault: Mutex<Option<Error>>,
    opened: OnceLock<Heed>,
}

impl Dialler {
    fn take_fault(&self) -> Option<Error> {
        self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    async fn dial_for_grpc(&self) -> std::io::Result<TokioIo<Dialled>> {
        self.dial().await.map(TokioIo::new).map_err(|fault| {
            let told = std::io::Error::other(fault.cause().to_owned());
            *self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(fault);
            told
        })
    }

    async fn dial(&self) -> Result<Dialled> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, self.open())
            .await
            .map_err(|_| {
                Error::new(SILENT, format!("{} does not answer within {} s", self.endpoint, CONNECT_TIMEOUT.as_secs()))
                    .hint(
                        "a firewall drops this machine's packets (its allowlist: lsm status, on the signer), or the host is down",
                    )
            })??;
        // Over a unix socket no name is checked; the handshake only needs some name.
        let name = match &self.endpoint {
            Endpoint::Tcp { host, .. } => host.as_str(),
            Endpoint::Unix(_) => "localhost",
        };
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| Error::new(BAD_ENDPOINT, format!("{name:?} is no host name and no address")))?;
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.tls.connect(name, stream))
            .await
            .map_err(|_| {
                Error::new(SILENT, format!("{} accepts connections but shakes no hands", self.endpoint))
                    .hint("something else than lnd listens there, or lnd hangs: look into its log")
            })?
            .map_err(|e| self.explain_tls(&e))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(self.no_h2());
        }
        Ok(stream)
    }

    async fn open(&self) -> Result<Box<dyn Stream>> {
        let cannot = |e| self.explain_open(&e);
        Ok(match &self.endpoint {
            Endpoint::Tcp { host, port } => {
                let stream = match self.address {
                    Some(address) => tokio::net::TcpStream::connect(address).await,
                    None => tokio::net::TcpStream::connect((host.as_str(), *port)).await,
                }
                .map_err(cannot)?;
                stream.set_nodelay(true).map_err(cannot)?;
                Box::new(stream)
            }
            Endpoint::Unix(path) => {
                // Its folder is lnd's, and lnd may have put a link to somebody else's socket there.
                let socket = Socket::find(path)?.ok_or_else(|| cannot(ErrorKind::NotFound.into()))?;
                let stream = tokio::net::UnixStream::connect(socket.name()).await.map_err(cannot)?;
                self.opened.get().map_or(Ok(()), |heed| heed(stream.as_fd())).map_err(cannot)?;
                Box::new(stream)
            }
        })
    }

    fn explain_open(&self, e: &std::io::Error) -> Error {
        match e.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => {
                Error::new(REFUSED, format!("nothing accepts connections at {}", self.endpoint))
                    .hint("lnd is not running there, or listens at another address")
            }
            ErrorKind::TimedOut => Error::new(SILENT, format!("{} does not answer", self.endpoint)),
            _ => Error::new(NO_ROUTE, format!("cannot reach {}: {e}", self.endpoint))
                .hint("check the name, the address and this machine's network"),
        }
    }

    fn explain_tls(&self, e: &std::io::Error) -> Error {
        let at = &self.endpoint;
        match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(fault)) => self.explain_certificate(fault),
            Some(
                rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
                | rustls::Error::NoApplicationProtocol,
            ) => self.no_h2(),
            Some(rustls::Error::InvalidMessage(_)) => Error::new(NOT_TLS, format!("{at} does not speak TLS"))
                .hint("something else than lnd's gRPC listens there"),
            Some(other) => Error::new(NOT_TLS, format!("the TLS handshake with {at} failed: {other}")),
            None => Error::new(HUNG_UP, format!("{at} hangs up during the TLS handshake: {e}"))
                .hint("what listens there is not lnd, or a proxy before it has lost it"),
        }
    }

    fn explain_certificate(&self, fault: &CertificateError) -> Error {
        let at = &self.endpoint;
        match fault {
            CertificateError::NotValidForName => {
                let names: Vec<String> =
                    self.pins.iter().flat_map(Certificate::names).map(ToString::to_string).collect();
                Error::new(NOT_ITS_NAME, format!("the certificate is not for {at}, but for {}", names.join(", "))).hint(
                    "dial one of its names, or add this one on the signer: lsm install with --san; then export the bundle again",
                )
            }
            CertificateError::Expired | CertificateError::NotValidYet => {
                let dates: Vec<String> = self.pins.iter().map(describe_dates).collect();
                let dates = dates.join(", or ");
                Error::new(OUT_OF_DATE, format!("the certificate of {at} is valid {dates}, and not now"))
                    .hint("check this machine's clock; on the signer: lsm cert renew")
            }
            CertificateError::Other(OtherError(other)) => {
                let pinned: Vec<String> = self.pins.iter().map(Certificate::fingerprint).collect();
                Error::new(OTHER_CERTIFICATE, format!("{at} presents {other}, not the pinned {}", pinned.join(" or ")))
                    .hint("was it made anew? then export the bundle on the signer and import it here")
            }
            other => Error::new(OTHER_CERTIFICATE, format!("{at} does not prove its certificate: {other}")),
        }
    }

    fn no_h2(&self) -> Error {
        Error::new(NO_H2, format!("{} does not negotiate HTTP/2 (ALPN h2)", self.endpoint))
            .hint("a REST port or a TLS proxy answers there; dial lnd's gRPC port")
    }
}

fn describe_dates(certificate: &Certificate) -> String {
    let (from, to) = certificate.validity();
    format!("from {from} to {to}")
}

/// The TLS settings for `endpoint`: only one of `pins` is accepted, and only HTTP/2 spoken.
pub fn tls_settings(endpoint: &Endpoint, pins: &[Certificate]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let host = match endpoint {
        Endpoint::Tcp { host, .. } => Some(host.clone()),
        Endpoint::Unix(_) => None,
    };
    let verifier = PinVerifier { pins: pins.to_vec(), host, provider: Arc::clone(&provider) };
    let mut settings = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("ring serves TLS 1.3 and 1.2")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    settings.alpn_protocols = vec![b"h2".to_vec()];
    settings
}

/// Accepts a pinned certificate, byte for byte; over TCP, inside its dates and for the name that was dialled. There are two pins while
/// one certificate takes the other's place.
///
/// lnd's own certificate is self-signed with CA:TRUE, which chain building refuses as an end entity; a pin is stricter.
#[derive(Debug)]
struct PinVerifier {
    pins: Vec<Certificate>,
    host: Option<String>,
    provider: Arc<CryptoProvider>,
}

/// A certificate that is not the pinned one, told by its fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("the certificate with sha256 {0}")]
struct Stranger(String);

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(pin) = self.pins.iter().find(|pin| presented == pin.der()) else {
            let stranger = Stranger(fingerprint(presented));
            return Err(CertificateError::Other(OtherError(Arc::new(stranger))).into());
        };
        // Over lnd's own socket, in a folder that only this host's users enter, the pin is all: with a clock that was set wrong no
        // guard could begin, and nothing would be signed.
        let Some(host) = &self.host else { return Ok(ServerCertVerified::assertion()) };
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let (from, to) = pin.validity();
        if now < from.unix_timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > to.unix_timestamp() {
            return Err(CertificateError::Expired.into());
        }
        if !pin.is_for(host) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_shown_alike() {
        for good in ["10.0.0.7:10012", "[fd00::7]:1", "signer.example:65535", "unix:///run/lnd.sock"] {
            assert_eq!(good.parse::<Endpoint>().unwrap().to_string(), good);
        }
        for bad in
            ["", ":1", "host", "host:", "host:0", "host:65536", "fd00::7:1", "a b:1", "unix://run/x", "https://a:1"]
        {
            assert_eq!(bad.parse::<Endpoint>().unwrap_err().code(), BAD_ENDPOINT, "{bad}");
        }
    }
}
