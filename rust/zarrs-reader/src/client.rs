//! The object store behind a target, with every HTTP request counted where it is sent.
//!
//! Counting happens below object_store, so that retries, HEADs and whatever else a library does are seen.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::header::CONTENT_RANGE;
use http::{Method, StatusCode};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{
    Certificate, ClientOptions, HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService, ReqwestConnector,
};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, RetryConfig};
use parking_lot::Mutex;
use serde::Serialize;
use url::Url;

use crate::clocks::memory_share;
use crate::content_range::ContentRange;
use crate::failure::{Failure, Outcome};
use crate::origin::{Authority, Origin};
use crate::recording::{Recorder, Stamping};
use crate::workload::{Target, Workload};

/// What an answer may take.
pub const TIMEOUT: Duration = Duration::from_secs(120);
/// Memory that is asked for before a body has come.
const AT_FIRST_BYTES: u64 = 16 << 20;

/// Requests and bytes since the last reset.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    index_requests: AtomicU64,
    head_requests: AtomicU64,
    failures: AtomicU64,
    fetched_bytes: AtomicU64,
    shared_bytes: AtomicU64,
}

/// What the counters say; fields as in docs/workload.md.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RequestCounts {
    pub requests: u64,
    pub index_requests: u64,
    pub head_requests: u64,
    /// Requests sent again: each that object_store retries, for its answer or for a lost connection, was one too many.
    pub retries: u64,
    pub fetched_bytes: u64,
}

impl Counters {
    pub fn reset(&self) {
        let requests = [&self.requests, &self.index_requests, &self.head_requests, &self.failures];
        for counter in requests.into_iter().chain([&self.fetched_bytes, &self.shared_bytes]) {
            counter.store(0, Relaxed);
        }
    }

    pub fn request_counts(&self) -> RequestCounts {
        RequestCounts {
            requests: self.requests.load(Relaxed),
            index_requests: self.index_requests.load(Relaxed),
            head_requests: self.head_requests.load(Relaxed),
            retries: self.failures.load(Relaxed),
            fetched_bytes: self.fetched_bytes.load(Relaxed),
        }
    }

    pub fn sent(&self, method: &Method) {
        self.requests.fetch_add(1, Relaxed);
        if method == Method::HEAD {
            self.head_requests.fetch_add(1, Relaxed);
        }
    }

    /// Counts a connection that broke, or an answer that did not come.
    pub fn lost(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub fn answered(&self, status: StatusCode, range: Option<&ContentRange>) {
        if is_passing(status) {
            self.failures.fetch_add(1, Relaxed);
        }
        if range.is_some_and(ContentRange::is_index) {
            self.index_requests.fetch_add(1, Relaxed);
        }
    }

    /// Counts bytes of a body.
    pub fn fetched(&self, bytes: usize) {
        self.fetched_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts bytes that a read got of another one's request.
    pub fn shared(&self, bytes: u64) {
        self.shared_bytes.fetch_add(bytes, Relaxed);
    }

    /// Bytes that reads got, by whosoever request.
    pub fn got_bytes(&self) -> u64 {
        self.fetched_bytes.load(Relaxed) + self.shared_bytes.load(Relaxed)
    }
}

/// Whether a server was too busy, or failed: it may do better the next time. object_store asks again after the same.
pub fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status)
}

/// An object store rooted at the array of a workload.
#[derive(Debug, Clone)]
pub struct Client {
    pub store: Arc<dyn ObjectStore>,
    pub prefix: Path,
    pub counters: Arc<Counters>,
    pub recorder: Arc<Recorder>,
    /// The same service for the network limit, which fetches by a client of its own.
    pub origin: Arc<Origin>,
}

impl Client {
    /// Opens the store of a workload's target.
    ///
    /// Credentials come from object_store's chain for the cloud unless the target is anonymous; no request is sent.
    /// `harness/access.py` tells the libraries of Python the same.
    ///
    /// # Errors
    /// `BadUse` for what is no URL, `Unsupported` for one that this build cannot read.
    pub fn open(workload: &Workload) -> Outcome<Self> {
        let target = &workload.target;
        let url = Url::parse(&target.url).map_err(|e| Failure::bad_use(format!("{:?} is no URL: {e}", target.url)))?;
        let counters = Arc::new(Counters::default());
        let recorder = Arc::new(Recorder::default());
        // The store of a bucket is rooted at the bucket, that of plain HTTP at the URL.
        let inside = if url.scheme().starts_with("http") { "" } else { url.path().trim_matches('/') };
        let prefix = Path::parse(join(inside, &workload.array.key)).map_err(Failure::bad_use)?;
        let connector = Counting {
            counters: Arc::clone(&counters),
            recorder: Arc::clone(&recorder),
            prefix: workload.array.key.clone(),
        };
        let (store, origin) = match url.scheme() {
            "s3" => s3(bucket(&url)?, target, workload.in_flight, connector)?,
            "gs" => gcs(bucket(&url)?, target, workload.in_flight, connector)?,
            "az" => azure(bucket(&url)?, target, workload.in_flight, connector)?,
            "http" | "https" => plain_http(&url, target, workload.in_flight, connector)?,
            other => return Err(Failure::unsupported(format!("this reader has no store for {other}:// URLs"))),
        };
        Ok(Self { store, prefix, counters, recorder, origin: Arc::new(origin) })
    }

