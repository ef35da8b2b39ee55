//! The contracts that the node reads: their interfaces and known addresses.

use alloy::primitives::{Address, address};
use alloy::sol;

/// Multicall3, which many chains have at this address (docs of Multicall3). The node asks each chain
/// whether there is code.
pub const MULTICALL3: Address = address!("cA11bde05977b3631167028862bE2a173976CA11");

/// Identity registry of ERC-8004, which many chains have at this address (its deployments, 2026; the
/// standard is a draft).
pub const ERC8004_IDENTITY: Address = address!("8004A169FB4a3325136EB29fA0ceB6D2e539a432");
/// Reputation registry of ERC-8004 on these chains.
pub const ERC8004_REPUTATION: Address = address!("8004BAa17C55a88189AE136b182e5fdA19dE9b63");

/// Registry of ENS on Ethereum and its test chains (docs of ENS).
pub const ENS_REGISTRY: Address = address!("00000000000C2E074eC69A0dFb2997BA6C7d2e1e");

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

    /// A contract wallet (ERC-1271).
    #[derive(Debug, PartialEq, Eq)]
    interface ContractWallet {
        function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4 magic);
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

    /// The function of the registry of ENS that the node calls (ENSIP-1).
    #[derive(Debug, PartialEq, Eq)]
    interface EnsRegistry {
        function resolver(bytes32 node) external view returns (address resolver);
    }

    /// The functions of resolvers that the node calls (ENSIP-1 and ENSIP-3).
    #[derive(Debug, PartialEq, Eq)]
    interface EnsResolver {
        function addr(bytes32 node) external view returns (address owner);
        function name(bytes32 node) external view returns (string name);
    }

    /// Identity registry of ERC-8004 (draft of January 2026): each agent is a token of ERC-721.
    #[derive(Debug, PartialEq, Eq)]
    interface IdentityRegistry {
        struct MetadataEntry {
            string metadataKey;
            bytes metadataValue;
        }

        event Registered(uint256 indexed agentId, string agentURI, address indexed owner);
        event MetadataSet(
            uint256 indexed agentId,
            string indexed indexedMetadataKey,
            string metadataKey,
            bytes metadataValue
        );
        event Transfer(address indexed from, address indexed to, uint256 indexed agentId);
        event Approval(address indexed owner, address indexed approved, uint256 indexed agentId);
        event ApprovalForAll(address indexed owner, address indexed operator, bool approved);

        function register(string agentURI, MetadataEntry[] metadata) external returns (uint256 agentId);
        function ownerOf(uint256 agentId) external view returns (address owner);
        function getAgentWallet(uint256 agentId) external view returns (address wallet);
        function isAuthorizedOrOwner(address spender, uint256 agentId) external view returns (bool);
        function balanceOf(address owner) external view returns (uint256);
    }

    /// Reputation registry of ERC-8004 (draft of January 2026). Only feedback of named clients counts.
    #[derive(Debug, PartialEq, Eq)]
    interface ReputationRegistry {
        function getSummary(uint256 agentId, address[] clientAddresses, string tag1, string tag2)
            external
            view
            returns (uint64 count, int128 summaryValue, uint8 summaryValueDecimals);
        function giveFeedback(
            uint256 agentId,
            int128 value,
            uint8 valueDecimals,
            string tag1,
            string tag2,
            string endpoint,
            string feedbackURI,
            bytes32 feedbackHash
        ) external;
    }
}
