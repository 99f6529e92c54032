//! TLS: an authority of the store's own, the certificate that it serves with, and a connection under both.
//!
//! The authority is kept, so that a client that trusts it goes on doing so after a restart; what it signs is made anew
//! at each start and never written. Encrypted bytes pass through this process: `sendfile` would need the kernel's TLS.

use std::fs::{self, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt::Write;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::crypto::ring::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS13_AES_128_GCM_SHA256,
};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{KeyLogFile, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::config::Failure;
use crate::socket::Socket;

/// What clients have to trust, PEM.
const CERTIFICATE: &str = "ca.pem";
/// What must stay here, PEM, readable by the owner alone.
const KEY: &str = "ca.key";
const NAME: &str = "s3-store of zarr-cloud-bench: trust it in tests only";

/// How connections are encrypted, and whom a client has to trust for it.
pub struct Tls {
    pub acceptor: TlsAcceptor,
    /// File of the authority's certificate.
    pub ca: PathBuf,
}

impl Tls {
    /// Serves `address` with a certificate that the authority in `folder` signs; without one there, it is made.
    ///
    /// # Errors
    /// When the folder cannot be used, or what it holds is no key.
    pub fn open(folder: &Path, address: IpAddr) -> Result<Self, Failure> {
        let cannot = |what: &str, why: &dyn std::fmt::Display| {
            Failure::bad_use(format!("cannot {what} {}: {why}", folder.display()))
        };
        let key =
            authority_key(folder).map_err(|error| cannot("keep the key of a certificate authority in", &error))?;
        let authority = KeyPair::from_pem(&key)
            .and_then(|key| CertifiedIssuer::self_signed(authority_params(), key))
            .map_err(|error| cannot("be the certificate authority of", &error))?;
        let ca = folder.join(CERTIFICATE);
        // The same key and name, so that it is the same authority, whatever else is written anew.
        replace(&ca, authority.pem().as_bytes()).map_err(|error| cannot("write a certificate to", &error))?;
        let config = served(&authority, address).map_err(|error| cannot("make a certificate by", &error))?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), ca })
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// The authority's key, PEM; it is made where there is none.
fn authority_key(folder: &Path) -> io::Result<String> {
    let path = folder.join(KEY);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    fs::create_dir_all(folder)?;
    let made = KeyPair::generate().map_err(io::Error::other)?.serialize_pem();
    replace(&path, made.as_bytes())?;
    Ok(made)
}

/// Writes a file that only its owner can read, whole or not at all.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(content).and_then(|()| fs::rename(&beside, path)).inspect_err(|_| {
        fs::remove_file(&beside).ok();
    })
}

/// TLS 1.2 and 1.3 for HTTP/1.1 at an address, by a certificate for it and for `localhost`.
fn served(
    authority: &CertifiedIssuer<'_, KeyPair>,
    address: IpAddr,
) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new([address.to_string(), "localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "s3-store");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = true;
    // Where SSLKEYLOGFILE names a file; else nothing is written.
    config.key_log = Arc::new(KeyLogFile::new());
    Ok(config)
}

/// AES with keys of 128 bits where a client has it, as S3 seems to choose whatever the client would rather
/// have (docs/store.md): in the clients' own order libraries would be given different ciphers.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    let first = [TLS13_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
    provider.cipher_suites.sort_by_key(|suite| !first.contains(suite));
    provider
}

impl Write for Socket<TlsStream<TcpStream>> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("s3-store-tls-{}-{name}", std::process::id()));
        fs::remove_dir_all(&folder).ok();
        folder
    }

    #[test]
    fn the_authority_is_made_once_and_kept_from_others() {
        let folder = folder("kept");
        let open = || Tls::open(&folder, IpAddr::from([127, 0, 0, 1])).map(|tls| fs::read_to_string(tls.ca).unwrap());
        let key = || fs::read_to_string(folder.join(KEY)).unwrap();
        let (first, kept) = (open().unwrap(), key());
        assert!(first.starts_with("-----BEGIN CERTIFICATE-----") && !first.contains("PRIVATE"));
        open().unwrap();
        assert_eq!(key(), kept);
        assert_eq!(fs::metadata(folder.join(KEY)).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(folder.join(KEY), "no key").unwrap();
        let failure = open().unwrap_err();
        assert_eq!((failure.code, failure.message.contains('\n')), (2, false));
        fs::remove_dir_all(&folder).ok();
    }
}
