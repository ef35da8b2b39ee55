//! DNS seeds: reads peers from the TXT records of names. Two forms of records count:
//!
//! - `dnsaddr=<multiaddr>`, as libp2p defines it; also at `_dnsaddr.<name>`.
//! - `<ip>:<port>:<role>:<capabilities>`, with brackets around an IPv6 address. Role and
//!   capabilities may be missing. The record names no PeerId: the node takes the PeerId that answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::task::JoinHandle;

use super::dns::server_config;
use p2p_node_core::source::{Seed, SourceEvent};

/// Maximum number of names: our choice, 8 times the two names of the TOS document.
pub const MAX_NAMES: usize = 16;
/// Maximum number of peers in the answers to one query: as many as there can be bootstrap peers.
const MAX_SEEDS: usize = 64;
/// Maximum length of a TXT record in bytes: more than an address with a PeerId has.
const MAX_TEXT_BYTES: usize = 1024;
/// Maximum time of a query of all names: our choice, two attempts of the resolver.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Prefix of the names for records of libp2p.
const DNSADDR_PREFIX: &str = "_dnsaddr";

/// The DNS seeds of a node.
#[derive(Debug)]
pub struct DnsSeeds {
    names: Arc<[Name]>,
    server: Option<SocketAddr>,
    query: Option<JoinHandle<SourceEvent>>,
    /// Absent before the first query, and after a failure, so that a changed `resolv.conf` counts.
    resolver: Option<TokioResolver>,
}

impl DnsSeeds {
    /// Names the seeds. `server` replaces the DNS servers of the system. Opens no socket.
    pub fn new(names: &[Name], server: Option<SocketAddr>) -> Self {
        DnsSeeds { names: names.into(), server, query: None, resolver: None }
    }

    /// Starts a query of all names, unless one runs.
    pub fn start_query(&mut self) {
        if self.query.is_some() {
            return;
        }
        let resolver = match &self.resolver {
            Some(resolver) => Ok(resolver.clone()),
            None => resolver(self.server),
        };
        let names = Arc::clone(&self.names);
        self.resolver = resolver.as_ref().ok().cloned();
        self.query = Some(tokio::spawn(async move {
            match resolver {
                Ok(resolver) => match tokio::time::timeout(TIMEOUT, query(&resolver, &names)).await {
                    Ok(event) => event,
                    Err(_) => failed(&names, &format!("no answer within {} s", TIMEOUT.as_secs())),
                },
                Err(error) => failed(&names, &error.to_string()),
            }
        }));
    }

    /// Waits for the answers to a query. Cancel-safe.
    pub async fn next(&mut self) -> SourceEvent {
        let Some(query) = &mut self.query else { return std::future::pending().await };
        let answered = query.await;
        self.query = None;
        match answered {
            Ok(SourceEvent::Seeds(seeds)) => SourceEvent::Seeds(seeds),
            Ok(failure) => {
                self.resolver = None;
                failure
            }
            // Fails only if the task panicked, which ends the process.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Creates a resolver for a DNS server, or for those of the system.
fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    match server {
        Some(server) => {
            let (config, options) = server_config(server);
            let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.with_options(options).build()
        }
        None => TokioResolver::builder_tokio()?.build(),
    }
}

fn failed(names: &[Name], why: &str) -> SourceEvent {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let reason = format!(
        "the DNS seeds {} cannot be resolved ({why}): the node joins through other peers, and keeps asking",
        names.join(", ")
    );
    SourceEvent::SeedsFailed { reason }
}

/// Queries all names. Fails if none has a usable record.
async fn query(resolver: &TokioResolver, names: &[Name]) -> SourceEvent {
    let mut seeds: Vec<Seed> = Vec::new();
    let mut failure = None;
    for name in names {
        let libp2p = name.prepend_label(DNSADDR_PREFIX).ok();
        for name in [Some(name.clone()), libp2p].into_iter().flatten() {
            match resolver.txt_lookup(name).await {
                Ok(lookup) => {
                    let texts = lookup.answers().iter().filter_map(|record| match &record.data {
                        RData::TXT(txt) => Some(txt.txt_data.concat()),
                        _ => None,
                    });
                    seeds.extend(texts.filter_map(|text| parse(&text)));
                }
                Err(error) if error.is_no_records_found() => {}
                Err(error) => failure = Some(error.to_string()),
            }
        }
        seeds.truncate(MAX_SEEDS);
    }
    match (seeds.is_empty(), failure) {
        (false, _) => SourceEvent::Seeds(seeds),
        (true, why) => failed(names, &why.unwrap_or_else(|| "no record lists a peer".to_owned())),
    }
}

/// Parses a TXT record. Returns `None` for a record of another kind.
fn parse(text: &[u8]) -> Option<Seed> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_TEXT_BYTES)?.trim();
    match text.strip_prefix("dnsaddr=") {
        Some(addr) => parse_dnsaddr(addr),
        None => parse_fields(text),
    }
}

