//! The contracts that the node reads: their interfaces and known addresses.

use alloy::primitives::{Address, address};
use alloy::sol;

/// Multicall3, which many chains have at this address (docs of Multicall3). The node asks each chain
/// whether there is code.
pub const MULTICALL3: Address = address!("cA11bde05977b3631167028862bE2a173976CA11");

sol! {
    /// Registry of agents, with the functions that the source document names.
    #[derive(Debug, PartialEq, Eq)]
    interface AgentRegistry {
        event AgentRegistered(address indexed agent, string name, string metadata);
        event AgentDeactivated(address indexed agent);
        event AgentBlocked(address indexed agent);
        event AgentUnblocked(address indexed agent);

        function registerAgent(string name, string metadata) external;
        function deactivateAgent() external;
        function reportInteraction(address agent, bool positive) external;
        function blockAgent(address agent) external;
        function unblockAgent(address agent) external;
        function isRegistered(address agent) external view returns (bool);
        function getAgentInfo(address agent) external view returns (
            string name,
            string metadata,
            uint256 reputation,
            bool isActive,
            bool isBlocked,
            uint256 registrationTime
        );
        function getReputation(address agent) external view returns (uint256);
    }

    /// The function of Multicall3 that reads many agents at once.
    #[derive(Debug, PartialEq, Eq)]
    interface Multicall3 {
        struct Call {
            address target;
            bool allowFailure;
            bytes callData;
        }
        struct CallResult {
            bool success;
            bytes returnData;
        }

        function aggregate3(Call[] calls) external payable returns (CallResult[] results);
    }
}
