//! Parsers for the values of flags and variables.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use alloy::primitives::Address;
use hickory_resolver::proto::rr::Name;
use ipnet::IpNet;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use p2p_node_core::gate::address_rules::MAX_ADDRESS_RULES;
use p2p_node_core::local::publishing::check_capabilities;
use p2p_node_core::peers::limits::MAX_JOIN_STAGGER;
use p2p_node_core::report::nodes::{MAX_KNOWN, MIN_KNOWN};
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::file_offer::MAX_FILE_BYTES;
use p2p_node_wire::identity::parse_address;
use tracing::level_filters::LevelFilter;

use crate::chain::MIN_REFRESH;
use crate::chain::registry::MAX_REVIEWERS;
use crate::io::swarm::{MAX_CONNECTION_TIMEOUT, MIN_CONNECTION_TIMEOUT, MIN_RELAY_BYTES};

use super::{Ack, MAX_END_TIME, MAX_NAME_BYTES, MAX_NETWORK_BYTES, OnEof};
use crate::io::dns_seeds::{MAX_NAMES, seed_name};
use crate::io::regions::region_name;
use crate::io::rendezvous::Place;
use crate::logging::LogFormat;

pub(super) fn parse<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Makes the parser of an optional value.
pub(super) fn some<T>(
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> impl FnOnce(&str) -> Result<Option<T>, String> {
    |text| parse(text).map(Some)
}

/// Checks the name of a network.
///
/// # Errors
/// Returns the requirement that `text` violates.
pub fn network_name(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_NETWORK_BYTES).contains(&text.len());
    if fits && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        Ok(text.to_owned())
    } else {
        Err(format!("the value must be 1 to {MAX_NETWORK_BYTES} characters of a-z, 0-9 and -"))
    }
}

/// Checks a display name or an instance.
///
/// # Errors
/// Returns the requirement that `text` violates.
pub fn short_text(text: &str) -> Result<String, String> {
    if text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
        return Err(format!("the value must have at most {MAX_NAME_BYTES} bytes and no control characters"));
    }
    Ok(text.to_owned())
}

pub(super) fn multiaddrs(text: &str) -> Result<Vec<Multiaddr>, String> {
    text.split([',', ' '])
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|error| format!("{part} is not a multiaddr: {error}")))
        .collect()
}

pub(super) fn bootstrap_peers(text: &str) -> Result<Vec<Multiaddr>, String> {
    let addrs = multiaddrs(text)?;
    match addrs.iter().find(|addr| !matches!(addr.iter().last(), Some(Protocol::P2p(_)))) {
        Some(addr) => {
            Err(format!("{addr} does not end in /p2p/<peer id>, as in /ip4/192.0.2.1/tcp/8000/p2p/12D3Koo…"))
        }
        None => Ok(addrs),
    }
}

/// Parses the names of DNS seeds, separated by commas.
pub(super) fn dns_seeds(text: &str) -> Result<Vec<Name>, String> {
    let names: Vec<Name> = text.split(',').map(|name| seed_name(name.trim())).collect::<Result<_, _>>()?;
    match names.len() {
        0..=MAX_NAMES => Ok(names),
        _ => Err(format!("at most {MAX_NAMES} DNS seeds are possible")),
    }
}

/// Parses the names of regions, separated by commas.
pub(super) fn regions(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(|name| region_name(name.trim())).collect()
}

/// Parses IP addresses and networks, separated by commas.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let networks: Vec<IpNet> = text.split(',').map(|part| network(part.trim())).collect::<Result<_, _>>()?;
    match networks.len() {
        0..=MAX_ADDRESS_RULES => Ok(networks),
        _ => Err(format!("at most {MAX_ADDRESS_RULES} networks are possible")),
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse());
    match network {
        Ok(IpNet::V6(v6)) if v6.addr().to_ipv4_mapped().is_some() => {
            Err(format!("{text} is an IPv4 network in IPv6 form: write it as IPv4, as in 192.0.2.0/24"))
        }
        Ok(network) => Ok(network),
        Err(_) => Err(format!(
            "{text} is neither an IP address nor a network, as in 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32"
        )),
    }
}

/// Parses the place of the rendezvous directory.
pub(super) fn place(text: &str) -> Result<Place, String> {
    match text {
        "off" => Ok(Place::Off),
        path => Ok(Place::At(path.into())),
    }
}

/// Parses addresses at which others can dial the node.
pub(super) fn external_addrs(text: &str) -> Result<Vec<Multiaddr>, String> {
    let addrs = multiaddrs(text)?;
    match addrs.iter().find(|addr| matches!(addr.iter().last(), Some(Protocol::P2p(_)))) {
        Some(addr) => {
            Err(format!("{addr} must end in its port, without /p2p/, as in /ip4/192.0.2.1/tcp/8000"))
        }
        None => Ok(addrs),
    }
}