/// Parses the multiaddr of a `dnsaddr` record, which ends in a PeerId.
fn parse_dnsaddr(text: &str) -> Option<Seed> {
    let addr: Multiaddr = text.parse().ok()?;
    match addr.iter().last()? {
        Protocol::P2p(peer) if addr.iter().count() > 1 => {
            Some(Seed { peer: Some(peer), addr, is_bootstrap: true })
        }
        _ => None,
    }
}

/// Parses `ip:port:role:capabilities`. The node believes no capability that a record of an agent
/// does not prove.
fn parse_fields(text: &str) -> Option<Seed> {
    let (ip, rest) = match text.strip_prefix('[') {
        Some(text) => {
            let (ip, rest) = text.split_once("]:")?;
            (IpAddr::V6(ip.parse().ok()?), rest)
        }
        None => {
            let (ip, rest) = text.split_once(':')?;
            (IpAddr::V4(ip.parse().ok()?), rest)
        }
    };
    let mut fields = rest.split(':');
    let port: u16 = fields.next()?.parse().ok().filter(|port| *port != 0)?;
    let is_bootstrap = fields.next() == Some("bootstrap");
    Some(Seed { peer: None, addr: Multiaddr::from(ip).with(Protocol::Tcp(port)), is_bootstrap })
}

/// Parses the name of a DNS seed.
///
/// # Errors
/// Returns the requirement that the name violates.
pub fn seed_name(text: &str) -> Result<Name, String> {
    let mut name =
        Name::from_utf8(text).map_err(|error| format!("{text:?} is not a domain name: {error}"))?;
    if name.iter().next().is_none() {
        return Err("a DNS seed must have a name".to_owned());
    }
    // The resolver must not append the search domains of the system.
    name.set_fqdn(true);
    Ok(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn records_of_both_forms_name_peers() {
        let addr = |text: &str| text.parse::<Multiaddr>().expect("an address");
        let nameless = |text: &str, is_bootstrap| Some(Seed { peer: None, addr: addr(text), is_bootstrap });
        let cases = [
            ("192.0.2.1:8000:bootstrap:dht,relay", nameless("/ip4/192.0.2.1/tcp/8000", true)),
            ("192.0.2.1:8000:full:", nameless("/ip4/192.0.2.1/tcp/8000", false)),
            (" 192.0.2.1:8000 ", nameless("/ip4/192.0.2.1/tcp/8000", false)),
            ("[2001:db8::1]:8000:bootstrap", nameless("/ip6/2001:db8::1/tcp/8000", true)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
        let text = format!("/ip4/192.0.2.1/tcp/8000/p2p/{PEER}");
        let seed = parse(format!("dnsaddr={text}").as_bytes()).expect("a seed");
        assert_eq!((seed.addr, seed.peer.expect("a peer").to_string()), (addr(&text), PEER.to_owned()));
    }

    #[test]
    fn records_of_other_kinds_are_ignored() {
        let long = format!("192.0.2.1:8000:full:{}", "x".repeat(MAX_TEXT_BYTES));
        for text in [
            "v=spf1 -all",
            "192.0.2.1",
            "192.0.2.1:0",
            "192.0.2.1:65536",
            "2001:db8::1:8000",
            "[2001:db8::1]",
            "dnsaddr=/ip4/192.0.2.1/tcp/8000",
            &format!("dnsaddr=/p2p/{PEER}"),
            &long,
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(&[0xff, 0xfe]), None);
    }

    #[test]
    fn seed_names_are_complete_domain_names() {
        assert_eq!(seed_name("peers.example.org").expect("a name").to_string(), "peers.example.org.");
        for text in ["", ".", "a..b"] {
            seed_name(text).expect_err(text);
        }
    }

    proptest! {
        #[test]
        fn any_record_is_a_seed_with_a_port_or_ignored(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..64),
                "(dnsaddr=)?[/\\[]?(ip4/)?[0-9.:a-f]{0,20}\\]?[:/]?(tcp/)?[0-9]{0,6}[:/]?[a-z0-9/,]{0,12}".prop_map(String::into_bytes),
            ],
        ) {
            if let Some(seed) = parse(&bytes) {
                let has_peer = bytes.windows(8).any(|part| part == b"dnsaddr=");
                prop_assert!(has_peer || seed.addr.iter().count() == 2, "{}", seed.addr);
            }
        }
    }
}
