//! Every setting of the node, declared once: its flag, its variable, its default, its parser and its
//! texts. From here come [`RunArgs`], [`Config`] and its resolution, `--help`, the lines of
//! `.env.example` and the table in `docs/operations.md`.
//!
//! To add a setting, add an entry and run `UPDATE_FILES=1 cargo test --test tidy`.

use super::declare::{Setting, settings};
use super::imports::*;
use super::sources::{Given, Sources};

settings! {
    secrets {
        /// Ethereum key of the agent: 64 hexadecimal digits, with or without 0x
        private_key from private_key_file: "PRIVATE_KEY", shown "default: a new key for this run",
            notes "`p2p-node keygen` creates one.";
        /// Key of an agent without one, from its supervisor, so that a restart keeps the address
        ephemeral_key: "P2P_NODE_EPHEMERAL_KEY", shown "default none",
            notes "Counts only without PRIVATE_KEY and P2P_NODE_BINDING.";
        /// URLs of the RPC servers of the registry's chain, separated by commas; they may contain keys
        rpc_urls: "RPC_URL", shown "default none",
            notes "At most 8, http or https. The node asks the next one when one fails, or several of them: see \
                   REGISTRY_QUORUM. It connects to nobody else, and follows no redirects.";
        /// Token that readers of --http send, as `Authorization: Bearer`
        http_token: "P2P_NODE_HTTP_TOKEN", shown "default none",
            notes "At least 16 printable characters. Required if the address of --http is not loopback. The explorer with \
                   --attach sends it.";
        /// Token that clients of --grpc send, as `authorization: Bearer`
        grpc_token: "P2P_NODE_GRPC_TOKEN", shown "default none",
            notes "At least 16 printable characters. Required unless --grpc names a Unix socket.";
        /// Token that clients of --a2a send, as `Authorization: Bearer`
        a2a_token: "P2P_NODE_A2A_TOKEN", shown "default none",
            notes "At least 16 printable characters. Required if the address of --a2a is not loopback.";
        /// Headers of the requests to the collector of traces: NAME=VALUE, separated by commas, values
        /// percent-encoded
        otlp_headers: "OTEL_EXPORTER_OTLP_HEADERS", shown "default none",
            notes "Such as `authorization=Bearer%20…`.";
    }
    group "Network" {
        /// TCP and UDP port, 0 for any; a port in the command `connect` takes precedence
        port: u16 = "port" ('p'), "P2P_NODE_PORT", Option<String> [value_name = "PORT"], parse, or 0,
            shown "default 0",
            notes "The value that Kubernetes sets for a service called p2p-node (tcp://…) counts as none.";
        /// Name of the network
        network: String = "network", "P2P_NODE_NETWORK", Option<String> [value_name = "NAME"], network_name,
            or DEFAULT_NETWORK.to_owned(), shown "default dev",
            notes "1 to 32 characters of a-z, 0-9 and -. Nodes of different networks do not connect.";
        /// Address of a bootstrap node, ending in /p2p/<peer id>; repeat or separate by commas
        bootstrap: Vec<Multiaddr> = "bootstrap", "P2P_NODE_BOOTSTRAP",
            Vec<String> [value_name = "MULTIADDR", value_delimiter = ','], bootstrap_peers, or Vec::new(),
            notes "Example: /ip4/192.0.2.1/tcp/8000/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        /// Region file: bootstrap nodes by region, as JSON; read again when it changes
        region_file: Option<PathBuf> = "region-file", "P2P_NODE_REGION_FILE",
            Option<String> [value_name = "PATH"], some(parse), or None,
            notes "docs/operations.md shows its format.";
        /// Region through which the node prefers to join; repeat or separate by commas
        preferred_regions: Vec<String> = "region", "P2P_NODE_REGIONS",
            Vec<String> [value_name = "NAME", value_delimiter = ','], regions, or Vec::new(),
            shown "default: all regions", notes "Example: us-east,us-west";
        /// Domain name whose TXT records list peers; repeat or separate by commas
        dns_seeds: Vec<Name> = "dns-seed", "P2P_NODE_DNS_SEEDS",
            Vec<String> [value_name = "NAME", value_delimiter = ','], dns_seeds, or Vec::new(),
            notes "Example: peers.example.org. At most 16. docs/operations.md shows the records.";
        /// DNS server for seeds and for host names in addresses, as <ip>:<port>
        dns_server: Option<SocketAddr> = "dns-server", "P2P_NODE_DNS_SERVER",
            Option<String> [value_name = "ADDR"], some(parse), or None,
            shown "default: those of the system";
        /// Directory in which nodes of this user on this machine find each other, or off
        rendezvous: Place = "rendezvous", "P2P_NODE_RENDEZVOUS", Option<String> [value_name = "PATH"],
            place, or Place::default(),
            shown "default: $XDG_RUNTIME_DIR/p2p-node, else p2p-node-<uid> in the directory for temporary files",
            notes "Each network has its own directory in it.";
        /// Address to listen on, instead of the default of the scope; repeat or separate by commas
        listen: Vec<Multiaddr> = "listen", "P2P_NODE_LISTEN",
            Vec<String> [value_name = "MULTIADDR", value_delimiter = ','], multiaddrs, or Vec::new();
        /// Range of addresses to listen on, advertise and dial: loopback, private or public
        address_scope: AddressScope = "address-scope", "P2P_NODE_ADDRESS_SCOPE",
            Option<String> [value_name = "SCOPE"], parse, or AddressScope::of_network(&network),
            shown "default: loopback on dev, public on main, else private";
        /// Role: full; bootstrap, for an entry point of the network; or light, for a node with few
        /// connections that serves nothing to others
        role: Role = "role" ('r'), "P2P_NODE_ROLE", Option<String> [value_name = "ROLE"], role,
            or Role::default(), shown "default full";
        /// Whether the node stores the records of others and answers their lookups: client, server, or
        /// auto, which serves while others can dial the node
        dht_mode: DhtMode = "dht-mode", "P2P_NODE_DHT_MODE", Option<String> [value_name = "MODE"], parse,
            or DhtMode::of(role), shown "default: server on a bootstrap node, else client", notes "A light node is a client.";
    }
    group "Observation" {
        /// Keep the statuses of all nodes for `report`, as --http does and a subscription to node-status
        observe: bool = "observe", "P2P_NODE_OBSERVE",
            Option<String> [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"], parse_bool, or false;
        /// How long a report shows a node after the last sign of it: 10 to 3600 seconds
        forget_nodes_after: Duration = "forget-nodes-after", "P2P_NODE_FORGET_NODES_AFTER",
            Option<String> [value_name = "SECS"], forget_nodes_after, or MAX_KNOWN, shown "default 3600";
    }
    group "Reachability" {
        /// How the node finds out whether others can dial it: auto, by tests of its bootstrap nodes;
        /// reachable; or unreachable, so that others reach it only through relays
        reachability: Reachability = "reachability", "P2P_NODE_REACHABILITY",
            Option<String> [value_name = "HOW"], parse,
            or match (role, address_scope) {
                (Role::Bootstrap, _) | (_, AddressScope::Loopback) => Reachability::Reachable,
                _ => Reachability::Auto,
            },
            shown "default: reachable on a bootstrap node and in the scope loopback, else auto",
            notes "With auto, a node that is not reachable within 20 s uses up to two relays.";
        /// Address at which others can dial the node, if it is not on an interface; repeat or separate
        /// by commas
        external_addrs: Vec<Multiaddr> = "external-address", "P2P_NODE_EXTERNAL_ADDRESS",
            Vec<String> [value_name = "MULTIADDR", value_delimiter = ','], external_addrs, or Vec::new(),
            notes "For a forwarded port or a cloud's public IP address. Example: /ip4/192.0.2.1/tcp/8000";
        /// Relay connections to nodes that others cannot dial, and test the addresses of nodes
        relay: bool = "relay", "P2P_NODE_RELAY",
            Option<String> [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"], parse_bool, or role == Role::Bootstrap,
            shown "default: true on a bootstrap node, else false";
        /// Maximum number of bytes that the node relays on one connection
        relay_bytes: u64 = "relay-bytes", "P2P_NODE_RELAY_BYTES", Option<String> [value_name = "BYTES"],
            relay_bytes, or DEFAULT_RELAY_BYTES, shown "default 67108864",
            notes "At least 4194304, so that each message passes. Both directions together. Two nodes that need \
                   more connect anew.";
        /// Ask the gateway of the local network to forward the port, by UPnP
        upnp: bool = "upnp", "P2P_NODE_UPNP",
            Option<String> [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"], parse_bool,
            or address_scope == AddressScope::Public,
            shown "default: true in the scope public, else false";
        /// Find nodes in the local network, by mDNS
        mdns: bool = "mdns", "P2P_NODE_MDNS",
            Option<String> [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"], parse_bool,
            or address_scope == AddressScope::Private,
            shown "default: true in the scope private, else false";
    }
    group "Connections" {
        /// Maximum number of connections
        max_connections: usize = "max-connections", "P2P_NODE_MAX_CONNECTIONS",
            Option<String> [value_name = "NUMBER"], within(MIN_CONNECTIONS, MAX_CONNECTIONS),
            or ConnectionLimits::default_max(role), shown "default: 2000 on a bootstrap node, 16 on a light node, else 200",
            notes "From 8 to 2000. Fewer if the limit of open files is too low.";
        /// Number of incoming connections that each IP address may always have; more only while many
        /// places are free
        connections_per_address: u32 = "connections-per-address", "P2P_NODE_CONNECTIONS_PER_ADDRESS",
            Option<String> [value_name = "NUMBER"], within(1, MAX_CONNECTIONS as u32),
            or CONNECTIONS_PER_ADDRESS, shown "default 3",
            notes "The /64 of an IPv6 address counts as one address. In the scope loopback there is no limit.";
        /// IP address, or network as <ip>/<length>, without limits of connections by address and without
        /// bans of hosts; repeat or separate by commas
        allow_ips: Vec<IpNet> = "allow-ip", "P2P_NODE_ALLOW_IP",
            Vec<String> [value_name = "NETWORK", value_delimiter = ','], networks, or Vec::new(),
            notes "At most 4096. Example: 192.0.2.1,2001:db8::/32. Others may still connect.";
        /// IP address, or network as <ip>/<length>, that the node neither dials nor accepts; repeat or
        /// separate by commas
        block_ips: Vec<IpNet> = "block-ip", "P2P_NODE_BLOCK_IP",
            Vec<String> [value_name = "NETWORK", value_delimiter = ','], networks, or Vec::new(),
            notes "At most 4096. Of several networks with an address the smallest decides; of the same network in both \
                   settings, this one.";
        /// Number of connections above which the node closes those of the least value
        high_watermark: usize = "high-watermark", "P2P_NODE_HIGH_WATERMARK",
            Option<String> [value_name = "NUMBER"], within(1, MAX_CONNECTIONS),
            or ConnectionLimits::new(role, max_connections).high_watermark,
            shown "default: 1400 on a bootstrap node, 12 on a light node, else 128",
            notes "At most --max-connections. docs/operations.md says which connections stay.";
        /// Number of connections down to which the node closes them
        low_watermark: usize = "low-watermark", "P2P_NODE_LOW_WATERMARK",
            Option<String> [value_name = "NUMBER"], within(1, MAX_CONNECTIONS),
            or ConnectionLimits::new(role, max_connections).low_watermark.min(high_watermark),
            shown "default: 1200 on a bootstrap node, 12 on a light node, else 32", notes "At most --high-watermark.";
        /// Number of connections from which on the node opens more only where gossip needs them
        target_peers: usize = "target-peers", "P2P_NODE_TARGET_PEERS",
            Option<String> [value_name = "NUMBER"], within(1, MAX_CONNECTIONS),
            or ConnectionLimits::default_target(low_watermark), shown "default 25",
            notes "At most --low-watermark.";
        /// Number of connections that the node seeks
        min_peers: usize = "min-peers", "P2P_NODE_MIN_PEERS", Option<String> [value_name = "NUMBER"],
            within(1, MAX_CONNECTIONS), or ConnectionLimits::default_min(target_peers), shown "default 8",
            notes "At most --target-peers.";
        /// Which agents the node admits: open, every agent that is not blocked; known, agents that the
        /// parent allowed or wrote to, and configured peers; or registered, these and agents of the registry
        admission: AdmissionMode = "admission", "P2P_NODE_ADMISSION", Option<String> [value_name = "MODE"],
            parse, or AdmissionMode::Open, shown "default open",
            notes "A node that is not admitted is told the reason. docs/operations.md has the details.";
        /// Age below which the node closes no connection because it has too many, in seconds
        connection_grace: Duration = "connection-grace", "P2P_NODE_CONNECTION_GRACE",
            Option<String> [value_name = "SECS"], seconds, or DEFAULT_GRACE, shown "default 30",
            notes "At most 3600.";
        /// Maximum number of dials a second, without those for mail
        dial_rate: u32 = "dial-rate", "P2P_NODE_DIAL_RATE", Option<String> [value_name = "NUMBER"],
            within(1, MAX_DIALS_PER_SECOND), or ConnectionLimits::default().dials_per_second,
            shown "default 5", notes "From 1 to 1000. As many as --dial-concurrency may begin at once.";
        /// Maximum number of dials at the same time; with those for mail, twice as many
        dial_concurrency: usize = "dial-concurrency", "P2P_NODE_DIAL_CONCURRENCY",
            Option<String> [value_name = "NUMBER"], within(1, MAX_CONCURRENT_DIALS),
            or ConnectionLimits::default().concurrent_dials, shown "default 10", notes "From 1 to 16.";
        /// Maximum time to set up a connection that the node dials, in seconds
        connection_timeout: Duration = "connection-timeout", "P2P_NODE_CONNECTION_TIMEOUT",
            Option<String> [value_name = "SECS"], connection_timeout, or DEFAULT_CONNECTION_TIMEOUT,
            shown "default 10", notes "From 1 to 300.";
        /// Longest random wait of a node before it dials its first peers, in milliseconds; 100 or more
        /// for a fleet whose nodes start at the same time
        join_stagger: Duration = "join-stagger", "P2P_NODE_JOIN_STAGGER", Option<String> [value_name = "MS"],
            join_stagger, or Duration::ZERO, shown "default 0", notes "At most 60000. Mail does not wait.";
    }
    group "Limits" {
        /// Whether the node limits what peers and authors may use: on or off
        limits: bool = "limits", "P2P_NODE_LIMITS", Option<String> [value_name = "STATE"], on_off,
            or address_scope != AddressScope::Loopback, shown "default: off in the scope loopback, else on",
            notes "docs/operations.md says how much strangers may send. The command `allow` lifts the limits of one agent.";
    }
    group "Registry" {
        /// Kind of the registry of agents: agent-registry, by address; or erc8004, an identity registry
        /// whose entries agents claim
        registry_kind: RegistryKind = "registry-kind", "REGISTRY_KIND", Option<String> [value_name = "KIND"],
            parse, or RegistryKind::AgentRegistry, shown "default agent-registry";
        /// Address of the registry of agents; requires RPC_URL
        registry: Option<Address> = "registry", "REGISTRY_ADDRESS", Option<String> [value_name = "0x…"],
            some(address), or registry_kind.known_address(),
            shown "default: none, or with erc8004 that of its deployments";
        /// ID of the agent's entry in a registry of the kind erc8004
        registry_agent_id: Option<U256> = "registry-agent-id", "REGISTRY_AGENT_ID",
            Option<String> [value_name = "ID"], some(parse), or None, shown "default none",
            notes "The node's record claims the entry, and peers ask the registry whether it is the agent's.";
        /// Address of the reputation registry of ERC-8004
        reputation_registry: Option<Address> = "reputation-registry", "REPUTATION_ADDRESS",
            Option<String> [value_name = "0x…"], some(address), or None,
            shown "default: that of the deployments, with their identity registry";
        /// Addresses, separated by commas, whose feedback in the reputation registry counts
        reviewers: Vec<Address> = "reviewers", "REPUTATION_REVIEWERS", Option<String> [value_name = "0x…,…"],
            reviewers, or Vec::new(), shown "default none",
            notes "At most 16. Anybody can give feedback under many names, so only named reviewers count.";
        /// What the node makes of the registry: off; warn, to tell your program; or enforce, to refuse
        /// agents that are not registered or that are blocked
        registry_policy: RegistryPolicy = "registry-policy", "REGISTRY_POLICY",
            Option<String> [value_name = "POLICY"], parse,
            or if registry.is_some() { RegistryPolicy::Warn } else { RegistryPolicy::Off },
            shown "default: warn with a registry, else off";
        /// ID of the chain; the node does not start with RPC servers of another chain
        registry_chain: Option<u64> = "registry-chain", "REGISTRY_CHAIN_ID",
            Option<String> [value_name = "ID"], some(parse), or None, shown "default: that of the RPC servers";
        /// Number of RPC servers that must give the same answer
        registry_quorum: usize = "registry-quorum", "REGISTRY_QUORUM", Option<String> [value_name = "NUMBER"],
            within(1, MAX_RPC_SERVERS), or 1, shown "default 1",
            notes "With 2 of 3 servers, one that lies or fails changes nothing.";
        /// Block at which the node reads: safe, or a number of blocks below the newest one
        registry_depth: BlockDepth = "registry-depth", "REGISTRY_DEPTH", Option<String> [value_name = "BLOCKS"],
            parse, or BlockDepth::Safe, shown "default safe",
            notes "For a chain without safe blocks, and for a development chain: 0.";
        /// Whether the node reports good and bad dealings with agents to the registry: on or off; each report is
        /// a transaction that the agent's account pays for
        report_interactions: bool = "report-interactions", "P2P_NODE_REPORT_INTERACTIONS",
            Option<String> [value_name = "STATE"], on_off, or false, shown "default off",
            notes "At most one a minute, and one a day about each agent.";
        /// Time between two questions for changes of the registry, in seconds
        registry_refresh: Duration = "registry-refresh", "REGISTRY_REFRESH", Option<String> [value_name = "SECS"],
            registry_refresh, or DEFAULT_REFRESH, shown "default 15", notes "From 0.1 to 3600. Ethereum has a block every 12 s.";
        /// Address of the registry of ENS, which resolves names such as alice.eth; requires RPC_URL
        ens: Address = "ens", "ENS_ADDRESS", Option<String> [value_name = "0x…"], address, or ENS_REGISTRY,
            shown "default: that of Ethereum and its test chains",
            notes "Without RPC_URL, commands accept no names.";
    }
    group "Flow guards" {
        /// Maximum number of messages a minute that the parent gets from one sender, 0 for no limit
        max_per_minute: u32 = "max-per-minute", "P2P_NODE_MAX_PER_MINUTE",
            Option<String> [value_name = "NUMBER"], within(0, MAX_PER_MINUTE), or 0, shown "default 0",
            notes "At most 60000. The node rejects the others, and tells both sides.";
        /// Maximum number of messages a minute that the parent gets from one sender in one conversation,
        /// 0 for no limit
        max_per_minute_of_conversation: u32 = "max-per-minute-of-conversation",
            "P2P_NODE_MAX_PER_MINUTE_OF_CONVERSATION", Option<String> [value_name = "NUMBER"],
            within(0, MAX_PER_MINUTE), or 0, shown "default 0", notes "At most 60000.";
        /// Maximum number of replies, each to the one before, 0 for no limit
        max_hops: u32 = "max-hops", "P2P_NODE_MAX_HOPS", Option<String> [value_name = "NUMBER"],
            within(0, u32::MAX), or DEFAULT_MAX_HOPS, shown "default 256",
            notes "Stops programs that answer each other for ever. The node rejects the next reply, and tells both sides.";
    }
    group "Identity" {
        /// Display name; peers cannot verify it
        name: String = "name" ('n'), "P2P_NODE_NAME", Option<String> [value_name = "NAME"], short_text,
            or String::new(), shown "default none", notes "At most 64 bytes.";
        /// Capability of the agent, for `discover`; repeat or separate by commas
        capabilities: Vec<String> = "capability", "P2P_NODE_CAPABILITIES",
            Vec<String> [value_name = "NAME", value_delimiter = ','],
            capabilities, or Vec::new(), notes "At most 16, with 256 bytes in total. The command `capabilities` replaces them.";
        args_only {
            /// Env file with PRIVATE_KEY and any of the variables named here
            #[arg(short, long, value_name = "PATH")]
            env_file: Option<PathBuf>
        }
        /// Binding file from `bind`, instead of PRIVATE_KEY; requires the node key of the binding
        binding_file: Option<PathBuf> = "binding", "P2P_NODE_BINDING",
            Option<String> [value_name = "PATH"], some(parse), or None,
            notes "The node key comes from P2P_NODE_DATA_DIR or P2P_NODE_NODE_KEY. With PRIVATE_KEY as well, \
                   the node does not start.";
        /// Node key file
        node_key_file: Option<PathBuf> = "node-key", "P2P_NODE_NODE_KEY",
            Option<String> [value_name = "PATH"], some(parse), or None,
            shown "default: node.key in the data directory, else derived from PRIVATE_KEY",
            notes "64 hexadecimal digits, readable only by the owner. With PRIVATE_KEY the node creates a \
                   missing file.";
        /// Directory for persistent state: messages, node key, revocations, blocks
        data_dir: Option<PathBuf> = "data-dir", "P2P_NODE_DATA_DIR",
            Option<String> [value_name = "PATH"], some(parse), or None,
            shown "default: nothing is persisted",
            notes "Contains node.key; agent.key without PRIVATE_KEY; node.redb, the store; node.peers-<network>, \
                   the peer book; and node.reserve, 2 MiB that the node needs to survive a full disk. One process at a time, and one agent: \
                   the node refuses another PRIVATE_KEY.";
        /// Distinguishes several nodes with one key; the node that announced itself last receives the messages
        instance: String = "instance", "P2P_NODE_INSTANCE", Option<String> [value_name = "TEXT"], short_text,
            or String::new(), shown "default none", notes "At most 64 bytes.";
        /// Generation of the node key, in seconds since 1970 and not in the future; a higher one revokes lower ones
        generation: u64 = "generation", "P2P_NODE_GENERATION", Option<String> [value_name = "SECS"], parse,
            or 0, shown "default 0", notes "With P2P_NODE_BINDING, the binding contains the generation.";
    }
    group "Files" {
        /// Directory for the files that other agents send
        files_dir: Option<PathBuf> = "files-dir", "P2P_NODE_FILES_DIR",
            Option<String> [value_name = "PATH"], some(parse), or data_dir.as_ref().map(|dir| dir.join("files")),
            shown "default: files in the data directory; without one the node accepts no files",
            notes "For this node alone. The node deletes old files in it to make room for new ones.";
        /// Largest file to send or to receive, in bytes
        max_file: u64 = "max-file", "P2P_NODE_MAX_FILE", Option<String> [value_name = "BYTES"], max_file,
            or Limits::STANDARD.max_file_bytes, shown "default 1073741824", notes "At most 1 TiB.";
        /// Largest sum of the received files in the directory, in bytes
        files_quota: u64 = "files-quota", "P2P_NODE_FILES_QUOTA", Option<String> [value_name = "BYTES"], parse,
            or DEFAULT_FILES_QUOTA, shown "default 4294967296",
            notes "Strangers may use an eighth of it.";
    }
    group "Process" {
        /// Start without the command `connect`
        connect: bool = "connect", "P2P_NODE_CONNECT",
            Option<String> [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"], parse_bool, or false;
        /// Who acknowledges messages: auto (the node) or manual (your program, with the command `ack`)
        ack: Ack = "ack", "P2P_NODE_ACK", Option<String> [value_name = "WHO"], ack, or Ack::default(),
            shown "default auto", notes "The sender reports `delivered` after the acknowledgement.";
        /// At the end of stdin: exit, or stay until a signal
        on_eof: OnEof = "on-eof", "P2P_NODE_ON_EOF", Option<String> [value_name = "WHAT"], on_eof,
            or OnEof::default(), shown "default exit";
        /// At the end of stdin wait for every delivery; exit with 0 only if every command succeeded and
        /// every message was delivered
        require_delivery: bool = "require-delivery", "P2P_NODE_REQUIRE_DELIVERY",
            Option<String> [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"], parse_bool, or false,
            notes "Each delivery takes at most its `ttlMs`. Exit code 65: a command failed. 75: a message was \
                   not delivered.";
        /// Time to keep receiving after the end of stdin, in seconds
        receive_after_eof: Duration = "receive-after-eof", "P2P_NODE_RECEIVE_AFTER_EOF", Option<String> [value_name = "SECS"], seconds, or Duration::ZERO, shown "default 0", notes "At most 3600.";
        /// Scope of the identity lock: processes with different scopes may use one key; for tests that
        /// simulate several machines on one, which do not meet by rendezvous
        lock_scope: String = "lock-scope", "P2P_NODE_LOCK_SCOPE", Option<String> [value_name = "TEXT"], parse, or String::new(), shown "default none";
        /// Exit when this process exits, even if another process keeps stdin open
        parent_pid: Option<i32> = "parent-pid", "P2P_NODE_PARENT_PID",
            Option<String> [value_name = "PID"], some(process_id), or None,
            notes "Set it on the command line rather than in a file.";
        /// Maximum time to finish accepted work before exit, in seconds
        drain_timeout: Duration = "drain-timeout", "P2P_NODE_DRAIN_TIMEOUT", Option<String> [value_name = "SECS"], seconds, or DEFAULT_DRAIN_TIMEOUT, shown "default 5", notes "At most 3600.";
        /// Unix socket on which other programs of this user attach to the node
        socket: Option<PathBuf> = "socket", "P2P_NODE_SOCKET", Option<String> [value_name = "PATH"], some(parse), or None,
            shown "default: none; of a daemon: in the runtime directory", notes "For `p2p-node attach`.";
        /// Address of the HTTP server with health checks, metrics and the explorer page, as <ip>:<port>; port 0: any
        http: Option<SocketAddr> = "http", "P2P_NODE_HTTP", Option<String> [value_name = "ADDR"], some(parse), or None, shown "default: no server",
            notes "Example: 127.0.0.1:9464. Another address than loopback requires P2P_NODE_HTTP_TOKEN.";
        /// Address of the gRPC server for programs of this agent, as <ip>:<port> or unix:<path>; port 0: any
        grpc: Option<crate::grpc::GrpcAddr> = "grpc", "P2P_NODE_GRPC", Option<String> [value_name = "ADDR"], some(parse), or None, shown "default: no server",
            notes "Example: 127.0.0.1:50051, which requires P2P_NODE_GRPC_TOKEN. docs/grpc.md describes the calls.";
        /// Address of the A2A gateway, through which A2A clients call agents, as <ip>:<port>; port 0: any
        a2a: Option<SocketAddr> = "a2a", "P2P_NODE_A2A", Option<String> [value_name = "ADDR"], some(parse), or None, shown "default: no gateway",
            notes "Example: 127.0.0.1:8420. Another address than loopback requires P2P_NODE_A2A_TOKEN. See docs/a2a.md.";
        /// URL of the A2A server of this agent, which other agents may call through the network
        a2a_server: Option<Url> = "a2a-server", "P2P_NODE_A2A_SERVER", Option<String> [value_name = "URL"], some(crate::a2a::server_url), or None, shown "default none",
            notes "Requires --a2a. Example: http://127.0.0.1:9999. The agent then has the capability a2a.";
        /// Level of the logs on stderr: off, error, warn, info, debug or trace
        log_level: LevelFilter = "log-level", "P2P_NODE_LOG_LEVEL", Option<String> [value_name = "LEVEL"], log_level, or LevelFilter::WARN, shown "default warn";
        /// Format of the logs on stderr: text or json (one object per line)
        log_format: LogFormat = "log-format", "P2P_NODE_LOG_FORMAT", Option<String> [value_name = "FORMAT"], log_format, or LogFormat::default(), shown "default text";
        /// URL of a collector of OpenTelemetry, to which the node sends its spans by OTLP over HTTP
        otlp_endpoint: Option<Url> = "otlp-endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT",
            Option<String> [value_name = "URL"], some(otlp_endpoint), or None, shown "default none",
            notes "The base URL: the node appends /v1/traces. Protobuf, not gRPC: port 4318 of most collectors.";
        /// Name of the node in its spans (`service.name`)
        service_name: String = "service-name", "OTEL_SERVICE_NAME", Option<String> [value_name = "NAME"], short_text, or "p2p-node".to_owned(), shown "default p2p-node";
    }
}
