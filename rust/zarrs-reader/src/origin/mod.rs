//! The service behind a target, as the network limit asks it: requests as its cloud wants them, over connections of its
//! own to all of its addresses.

mod authority;
mod tls;

use std::fmt::Write as _;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::BufMut;
use http::header::RANGE;
use http::{Method, Request};
use object_store::GetRange;
use object_store::client::HttpRequestBody;
use object_store::path::Path;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use url::{Host, Position, Url};

pub use authority::Authority;
use tls::TlsStream;

use crate::failure::{Failure, Outcome};

/// What is escaped of a key in an address: all that a signature wants escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// How long a name's addresses are used: a service changes them within seconds, and drops none that fast.
const ADDRESSES_LAST: Duration = Duration::from_secs(60);

/// Where keys stand, and the connections to it.
#[derive(Debug)]
pub struct Origin {
    /// Keys stand below it; without a slash at its end.
    base: Url,
    authority: Authority,
    /// Whether it answers a request for an object's last bytes; Azure does not.
    pub knows_suffixes: bool,
    /// Certificates of those who may sign the service's; None is whom the platform trusts.
    ca: Option<PathBuf>,
    tls: OnceLock<Arc<ClientConfig>>,
    addresses: tokio::sync::Mutex<Addresses>,
    /// Connections that wait for the next request.
    idle: Mutex<Vec<Connection>>,
}

#[derive(Debug, Default)]
struct Addresses {
    found: Vec<SocketAddr>,
    when: Option<Instant>,
}

impl Origin {
    /// The origin at an address; no request is sent.
    ///
    /// # Errors
    /// `BadUse` for what is no HTTP address.
    pub fn new(base: &str, authority: Authority, ca: Option<&str>) -> Outcome<Self> {
        let base = Url::parse(base.trim_end_matches('/'))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| Failure::bad_use(format!("{base:?} is no address of a service")))?;
        let ca = ca.map(PathBuf::from);
        let (tls, addresses, idle) = Default::default();
        Ok(Self { base, authority, knows_suffixes: true, ca, tls, addresses, idle })
    }

    /// The bytes of a request for a range of an object, or for all of it.
    ///
    /// # Errors
    /// `Store` where it has to be signed and no credential can be had.
    pub async fn request(&self, method: Method, path: &Path, range: Option<&GetRange>) -> Outcome<String> {
        let key = utf8_percent_encode(path.as_ref(), ESCAPED);
        let base = self.base.as_str().trim_end_matches('/');
        let mut request = Request::builder().method(method).uri(format!("{base}/{key}"));
        if let Some(range) = range {
            request = request.header(RANGE, asked(range));
        }
        let mut request = request.body(HttpRequestBody::empty()).map_err(Failure::bad_use)?;
        self.authority.sign(&mut request).await?;
        let asked = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let mut text = format!("{} {asked} HTTP/1.1\r\nhost: {}\r\n", request.method(), self.host());
        for (name, value) in request.headers() {
            let value = value.to_str().map_err(Failure::measurement)?;
            let _ = write!(text, "{name}: {value}\r\n"); // a string takes all
        }
        text.push_str("\r\n");
        Ok(text)
    }

    /// The host as requests name it: with its port where that is not the scheme's own.
    fn host(&self) -> &str {
        &self.base[Position::BeforeHost..Position::AfterPort]
    }

    /// What an object is called in a message: never with a token.
    pub fn name_of(&self, path: &Path) -> String {
        format!("{}{}/{path}", self.host(), self.base.path().trim_end_matches('/'))
    }

    /// A connection that waited, the one used last.
    pub fn idle(&self) -> Option<Connection> {
        self.idle.lock().pop()
    }

    /// Lets a connection wait for the next request.
    pub fn keep(&self, connection: Connection) {
        self.idle.lock().push(connection);
    }

    /// A new connection, to the address whose turn it is, or to the next that lets itself be reached.
    ///
    /// # Errors
    /// `InvalidData` where another attempt would not help: the server is not who it has to be.
    pub async fn connect(&self) -> Result<Connection> {
        let mut failed = Error::from(ErrorKind::NotFound);
        for address in self.addresses_in_turn().await? {
            match TcpStream::connect(address).await {
                Ok(stream) => return self.greet(stream).await,
                Err(error) => failed = error,
            }
        }
        self.addresses.lock().await.when = None; // they may be others by now
        Err(failed)
    }

    /// All addresses of the host, each time beginning with another one.
    async fn addresses_in_turn(&self) -> Result<Vec<SocketAddr>> {
        let mut known = self.addresses.lock().await;
        if known.when.is_none_or(|when| when.elapsed() > ADDRESSES_LAST) {
            let host = self.base.host_str().unwrap_or_default();
            let port = self.base.port_or_known_default().unwrap_or_default();
            let found = lookup_host(format!("{host}:{port}")).await?.collect();
            *known = Addresses { found, when: Some(Instant::now()) };
        }
        if !known.found.is_empty() {
            known.found.rotate_left(1);
        }
        Ok(known.found.clone())
    }

    async fn greet(&self, stream: TcpStream) -> Result<Connection> {
        stream.set_nodelay(true)?;
        if self.base.scheme() == "http" {
            return Ok(Connection::Plain(stream));
        }
        let invalid = |why: &dyn std::fmt::Display| Error::new(ErrorKind::InvalidData, why.to_string());
        let config = match self.tls.get() {
            Some(config) => Arc::clone(config),
            None => {
                let config = tls::config(self.ca.as_deref()).map_err(|failure| invalid(&failure))?;
                Arc::clone(self.tls.get_or_init(|| config))
            }
        };
        let name = match self.base.host() {
            Some(Host::Ipv4(address)) => ServerName::from(std::net::IpAddr::from(address)),
            Some(Host::Ipv6(address)) => ServerName::from(std::net::IpAddr::from(address)),
            Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()).map_err(|error| invalid(&error))?,
            None => return Err(ErrorKind::InvalidData.into()),
        };
        Ok(Connection::Tls(Box::new(TlsStream::connect(stream, config, name).await?)))
    }
}

