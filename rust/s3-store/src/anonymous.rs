//! Anonymous mode: signatures are taken off, whoever made them.
//!
//! s3s refuses a signed request when it has no keys to check it with, and it decodes the aws-chunked framing of signed
//! uploads only while it checks them. So this layer removes the signature and decodes the framing itself.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body::Frame;
use parking_lot::Mutex;
use s3s::{Body, StdError};

use crate::headers::remove_signature;
use crate::layer::{Answer, Layer, Service};

const DECODED_LENGTH: &str = "x-amz-decoded-content-length";
/// The longest chunk header or trailer that is accepted, bytes.
const MAX_LINE: usize = 16 * 1024;
/// The most trailers that are accepted; S3 knows a handful.
const MAX_TRAILERS: usize = 100;

/// The checksums that followed an upload, in the request's extensions; empty until the body has been read.
#[derive(Clone, Default)]
pub struct Trailers(Arc<Mutex<HeaderMap>>);

impl Trailers {
    pub fn take(&self) -> HeaderMap {
        std::mem::take(&mut self.0.lock())
    }
}

/// Removes signatures.
pub struct Anonymous;

impl Layer for Anonymous {
    async fn answer(&self, request: Request<Body>, inside: &impl Service) -> Answer {
        inside.call(without_signature(request)).await
    }
}

fn without_signature(mut request: Request<Body>) -> Request<Body> {
    remove_signature(&mut request);
    if is_chunked(request.headers()) { decoded(request) } else { request }
}

fn is_chunked(headers: &HeaderMap) -> bool {
    let hash = headers.get("x-amz-content-sha256");
    hash.is_some_and(|hash| hash.as_bytes().starts_with(b"STREAMING-"))
}

fn decoded(mut request: Request<Body>) -> Request<Body> {
    let headers = request.headers_mut();
    // s3s takes the length of the content from here.
    if let Some(length) = headers.get(DECODED_LENGTH).cloned() {
        headers.insert(CONTENT_LENGTH, length);
    }
    let trailers = Trailers::default();
    request.extensions_mut().insert(trailers.clone());
    request.map(|body| {
        let (input, state) = (BytesMut::new(), State::ChunkHeader);
        Body::http_body_unsync(Chunked { body, input, state, trailers })
    })
}

/// A body freed of aws-chunked framing: `<hex size>[;chunk-signature=...]\r\n<data>\r\n ... 0\r\n[trailers]\r\n`.
struct Chunked {
    body: Body,
    input: BytesMut,
    state: State,
    trailers: Trailers,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    ChunkHeader,
    /// So many bytes of the chunk are still to come.
    Data(usize),
    ChunkEnd,
    Trailers,
}

/// What a step through the input led to.
enum Step {
    Data(Bytes),
    Advanced,
    NeedsInput,
    End,
}

