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

use hyper_util::rt::TokioTimer;
use s3s::service::S3ServiceBuilder;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::anonymous::Anonymous;
use crate::api::{Api, KeyCheck};
use crate::backend::Store;
use crate::config::{Config, Failure};
use crate::control::{self, Control};
use crate::counters::Counters;
use crate::exchange::Edge;
use crate::faults::Faults;
use crate::layer::{Around, Service};
use crate::pacing::Link;
use crate::service_time::Draws;
use crate::sys;
use crate::throttle::Throttle;
use crate::zero_copy::{Abort, Socket};

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
    let ready = ready_line(&config, &store, address(&listener)?, address(&control_listener)?);
    let counters = Arc::new(Counters::default());
    let faults = Arc::new(Faults::new(counters.clone()));
    let draws = Draws::new(&config.profile).map(Arc::new);
    let link = config.profile.link_gbit_s.filter(|_| config.paces_link).map(|gbit_s| Arc::new(Link::new(gbit_s)));

    let mut s3 = S3ServiceBuilder::new(Api::new(store));
    let anonymous = config.keys.is_none().then_some(Anonymous);
    if let Some(keys) = config.keys {
        s3.set_auth(KeyCheck(keys));
    }
    let throttle = config.profile.requests_per_second_per_prefix.map(|rate| Arc::new(Throttle::new(rate)));
    let served = Around(draws.clone(), Around(link, Around(anonymous, s3.build())));
    let stack = Around(faults.clone(), Around(throttle, served));

    let (stopping, stopped) = watch::channel(false);
    let idle = config.profile.idle_seconds.map(Duration::from_secs_f64);
    let workers = Workers::start(&Arc::new(stack), &counters, &stopped, idle)?;
    // Signals are caught before the ready line invites anybody to send one.
    let stop_signals = StopSignals::catch()?;
    let control = Control { counters: counters.clone(), draws, faults, health: ready.clone() };
    tokio::spawn(control::serve(control_listener, Arc::new(control)));
    println!("{ready}");

    let pacing = config.profile.connection_mb_s.map(|mb_s| (mb_s * 1e6) as u64);
    tokio::select! {
        () = accept(&listener, &workers, pacing) => {}
        () = stop_signals.wait() => {}
    }
    drop(listener);
    stopping.send_replace(true);
    finish(&counters).await;
    Ok(())
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

fn ready_line(config: &Config, store: &Store, endpoint: SocketAddr, control: SocketAddr) -> serde_json::Value {
    json!({
        "schema": 1,
        "endpoint": format!("http://{endpoint}"),
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

async fn accept(listener: &TcpListener, workers: &Workers, pacing: Option<u64>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: others will be closed.
                eprintln!("s3-store: cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let prepared = prepare(&stream, pacing).and_then(|()| stream.into_std());
        match prepared {
            Ok(stream) => workers.take(stream),
            Err(error) => eprintln!("s3-store: cannot set up a connection: {error}"),
        }
    }
}

fn prepare(stream: &tokio::net::TcpStream, pacing: Option<u64>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    pacing.map_or(Ok(()), |rate| sys::set_max_pacing_rate(stream.as_fd(), rate))
}

/// Waits until every connection is closed, but not for long.
async fn finish(counters: &Counters) {
    let deadline = tokio::time::Instant::now() + GRACE;
    while counters.connections_open() > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The threads that serve connections, one per core.
struct Workers(Vec<Worker>);

struct Worker {
    queue: mpsc::UnboundedSender<std::net::TcpStream>,
    connections: Arc<AtomicUsize>,
}

impl Workers {
    fn start<S: Service>(
        stack: &Arc<S>,
        counters: &Arc<Counters>,
        stopped: &watch::Receiver<bool>,
        idle: Option<Duration>,
    ) -> Result<Self, Failure> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let start = |_| Worker::start(stack.clone(), counters.clone(), stopped.clone(), idle);
        (0..cores).map(start).collect::<Result<_, _>>().map(Self)
    }

    fn take(&self, stream: std::net::TcpStream) {
        let idlest = self.0.iter().min_by_key(|worker| worker.connections.load(Relaxed));
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
        idle: Option<Duration>,
    ) -> Result<Self, Failure> {
        let (queue, mut incoming) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let open = connections.clone();
        let runtime = current_thread_runtime()?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                while let Some(stream) = incoming.recv().await {
                    let abort = Abort::default();
                    let edge = Edge::new(stack.clone(), counters.clone(), counters.connection_opened(), abort.clone());
                    let (counters, open, stopped) = (counters.clone(), open.clone(), stopped.clone());
                    tokio::spawn(async move {
                        serve_connection(stream, edge, abort, stopped, idle).await;
                        counters.connection_closed();
                        open.fetch_sub(1, Relaxed);
                    });
                }
            });
        });
        Ok(Self { queue, connections })
    }
}

async fn serve_connection<S: Service>(
    stream: std::net::TcpStream,
    edge: Edge<S>,
    abort: Abort,
    mut stopped: watch::Receiver<bool>,
    idle: Option<Duration>,
) {
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.writev(true).max_buf_size(WRITE_BUFFER);
    if let Some(idle) = idle {
        // hyper waits as long for the next request's header, counted from the end of the answer before.
        builder.timer(TokioTimer::new()).header_read_timeout(idle);
    }
    let mut http = pin!(builder.serve_connection(Socket::new(stream, abort), edge));
    let stop = async { stopped.wait_for(|stopped| *stopped).await.map(drop) };
    // Errors here are clients that went away; what they were sent is counted.
    tokio::select! {
        _ = http.as_mut() => {}
        _ = stop => {
            http.as_mut().graceful_shutdown();
            http.await.ok();
        }
    }
}