/// A connection on which one request at a time is under way.
#[derive(Debug)]
pub enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Connection {
    pub async fn send(&mut self, request: &[u8]) -> Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(request).await,
            Self::Tls(stream) => stream.send(request).await,
        }
    }

    /// Reads as many bytes as have come and fit; none where the server has ended the connection.
    pub async fn read_buf(&mut self, into: &mut (impl BufMut + Send)) -> Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(into).await,
            Self::Tls(stream) => stream.read_buf(into).await,
        }
    }
}

/// A range as the header says it.
fn asked(range: &GetRange) -> String {
    match range {
        GetRange::Bounded(span) => format!("bytes={}-{}", span.start, span.end.saturating_sub(1)),
        GetRange::Offset(first) => format!("bytes={first}-"),
        GetRange::Suffix(last) => format!("bytes=-{last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    use object_store::StaticCredentialProvider;
    use object_store::aws::AwsCredential;
    use object_store::azure::AzureCredential;
    use object_store::gcp::GcpCredential;

    use crate::serving::{Manners, Server};

    async fn request(base: &str, authority: Authority, range: &GetRange) -> String {
        let origin = Origin::new(base, authority, None).expect("an address");
        origin.request(Method::GET, &Path::from("a b/c/0"), Some(range)).await.expect("signed")
    }

    #[tokio::test]
    async fn an_anonymous_request_says_what_is_wanted_and_no_more() {
        let asked = |base, range| async move { request(base, Authority::Anonymous, &range).await };
        assert_eq!(
            asked("http://host:80/base/", GetRange::Bounded(2..5)).await,
            "GET /base/a%20b/c/0 HTTP/1.1\r\nhost: host\r\nrange: bytes=2-4\r\n\r\n"
        );
        let suffix = asked("https://host:9000", GetRange::Suffix(68)).await;
        assert_eq!(suffix, "GET /a%20b/c/0 HTTP/1.1\r\nhost: host:9000\r\nrange: bytes=-68\r\n\r\n");
        assert!(asked("https://host", GetRange::Offset(3)).await.contains("range: bytes=3-\r\n"));
        for bad in ["ftp://host", "host", "http://"] {
            assert!(Origin::new(bad, Authority::Anonymous, None).is_err_and(|failure| failure.exit_code() == 2));
        }
    }

    #[tokio::test]
    async fn each_cloud_gets_the_credential_that_it_wants() {
        let range = GetRange::Bounded(0..9);
        let key =
            AwsCredential { key_id: "me".to_owned(), secret_key: "secret".to_owned(), token: Some("t".to_owned()) };
        let credentials = Arc::new(StaticCredentialProvider::new(key));
        let aws = Authority::Aws { credentials, region: "eu-west-9".to_owned(), requester_pays: true };
        let text = request("https://b.s3.eu-west-9.amazonaws.com", aws, &range).await;
        assert!(text.starts_with("GET /a%20b/c/0 HTTP/1.1\r\nhost: b.s3.eu-west-9.amazonaws.com\r\n"), "{text}");
        for words in [
            "/eu-west-9/s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date;x-amz-request-payer;",
            "authorization: AWS4-HMAC-SHA256 Credential=me/",
            "x-amz-security-token: t\r\n",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert!(!text.contains("secret"));

        let token = GcpCredential { bearer: "t".to_owned() };
        let google = Authority::Google(Arc::new(StaticCredentialProvider::new(token)));
        let text = request("https://storage.googleapis.com/b", google, &range).await;
        assert!(text.starts_with("GET /b/a%20b/c/0 ") && text.contains("authorization: Bearer t\r\n"), "{text}");

        let signature = AzureCredential::SASToken(vec![("sig".to_owned(), "s".to_owned())]);
        let credentials = Arc::new(StaticCredentialProvider::new(signature));
        let azure = Authority::Azure { credentials, account: "me".to_owned() };
        let text = request("https://me.blob.core.windows.net/b", azure, &range).await;
        assert!(text.starts_with("GET /b/a%20b/c/0?sig=s ") && text.contains("x-ms-version: "), "{text}");
    }

    #[tokio::test]
    async fn new_connections_go_to_all_addresses_in_turn() {
        let server = Server::start(HashMap::new(), Manners::default()).await;
        let origin = Origin::new(&server.url(), Authority::Anonymous, None).expect("an address");
        let hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
        let addresses = |port| hosts.iter().map(move |host| format!("{host}:{port}").parse().expect("an address"));
        let mut connections = Vec::new(); // all stay open
        *origin.addresses.lock().await =
            Addresses { found: addresses(server.port).collect(), when: Some(Instant::now()) };
        for _ in 0..6 {
            connections.push(origin.connect().await.expect("connected"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut reached: Vec<_> = server.seen().connections.iter().map(|address| address.ip().to_string()).collect();
        reached.sort();
        assert_eq!(reached, hosts.map(|host| [host; 2]).as_flattened());

        let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let found = vec![closed, addresses(server.port).next().expect("one")];
        *origin.addresses.lock().await = Addresses { found, when: Some(Instant::now()) };
        for _ in 0..2 {
            assert!(origin.connect().await.is_ok(), "one that cannot be reached is passed over");
        }
    }
}
