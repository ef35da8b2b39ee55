//! The registry by the SDKs.

use std::path::Path;
use std::process::Command;

use p2p_node_sdk::{Error, Node, RegisterOptions, RegistrationState};
use serde_json::json;
use tempfile::TempDir;

use crate::anvil::Anvil;
use crate::child::test_key;
use crate::nodes::agent;
use crate::npm::{install, is_installed, run};

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

/// Prints the states of a dry run, of a registration and of another one, and the error without servers.
const PYTHON_REGISTERS: &str = r#"
import asyncio, os, sys, p2p_node

async def main():
    options = p2p_node.Options(binary=sys.argv[1], private_key=sys.argv[2])
    shown = await p2p_node.register(options, name="ann", dry_run=True)
    assert shown.max_cost_wei > 0 and shown.transaction is None and shown.name == "ann", shown
    done = await p2p_node.register(options, name="ann")
    assert done.transaction.startswith("0x") and done.block > 0, done
    again = await p2p_node.register(options, name="ann")
    print(shown.state, done.state, again.state, again.address, again.chain_id)
    del os.environ["RPC_URL"]
    try:
        await p2p_node.register(options)
    except p2p_node.StartFailed as error:
        print(error.exit.code, "RPC_URL" in error.stderr_tail)

asyncio.run(main())
"#;

/// As in Python.
const TYPESCRIPT_REGISTERS: &str = r#"
import { register, StartFailed } from "./dist/index.js";
const options = { binary: process.argv[2], privateKey: process.argv[3], name: "ann" };
const shown = await register({ ...options, dryRun: true });
const done = await register(options);
const again = await register(options);
if (shown.transaction !== undefined || !done.transaction.startsWith("0x")) throw new Error(JSON.stringify([shown, done]));
console.log(shown.state, done.state, again.state, again.address, again.chainId);
delete process.env.RPC_URL;
try {
  await register(options);
} catch (error) {
  if (!(error instanceof StartFailed)) throw error;
  console.log(error.exit.code, error.stderrTail.includes("RPC_URL") ? "True" : "False");
}
"#;

/// Returns the environment of a registration by agent `number`, which gets money.
fn paying(anvil: &Anvil, number: u8) -> Vec<(&'static str, String)> {
    anvil.request("anvil_setBalance", json!([agent(number).to_string(), "0xde0b6b3a7640000"]));
    let registry = anvil.deploy("AgentRegistry").to_string();
    vec![("REGISTRY_ADDRESS", registry), ("RPC_URL", anvil.url()), ("REGISTRY_DEPTH", "0".to_owned())]
}

fn expected(number: u8) -> String {
    format!("shown registered already {} 31337\n78 True\n", agent(number))
}

#[test]
fn python_sdk_registers_an_agent() {
    let Some(anvil) = Anvil::start() else { return };
    let home = TempDir::new().unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", PYTHON_REGISTERS, env!("CARGO_BIN_EXE_p2p-node"), &test_key(1)]);
    command.env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/sdk/python/src"));
    command.envs(paying(&anvil, 1)).current_dir(home.path());
    assert_eq!(run(&mut command).unwrap(), expected(1));
}

#[test]
fn typescript_sdk_registers_an_agent() {
    let Some(anvil) = Anvil::start() else { return };
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/typescript");
    if !is_installed(&install(&sdk.join("dev")), "of the TypeScript SDK with a registry") {
        return;
    }
    let home = TempDir::new().unwrap();
    std::fs::write(home.path().join("package.json"), r#"{"type":"module"}"#).unwrap();
    std::fs::write(home.path().join("register.mjs"), TYPESCRIPT_REGISTERS).unwrap();
    let mut compiler = Command::new("node");
    compiler.args(["dev/node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json", "--outDir"]);
    run(compiler.arg(home.path().join("dist")).current_dir(sdk)).unwrap();
    let mut command = Command::new("node");
    command.args(["register.mjs", env!("CARGO_BIN_EXE_p2p-node"), &test_key(1)]);
    command.envs(paying(&anvil, 1)).current_dir(home.path());
    assert_eq!(run(&mut command).unwrap(), expected(1));
}

#[tokio::test]
async fn rust_sdk_registers_an_agent() {
    let Some(anvil) = Anvil::start() else { return };
    let home = TempDir::new().unwrap();
    let plain = Node::builder().binary(env!("CARGO_BIN_EXE_p2p-node")).cwd(home.path());
    let plain = plain.private_key(test_key(1)).name("ann");
    let builder = paying(&anvil, 1).into_iter().fold(plain.clone(), |it, (name, value)| it.env(name, value));
    let blocks = || anvil.request("eth_blockNumber", json!([]));
    let before = blocks();
    let dry = RegisterOptions { dry_run: true, ..RegisterOptions::default() };
    let shown = builder.clone().register(dry).await.unwrap();
    assert_eq!((shown.state, shown.transaction), (RegistrationState::Shown, None));
    assert_eq!(blocks(), before, "a dry run sends nothing");
    let done = builder.clone().register(RegisterOptions::default()).await.unwrap();
    assert_eq!((done.state, &*done.address), (RegistrationState::Registered, &*agent(1).to_string()));
    assert!(done.transaction.is_some() && done.block.is_some() && done.agent_id.is_none(), "{done:?}");
    assert_ne!(blocks(), before);
    let again = builder.register(RegisterOptions::default()).await.unwrap();
    assert_eq!((again.state, again.chain_id), (RegistrationState::Already, 31337));
    let Err(Error::StartFailed { exit, stderr_tail, .. }) = plain.register(RegisterOptions::default()).await
    else {
        panic!("there is no registry")
    };
    assert_eq!(exit.unwrap().code(), Some(78));
    assert!(stderr_tail.contains("RPC_URL"), "{stderr_tail}");
}
