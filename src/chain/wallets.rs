//! Asks contract wallets whether a signature is their own: ERC-1271, and ERC-6492 before they are deployed.

use alloy::hex;
use alloy::primitives::{Bytes, FixedBytes};
use alloy::sol_types::{SolCall, SolValue};
use p2p_node_core::chain::WalletQuestion;

use super::contracts::ContractWallet;
use super::endpoint::{Called, Endpoint};
use super::server_error::ServerError;

/// What `isValidSignature` returns for a signature of the wallet (ERC-1271).
const IS_VALID: FixedBytes<4> = FixedBytes([0x16, 0x26, 0xba, 0x7e]);
/// End of a signature with the call that deploys its wallet (ERC-6492).
const DEPLOYS: [u8; 32] = [
    0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64,
    0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92,
];
/// Creation code of `fixtures/registry/WalletCheck.sol`, in hexadecimal digits. It deploys the wallet, asks it,
/// and returns one byte; as it runs in a call without a transaction, nothing of that stays.
const WALLET_CHECK: &str = include_str!("wallet_check.hex");

impl Endpoint {
    /// Asks a wallet at a block. Returns one answer; a wallet that reverts or returns nonsense refuses. A call
    /// that the server refuses has no answer, and is no failure of the server: anybody can write a wallet that
    /// runs for ever.
    pub(super) async fn ask_wallet(
        &self,
        question: &WalletQuestion,
        block: u64,
    ) -> Result<Vec<Option<bool>>, ServerError> {
        let WalletQuestion { account, hash, .. } = question;
        let signature = Bytes::from(question.signature.clone());
        let answer = if signature.ends_with(&DEPLOYS) {
            let code = hex::decode(WALLET_CHECK.trim_ascii())
                .map_err(|error| ServerError::Invalid(error.to_string()))?;
            let arguments = (*account, *hash, signature).abi_encode_params();
            self.call_bounded(None, [code, arguments].concat().into(), block).await
        } else {
            let call = ContractWallet::isValidSignatureCall { hash: *hash, signature };
            self.call_bounded(Some(*account), Bytes::from(call.abi_encode()), block).await
        };
        match answer {
            Ok(Called::Returned(bytes)) => Ok(vec![Some(is_confirmed(&bytes))]),
            Ok(Called::Reverted | Called::TooLarge) => Ok(vec![Some(false)]),
            Err(ServerError::Refused(_)) => Ok(vec![None]),
            Err(error) => Err(error),
        }
    }
}

/// Returns `true` for the byte of the check, and for the answer of a wallet that it should give.
fn is_confirmed(answer: &[u8]) -> bool {
    let of_wallet = ContractWallet::isValidSignatureCall::abi_decode_returns_validate;
    *answer == [1] || of_wallet(answer) == Ok(IS_VALID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_answer_confirms_a_signature() {
        let magic = [&IS_VALID[..], &[0; 28]].concat();
        assert!(is_confirmed(&[1]) && is_confirmed(&magic));
        for answer in [&[][..], &[0], &[1, 0], &IS_VALID[..], &[0xff; 32], &[&magic[..31], &[1]].concat()] {
            assert!(!is_confirmed(answer), "{answer:?}");
        }
    }
}
