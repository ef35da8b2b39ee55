//! The registry by the SDKs.

use std::process::Command;

use p2p_node_sdk::Node;
use tempfile::TempDir;

use crate::anvil::Anvil;
use crate::nodes::agent;
use crate::npm::run;

const PYTHON: &str = r#"
import asyncio, sys, p2p_node

async def main():
    async with p2p_node.open(binary=sys.argv[1]) as node:
        entry = await node.registry(sys.argv[2])
        print(entry.name, entry.is_registered, entry.is_blocked, entry.reputation)

asyncio.run(main())
"#;

#[tokio::test]
async fn sdks_read_the_entry_of_an_agent() {
    let Some(anvil) = Anvil::start() else { return };
    let registry = anvil.deploy("AgentRegistry");
    anvil.register(registry, agent(1), "ann");
    let home = TempDir::new().unwrap();
    let environment = [
        ("REGISTRY_ADDRESS", registry.to_string()),
        ("RPC_URL", anvil.url()),
        ("REGISTRY_DEPTH", "0".to_owned()),
        ("P2P_NODE_RENDEZVOUS", "off".to_owned()),
        ("P2P_NODE_MDNS", "false".to_owned()),
        ("P2P_NODE_LOCK_SCOPE", home.path().display().to_string()),
    ];
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/sdk/python/src");
    let mut command = Command::new("python3");
    command.args(["-c", PYTHON, env!("CARGO_BIN_EXE_p2p-node"), &agent(1).to_string()]);
    command.envs(environment.clone()).env("PYTHONPATH", python).current_dir(home.path());
    assert_eq!(run(&mut command).unwrap(), "ann True False 50\n");

    let mut builder = Node::builder().binary(env!("CARGO_BIN_EXE_p2p-node"));
    for (name, value) in environment {
        builder = builder.env(name, value);
    }
    let (node, _events) = builder.open().await.unwrap();
    let entry = node.registry(&agent(1).to_string()).await.unwrap();
    assert_eq!((entry.name.as_deref(), entry.is_registered), (Some("ann"), true));
    node.close().await;
}
