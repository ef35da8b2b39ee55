//! Names of ENS, by a real EVM node and real nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alloy::hex;
use alloy::primitives::Address;
use alloy::sol;
use alloy::sol_types::SolCall;
use p2p_node::chain::{Chain, ChainConfig};
use p2p_node_core::chain::ens_name::{EnsName, reverse_hash};
use p2p_node_core::chain::{AgentQuery, ChainCommand, ChainEvent};
use serde_json::{Value, json};

use crate::anvil::{Anvil, OWNER, post};
use crate::child::{Child, test_key};
use crate::commands::run;
use crate::nodes::{agent, mail, message, start_with};
use crate::reads::{config, is_registered, next, open, read_entries};
use crate::servers::{Server, http, result};

const ANN: Address = Address::repeat_byte(0xa1);
const BOB: Address = Address::repeat_byte(0xb2);

sol! {
    function setResolver(bytes32 node, address other) external;
    function setAddr(bytes32 node, address owner) external;
    function setName(bytes32 node, string name) external;
    function setUrl(string url) external;
    function addr(bytes32 node) external;
}

fn name(text: &str) -> EnsName {
    text.parse().unwrap()
}

/// Gives a name an address.
fn set_address(anvil: &Anvil, ens: Address, text: &str, owner: Address) {
    anvil.call(OWNER, ens, &setAddrCall { node: name(text).hash(), owner });
}

/// Gives an address a name, as its owner may.
fn set_name(anvil: &Anvil, ens: Address, of: Address, name: &str) {
    anvil.call(OWNER, ens, &setNameCall { node: reverse_hash(&of), name: name.to_owned() });
}

/// Starts an EVM node with a registry that knows Ann, and with ENS, where `ann.eth` is Ann's.
fn with_ann() -> Option<(Anvil, Address, Address)> {
    let anvil = Anvil::start()?;
    let (registry, ens) = (anvil.deploy("AgentRegistry"), anvil.deploy("Ens"));
    anvil.register(registry, ANN, "ann");
    set_address(&anvil, ens, "ann.eth", ANN);
    Some((anvil, registry, ens))
}

fn open_with(registry: Address, ens: Address, urls: &[String], quorum: usize) -> Chain {
    open(ChainConfig { ens, ..config(registry, urls, quorum) })
}

async fn resolve(chain: &mut Chain, text: &str) -> Result<Option<Address>, String> {
    chain.execute(ChainCommand::ResolveName { token: 3, name: name(text) });
    loop {
        if let ChainEvent::NameResolved { token, outcome } = next(chain).await {
            assert_eq!(token, 3);
            return outcome;
        }
    }
}

/// Reads the entry of Ann, and returns her name.
async fn name_of_ann(chain: &mut Chain) -> Option<String> {
    chain.execute(ChainCommand::ReadEntry { token: 4, query: AgentQuery { agent: ANN, id: None } });
    loop {
        if let ChainEvent::EntryRead { token, agent, info, ens_name } = next(chain).await {
            assert_eq!((token, agent), (4, ANN));
            assert!(is_registered(&info));
            return ens_name.map(|name| name.to_string());
        }
    }
}

#[tokio::test]
async fn name_has_the_address_of_its_resolver_and_an_address_a_name_that_leads_back() {
    let Some((anvil, registry, ens)) = with_ann() else { return };
    set_address(&anvil, ens, "nobody.eth", Address::ZERO);
    let mut chain = open_with(registry, ens, &[anvil.url()], 1);
    assert_eq!(resolve(&mut chain, "ann.eth").await, Ok(Some(ANN)));
    assert_eq!(resolve(&mut chain, "nobody.eth").await, Ok(None));
    assert_eq!(resolve(&mut chain, "unknown.eth").await, Ok(None));

    assert_eq!(name_of_ann(&mut chain).await, None);
    set_name(&anvil, ens, ANN, "ann.eth");
    assert_eq!(name_of_ann(&mut chain).await.as_deref(), Some("ann.eth"));
    // Anybody may give his address the name of another agent, or one that the node does not accept.
    set_address(&anvil, ens, "bob.eth", BOB);
    for other in ["bob.eth", "unknown.eth", "Ann.eth", "ann", "\u{430}nn.eth", ""] {
        set_name(&anvil, ens, ANN, other);
        assert_eq!(name_of_ann(&mut chain).await, None, "{other:?}");
    }
    // A chain without ENS has no names, and an entry is read there all the same.
    let mut without = open_with(registry, BOB, &[anvil.url()], 1);
    assert_eq!(resolve(&mut without, "ann.eth").await, Ok(None));
    assert_eq!(name_of_ann(&mut without).await, None);
}

