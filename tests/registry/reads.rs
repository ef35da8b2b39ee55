//! Reads of the registry by RPC, from real and from misbehaving servers.

use std::time::Duration;

use alloy::primitives::Address;
use p2p_node::chain::contracts::{AgentRegistry, ENS_REGISTRY};
use p2p_node::chain::registry::{RegistryContract, RegistryKind};
use p2p_node::chain::{BlockDepth, Chain, ChainConfig};
use p2p_node_core::chain::{AgentInfo, AgentQuery, ChainCommand, ChainEvent, Changes};
use p2p_node_core::input::Input;

use crate::anvil::{Anvil, OWNER, post};
use crate::servers::{Server, http, result};

const ANN: Address = Address::repeat_byte(0xa1);
const BOB: Address = Address::repeat_byte(0xb2);

/// A chain client with what a test needs of its configuration.
pub fn config(registry: Address, urls: &[String], quorum: usize) -> ChainConfig {
    ChainConfig {
        registry: Some(RegistryContract {
            kind: RegistryKind::AgentRegistry,
            address: registry,
            reputation: None,
            reviewers: Vec::new(),
        }),
        rpc_urls: urls.iter().map(|url| url.parse().unwrap()).collect(),
        quorum,
        chain_id: None,
        ens: ENS_REGISTRY,
        depth: BlockDepth::Blocks(0),
        refresh: Some(Duration::from_millis(20)),
        reporter: None,
    }
}

pub fn open(config: ChainConfig) -> Chain {
    Chain::open(Some(config)).unwrap()
}

