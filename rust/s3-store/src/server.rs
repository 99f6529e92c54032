//! Listening, the worker threads, and stopping.
//!
//! One thread accepts and hands each connection to the worker with the fewest; each worker is a runtime of its own, so
//! a request never moves between cores. (`SO_REUSEPORT` would spread few connections unevenly, and would let two
//! servers share a port unnoticed.)

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hyper::rt::{Read, Write};
use hyper_util::rt::TokioTimer;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::anonymous::Anonymous;
use crate::api::{Api, KeyCheck};
use crate::backend::Store;
use crate::config::{Config, Failure, Keys};
use crate::connection::Connection;
use crate::control::{self, Control};
use crate::counters::Counters;
use crate::exchange::Edge;
use crate::faults::Faults;
use crate::headers::AfterCheck;
use crate::layer::{Around, S3, Service};
use crate::pacing::Link;
use crate::service_time::Draws;
use crate::socket::Socket;
use crate::sys;
use crate::throttle::Throttle;
use crate::tls::Tls;

/// How long a stop waits for answers under way.
const GRACE: Duration = Duration::from_secs(2);
/// How much hyper collects before it writes, bytes; also bounds what a slow client holds in memory.
const WRITE_BUFFER: usize = 256 * 1024;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the root cannot be used or a port is taken.
pub fn run(config: Config) -> Result<(), Failure> {
    let runtime = current_thread_runtime()?;
    let store = Arc::new(Store::open(&config.root).map_err(Failure::bad_use)?);
    runtime.block_on(serve(config, store))
}

fn current_thread_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::bad_use(format!("cannot start: {error}")))
}

async fn serve(config: Config, store: Arc<Store>) -> Result<(), Failure> {
    let listener = listen(config.bind, config.port, "--port").await?;
    let control_listener = listen(config.control_bind, config.control_port, "--control-port").await?;
    let tls = config.tls.as_deref().map(|folder| Tls::open(folder, config.bind)).transpose()?;
    let ready = ready_line(&config, &store, tls.as_ref(), address(&listener)?, address(&control_listener)?);
    let counters = Arc::new(Counters::default());
    let faults = Arc::new(Faults::new(counters.clone()));
    let draws = Draws::new(&config.profile).map(Arc::new);
    let link = config.profile.link_gbit_s.filter(|_| config.paces_link).map(|gbit_s| Arc::new(Link::new(gbit_s)));

    let anonymous = config.keys.is_none().then_some(Anonymous);
    let s3 = s3(&store, config.keys);
    let throttle = config.profile.requests_per_second_per_prefix.map(|rate| Arc::new(Throttle::new(rate)));
    let served = Around(draws.clone(), Around(link, Around(anonymous, s3)));
    let stack = Around(faults.clone(), Around(throttle, served));

    let (stopping, stopped) = watch::channel(false);
    let limits = Limits {
        idle: config.profile.idle_seconds.map(Duration::from_secs_f64),
        patience: config.patience,
        pacing: config.profile.connection_mb_s.map(|mb_s| (mb_s * 1e6) as u64),
        tls: tls.map(|tls| tls.acceptor),
    };
    let workers = Workers::start(&Arc::new(stack), &counters, &stopped, limits)?;
    // Signals are caught before the ready line invites anybody to send one.
    let stop_signals = StopSignals::catch()?;
    let control = Control { counters: counters.clone(), draws, faults, health: ready.clone() };
    control::start(control_listener, control).map_err(Failure::bad_use)?;
    println!("{ready}");

    tokio::select! {
        () = accept(&listener, &workers, &store) => {}
        () = stop_signals.wait() => {}
    }
    drop(listener);
    stopping.send_replace(true);
    finish(&counters).await;
    Ok(())
}

/// The S3 protocol, with signatures checked if there are keys.
fn s3(store: &Arc<Store>, keys: Option<Keys>) -> S3 {
    let mut limits = S3Config::default();
    // Forms are not served, but would be read into memory first.
    limits.post_object_max_file_size = 0;
    let limits = Arc::new(StaticConfigProvider::new(Arc::new(limits)));
    let builder = || {
        let mut builder = S3ServiceBuilder::new(Api::new(store.clone()));
        builder.set_config(limits.clone());
        builder
    };
    let unchecked = builder().build();
    let checks_signatures = keys.is_some();
    let service = match keys {
        None => unchecked,
        Some(keys) => checked(builder(), keys, unchecked),
    };
    S3 { service, store: store.clone(), checks_signatures }
}

