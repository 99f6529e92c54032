//! A connection as hyper wants it, encrypted or not: what is the same of both. How each writes stands in `zero_copy` and
//! in `tls`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::connection::Connection;

/// A stream over TCP.
pub trait OverTcp: AsyncRead + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl OverTcp for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl OverTcp for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

pub struct Socket<S: OverTcp> {
    pub stream: TokioIo<S>,
    connection: Arc<Connection>,
}

impl<S: OverTcp> Socket<S> {
    pub fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream: TokioIo::new(stream), connection }
    }
}

impl<S: OverTcp> Drop for Socket<S> {
    fn drop(&mut self) {
        if self.connection.resets() {
            self.stream.inner().tcp().set_zero_linger().ok();
        }
    }
}

impl<S: OverTcp> Read for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_ready() {
            self.connection.heard();
        }
        polled
    }
}
