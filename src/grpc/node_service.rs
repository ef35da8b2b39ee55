//! The calls of the service. Each is a command of the pipe protocol, or a client of the node.

use std::sync::Arc;

use p2p_node_grpc::v1;
use p2p_node_grpc::v1::node_server::Node;
use p2p_node_protocol::{
    Command, Delivery, DeliveryState, ErrorCode, ErrorEvent, Event, MAX_DEADLINE_MS, Status as StatusCommand,
};
use tokio::sync::{Mutex, Notify};
use tonic::{Request, Response, Status, Streaming};

use super::streams::{self, Outgoing};
use super::{codes, convert, requests};
use crate::inner::{Call, CallError, Calls, Link, Taker};

/// The service for one connection.
pub(super) struct NodeService {
    link: Link,
    /// Ends the node.
    stop: Arc<Notify>,
    /// The client for calls, from the first one on.
    calls: Mutex<Option<Arc<Calls>>>,
}

impl NodeService {
    pub(super) fn new(link: Link, stop: Arc<Notify>) -> Self {
        NodeService { link, stop, calls: Mutex::default() }
    }

    /// Returns the client for calls.
    async fn calls(&self) -> Result<Arc<Calls>, CallError> {
        let mut open = self.calls.lock().await;
        if let Some(calls) = open.as_ref().filter(|calls| !calls.is_closed()) {
            return Ok(Arc::clone(calls));
        }
        let calls = Arc::new(Calls::open(&self.link).await?);
        Ok(Arc::clone(open.insert(calls)))
    }

    async fn call(&self, command: Command) -> Result<Call, CallError> {
        self.calls().await?.call(command, Taker::Server).await
    }
}

/// Waits until a message has ended.
async fn delivered(call: &mut Call) -> Result<(), Status> {
    loop {
        let Event::Delivery(delivery) = call.next().await? else { continue };
        let Delivery { state, code, message, message_id, .. } = *delivery;
        if state == DeliveryState::Delivered {
            return Ok(());
        }
        let error = ErrorEvent::new(code.unwrap_or(ErrorCode::Expired), message.unwrap_or_default());
        return Err(codes::status(ErrorEvent { message_id: Some(message_id), ..error }));
    }
}

#[tonic::async_trait]
impl Node for NodeService {
    type ConnectStream = Outgoing<v1::Event>;
    type RequestStream = Outgoing<v1::RequestResponse>;
    type SessionStream = Outgoing<v1::Line>;

    async fn connect(
        &self,
        request: Request<v1::ConnectRequest>,
    ) -> Result<Response<Outgoing<v1::Event>>, Status> {
        streams::connect(&self.link, request.into_inner()).await.map(Response::new)
    }

    async fn session(
        &self,
        request: Request<Streaming<v1::Line>>,
    ) -> Result<Response<Outgoing<v1::Line>>, Status> {
        streams::session(&self.link, request.into_inner()).await.map(Response::new)
    }

    async fn send_message(
        &self,
        request: Request<v1::SendMessageRequest>,
    ) -> Result<Response<v1::SendMessageResponse>, Status> {
        let request = request.into_inner();
        let waits = request.wait;
        let send = convert::send(request)?;
        let waits = waits && send.topic.is_none();
        let mut call = self.call(Command::Send(send)).await?;
        let answer = call.answer().await?;
        if waits {
            delivered(&mut call).await?;
        }
        Ok(Response::new(v1::SendMessageResponse {
            message_id: answer.message_id.unwrap_or_default(),
            delivered: waits,
            address: answer.address,
            peers: answer.peers.map(convert::small),
        }))
    }

    async fn request(
        &self,
        request: Request<v1::RequestRequest>,
    ) -> Result<Response<Outgoing<v1::RequestResponse>>, Status> {
        let calls = self.calls().await?;
        let waits_ms = requests::timeout_ms(request.metadata()).map(|ms| ms.clamp(1, MAX_DEADLINE_MS));
        let mut request = request.into_inner();
        request.deadline_ms = request.deadline_ms.into_iter().chain(waits_ms).min();
        requests::request(&calls, request).await.map(Response::new)
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let mut call = self.call(Command::Discover(convert::discover(request.into_inner()))).await?;
        let mut agents = Vec::new();
        loop {
            match call.next().await? {
                Event::PeerDiscovered(agent) => agents.push(convert::of_agent(*agent)),
                Event::Result(answer) => {
                    let complete = answer.complete.unwrap_or_default();
                    return Ok(Response::new(v1::ListAgentsResponse { agents, complete }));
                }
                _ => {}
            }
        }
    }

    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let answer = self.call(Command::Status(StatusCommand {})).await?.answer().await?;
        let report = answer.status.ok_or_else(|| Status::internal("the node reported no status"))?;
        Ok(Response::new(convert::status(&report)))
    }

    async fn stop(&self, _: Request<v1::StopRequest>) -> Result<Response<v1::StopResponse>, Status> {
        self.stop.notify_one();
        Ok(Response::new(v1::StopResponse {}))
    }
}