#[derive(Debug)]
struct Malformed(&'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed aws-chunked body: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl Chunked {
    fn step(&mut self) -> Result<Step, Malformed> {
        match self.state {
            State::Data(left) => Ok(self.take_data(left)),
            State::ChunkHeader => self.read_chunk_header(),
            State::ChunkEnd => self.read_chunk_end(),
            State::Trailers => self.read_trailer(),
        }
    }

    fn take_data(&mut self, left: usize) -> Step {
        if self.input.is_empty() {
            return Step::NeedsInput;
        }
        let data = self.input.split_to(left.min(self.input.len())).freeze();
        let left = left - data.len();
        self.state = if left == 0 { State::ChunkEnd } else { State::Data(left) };
        Step::Data(data)
    }

    fn read_chunk_header(&mut self) -> Result<Step, Malformed> {
        let Some(line) = self.line()? else { return Ok(Step::NeedsInput) };
        let size = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| Malformed("chunk size"))?;
        self.state = if size == 0 { State::Trailers } else { State::Data(size) };
        Ok(Step::Advanced)
    }

    fn read_chunk_end(&mut self) -> Result<Step, Malformed> {
        if self.input.len() < 2 {
            return Ok(Step::NeedsInput);
        }
        if !self.input.starts_with(b"\r\n") {
            return Err(Malformed("end of chunk"));
        }
        self.input.advance(2);
        self.state = State::ChunkHeader;
        Ok(Step::Advanced)
    }

    fn read_trailer(&mut self) -> Result<Step, Malformed> {
        let Some(line) = self.line()? else { return Ok(Step::NeedsInput) };
        if line.is_empty() {
            return Ok(Step::End);
        }
        let (name, value) = line.split_once(':').ok_or(Malformed("trailer"))?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| Malformed("trailer name"))?;
        let value = HeaderValue::try_from(value.trim()).map_err(|_| Malformed("trailer value"))?;
        let mut trailers = self.trailers.0.lock();
        if trailers.len() >= MAX_TRAILERS {
            return Err(Malformed("too many trailers"));
        }
        trailers.insert(name, value);
        Ok(Step::Advanced)
    }

    /// The next line without its end, once it is there.
    fn line(&mut self) -> Result<Option<String>, Malformed> {
        let Some(end) = self.input.iter().position(|&byte| byte == b'\n') else {
            return if self.input.len() > MAX_LINE { Err(Malformed("line length")) } else { Ok(None) };
        };
        let line = self.input.split_to(end + 1);
        let line = std::str::from_utf8(&line).map_err(|_| Malformed("characters"))?;
        Ok(Some(line.trim_end().to_owned()))
    }

    /// The framed body is over: fine after the last chunk, whose trailers may lack the empty line.
    fn end_of_input(&self) -> Result<(), Malformed> {
        let fine = self.state == State::Trailers && self.input.is_empty();
        if fine { Ok(()) } else { Err(Malformed("it ends too early")) }
    }
}

impl http_body::Body for Chunked {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        loop {
            match self.step()? {
                Step::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Step::Advanced => continue,
                Step::End => return Poll::Ready(None),
                Step::NeedsInput => {}
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => {
                    self.end_of_input()?;
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => self.input.extend_from_slice(&frame.into_data().unwrap_or_default()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use proptest::prelude::*;

    async fn decode(framed: &'static [u8], piece: usize) -> Result<(Bytes, HeaderMap), StdError> {
        let frames = framed.chunks(piece).map(|part| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(part))));
        let body = Body::http_body_unsync(StreamBody::new(futures::stream::iter(frames)));
        let request = Request::builder().header(DECODED_LENGTH, "9").body(body).unwrap();
        let request = decoded(request);
        assert_eq!(request.headers()[CONTENT_LENGTH], "9");
        let trailers = request.extensions().get::<Trailers>().unwrap().clone();
        let bytes = request.into_body().collect().await?.to_bytes();
        Ok((bytes, trailers.take()))
    }

    #[tokio::test]
    async fn chunks_are_joined_however_they_arrive() {
        let framed =
            b"5;chunk-signature=00\r\nhello\r\n4\r\n you\r\n0;chunk-signature=00\r\nx-amz-checksum-crc32:AAAA\r\n\r\n";
        for piece in [1, 2, 7, 1000] {
            let (bytes, trailers) = decode(framed, piece).await.unwrap();
            assert_eq!(bytes, "hello you");
            assert_eq!(trailers["x-amz-checksum-crc32"], "AAAA");
        }
    }

    #[tokio::test]
    async fn a_truncated_or_broken_body_is_an_error() {
        for framed in [&b"5\r\nhel"[..], b"5\r\nhello\r\n", b"x\r\nhello\r\n0\r\n\r\n", b"5\r\nhello..0\r\n\r\n"] {
            assert!(decode(framed, 100).await.is_err());
        }
    }

    const FRAMES: [&[u8]; 5] = [b"5\r\nhello\r\n", b"0\r\n", b"\r\n", b"a:b\r\n", b"fffffffffffffff0\r\n"];

    proptest! {
        /// Whatever bytes stand there, in whatever pieces: content or an error, never a panic or an endless wait.
        #[test]
        fn any_bytes_are_decoded_or_refused(
            parts in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..20),
                    prop::sample::select(&FRAMES[..])
                        .prop_map(<[u8]>::to_vec),
                ],
                0..8,
            ),
            piece in 1_usize..30,
        ) {
            let framed: &'static [u8] = parts.concat().leak();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            if let Ok((bytes, _)) = runtime.block_on(decode(framed, piece)) {
                prop_assert!(bytes.len() < framed.len());
            }
        }
    }
}