/// Makes the parser of a number in a range.
pub(super) fn within<T>(least: T, most: T) -> impl FnOnce(&str) -> Result<T, String>
where
    T: FromStr<Err: fmt::Display> + PartialOrd + fmt::Display,
{
    move |text| match parse(text)? {
        number if number >= least && number <= most => Ok(number),
        _ => Err(format!("the value must be from {least} to {most}")),
    }
}

/// Parses the limit of a relayed connection. A lower one would keep large messages from arriving.
pub(super) fn relay_bytes(text: &str) -> Result<u64, String> {
    let bytes = parse(text)?;
    match bytes >= MIN_RELAY_BYTES {
        true => Ok(bytes),
        false => Err(format!("the value must be at least {MIN_RELAY_BYTES}")),
    }
}

pub(super) fn max_file(text: &str) -> Result<u64, String> {
    let bytes = parse(text)?;
    match bytes <= MAX_FILE_BYTES {
        true => Ok(bytes),
        false => Err(format!("the value must be at most {MAX_FILE_BYTES}")),
    }
}

pub(super) fn role(text: &str) -> Result<Role, String> {
    match text {
        "full" => Ok(Role::Full),
        "bootstrap" => Ok(Role::Bootstrap),
        "light" => Ok(Role::Light),
        _ => Err("the value must be full, light or bootstrap".to_owned()),
    }
}

pub(super) fn ack(text: &str) -> Result<Ack, String> {
    match text {
        "auto" => Ok(Ack::Auto),
        "manual" => Ok(Ack::Manual),
        _ => Err("the value must be auto or manual".to_owned()),
    }
}

pub(super) fn on_eof(text: &str) -> Result<OnEof, String> {
    match text {
        "exit" => Ok(OnEof::Exit),
        "stay" => Ok(OnEof::Stay),
        _ => Err("the value must be exit or stay".to_owned()),
    }
}

pub(super) fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("the value must be on or off".to_owned()),
    }
}

pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        _ => Err("the value must be true or false".to_owned()),
    }
}

/// Parses a number of seconds, with or without the unit `s`.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = parse(text.strip_suffix('s').unwrap_or(text))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if time <= MAX_END_TIME => Ok(time),
        _ => Err(format!("the value must be 0 to {} seconds", MAX_END_TIME.as_secs())),
    }
}

/// Parses the connection timeout.
pub(super) fn connection_timeout(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        time if (MIN_CONNECTION_TIMEOUT..=MAX_CONNECTION_TIMEOUT).contains(&time) => Ok(time),
        _ => Err(format!(
            "the value must be {} to {} seconds",
            MIN_CONNECTION_TIMEOUT.as_secs(),
            MAX_CONNECTION_TIMEOUT.as_secs()
        )),
    }
}

/// Parses the time for which a report shows a node that is gone.
pub(super) fn forget_nodes_after(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        time if (MIN_KNOWN..=MAX_KNOWN).contains(&time) => Ok(time),
        _ => Err(format!("the value must be {} to {} seconds", MIN_KNOWN.as_secs(), MAX_KNOWN.as_secs())),
    }
}

/// Parses the join stagger, with or without the unit `ms`.
pub(super) fn join_stagger(text: &str) -> Result<Duration, String> {
    let longest = MAX_JOIN_STAGGER.as_millis() as u64;
    within(0, longest)(text.strip_suffix("ms").unwrap_or(text)).map(Duration::from_millis)
}

/// Parses the address of a contract.
pub(super) fn address(text: &str) -> Result<Address, String> {
    parse_address(text).map_err(|error| error.to_string())
}

/// Parses the addresses of those whose feedback counts.
pub(super) fn reviewers(text: &str) -> Result<Vec<Address>, String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let reviewers = items.map(address).collect::<Result<Vec<_>, _>>()?;
    match reviewers.len() {
        0..=MAX_REVIEWERS => Ok(reviewers),
        _ => Err(format!("at most {MAX_REVIEWERS} addresses are possible")),
    }
}

/// Parses the time between two questions for changes of the registry.
pub(super) fn registry_refresh(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        time if time >= MIN_REFRESH => Ok(time),
        _ => Err(format!("the value must be at least {} s", MIN_REFRESH.as_secs_f64())),
    }
}

pub(super) fn process_id(text: &str) -> Result<i32, String> {
    match parse(text) {
        Ok(id) if id > 0 => Ok(id),
        _ => Err("the value must be a process ID, 1 or higher".to_owned()),
    }
}

pub(super) fn log_level(text: &str) -> Result<LevelFilter, String> {
    text.parse().map_err(|_| "the value must be off, error, warn, info, debug or trace".to_owned())
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("the value must be text or json".to_owned()),
    }
}

/// Parses capabilities, separated by commas.
pub(super) fn capabilities(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    check_capabilities(&names).map(|()| names)
}
