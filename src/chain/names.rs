//! Names of ENS: the address of a name, and the name of an address.
//!
//! The owner of a name chooses its resolver, a contract that may answer anything. So no answer of a resolver
//! is a fault of the server, and the node never follows one that sends it elsewhere (EIP-3668): to the node
//! that is a revert.

use alloy::primitives::{Address, B256, Bytes};
use alloy::sol_types::SolCall;
use p2p_node_core::chain::ens_name::{EnsName, reverse_hash};

use super::contracts::{EnsRegistry, EnsResolver};
use super::endpoint::{Called, Endpoint};
use super::server_error::ServerError;

/// The answer of a resolver: `None` if it has none.
type Answer<T> = Option<T>;

/// Returns the address of a name at a block. The outer `None` states that the server cannot tell.
pub(super) async fn address_of(
    endpoint: &Endpoint,
    ens: Address,
    name: B256,
    block: u64,
) -> Result<Option<Answer<Address>>, ServerError> {
    let Some(resolver) = resolver_of(endpoint, ens, name, block).await? else { return Ok(Some(None)) };
    let question = EnsResolver::addrCall { node: name }.abi_encode().into();
    let answer = ask(endpoint, resolver, question, block).await?;
    Ok(answer.map(|bytes| address_in(&bytes?)))
}

/// Returns the name of an address at a block, if the address of that name is this one: anybody can give an
/// address the name of another agent. The outer `None` states that the server cannot tell.
pub(super) async fn name_of(
    endpoint: &Endpoint,
    ens: Address,
    address: Address,
    block: u64,
) -> Result<Option<Answer<EnsName>>, ServerError> {
    let reverse = reverse_hash(&address);
    let Some(resolver) = resolver_of(endpoint, ens, reverse, block).await? else { return Ok(Some(None)) };
    let question = EnsResolver::nameCall { node: reverse }.abi_encode().into();
    let Some(answer) = ask(endpoint, resolver, question, block).await? else { return Ok(None) };
    let Some(name) = answer.and_then(|bytes| name_in(&bytes)) else { return Ok(Some(None)) };
    let found = address_of(endpoint, ens, name.hash(), block).await?;
    Ok(found.map(|found| (found == Some(address)).then_some(name)))
}

/// Returns the resolver of a name. There is none on a chain without ENS, where nothing answers.
async fn resolver_of(
    endpoint: &Endpoint,
    ens: Address,
    name: B256,
    block: u64,
) -> Result<Option<Address>, ServerError> {
    let question = EnsRegistry::resolverCall { node: name }.abi_encode().into();
    Ok(match endpoint.call(ens, question, block).await? {
        Called::Returned(bytes) => address_in(&bytes),
        Called::Reverted | Called::TooLarge => None,
    })
}

/// Asks a resolver. The outer `None` states that the server refuses the call, such as when it takes too much
/// gas.
async fn ask(
    endpoint: &Endpoint,
    resolver: Address,
    question: Bytes,
    block: u64,
) -> Result<Option<Answer<Bytes>>, ServerError> {
    match endpoint.call_bounded(Some(resolver), question, block).await {
        Ok(Called::Returned(bytes)) => Ok(Some(Some(bytes))),
        Ok(Called::Reverted | Called::TooLarge) => Ok(Some(None)),
        Err(ServerError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Decodes an address; zero is none.
fn address_in(bytes: &[u8]) -> Option<Address> {
    let address = EnsResolver::addrCall::abi_decode_returns_validate(bytes).ok()?;
    Some(address).filter(|address| !address.is_zero())
}

/// Decodes a name; one that is not in its only form is none.
fn name_in(bytes: &[u8]) -> Option<EnsName> {
    let text = EnsResolver::nameCall::abi_decode_returns_validate(bytes).ok()?;
    text.parse().ok().filter(|name: &EnsName| *name.as_str() == *text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name_of_text(text: &str) -> Option<String> {
        let bytes = EnsResolver::nameCall::abi_encode_returns(&text.to_owned());
        name_in(&bytes).map(|name| name.to_string())
    }

    #[test]
    fn name_of_a_resolver_counts_in_its_only_form() {
        assert_eq!(name_of_text("ann.eth").as_deref(), Some("ann.eth"));
        for text in ["Ann.eth", "ann", "", "\u{430}nn.eth", "ann.eth\u{1b}[2J"] {
            assert_eq!(name_of_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn zero_address_and_an_empty_answer_are_none() {
        let ann = Address::repeat_byte(0xa1);
        assert_eq!(address_in(&EnsResolver::addrCall::abi_encode_returns(&ann)), Some(ann));
        assert_eq!(address_in(&EnsResolver::addrCall::abi_encode_returns(&Address::ZERO)), None);
        assert_eq!(address_in(&[]), None);
        assert_eq!(address_in(&[0xff; 32]), None, "twelve bytes before an address are zero");
    }

    proptest! {
        #[test]
        fn any_answer_of_a_resolver_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (address_in(&bytes), name_in(&bytes));
        }
    }
}
