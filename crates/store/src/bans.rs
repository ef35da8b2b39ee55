//! Encoding of bans in the store.

use std::net::{Ipv4Addr, Ipv6Addr};

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_core::gate::host::Host;
use p2p_node_core::gate::reputation::{Conduct, Party, PersistedBan};

use super::codec::RowError;

/// First byte of a key: what is banned.
const AGENT: u8 = 1;
const NODE: u8 = 2;
const HOST: u8 = 3;

/// Length of the numbers at the start of a row, in bytes: the end of the ban, and the number of bans.
const NUMBERS: usize = 8 + 4;

fn encode_host(host: Host) -> Vec<u8> {
    match host.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn decode_host(bytes: &[u8]) -> Option<Host> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
    let ip = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into())).ok()?;
    Some(Host::of_ip(ip)).filter(|host| host.ip() == ip)
}

/// Encodes the key of a ban.
pub fn encode_party(party: &Party) -> Vec<u8> {
    match party {
        Party::Agent(address) => [&[AGENT], address.as_slice()].concat(),
        Party::Node(peer) => [&[NODE][..], &peer.to_bytes()].concat(),
        Party::Host(host) => [&[HOST][..], &encode_host(*host)].concat(),
    }
}

/// Encodes a ban.
pub fn encode_ban(ban: &PersistedBan) -> Vec<u8> {
    let host = ban.host.map(encode_host).unwrap_or_default();
    let numbers = [&ban.until_ms.to_be_bytes()[..], &ban.number.to_be_bytes()].concat();
    [&numbers, &[host.len() as u8][..], &host, ban.reason.name().as_bytes()].concat()
}

/// Decodes a row that [`encode_party`] and [`encode_ban`] wrote.
///
/// # Errors
/// Fails for any other bytes. Does not panic.
pub fn decode_ban(key: &[u8], row: &[u8]) -> Result<(Party, PersistedBan), RowError> {
    let party = match key.split_first() {
        Some((&AGENT, address)) => Address::try_from(address).ok().map(Party::Agent),
        Some((&NODE, peer)) => PeerId::from_bytes(peer).ok().map(Party::Node),
        Some((&HOST, ip)) => decode_host(ip).map(Party::Host),
        _ => None,
    };
    party.zip(decode_row(row)).ok_or(RowError::Ban)
}

fn decode_row(row: &[u8]) -> Option<PersistedBan> {
    let (numbers, rest) = row.split_at_checked(NUMBERS)?;
    let (until_ms, number) = numbers.split_at_checked(8)?;
    let (&length, rest) = rest.split_first()?;
    let (host, name) = rest.split_at_checked(usize::from(length))?;
    let host = if host.is_empty() { None } else { Some(decode_host(host)?) };
    Some(PersistedBan {
        until_ms: u64::from_be_bytes(until_ms.try_into().ok()?),
        number: u32::from_be_bytes(number.try_into().ok()?),
        host,
        reason: Conduct::by_name(std::str::from_utf8(name).ok()?)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hosts() -> impl Strategy<Value = Host> {
        prop_oneof![any::<[u8; 4]>().prop_map(|ip| ip.into()), any::<[u8; 16]>().prop_map(|ip| ip.into())]
            .prop_map(Host::of_ip)
    }

    proptest! {
        #[test]
        fn ban_round_trips_and_other_bytes_are_rejected(
            (until_ms, number) in any::<(u64, u32)>(),
            host in proptest::option::of(hosts()),
            kind in 0..3,
            key in proptest::collection::vec(0..4_u8, 0..24),
            row in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let ban = PersistedBan { until_ms, number, host, reason: Conduct::Equivocation };
            let of_host = Party::Host(host.unwrap_or_else(|| Host::of_ip([192, 0, 2, 1].into())));
            let all = [Party::Agent(Address::repeat_byte(7)), Party::Node(PeerId::random()), of_host];
            let party = all[kind as usize];
            prop_assert_eq!(decode_ban(&encode_party(&party), &encode_ban(&ban)).ok(), Some((party, ban)));
            if let Ok((party, ban)) = decode_ban(&key, &row) {
                prop_assert_eq!((encode_party(&party), encode_ban(&ban)), (key, row));
            }
        }
    }
}
