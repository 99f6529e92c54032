//! TLS over one connection by rustls's unbuffered interface: records are decrypted where the kernel put them, many of
//! them per call into it, and each is copied to where its bytes stay.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failure::{Failure, Outcome};

/// A record's 16 KiB, what encryption adds, and its header.
const MOST_RECORD_BYTES: usize = (16 << 10) + 256 + 5;
/// Read at most at once; a chain of certificates has to fit too.
const INCOMING_BYTES: usize = 5 * MOST_RECORD_BYTES;
/// What encryption adds to a request.
const REQUEST_EXTRA_BYTES: usize = 1024;

/// Whom connections trust: the certificates of a file, else what this platform trusts, as reqwest does. Sessions are
/// resumed as rustls does by itself.
///
/// # Errors
/// `BadUse` for a file without certificates.
pub fn config(ca: Option<&Path>) -> Outcome<Arc<ClientConfig>> {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Failure::measurement)?;
    let mut config = match ca {
        Some(file) => builder.with_root_certificates(roots(file)?),
        None => {
            let verifier = Verifier::new(provider).map_err(Failure::measurement)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    }
    .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn roots(file: &Path) -> Outcome<RootCertStore> {
    let cannot = |why: &dyn std::fmt::Display| {
        Failure::bad_use(format!("cannot read certificates from {}: {why}", file.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| cannot(&error))? {
        let certificate = certificate.map_err(|error| cannot(&error))?;
        roots.add(certificate).map_err(|error| cannot(&error))?;
    }
    if roots.is_empty() {
        return Err(cannot(&"it has none"));
    }
    Ok(roots)
}

/// A connection after its handshake.
pub struct TlsStream {
    stream: TcpStream,
    tls: UnbufferedClientConnection,
    /// Records as they came; those between `begin` and `end` have not been processed.
    incoming: Box<[u8]>,
    begin: usize,
    end: usize,
    outgoing: Vec<u8>,
    /// Decrypted bytes for which there was no room.
    rest: Bytes,
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TlsStream").finish_non_exhaustive()
    }
}

/// What a connection waits for.
enum Next {
    /// Some bytes have been decrypted.
    Read(usize),
    /// `outgoing` is to be sent.
    Send,
    /// More bytes are to be received.
    Receive,
    /// A request may be sent, else as `Receive`.
    Ready,
    Closed,
}

impl TlsStream {
    /// Shakes hands.
    ///
    /// # Errors
    /// `InvalidData` where the server is not who it has to be, or speaks no TLS: trying again would not help.
    pub async fn connect(stream: TcpStream, config: Arc<ClientConfig>, server: ServerName<'static>) -> Result<Self> {
        let tls = UnbufferedClientConnection::new(config, server).map_err(invalid)?;
        let incoming = vec![0; INCOMING_BYTES].into_boxed_slice();
        let mut connection = Self { stream, tls, incoming, begin: 0, end: 0, outgoing: Vec::new(), rest: Bytes::new() };
        connection.send(&[]).await?;
        Ok(connection)
    }

    /// Sends a request.
    pub async fn send(&mut self, mut request: &[u8]) -> Result<()> {
        let mut early = Vec::new();
        loop {
            match self.advance(&mut request, &mut early)? {
                Next::Send => self.flush().await?,
                Next::Ready => return Ok(()),
                Next::Receive => {
                    if self.receive().await? == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                }
                Next::Closed => return Err(ErrorKind::UnexpectedEof.into()),
                Next::Read(_) => return Err(invalid("bytes came that nobody asked for")),
            }
        }
    }

    /// Reads decrypted bytes, as many as have come and fit; none where the server has ended the connection.
    pub async fn read_buf(&mut self, into: &mut impl BufMut) -> Result<usize> {
        if self.rest.has_remaining() {
            let fit = self.rest.len().min(into.remaining_mut());
            into.put(self.rest.split_to(fit));
            return Ok(fit);
        }
        loop {
            match self.advance(&mut &[][..], into)? {
                Next::Read(bytes) => return Ok(bytes),
                Next::Send => self.flush().await?,
                Next::Receive | Next::Ready => {
                    if self.receive().await? == 0 {
                        return Ok(0);
                    }
                }
                Next::Closed => return Ok(0),
            }
        }
    }

    /// Processes what has come until something else is needed. A request is encrypted once that may be, and then empty.
    fn advance(&mut self, request: &mut &[u8], into: &mut impl BufMut) -> Result<Next> {
        loop {
            let waiting = &mut self.incoming[self.begin..self.end];
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(waiting);
            let next = match state.map_err(invalid)? {
                ConnectionState::EncodeTlsData(mut record) => {
                    append(&mut self.outgoing, MOST_RECORD_BYTES, |room| record.encode(room).map_err(invalid))?;
                    None
                }
                ConnectionState::TransmitTlsData(record) => {
                    record.done();
                    Some(Next::Send)
                }
                ConnectionState::WriteTraffic(mut traffic) if !request.is_empty() => {
                    let bytes = std::mem::take(request);
                    let room = bytes.len() + REQUEST_EXTRA_BYTES;
                    append(&mut self.outgoing, room, |room| traffic.encrypt(bytes, room).map_err(invalid))?;
                    Some(Next::Send)
                }
                ConnectionState::WriteTraffic(_) => Some(Next::Ready),
                ConnectionState::BlockedHandshake => Some(Next::Receive),
                ConnectionState::ReadTraffic(mut records) => {
                    let mut bytes = 0;
                    while let Some(record) = records.next_record() {
                        let payload = record.map_err(invalid)?.payload;
                        let (fits, rest) = payload.split_at(payload.len().min(into.remaining_mut()));
                        into.put_slice(fits);
                        bytes += fits.len();
                        if !rest.is_empty() {
                            self.rest = [&self.rest, rest].concat().into();
                        }
                    }
                    (bytes > 0).then_some(Next::Read(bytes))
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => Some(Next::Closed),
                other => return Err(invalid(format!("{other:?} was not expected"))),
            };
            self.begin += discard;
            if let Some(next) = next {
                return Ok(next);
            }
        }
    }

    async fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.outgoing).await?;
        self.outgoing.clear();
        Ok(())
    }

    /// Receives as many records as have come and fit.
    async fn receive(&mut self) -> Result<usize> {
        self.incoming.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        if self.end == self.incoming.len() {
            return Err(invalid("a record without an end"));
        }
        let bytes = self.stream.read(&mut self.incoming[self.end..]).await?;
        self.end += bytes;
        Ok(bytes)
    }
}

/// Lets `write` write into at most `room` bytes behind what is there.
fn append(out: &mut Vec<u8>, room: usize, write: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<()> {
    let before = out.len();
    out.resize(before + room, 0);
    let written = write(&mut out[before..])?;
    out.truncate(before + written);
    Ok(())
}

fn invalid(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidData, format!("TLS: {why}"))
}
