//! A real EVM node with the contracts of `fixtures/registry`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Instant;

use alloy::hex;
use alloy::primitives::{Address, address};
use alloy::sol_types::SolCall;
use p2p_node::chain::contracts::{AgentRegistry, MULTICALL3};
use serde_json::{Value, json};

use crate::child::TIMEOUT;
use crate::npm;

/// First development account of anvil, which has money and deploys the registry. For tests only.
pub const OWNER: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/registry")
}

/// Returns `true` if the EVM node can run. Otherwise prints why, and fails in CI.
pub fn installed() -> bool {
    static INSTALLED: LazyLock<Result<(), String>> = LazyLock::new(|| npm::install(&directory()));
    npm::is_installed(&INSTALLED, "with an EVM node")
}

/// Bytecode of a contract.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Code {
    pub creation: String,
    pub deployed: String,
}

/// Returns the compiled contracts by name.
pub fn contracts() -> &'static BTreeMap<String, Code> {
    static CONTRACTS: LazyLock<BTreeMap<String, Code>> = LazyLock::new(|| {
        let output = npm::run(Command::new("node").arg("compile.mjs").current_dir(directory())).unwrap();
        serde_json::from_str(&output).unwrap()
    });
    &CONTRACTS
}

/// Returns the program that the npm package installed for this system.
fn program() -> PathBuf {
    let packages = std::fs::read_dir(directory().join("node_modules/@foundry-rs")).unwrap();
    let programs = packages.map(|entry| entry.unwrap().path().join("bin/anvil"));
    programs.into_iter().find(|path| path.is_file()).expect("an EVM node for this system")
}

/// An EVM node; killed and reaped when dropped.
pub struct Anvil {
    process: Child,
    pub port: u16,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Anvil {
    /// Starts a node with a chain of its own, if it can run here.
    pub fn start() -> Option<Anvil> {
        installed().then(|| Anvil::on_port(0, &[]))
    }

    /// Starts a node on a port, 0 for any.
    pub fn on_port(port: u16, args: &[&str]) -> Anvil {
        let mut command = Command::new(program());
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let listening = lines.find_map(|line| Some(line.unwrap().strip_prefix("Listening on ")?.to_owned()));
        let port = listening.expect("an address").rsplit(':').next().unwrap().parse().unwrap();
        // Its log goes on, and a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Anvil { process, port }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sends a request and returns its result.
    pub fn request(&self, method: &str, params: Value) -> Value {
        let answer = post(self.port, &json!({"jsonrpc":"2.0","id":1,"method":method,"params":params}));
        let answer = answer.unwrap_or_else(|| panic!("{method}: no answer"));
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Sends a transaction from any address, and returns its receipt.
    pub fn send(&self, from: Address, to: Option<Address>, data: &str) -> Value {
        self.request("anvil_setBalance", json!([from, "0x56bc75e2d63100000"]));
        self.request("anvil_impersonateAccount", json!([from]));
        let mut transaction = json!({"from": from, "data": data});
        if let Some(to) = to {
            transaction["to"] = json!(to);
        }
        let hash = self.request("eth_sendTransaction", json!([transaction]));
        // The node mines at once, in a task of its own.
        let deadline = Instant::now() + TIMEOUT;
        let receipt = loop {
            let receipt = self.request("eth_getTransactionReceipt", json!([hash]));
            if !receipt.is_null() {
                break receipt;
            }
            assert!(Instant::now() < deadline, "no receipt of {hash}");
            std::thread::yield_now();
        };
        assert_eq!(receipt["status"], "0x1", "{receipt}");
        receipt
    }

    /// Calls a function of a contract by a transaction.
    pub fn call(&self, from: Address, to: Address, function: &impl SolCall) {
        self.send(from, Some(to), &hex::encode_prefixed(function.abi_encode()));
    }

    /// Deploys a contract without arguments. Returns its address.
    pub fn deploy(&self, name: &str) -> Address {
        let receipt = self.send(OWNER, None, &contracts()[name].creation);
        receipt["contractAddress"].as_str().unwrap().parse().unwrap()
    }

    /// Puts the test's Multicall3 where the real one is on public chains.
    pub fn add_multicall(&self) {
        self.request("anvil_setCode", json!([MULTICALL3, contracts()["Multicall"].deployed]));
    }

    pub fn register(&self, registry: Address, agent: Address, name: &str) {
        let call = AgentRegistry::registerAgentCall {
            name: name.to_owned(),
            metadata: format!("metadata of {name}"),
        };
        self.call(agent, registry, &call);
    }

    /// Kills the node. Returns the state of its chain.
    pub fn kill(mut self) -> Stopped {
        let state = self.request("anvil_dumpState", json!([]));
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        Stopped { port: self.port, state }
    }
}

/// The chain of a node that was killed.
pub struct Stopped {
    port: u16,
    state: Value,
}

impl Stopped {
    /// Starts a node with the same chain on the same port.
    pub fn restart(self) -> Anvil {
        let anvil = Anvil::on_port(self.port, &[]);
        anvil.request("anvil_loadState", json!([self.state]));
        anvil
    }
}

/// Posts JSON to a port of this machine, and returns the JSON of the answer, if there is one.
pub fn post(port: u16, body: &Value) -> Option<Value> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}
