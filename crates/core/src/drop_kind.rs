//! What the driver drops, and the counters of it.

use p2p_node_protocol::Counter;

/// Kinds of data that the driver may drop, because a limit was reached or the data could not be
/// read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropKind {
    /// A connection from an IP address that has too many.
    Connection,
    /// A handshake of an incoming connection. Too many took place at the same time.
    Handshake,
    /// A connection of a banned node or host.
    BannedConnection,
    /// A connection from an IP address that the operator blocked.
    BlockedConnection,
    /// A frame of mail. Too many frames waited for an answer.
    Mail,
    /// A frame of mail that was too long, truncated, or too slow to arrive.
    MailReadFailed,
    /// A step of admission that was too long, truncated, or too slow to arrive.
    AdmissionReadFailed,
    /// A gossip message, ignored because too many waited for a verdict.
    Gossip,
    /// A verified record for which the DHT server had no memory.
    DhtRecord,
    /// A write of the highest (generation, seq) of an agent. Too many writes waited for the disk.
    HighestSeen,
    /// A write of a ban. Too many writes waited for a disk that does not work.
    Ban,
    /// A line of the log on stderr. Nobody read stderr fast enough.
    LogLine,
    /// A call of the gRPC server, without its token.
    GrpcCall,
    /// A connection to the gRPC server. There were too many.
    GrpcConnection,
    /// A connection to the A2A gateway. There were too many.
    A2aConnection,
    /// A request to the A2A gateway: of a program, or of another agent for the A2A server.
    A2aRequest,
    /// A connection to the HTTP server. There were too many.
    HttpConnection,
    /// An event for a follower of the HTTP server, who was too slow.
    HttpEvent,
    /// A request to the HTTP server.
    HttpRequest,
    /// A span. The collector does not take them fast enough.
    Span,
}

impl DropKind {
    /// Returns the counter of these drops.
    pub fn counter(self) -> Counter {
        match self {
            DropKind::Connection => Counter::ConnectionsRefused,
            DropKind::Handshake => Counter::HandshakesEvicted,
            DropKind::BannedConnection => Counter::ConnectionsRefusedBanned,
            DropKind::BlockedConnection => Counter::ConnectionsRefusedBlocked,
            DropKind::Mail => Counter::MailFramesDropped,
            DropKind::MailReadFailed => Counter::MailReadsFailed,
            DropKind::AdmissionReadFailed => Counter::AdmissionReadsFailed,
            DropKind::Gossip => Counter::GossipDropped,
            DropKind::DhtRecord => Counter::DhtRecordsDropped,
            DropKind::HighestSeen => Counter::HighestSeenWritesDropped,
            DropKind::Ban => Counter::BanWritesDropped,
            DropKind::LogLine => Counter::LogLinesDropped,
            DropKind::GrpcCall => Counter::GrpcCallsRefused,
            DropKind::GrpcConnection => Counter::GrpcConnectionsRefused,
            DropKind::A2aConnection => Counter::A2aConnectionsRefused,
            DropKind::A2aRequest => Counter::A2aRequestsRefused,
            DropKind::HttpConnection => Counter::HttpConnectionsRefused,
            DropKind::HttpEvent => Counter::HttpEventsDropped,
            DropKind::HttpRequest => Counter::HttpRequestsRefused,
            DropKind::Span => Counter::SpansDropped,
        }
    }
}