fn checked(mut builder: S3ServiceBuilder, keys: Keys, behind: S3Service) -> S3Service {
    builder.set_auth(KeyCheck(keys));
    builder.set_route(AfterCheck(behind));
    builder.build()
}

async fn listen(ip: IpAddr, port: u16, flag: &str) -> Result<TcpListener, Failure> {
    let address = SocketAddr::new(ip, port);
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Failure::port_taken(format!("{address} is taken: choose another {flag}, or 0")),
        _ => Failure::bad_use(format!("cannot listen on {address}: {error}")),
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(Failure::bad_use)
}

fn ready_line(
    config: &Config,
    store: &Store,
    tls: Option<&Tls>,
    endpoint: SocketAddr,
    control: SocketAddr,
) -> serde_json::Value {
    json!({
        "schema": 1,
        "endpoint": format!("{}://{endpoint}", if tls.is_some() { "https" } else { "http" }),
        "ca": tls.map(|tls| &tls.ca),
        "control": format!("http://{control}"),
        "pid": std::process::id(),
        "root": store.root(),
        "auth": config.keys.is_some(),
        "profile": config.profile,
    })
}

struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn catch() -> Result<Self, Failure> {
        let catch = |kind| signal(kind).map_err(|error| Failure::bad_use(format!("cannot catch signals: {error}")));
        Ok(Self { terminate: catch(SignalKind::terminate())?, interrupt: catch(SignalKind::interrupt())? })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What a connection gets.
#[derive(Clone)]
struct Limits {
    /// How long it may stay without a request.
    idle: Option<Duration>,
    /// How long a client may stop in the middle of a request or of taking an answer.
    patience: Duration,
    /// Bytes per second towards the client.
    pacing: Option<u64>,
    /// Encryption; none is plain HTTP.
    tls: Option<TlsAcceptor>,
}

impl Limits {
    fn set_on(&self, stream: &tokio::net::TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        sys::give_up_after(stream.as_fd(), self.patience)?;
        self.pacing.map_or(Ok(()), |rate| sys::set_max_pacing_rate(stream.as_fd(), rate))
    }
}

async fn accept(listener: &TcpListener, workers: &Workers, store: &Store) {
    let mut complaints = Complaints::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                complaints.tell(format_args!("cannot accept a connection: {error}"));
                // Out of descriptors, most likely.
                store.close_files();
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        if workers.connections() >= store.max_connections {
            complaints.tell(format_args!("refused a connection beyond {}: raise `ulimit -n`", store.max_connections));
            stream.try_write(REFUSAL).ok();
            continue;
        }
        let prepared = workers.limits.set_on(&stream).and_then(|()| stream.into_std());
        match prepared {
            Ok(stream) => workers.take(stream),
            Err(error) => complaints.tell(format_args!("cannot set up a connection: {error}")),
        }
    }
}

/// What a client gets for which there are no descriptors.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Slow Down\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Lines on stderr, one a minute at most: what fails once can fail for each of a thousand clients.
#[derive(Default)]
struct Complaints(Option<tokio::time::Instant>);

impl Complaints {
    fn tell(&mut self, what: std::fmt::Arguments<'_>) {
        if self.0.is_none_or(|last| last.elapsed() >= Duration::from_secs(60)) {
            eprintln!("s3-store: {what} (and more of it is not told for a minute)");
            self.0 = Some(tokio::time::Instant::now());
        }
    }
}

/// Waits until every connection is closed, but not for long.
async fn finish(counters: &Counters) {
    let deadline = tokio::time::Instant::now() + GRACE;
    while counters.connections_open() > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The threads that serve connections, one per core.
struct Workers {
    workers: Vec<Worker>,
    limits: Limits,
}

struct Worker {
    queue: mpsc::UnboundedSender<std::net::TcpStream>,
    connections: Arc<AtomicUsize>,
}

impl Workers {
    fn start<S: Service>(
        stack: &Arc<S>,
        counters: &Arc<Counters>,
        stopped: &watch::Receiver<bool>,
        limits: Limits,
    ) -> Result<Self, Failure> {
        let start = |_| Worker::start(stack.clone(), counters.clone(), stopped.clone(), limits.clone());
        Ok(Self { workers: (0..sys::cores()).map(start).collect::<Result<_, _>>()?, limits })
    }

    fn connections(&self) -> u64 {
        self.workers.iter().map(|worker| worker.connections.load(Relaxed) as u64).sum()
    }

    fn take(&self, stream: std::net::TcpStream) {
        let idlest = self.workers.iter().min_by_key(|worker| worker.connections.load(Relaxed));
        if let Some(worker) = idlest {
            worker.connections.fetch_add(1, Relaxed);
            // A worker ends only with the process.
            worker.queue.send(stream).ok();
        }
    }
}

impl Worker {
    fn start<S: Service>(
        stack: Arc<S>,
        counters: Arc<Counters>,
        stopped: watch::Receiver<bool>,
        limits: Limits,
    ) -> Result<Self, Failure> {
        let (queue, mut incoming) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let open = connections.clone();
        let runtime = current_thread_runtime()?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                while let Some(stream) = incoming.recv().await {
                    let connection = Arc::new(Connection::default());
                    let edge = Edge::new(stack.clone(), counters.clone(), connection.clone(), limits.patience);
                    let (taken, stopped, limits) = (Taken(open.clone()), stopped.clone(), limits.clone());
                    tokio::spawn(async move {
                        let _taken = taken;
                        serve_connection(stream, edge, connection, stopped, limits).await;
                    });
                }
            });
        });
        Ok(Self { queue, connections })
    }
}

