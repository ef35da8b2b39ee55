//! The server: accepts connections, limits them, and routes their calls.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use p2p_node_grpc::v1::node_server::NodeServer;
use p2p_node_protocol::MAX_LINE_BYTES;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower_service::Service;

use super::access::refusal;
use super::listener::{Listener, Stream};
use super::node_service::NodeService;
use crate::config::Secret;
use crate::http::{Connection, Connections};
use crate::inner::{Link, MAX_CALLS};

/// Longest message of a client, in bytes: a line of the pipe protocol, and room for the other fields.
const MAX_MESSAGE_BYTES: usize = MAX_LINE_BYTES + 64 * 1024;
/// Longest header fields of a call together, in bytes. Our choice: gRPC clients send some hundreds.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Time after which the server asks a silent connection whether it is still there, and time for the answer.
/// Our choice: a client whose machine vanished holds mail of its group for a minute at most.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause after a failed `accept`, usually because there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The name of the health service, which needs no token.
const HEALTH: &str = <HealthServer<HealthService> as NamedService>::NAME;
/// The name of the service of a node.
const NODE: &str = <NodeServer<NodeService> as NamedService>::NAME;

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Route = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// What all connections share.
pub(super) struct Server {
    token: Option<Secret>,
    link: Link,
    pub(super) stop: Arc<Notify>,
    pub(super) connections: Connections,
    health: HealthReporter,
    refused: AtomicU64,
}

/// Returns a service as a function.
fn route<S>(service: S) -> Route
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Arc::new(move |request| {
        // Services of tonic are always ready.
        let answer = service.clone().call(request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => response,
                Err(impossible) => match impossible {},
            }
        })
    })
}

/// Returns the services that do not depend on the connection, by name.
fn shared_routes(health: &HealthReporter) -> Vec<(&'static str, Route)> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(p2p_node_grpc::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let health = HealthServer::new(HealthService::from_health_reporter(health.clone()));
    let mut routes = vec![(HEALTH, route(health))];
    // The descriptors are part of the binary: a test reads them.
    match reflection().build_v1() {
        Ok(v1) => routes.push(("grpc.reflection.v1.ServerReflection", route(v1))),
        Err(error) => tracing::error!(%error, "reflection"),
    }
    match reflection().build_v1alpha() {
        Ok(v1alpha) => routes.push(("grpc.reflection.v1alpha.ServerReflection", route(v1alpha))),
        Err(error) => tracing::error!(%error, "reflection"),
    }
    routes
}

impl Server {
    pub(super) fn new(token: Option<Secret>, link: Link, stop: Arc<Notify>) -> Self {
        Server {
            token,
            link,
            stop,
            connections: Connections::new(),
            health: HealthReporter::new(),
            refused: AtomicU64::new(0),
        }
    }

    /// Serves until `closing`, and then until the calls have ended.
    pub(super) async fn run(
        self: Arc<Self>,
        listener: Listener,
        mut ready: watch::Receiver<bool>,
        mut closing: watch::Receiver<bool>,
    ) {
        let routes = Arc::new(shared_routes(&self.health));
        let mut serving = JoinSet::new();
        let closed = closing.clone();
        let accepting = async {
            loop {
                while serving.try_join_next().is_some() {}
                let Ok(stream) = listener.accept().await else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                // Refused without a word: gRPC clients try again with a growing pause.
                if let Some(place) = self.connections.place().await {
                    let (server, routes) = (Arc::clone(&self), Arc::clone(&routes));
                    let closed = closed.clone();
                    serving.spawn(async move {
                        server.serve(stream, &routes, closed).await;
                        drop(place);
                    });
                }
            }
        };
        let health = async {
            loop {
                let status = match *ready.borrow_and_update() {
                    true => ServingStatus::Serving,
                    false => ServingStatus::NotServing,
                };
                self.health.set_service_status("", status).await;
                self.health.set_service_status(NODE, status).await;
                if ready.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = health => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
        while serving.join_next().await.is_some() {}
    }

    /// Serves one connection.
    async fn serve(
        &self,
        stream: Box<dyn Stream>,
        routes: &Arc<Vec<(&'static str, Route)>>,
        mut closing: watch::Receiver<bool>,
    ) {
        let connection = self.connections.enter();
        let node = NodeServer::new(NodeService::new(self.link.clone(), Arc::clone(&self.stop)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX);
        let node = route(node);
        let (of_call, node) = (&connection, &node);
        let service = service_fn(move |request| {
            let answer = self.answer(request, of_call, node, routes);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .max_concurrent_streams(MAX_CALLS as u32)
            .max_header_list_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut served = pin!(served);
        let is_closing = tokio::select! {
            served = served.as_mut() => return self.ended(&connection, served),
            () = connection.ended() => false,
            _ = closing.wait_for(|closing| *closing) => true,
        };
        if is_closing {
            served.as_mut().graceful_shutdown();
            let result = served.await;
            return self.ended(&connection, result);
        }
        self.ended(&connection, Ok(()));
    }

    fn ended(&self, connection: &Connection, result: hyper::Result<()>) {
        if let Err(error) = result {
            tracing::debug!(%error, "gRPC connection");
        }
        self.connections.leave(connection);
    }

    /// Answers a call.
    fn answer(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
        node: &Route,
        routes: &[(&'static str, Route)],
    ) -> Answering {
        let name = request.uri().path().split('/').nth(1).unwrap_or_default();
        if let Some(status) = refusal(request.headers(), name == HEALTH, self.token.as_ref()) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return refused(status);
        }
        if name == NODE {
            connection.asked();
            return node(request);
        }
        match routes.iter().find(|(known, _)| *known == name) {
            Some((_, route)) => route(request),
            None => refused(Status::new(Code::Unimplemented, format!("there is no service {name:?}"))),
        }
    }

    /// Returns the number of refused calls since the last call.
    pub(super) fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }
}

fn refused(status: Status) -> Answering {
    Box::pin(async move { status.into_http() })
}