    /// One GET. Azure knows no suffix ranges: there the object's size is asked for first.
    ///
    /// # Errors
    /// As object_store has them.
    pub async fn get(&self, path: &Path, range: Option<GetRange>) -> object_store::Result<GetResult> {
        let asked = |range| GetOptions { range, ..GetOptions::default() };
        match (self.store.get_opts(path, asked(range.clone())).await, range) {
            (Err(Error::NotSupported { .. }), Some(GetRange::Suffix(bytes))) => {
                let size = self.store.head(path).await?.size;
                self.store.get_opts(path, asked(Some(GetRange::Bounded(size.saturating_sub(bytes)..size)))).await
            }
            (answer, _) => answer,
        }
    }

    /// The path of a key of the array.
    pub fn path(&self, key: &str) -> Path {
        key.split('/').fold(self.prefix.clone(), Path::join)
    }
}

/// The body of an answer: as many bytes as its headers announced.
///
/// # Errors
/// `Store` where other bytes come, or more are announced than this machine has memory for.
pub async fn body_of(answer: GetResult) -> Outcome<Bytes> {
    let (path, announced) = (answer.meta.location.clone(), answer.range.end - answer.range.start);
    if announced > memory_share() {
        return Err(Failure::Store(format!("{path}: {announced} bytes are more than a quarter of the memory")));
    }
    let mut frames = answer.into_stream();
    let mut body = frames.try_next().await?.unwrap_or_default(); // not copied where it is all
    if let Some(second) = frames.try_next().await? {
        // An announcement costs nothing: more memory is asked for as bytes come.
        let mut whole = BytesMut::with_capacity(announced.min(AT_FIRST_BYTES) as usize);
        whole.extend_from_slice(&body);
        whole.extend_from_slice(&second);
        while whole.len() as u64 <= announced
            && let Some(frame) = frames.try_next().await?
        {
            whole.extend_from_slice(&frame);
        }
        body = whole.freeze();
    }
    match body.len() as u64 {
        came if came > announced => Err(longer(&path)),
        came if came < announced => Err(Failure::Store(format!("{path}: {came} bytes came, not {announced}"))),
        _ => Ok(body),
    }
}

/// What is said of a body that goes on beyond what its headers announced.
pub fn longer(path: &Path) -> Failure {
    Failure::Store(format!("{path}: more bytes come than were announced"))
}

fn join(prefix: &str, key: &str) -> String {
    [prefix, key].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/")
}

fn bucket(url: &Url) -> Outcome<&str> {
    url.host_str().ok_or_else(|| Failure::bad_use(format!("{url} names no bucket")))
}

/// What is behind a target: object_store's view of it, and the network limit's.
type Opened = (Arc<dyn ObjectStore>, Origin);

fn s3(bucket: &str, target: &Target, in_flight: usize, connector: Counting) -> Outcome<Opened> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_request_payer(target.requester_pays)
        .with_client_options(options(target, in_flight)?)
        .with_retry(retries())
        .with_http_connector(connector);
    if let Some(endpoint) = &target.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(true);
    }
    if let Some(region) = &target.region {
        builder = builder.with_region(region);
    }
    if target.anonymous {
        builder = builder.with_skip_signature(true);
    }
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
    let store = builder.build().map_err(Failure::bad_use)?;
    let base = match &target.endpoint {
        Some(endpoint) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        // No certificate covers a bucket's name with dots.
        None if bucket.contains('.') => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        None => format!("https://{bucket}.s3.{region}.amazonaws.com"),
    };
    let authority = authority(target, || Authority::Aws {
        credentials: Arc::clone(store.credentials()),
        region,
        requester_pays: target.requester_pays,
    });
    Ok((Arc::new(store), Origin::new(&base, authority, target.ca.as_deref())?))
}

fn gcs(bucket: &str, target: &Target, in_flight: usize, connector: Counting) -> Outcome<Opened> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(options(target, in_flight)?)
        .with_retry(retries())
        .with_http_connector(connector);
    if let Some(endpoint) = &target.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    if target.anonymous {
        builder = builder.with_skip_signature(true);
    }
    let store = builder.build().map_err(Failure::bad_use)?;
    let service = target.endpoint.as_deref().unwrap_or("https://storage.googleapis.com").trim_end_matches('/');
    let authority = authority(target, || Authority::Google(Arc::clone(store.credentials())));
    Ok((Arc::new(store), Origin::new(&format!("{service}/{bucket}"), authority, target.ca.as_deref())?))
}

