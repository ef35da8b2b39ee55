//! Contract wallets: a node that has no key of its agent, and peers that ask the wallet on its chain.

use alloy::hex;
use alloy::primitives::{Address, B256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use alloy::sol_types::{SolCall, SolValue};
use bytes::Bytes;
use p2p_node::chain::{Chain, ChainConfig};
use p2p_node_core::chain::{ChainCommand, ChainEvent, WalletQuestion};
use p2p_node_wire::identity::BindingHash;
use serde_json::json;
use tempfile::TempDir;

use crate::anvil::{Anvil, OWNER, contracts};
use crate::child::test_key;
use crate::nodes::{agent, mail, message, start_with};
use crate::reads::{config, next, open};
use crate::servers::Server;

const CHAIN: u64 = 31337;
const DEPLOYS: [u8; 2] = [0x64, 0x92];

sol! {
    function setOwner(address next) external;
    function deploy(address owner) external returns (address);
    function addressOf(address owner) external view returns (address);
}

/// Signs a hash with a test key.
fn sign(key: u8, hash: &B256) -> Vec<u8> {
    let signer: PrivateKeySigner = test_key(key).parse().unwrap();
    signer.sign_hash_sync(hash).unwrap().as_bytes().to_vec()
}

/// Deploys a wallet of the agent with this key.
fn deploy_wallet(anvil: &Anvil, key: u8) -> Address {
    let code = [hex::decode(&contracts()["Wallet"].creation).unwrap(), agent(key).abi_encode()].concat();
    let receipt = anvil.send(OWNER, None, &hex::encode_prefixed(code));
    receipt["contractAddress"].as_str().unwrap().parse().unwrap()
}

fn without_registry(anvil_url: String) -> ChainConfig {
    ChainConfig { registry: None, refresh: None, ..config(Address::ZERO, &[anvil_url], 1) }
}

/// Asks a wallet whether it made the signature.
async fn ask(chain: &mut Chain, account: Address, signature: Bytes, chain_id: u64) -> Option<bool> {
    let (binding, hash) = (BindingHash([7; 32]), keccak256("hash"));
    let question = WalletQuestion { binding, chain_id, account, hash, signature };
    chain.execute(ChainCommand::AskWallet(Box::new(question)));
    match next(chain).await {
        ChainEvent::WalletAsked { binding: BindingHash([7, ..]), outcome } => outcome,
        other => panic!("unexpected {other:?}"),
    }
}

fn signature(key: u8) -> Bytes {
    sign(key, &keccak256("hash")).into()
}

#[test]
fn code_that_asks_a_wallet_is_that_of_its_source() {
    if !crate::anvil::installed() {
        return;
    }
    let embedded = include_str!("../../src/chain/wallet_check.hex").trim_ascii();
    assert_eq!(contracts()["WalletCheck"].creation, format!("0x{embedded}"));
}

#[tokio::test]
async fn wallet_confirms_what_its_owner_signed_on_its_chain_alone() {
    let Some(anvil) = Anvil::start() else { return };
    let wallet = deploy_wallet(&anvil, 1);
    let mut chain = open(without_registry(anvil.url()));
    assert_eq!(ask(&mut chain, wallet, signature(1), CHAIN).await, Some(true));
    assert_eq!(ask(&mut chain, wallet, signature(2), CHAIN).await, Some(false), "of another key");
    assert_eq!(ask(&mut chain, wallet, signature(1), 1).await, Some(false), "on another chain");
    assert_eq!(ask(&mut chain, Address::repeat_byte(9), signature(1), CHAIN).await, Some(false), "no wallet");
    let registry = anvil.deploy("AgentRegistry");
    assert_eq!(ask(&mut chain, registry, signature(1), CHAIN).await, Some(false), "another contract");
    anvil.call(agent(1), wallet, &setOwnerCall { next: agent(2) });
    assert_eq!(ask(&mut chain, wallet, signature(1), CHAIN).await, Some(false), "of the owner before");
}

#[tokio::test]
async fn wallet_is_asked_before_it_is_deployed_if_its_signature_says_how() {
    let Some(anvil) = Anvil::start() else { return };
    let factory = anvil.deploy("WalletFactory");
    let call = hex::encode_prefixed(addressOfCall { owner: agent(1) }.abi_encode());
    let found = anvil.request("eth_call", json!([{"to": factory, "data": call}, "latest"]));
    let wallet = Address::from_slice(&hex::decode(found.as_str().unwrap()).unwrap()[12..]);
    let wrapped = |key: u8, owner: u8| -> Bytes {
        let deploy = alloy::primitives::Bytes::from(deployCall { owner: agent(owner) }.abi_encode());
        [
            (factory, deploy, alloy::primitives::Bytes::from(signature(key))).abi_encode_params(),
            DEPLOYS.repeat(16),
        ]
        .concat()
        .into()
    };
    let mut chain = open(without_registry(anvil.url()));
    let asked = async |chain: &mut Chain, signature| ask(chain, wallet, signature, CHAIN).await;
    assert_eq!(asked(&mut chain, wrapped(1, 1)).await, Some(true));
    assert_eq!(asked(&mut chain, wrapped(2, 1)).await, Some(false), "of another key");
    assert_eq!(asked(&mut chain, wrapped(2, 2)).await, Some(false), "deploys another wallet");
    assert_eq!(asked(&mut chain, signature(1)).await, Some(false), "there is no wallet yet");
    assert_eq!(asked(&mut chain, DEPLOYS.repeat(16).into()).await, Some(false), "nothing to decode");
    anvil.call(OWNER, factory, &deployCall { owner: agent(1) });
    assert_eq!(asked(&mut chain, wrapped(1, 1)).await, Some(true), "deployed meanwhile");
    assert_eq!(asked(&mut chain, signature(1)).await, Some(true));
}

#[tokio::test]
async fn wallet_that_runs_for_ever_has_no_answer_and_harms_no_server() {
    let Some(anvil) = Anvil::start() else { return };
    let endless = Address::repeat_byte(0xee);
    // JUMPDEST PUSH0 JUMP
    anvil.request("anvil_setCode", json!([endless, "0x5b5f56"]));
    let wallet = deploy_wallet(&anvil, 1);
    let mut chain = open(without_registry(anvil.url()));
    let outcome = ask(&mut chain, endless, signature(1), CHAIN).await;
    assert!(outcome != Some(true), "{outcome:?}");
    assert_eq!(ask(&mut chain, wallet, signature(1), CHAIN).await, Some(true), "the server is not paused");
}

/// Makes the binding of a node to a wallet by the subcommand `bind`. Returns its directory, with the node key
/// in `data`, and its file.
fn bound(anvil: &Anvil, wallet: Address) -> (TempDir, String) {
    let home = TempDir::new().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let bind = |args: &[&str], url: Option<&str>| {
        let env: Vec<_> = url.map(|url| ("RPC_URL", url)).into_iter().collect();
        crate::commands::run(&[&["bind"], args].concat(), &env)
    };
    // The first step prints what the owner of the wallet signs.
    let account = wallet.to_string();
    let first = ["--data-dir", &path("data"), "--account", &account, "--chain-id", "31337"];
    let (code, typed, hints) = bind(&first, None);
    assert_eq!(code, 0, "{hints}");
    let binding = p2p_node_wire::identity::typed_data::read_typed_data(typed.as_bytes()).unwrap();
    std::fs::write(path("typed"), &typed).unwrap();
    let signed_by = |key: u8| hex::encode_prefixed(sign(key, &binding.signing_hash()));
    let out = path("binding.json");
    let second = |key: u8, url: Option<&str>| {
        let (typed, signature) = (path("typed"), signed_by(key));
        bind(&["--typed-data", &typed, "--signature", &signature, "--out", &out], url)
    };
    let (code, _, hints) = second(2, Some(&anvil.url()));
    assert!(code == 78 && hints.contains("nor a contract wallet"), "{code} {hints}");
    let (code, _, hints) = second(1, None);
    assert!(code == 0 && hints.contains("set RPC_URL to have it checked"), "{code} {hints}");
    let (code, _, hints) = second(1, Some(&anvil.url()));
    assert!(code == 0 && !hints.contains("RPC_URL"), "{code} {hints}");
    (home, out)
}

#[test]
fn node_of_a_wallet_mails_peers_that_can_ask_its_chain_and_others_refuse_without_blame() {
    let Some(anvil) = Anvil::start() else { return };
    let wallet = deploy_wallet(&anvil, 1);
    let (home, out) = bound(&anvil, wallet);
    let node_key = home.path().join("data/node.key").to_str().unwrap().to_owned();
    let server = Server::proxy(anvil.port, |_, _| {});
    let reader = |key: u8, url: Option<String>| {
        let mut env = vec![("PRIVATE_KEY", test_key(key)), ("REGISTRY_DEPTH", "0".to_owned())];
        env.extend(url.map(|url| ("RPC_URL", url)));
        env
    };
    let (mut ann, entry) = start_with(&reader(3, Some(server.url())), &[]);
    let bootstrap = [entry];
    let node = [
        ("P2P_NODE_BINDING", out.clone()),
        ("P2P_NODE_NODE_KEY", node_key),
        ("REGISTRY_DEPTH", "0".to_owned()),
        ("RPC_URL", anvil.url()),
    ];
    let (mut bot, _) = start_with(&node, &bootstrap);
    assert_eq!(mail(&mut bot, agent(3), "from a wallet")["state"], "delivered");
    assert_eq!(message(&ann, "from a wallet")["from"], *wallet.to_string());
    assert_eq!(mail(&mut ann, wallet, "to a wallet")["state"], "delivered");
    // Agents with plain keys never wait for the chain, and further mail of the wallet does not either.
    let (mut bob, plain_entry) = start_with(&reader(4, None), &bootstrap);
    drop(server);
    assert_eq!(mail(&mut bob, agent(3), "from a key")["state"], "delivered");
    assert_eq!(mail(&mut bot, agent(3), "while no server answers")["state"], "delivered");
    // Bob cannot ask the chain.
    bot.command(json!({"type":"connect","port":0,"bootstrapPeers":[plain_entry],"protocol":1,"id":"again"}));
    bot.command(
        json!({"type":"send","peerId":agent(4).to_string(),"data":"to bob","ttlMs":5000,"id":"to bob"}),
    );
    let id = bot.answer("to bob")["messageId"].as_str().unwrap().to_owned();
    let delivery = bot.expect("a delivery", |event| event["type"] == "delivery" && event["messageId"] == *id);
    assert_ne!(delivery["state"], "delivered", "{delivery}");
    bob.command(json!({"type":"status","id":"status"}));
    let counters = bob.answer("status")["status"]["counters"].clone();
    assert!(counters["bindings_unconfirmed"].as_u64() > Some(0), "{counters}");
    assert!(counters["peers_banned"].is_null() && counters["wallets_asked"].is_null(), "{counters}");
}