#[tokio::test]
async fn hostile_resolver_fails_no_server_and_is_not_followed_elsewhere() {
    let Some((anvil, registry, ens)) = with_ann() else { return };
    let elsewhere = Server::start(|_, request| Some(result(request, &json!("0x"))));
    let (offchain, endless) = (anvil.deploy("OffchainResolver"), anvil.deploy("EndlessResolver"));
    anvil.call(OWNER, offchain, &setUrlCall { url: elsewhere.url() });
    let mut chain = open_with(registry, ens, &[anvil.url()], 1);
    // The third has no code, and the last one no function of a resolver.
    for (text, other) in
        [("offchain.eth", offchain), ("endless.eth", endless), ("empty.eth", BOB), ("other.eth", registry)]
    {
        for node in [name(text).hash(), reverse_hash(&ANN)] {
            anvil.call(OWNER, ens, &setResolverCall { node, other });
        }
        let found = resolve(&mut chain, text).await;
        match other == endless {
            true => assert!(found.clone().unwrap_err().contains("gas"), "{found:?}"),
            false => assert_eq!(found, Ok(None), "{text}"),
        }
        assert_eq!(name_of_ann(&mut chain).await, None);
        assert_eq!(resolve(&mut chain, "ann.eth").await, Ok(Some(ANN)), "the server has not failed");
    }
    assert_eq!(elsewhere.requests(), 0);

    let port = anvil.port;
    let large = Server::start(move |method, request| {
        let question = request["params"][0]["input"].as_str().unwrap_or_default();
        match method == "eth_call" && question.starts_with(&hex::encode_prefixed(addrCall::SELECTOR)) {
            true => Some(result(request, &json!("0x".to_owned() + &"00".repeat(2 << 20)))),
            false => Some(http("200 OK", &post(port, request)?.to_string())),
        }
    });
    let mut chain = open_with(registry, ens, &[large.url()], 1);
    assert_eq!(resolve(&mut chain, "ann.eth").await, Ok(None));
    let found = read_entries(&mut chain, &[AgentQuery { agent: ANN, id: None }]).await.unwrap();
    assert!(is_registered(&found[0]), "the server has not failed");
}

#[tokio::test]
async fn one_liar_of_three_servers_gives_no_name_another_address() {
    let Some((anvil, registry, ens)) = with_ann() else { return };
    let liar = Server::proxy(anvil.port, |method, answer| {
        if method == "eth_call" {
            let eve = Address::repeat_byte(0xe3).into_word();
            answer["result"] = json!(eve);
        }
    });
    let mut chain = open_with(registry, ens, &[liar.url(), anvil.url(), anvil.url()], 2);
    assert_eq!(resolve(&mut chain, "ann.eth").await, Ok(Some(ANN)));
    let mut two = open_with(registry, ens, &[liar.url(), anvil.url()], 2);
    assert!(resolve(&mut two, "ann.eth").await.unwrap_err().contains("do not agree"));
}

/// A server that passes everything on to an EVM node, and counts the calls of contracts.
fn counting(anvil: &Anvil) -> (Server, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let (counter, port) = (Arc::clone(&calls), anvil.port);
    let server = Server::start(move |method, request| {
        counter.fetch_add(usize::from(method == "eth_call"), Ordering::Relaxed);
        Some(http("200 OK", &post(port, request)?.to_string()))
    });
    (server, calls)
}

/// Sends mail to a name, and returns the answer.
fn send(from: &mut Child, to: &str, data: &str) -> Value {
    from.command(json!({"type":"send","peerId":to,"data":data,"id":data}));
    from.answer(data)
}

fn env_of(key: u8, url: &str, ens: Address) -> Vec<(&'static str, String)> {
    vec![
        ("PRIVATE_KEY", test_key(key)),
        ("RPC_URL", url.to_owned()),
        ("ENS_ADDRESS", ens.to_string()),
        ("REGISTRY_DEPTH", "0".to_owned()),
    ]
}

