//! For tests: an HTTP/1.1 server of objects in this process, plain or over TLS, that tells what it saw.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a server saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// The heads of requests, as they came.
    pub requests: Vec<String>,
    /// Bytes of bodies sent.
    pub bytes: usize,
    /// Local addresses of connections.
    pub connections: Vec<SocketAddr>,
    /// How many of their handshakes resumed a session.
    pub resumed: usize,
}

pub struct Server {
    pub port: u16,
    seen: Arc<Mutex<Seen>>,
    /// Where the certificate stands that signed the server's, if it speaks TLS.
    pub ca: Option<PathBuf>,
}

/// How a server behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manners {
    pub tls: bool,
    /// Whether each connection ends after one answer.
    pub closes: bool,
}

impl Server {
    /// Serves objects by their key from now on, as long as the runtime lives.
    pub async fn start(objects: HashMap<String, Bytes>, manners: Manners) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (acceptor, ca) = if manners.tls {
            let ca = std::env::temp_dir().join(format!("zarrs-reader-{}-{port}.pem", std::process::id()));
            (Some(TlsAcceptor::from(certified(&ca))), Some(ca))
        } else {
            (None, None)
        };
        let (objects, told) = (Arc::new(objects), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (objects, seen, acceptor) = (Arc::clone(&objects), Arc::clone(&told), acceptor.clone());
                seen.lock().connections.extend(stream.local_addr());
                tokio::spawn(async move {
                    let Some(acceptor) = acceptor else { return serve(stream, &objects, &seen, manners).await };
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                        seen.lock().resumed += usize::from(resumed);
                        serve(stream, &objects, &seen, manners).await;
                    }
                });
            }
        });
        Self { port, seen, ca }
    }

    /// Its address, of a host that its certificate names.
    pub fn url(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// What was seen since the last look.
    pub fn seen(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(ca) = &self.ca {
            let _ = std::fs::remove_file(ca); // it is one of temporary files
        }
    }
}

/// A server's certificate for this machine, signed by a certificate of its own that is written to `ca`.
fn certified(ca: &Path) -> Arc<ServerConfig> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
    std::fs::write(ca, issuer.pem()).expect("written");
    let key = KeyPair::generate().expect("a key");
    let names = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    let certificate = CertificateDer::from(names.signed_by(&key, &issuer).expect("signed"));
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    Arc::new(config.expect("they belong together"))
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    objects: &HashMap<String, Bytes>,
    seen: &Mutex<Seen>,
    manners: Manners,
) {
    let mut came = Vec::new();
    loop {
        while let Some(end) = came.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&came.drain(..end + 4).collect::<Vec<_>>()).into_owned();
            let (headers, body) = answer(&head, objects);
            seen.lock().requests.push(head);
            seen.lock().bytes += body.len();
            let sent = [headers.as_bytes(), &body].concat();
            if stream.write_all(&sent).await.is_err() || stream.flush().await.is_err() || manners.closes {
                let _ = stream.shutdown().await;
                return;
            }
        }
        if matches!(stream.read_buf(&mut came).await, Ok(0) | Err(_)) {
            return;
        }
    }
}

/// The headers and the body of an answer.
fn answer(head: &str, objects: &HashMap<String, Bytes>) -> (String, Bytes) {
    let mut words = head.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let Some(object) = objects.get(path.split('?').next().unwrap_or_default().trim_start_matches('/')) else {
        return ("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\n".to_owned(), Bytes::from_static(b"gone"));
    };
    let total = object.len();
    if method == "HEAD" {
        return (format!("HTTP/1.1 200 OK\r\ncontent-length: {total}\r\n\r\n"), Bytes::new());
    }
    let range = head.split("range: bytes=").nth(1).and_then(|rest| rest.lines().next()).unwrap_or("0-");
    let (first, last) = range.split_once('-').expect("a range");
    let span = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => first..(last + 1).min(total),
        (Ok(first), Err(_)) => first..total,
        (Err(_), last) => total.saturating_sub(last.expect("a length"))..total,
    };
    if span.is_empty() || span.end > total {
        return ("HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\n\r\n".to_owned(), Bytes::new());
    }
    let told = format!("bytes {}-{}/{total}", span.start, span.end - 1);
    let body = object.slice(span);
    let length = body.len();
    (format!("HTTP/1.1 206 Partial\r\ncontent-length: {length}\r\ncontent-range: {told}\r\n\r\n"), body)
}