/// A place among a worker's connections, given back however the connection ends.
struct Taken(Arc<AtomicUsize>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

async fn serve_connection<S: Service>(
    stream: std::net::TcpStream,
    edge: Edge<S>,
    connection: Arc<Connection>,
    stopped: watch::Receiver<bool>,
    limits: Limits,
) {
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
    let Some(tls) = &limits.tls else {
        return serve_http(Socket::new(stream, connection.clone()), edge, connection, stopped, limits).await;
    };
    // A client that does not trust the certificate, or speaks no TLS, goes away.
    if let Ok(Ok(stream)) = tokio::time::timeout(limits.patience, tls.accept(stream)).await {
        serve_http(Socket::new(stream, connection.clone()), edge, connection, stopped, limits).await;
    }
}

async fn serve_http<S: Service>(
    io: impl Read + Write + Unpin + 'static,
    edge: Edge<S>,
    connection: Arc<Connection>,
    mut stopped: watch::Receiver<bool>,
    limits: Limits,
) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.writev(true).max_buf_size(WRITE_BUFFER);
    if let Some(idle) = limits.idle {
        // hyper waits as long for the next request's header, counted from the end of the answer before.
        builder.timer(TokioTimer::new()).header_read_timeout(idle);
    }
    let mut http = pin!(builder.serve_connection(io, edge));
    let stop = async { stopped.wait_for(|stopped| *stopped).await.map(drop) };
    // Errors here are clients that went away; what they were sent is counted.
    tokio::select! {
        _ = http.as_mut() => {}
        () = connection.head_is_overdue(limits.patience) => {}
        _ = stop => {
            http.as_mut().graceful_shutdown();
            http.await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers that only queue, and what each was given.
    fn idle_workers(count: usize) -> (Workers, Vec<mpsc::UnboundedReceiver<std::net::TcpStream>>) {
        let limits = Limits { idle: None, patience: GRACE, pacing: None, tls: None };
        let (workers, queues) = (0..count)
            .map(|_| {
                let (queue, incoming) = mpsc::unbounded_channel();
                (Worker { queue, connections: Arc::default() }, incoming)
            })
            .unzip();
        (Workers { workers, limits }, queues)
    }

    #[test]
    fn a_refusal_is_an_answer_without_a_body() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 ") && text.ends_with("\r\n\r\n"), "{text:?}");
        assert_eq!(text.lines().filter(|line| line.eq_ignore_ascii_case("content-length: 0")).count(), 1);
    }

    #[test]
    fn connections_that_come_again_go_where_others_have_closed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (workers, mut queues) = idle_workers(4);
        let open = |count: usize| {
            (0..count).for_each(|_| workers.take(std::net::TcpStream::connect(address).unwrap()));
        };
        let counts = || workers.workers.iter().map(|worker| worker.connections.load(Relaxed)).collect::<Vec<_>>();
        open(12);
        assert_eq!(counts(), [3; 4]);
        // All of one worker's close, and one of another's.
        (0..3).for_each(|_| drop(Taken(workers.workers[2].connections.clone())));
        drop(Taken(workers.workers[0].connections.clone()));
        open(4);
        assert_eq!((counts(), workers.connections()), (vec![3; 4], 12));
        let given = queues.iter_mut().map(|queue| std::iter::from_fn(|| queue.try_recv().ok()).count());
        assert_eq!(given.collect::<Vec<_>>(), [4, 3, 6, 3]);
    }
}