fn azure(container: &str, target: &Target, in_flight: usize, connector: Counting) -> Outcome<Opened> {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_client_options(options(target, in_flight)?)
        .with_retry(retries())
        .with_http_connector(connector);
    if let Some(account) = &target.account {
        builder = builder.with_account(account);
    }
    if let Some(endpoint) = &target.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    if target.anonymous {
        builder = builder.with_skip_signature(true);
    }
    let account = builder.get_config_value(&AzureConfigKey::AccountName).unwrap_or_default();
    let store = builder.build().map_err(Failure::bad_use)?;
    let service = target.endpoint.clone().unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
    let authority = authority(target, || Authority::Azure { credentials: Arc::clone(store.credentials()), account });
    let base = format!("{}/{container}", service.trim_end_matches('/'));
    let mut origin = Origin::new(&base, authority, target.ca.as_deref())?;
    origin.knows_suffixes = false;
    Ok((Arc::new(store), origin))
}

fn authority(target: &Target, signed: impl FnOnce() -> Authority) -> Authority {
    if target.anonymous { Authority::Anonymous } else { signed() }
}

fn retries() -> RetryConfig {
    RetryConfig { retry_timeout: TIMEOUT, ..RetryConfig::default() }
}

fn plain_http(url: &Url, target: &Target, in_flight: usize, connector: Counting) -> Outcome<Opened> {
    let store = HttpBuilder::new()
        .with_url(url.as_str())
        .with_client_options(options(target, in_flight)?)
        .with_http_connector(connector)
        .build()
        .map_err(Failure::bad_use)?;
    Ok((Arc::new(store), Origin::new(url.as_str(), Authority::Anonymous, target.ca.as_deref())?))
}

fn options(target: &Target, in_flight: usize) -> Outcome<ClientOptions> {
    let options =
        ClientOptions::new().with_allow_http(true).with_timeout(TIMEOUT).with_pool_max_idle_per_host(2 * in_flight);
    authorities(target)?.into_iter().try_fold(options, |options, one| Ok(options.with_root_certificate(one)))
}

/// Whom a target says to trust, beside those that everybody does.
fn authorities(target: &Target) -> Outcome<Vec<Certificate>> {
    let Some(file) = &target.ca else { return Ok(Vec::new()) };
    let cannot = |why: &dyn std::fmt::Display| Failure::bad_use(format!("cannot trust {file}: {why}"));
    let text = std::fs::read(file).map_err(|error| cannot(&error))?;
    Certificate::from_pem_bundle(&text).map_err(|error| cannot(&error))
}

/// Connects as object_store does, and counts.
#[derive(Debug)]
struct Counting {
    counters: Arc<Counters>,
    recorder: Arc<Recorder>,
    /// Key of the array.
    prefix: String,
}

impl HttpConnector for Counting {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        let (counters, recorder) = (Arc::clone(&self.counters), Arc::clone(&self.recorder));
        Ok(HttpClient::new(CountingService { inner, counters, recorder, prefix: self.prefix.clone() }))
    }
}

#[derive(Debug)]
struct CountingService {
    inner: HttpClient,
    counters: Arc<Counters>,
    recorder: Arc<Recorder>,
    prefix: String,
}

#[async_trait::async_trait]
impl HttpService for CountingService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.counters.sent(request.method());
        let mut stamping = self.recorder.sent(request.method(), request.uri().path(), &self.prefix);
        let response = self.inner.execute(request).await.inspect_err(|_| self.counters.lost())?;
        let header = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let range = header.and_then(ContentRange::parse);
        self.counters.answered(response.status(), range.as_ref());
        if let Some(stamping) = &mut stamping {
            stamping.answered(response.status(), range);
        }
        let (parts, body) = response.into_parts();
        let body =
            CountedBody { frames: Mutex::new(body.bytes_stream()), counters: Arc::clone(&self.counters), stamping };
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

/// A body whose bytes are counted as they arrive.
struct CountedBody {
    /// A mutex only because a body has to be `Sync`; it is never locked.
    frames: Mutex<BoxStream<'static, Result<Bytes, HttpError>>>,
    counters: Arc<Counters>,
    stamping: Option<Stamping>,
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        this.frames.get_mut().poll_next_unpin(context).map(|next| {
            if next.is_none() {
                this.stamping = None; // the body has ended: it is kept now, not when somebody drops it
            }
            next.map(|frame| {
                frame.inspect_err(|_| this.counters.lost()).map(|data| {
                    this.counters.fetched(data.len());
                    if let Some(stamping) = &mut this.stamping {
                        stamping.came(data.len());
                    }
                    http_body::Frame::data(data)
                })
            })
        })
    }
}

#[cfg(test)]
impl Client {
    /// A client of a store that is there already, whose requests nobody counts; the network limit's asks `origin`.
    pub fn over(store: Arc<dyn ObjectStore>, prefix: &str, origin: Origin) -> Self {
        let (counters, recorder) = (Arc::default(), Arc::default());
        Self { store, prefix: Path::from(prefix), counters, recorder, origin: Arc::new(origin) }
    }
}