/// Waits for an event that is not an empty change.
pub async fn next(chain: &mut Chain) -> ChainEvent {
    let event = async {
        loop {
            match chain.next().await {
                Input::Chain(ChainEvent::AgentsChanged(changes)) if changes == Changes::default() => {}
                Input::Chain(event) => return event,
                other => panic!("unexpected {other:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), event).await.expect("an event of the chain")
}

/// Reads agents by their addresses, and ignores reports of changes.
async fn read(chain: &mut Chain, agents: &[Address]) -> Result<Vec<Option<AgentInfo>>, String> {
    let queries: Vec<_> = agents.iter().map(|agent| AgentQuery { agent: *agent, id: None }).collect();
    read_entries(chain, &queries).await
}

/// Reads agents, and ignores reports of changes.
pub async fn read_entries(
    chain: &mut Chain,
    agents: &[AgentQuery],
) -> Result<Vec<Option<AgentInfo>>, String> {
    chain.execute(ChainCommand::ReadAgents { token: 7, agents: agents.to_vec() });
    loop {
        match next(chain).await {
            ChainEvent::AgentsRead { token: 7, agents: found } => {
                assert!(found.iter().map(|(agent, _)| *agent).eq(agents.iter().map(|query| query.agent)));
                return Ok(found.into_iter().map(|(_, info)| info).collect());
            }
            ChainEvent::ReadFailed { token: 7, reason } => return Err(reason),
            ChainEvent::AgentsChanged(_) | ChainEvent::ChangesMissed => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn changed(agent: Address) -> ChainEvent {
    ChainEvent::AgentsChanged(Changes { agents: vec![agent], ids: Vec::new() })
}

pub fn is_registered(info: &Option<AgentInfo>) -> bool {
    info.as_ref().is_some_and(|info| info.is_active && !info.is_blocked)
}

/// Starts an EVM node with a registry in which Ann is registered, if it can run here.
fn with_ann() -> Option<(Anvil, Address)> {
    let anvil = Anvil::start()?;
    let registry = anvil.deploy("AgentRegistry");
    anvil.register(registry, ANN, "ann");
    Some((anvil, registry))
}

#[tokio::test]
async fn entry_of_an_agent_follows_the_chain_through_its_life() {
    let Some((anvil, registry)) = with_ann() else { return };
    let mut chain = open(config(registry, &[anvil.url()], 1));
    let found = read(&mut chain, &[ANN, BOB]).await.unwrap();
    let ann = found[0].clone().unwrap();
    assert_eq!(
        (ann.name.as_str(), ann.metadata.as_str(), ann.reputation),
        ("ann", "metadata of ann", Some(50))
    );
    assert!(ann.is_active && !ann.is_blocked && ann.registered_at > 0, "{ann:?}");
    assert_eq!(found[1], Some(AgentInfo::default()));

    anvil.call(OWNER, registry, &AgentRegistry::blockAgentCall { agent: ANN });
    assert!(read(&mut chain, &[ANN]).await.unwrap()[0].as_ref().unwrap().is_blocked);
    anvil.call(OWNER, registry, &AgentRegistry::unblockAgentCall { agent: ANN });
    assert!(is_registered(&read(&mut chain, &[ANN]).await.unwrap()[0]));
    anvil.call(ANN, registry, &AgentRegistry::deactivateAgentCall {});
    assert!(!read(&mut chain, &[ANN]).await.unwrap()[0].as_ref().unwrap().is_active);
}

#[tokio::test]
async fn many_agents_are_read_by_one_call_where_multicall3_is_deployed() {
    let Some((anvil, registry)) = with_ann() else { return };
    let to = anvil.port;
    let agents: Vec<Address> = std::iter::once(ANN).chain((1..64).map(Address::repeat_byte)).collect();
    let mut counts = Vec::new();
    for has_multicall in [false, true] {
        if has_multicall {
            anvil.add_multicall();
        }
        let server = Server::proxy(to, |_, _| {});
        let mut chain = open(config(registry, &[server.url()], 1));
        let found = read(&mut chain, &agents).await.unwrap();
        assert!(is_registered(&found[0]) && !found[1..].iter().any(is_registered));
        counts.push(server.requests());
    }
    assert!(counts[0] >= 64 && counts[1] <= 10, "{counts:?} requests");
}

#[tokio::test]
async fn changes_are_reported_with_their_agents() {
    let Some((anvil, registry)) = with_ann() else { return };
    let mut chain = open(config(registry, &[anvil.url()], 1));
    // At first the client says that it knows no changes so far.
    assert_eq!(next(&mut chain).await, ChainEvent::ChangesMissed);
    anvil.call(OWNER, registry, &AgentRegistry::blockAgentCall { agent: ANN });
    assert_eq!(next(&mut chain).await, changed(ANN));
    anvil.register(registry, BOB, "bob");
    assert_eq!(next(&mut chain).await, changed(BOB));
}

#[tokio::test]
async fn read_goes_to_the_next_server_when_one_fails() {
    let Some((anvil, registry)) = with_ann() else { return };
    let broken: [(&str, Server); 5] = [
        ("garbage", Server::start(|_, _| Some(http("200 OK", "not JSON")))),
        ("an error of the server", Server::start(|_, _| Some(http("500 Internal Server Error", "")))),
        ("a rate limit", Server::start(|_, _| Some(http("429 Too Many Requests", "")))),
        (
            "an oversized answer",
            Server::start(|_, request| {
                Some(result(request, &serde_json::json!("0x".to_owned() + &"00".repeat(2 << 20))))
            }),
        ),
        (
            "an endless answer",
            Server::start(|_, _| {
                let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n".to_vec();
                bytes.resize(4 << 20, b' ');
                Some(bytes)
            }),
        ),
    ];
    for (what, server) in &broken {
        let mut chain = open(config(registry, &[server.url(), anvil.url()], 1));
        let found = read(&mut chain, &[ANN]).await;
        assert!(found.as_ref().is_ok_and(|found| is_registered(&found[0])), "{what}: {found:?}");
        let mut alone = open(config(registry, &[server.url()], 1));
        let failed = read(&mut alone, &[ANN]).await.expect_err(what);
        assert!(failed.starts_with("127.0.0.1:"), "{what}: {failed}");
    }
}

#[tokio::test]
async fn silent_server_does_not_keep_a_read_from_the_next_one() {
    let Some((anvil, registry)) = with_ann() else { return };
    let silent = Server::start(|_, _| None);
    let mut chain = open(config(registry, &[silent.url(), anvil.url()], 1));
    assert!(is_registered(&read(&mut chain, &[ANN]).await.unwrap()[0]));
    let began = tokio::time::Instant::now();
    assert!(is_registered(&read(&mut chain, &[ANN]).await.unwrap()[0]));
    assert!(began.elapsed() < Duration::from_secs(4), "the silent server is asked last from now on");
}

#[tokio::test]
async fn one_liar_of_three_servers_registers_and_blocks_nobody() {
    let Some((anvil, registry)) = with_ann() else { return };
    let ann = anvil.request(
        "eth_call",
        serde_json::json!([
            {"to": registry, "data": call_data(ANN)}, "latest"
        ]),
    );
    let bob = anvil.request(
        "eth_call",
        serde_json::json!([
            {"to": registry, "data": call_data(BOB)}, "latest"
        ]),
    );
    // The liar exchanges the answers about Ann and Bob.
    let liar = Server::proxy(anvil.port, move |method, answer| {
        if method == "eth_call" {
            let other = if answer["result"] == ann { &bob } else { &ann };
            answer["result"] = other.clone();
        }
    });
    let lies = read(&mut open(config(registry, &[liar.url()], 1)), &[BOB]).await.unwrap();
    assert!(is_registered(&lies[0]), "the liar alone is believed");

    let urls = [liar.url(), anvil.url(), anvil.url()];
    let mut chain = open(config(registry, &urls, 2));
    let found = read(&mut chain, &[ANN, BOB]).await.unwrap();
    assert!(is_registered(&found[0]) && !is_registered(&found[1]), "{found:?}");

    // With one honest server alone there is no agreement, and no answer.
    let mut two = open(config(registry, &urls[..2], 2));
    assert_eq!(read(&mut two, &[ANN, BOB]).await, Ok(vec![None, None]));
    let mut alone = open(config(registry, &[liar.url(), "http://127.0.0.1:1".to_owned()], 2));
    let failed = read(&mut alone, &[BOB]).await.expect_err("one server is not enough");
    assert!(failed.contains("fewer than 2 servers"), "{failed}");
}

#[tokio::test]
async fn liar_about_the_newest_block_neither_stops_nor_rolls_back_the_others() {
    let Some((anvil, registry)) = with_ann() else { return };
    for block in ["0x0", "0xffffffff"] {
        let liar = Server::proxy(anvil.port, move |method, answer| {
            if method == "eth_blockNumber" {
                answer["result"] = block.into();
            }
        });
        let urls = [liar.url(), anvil.url(), anvil.url()];
        let mut chain = open(config(registry, &urls, 2));
        let found = read(&mut chain, &[ANN]).await.unwrap();
        assert!(is_registered(&found[0]), "{block}: {found:?}");
    }
}

/// Waits until the client says why a configuration cannot be used. The first question for changes may end
/// before.
async fn unusable(config: ChainConfig) -> String {
    let mut chain = open(config);
    loop {
        match next(&mut chain).await {
            ChainEvent::Unusable { reason } => return reason,
            ChainEvent::ChangesMissed => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn wrong_chain_and_missing_contract_are_reported_at_the_start() {
    let Some((anvil, registry)) = with_ann() else { return };
    let wrong = ChainConfig { chain_id: Some(1), ..config(registry, &[anvil.url()], 1) };
    let reason = unusable(wrong).await;
    assert!(reason.contains("chain 1 is expected") && reason.contains("31337"), "{reason}");

    let reason = unusable(config(BOB, &[anvil.url()], 1)).await;
    assert!(reason.contains("no contract at 0xb2"), "{reason}");

    let other = Server::proxy(anvil.port, |method, answer| {
        if method == "eth_chainId" {
            answer["result"] = "0x1".into();
        }
    });
    let differ = config(registry, &[anvil.url(), other.url()], 1);
    let reason = unusable(differ).await;
    assert!(reason.contains("different chains"), "{reason}");
    // Of three servers, the one of another chain is left out.
    let mut three = open(config(registry, &[anvil.url(), other.url(), anvil.url()], 2));
    assert!(is_registered(&read(&mut three, &[ANN]).await.unwrap()[0]));
}

fn call_data(agent: Address) -> String {
    use alloy::sol_types::SolCall;
    alloy::hex::encode_prefixed(AgentRegistry::getAgentInfoCall { agent }.abi_encode())
}

#[tokio::test]
async fn large_entries_of_some_agents_do_not_keep_the_others_from_being_read() {
    let Some((anvil, registry)) = with_ann() else { return };
    anvil.add_multicall();
    // Together their texts are larger than what the node reads, and each alone is not.
    let strangers: Vec<Address> = (1..=40).map(Address::repeat_byte).collect();
    for stranger in &strangers {
        anvil.register(registry, *stranger, &"x".repeat(12_000));
    }
    let agents: Vec<Address> = strangers.iter().copied().chain([ANN]).collect();
    let mut chain = open(config(registry, &[anvil.url()], 1));
    let found = read(&mut chain, &agents).await.unwrap();
    assert!(found.iter().all(is_registered));

    // One that is too large alone is unknown, and the server has not failed for it.
    let eve = agents[0];
    let data = call_data(eve);
    let large = Server::start(move |method, request| {
        let is_of_eve = method == "eth_call" && request["params"][0]["input"] == data;
        match is_of_eve {
            true => Some(result(request, &serde_json::json!("0x".to_owned() + &"00".repeat(2 << 20)))),
            false => Some(http("200 OK", &post(anvil.port, request)?.to_string())),
        }
    });
    let mut chain = open(config(registry, &[large.url()], 1));
    for _ in 0..2 {
        let found = read(&mut chain, &[eve, ANN]).await.unwrap();
        assert!(is_registered(&found[1]), "{found:?}");
    }
    assert_eq!(read(&mut chain, &[eve]).await, Ok(vec![None]));
    assert!(is_registered(&read(&mut chain, &[ANN]).await.unwrap()[0]));
}

#[tokio::test]
async fn liar_about_the_newest_block_hides_no_change_for_long() {
    let Some((anvil, registry)) = with_ann() else { return };
    let liar = Server::proxy(anvil.port, move |method, answer| {
        if method == "eth_blockNumber" {
            answer["result"] = "0xffffffff".into();
        }
    });
    for (urls, quorum) in [
        (vec![liar.url(), anvil.url(), anvil.url()], 2),
        // Without a quorum the node believes each server, and begins anew when the next one contradicts.
        (vec![liar.url(), anvil.url()], 1),
    ] {
        let mut chain = open(config(registry, &urls, quorum));
        assert_eq!(next(&mut chain).await, ChainEvent::ChangesMissed);
        anvil.call(OWNER, registry, &AgentRegistry::blockAgentCall { agent: ANN });
        let event = next(&mut chain).await;
        match quorum {
            1 => assert_eq!(event, ChainEvent::ChangesMissed, "all agents are read again"),
            _ => assert_eq!(event, changed(ANN)),
        }
        anvil.call(OWNER, registry, &AgentRegistry::unblockAgentCall { agent: ANN });
    }
}