#[test]
fn mail_to_a_name_arrives_and_the_next_one_asks_nobody() {
    let Some((anvil, registry, ens)) = with_ann() else { return };
    let bob_address = agent(2).to_string();
    set_address(&anvil, ens, "bob.eth", agent(2));
    set_name(&anvil, ens, agent(2), "bob.eth");
    anvil.register(registry, agent(2), "bob");
    let (server, calls) = counting(&anvil);
    let (bob, addr) = start_with(&[("PRIVATE_KEY", test_key(2))], &[]);
    let mut env = env_of(1, &server.url(), ens);
    env.extend([("REGISTRY_ADDRESS", registry.to_string()), ("REGISTRY_POLICY", "off".to_owned())]);
    let (mut ann, _) = start_with(&env, &[addr]);
    for (data, reads) in [("first", 2), ("second", 2)] {
        let answer = send(&mut ann, "Bob.eth", data);
        assert_eq!((&answer["delivery"], &answer["address"]), (&json!("accepted"), &json!(bob_address)));
        assert_eq!(message(&bob, data)["from"], agent(1).to_string());
        // The resolver of the name, and its address there.
        assert_eq!(calls.load(Ordering::Relaxed), reads);
    }
    ann.command(json!({"type":"discover","address":"bob.eth","id":"found"}));
    let found = ann.answer("found");
    assert_eq!((&found["count"], &found["address"]), (&json!(1), &json!(bob_address)));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_eq!(send(&mut ann, "nobody.eth", "lost")["code"], "NAME_NOT_FOUND");

    ann.command(json!({"type":"registry","address":"bob.eth","id":"entry"}));
    let entry = ann.answer("entry")["registry"].clone();
    assert_eq!((&entry["address"], &entry["ensName"]), (&json!(bob_address), &json!("bob.eth")), "{entry}");
    // The name leads to another agent now, so it is not Bob's any more.
    set_address(&anvil, ens, "bob.eth", agent(3));
    ann.command(json!({"type":"registry","address":bob_address,"id":"again"}));
    let entry = ann.answer("again")["registry"].clone();
    assert_eq!((&entry["name"], &entry["ensName"]), (&json!("bob"), &Value::Null), "{entry}");
}

#[test]
fn hanging_server_delays_no_mail_to_an_address() {
    let silent = Server::start(|_, _| None);
    let (bob, addr) = start_with(&[("PRIVATE_KEY", test_key(2))], &[]);
    let (mut ann, _) = start_with(&env_of(1, &silent.url(), BOB), &[addr]);
    ann.command(json!({"type":"send","peerId":"bob.eth","data":"named","id":"named"}));
    for number in 0..20 {
        let data = format!("mail {number}");
        assert_eq!(mail(&mut ann, agent(2), &data)["state"], "delivered");
        message(&bob, &data);
    }
    assert!(!ann.seen().iter().any(|event| event["id"] == "named"), "the name was answered before");
    let refused = ann.answer("named");
    assert_eq!((&refused["code"], &refused["retryable"]), (&json!("NAME_UNAVAILABLE"), &json!(true)));
}

#[test]
fn node_without_servers_says_what_a_name_needs() {
    let (mut ann, _) = start_with(&[("PRIVATE_KEY", test_key(1))], &[]);
    let refused = send(&mut ann, "bob.eth", "named");
    assert_eq!(refused["code"], "INVALID_ARGUMENT", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("RPC_URL"), "{refused}");
}

#[test]
fn command_line_shows_the_entry_of_a_name() {
    let Some((anvil, registry, ens)) = with_ann() else { return };
    set_name(&anvil, ens, ANN, "ann.eth");
    let (registry, ens, url) = (registry.to_string(), ens.to_string(), anvil.url());
    let env = [
        ("REGISTRY_ADDRESS", registry.as_str()),
        ("ENS_ADDRESS", ens.as_str()),
        ("RPC_URL", url.as_str()),
        ("REGISTRY_DEPTH", "0"),
    ];
    let (code, shown, stderr) = run(&["registry", "ann.eth"], &env);
    assert_eq!(code, 0, "{stderr}");
    assert!(shown.contains(&format!("address     {ANN}\nens name    ann.eth\n")), "{shown}");
    let (code, _, stderr) = run(&["registry", "nobody.eth"], &env);
    assert_eq!(code, 65);
    assert!(stderr.contains("nobody.eth has no address in ENS"), "{stderr}");
    let (code, _, stderr) = run(&["registry", "b\u{43e}b.eth"], &env);
    assert_eq!(code, 64);
    assert!(stderr.contains("look alike"), "{stderr}");
}
