//! Hosts, routers and networks that a test makes of network namespaces.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, test_key};

/// Numbers the labs of this process.
static LABS: AtomicU32 = AtomicU32::new(0);

/// The network of the nodes. Its address scope is private.
const NETWORK: &str = "lab";

/// A switch, and hosts that are connected to it. `Drop` removes all of them.
pub struct Lab {
    prefix: String,
    hosts: Vec<String>,
    ports: u32,
}

impl Lab {
    /// Creates a switch without hosts. Returns `None` if the system does not allow namespaces.
    pub fn new() -> Option<Lab> {
        let lacking = if !rustix::process::geteuid().is_root() {
            Some("root")
        } else {
            let tools = [("ip", "-V"), ("nft", "-v")];
            let runs = |(tool, flag): &(&str, &str)| {
                Command::new(tool)
                    .arg(flag)
                    .stdout(Stdio::null())
                    .status()
                    .is_ok_and(|status| status.success())
            };
            tools.iter().find(|tool| !runs(tool)).map(|(tool, _)| *tool)
        };
        if let Some(lacking) = lacking {
            let reason = format!(
                "this test makes network namespaces, for which it needs root, `ip` (iproute2) and `nft` \
                 (nftables): {lacking} is missing"
            );
            assert!(std::env::var_os("CI").is_none(), "{reason}");
            let _ = writeln!(std::io::stderr(), "\nSKIPPED: {reason}");
            return None;
        }
        let prefix = format!("p2p{}n{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let mut lab = Lab { prefix, hosts: Vec::new(), ports: 0 };
        lab.add("switch");
        lab.run("switch", "ip link add br0 type bridge && ip link set br0 up");
        Some(lab)
    }

    fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    fn add(&mut self, host: &str) {
        let name = self.name(host);
        let added = Command::new("ip").args(["netns", "add", &name]).status().unwrap();
        assert!(added.success(), "`ip netns add {name}` failed");
        self.hosts.push(name);
        self.run(host, "ip link set lo up");
    }

    /// Runs a script of the shell on a host.
    pub fn run(&self, host: &str, script: &str) {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.name(host), "sh", "-ec", script])
            .output()
            .unwrap();
        assert!(output.status.success(), "{host}: {script}: {output:?}");
    }

    /// Adds a host with an interface `eth0` on the switch.
    pub fn host(&mut self, host: &str, addr: &str) {
        self.add(host);
        self.ports += 1;
        let (port, peer) = (self.ports, self.name(host));
        self.run("switch", &format!("ip link add p{port} type veth peer name eth0 netns {peer}"));
        self.run("switch", &format!("ip link set p{port} master br0 up"));
        self.run(host, &format!("ip link set eth0 up && ip addr add {addr} dev eth0 {}", nodad(addr)));
        if !addr.contains(':') {
            self.run(host, "ip route add 224.0.0.0/4 dev eth0");
        }
    }

    /// Gives a host another address on its interface.
    pub fn add_address(&self, host: &str, addr: &str) {
        self.run(host, &format!("ip addr add {addr} dev eth0 {}", nodad(addr)));
    }

    /// Adds a router with this address on the switch, and a host behind its NAT. The router admits only
    /// packets that belong to what the host has sent.
    pub fn host_behind_nat(&mut self, host: &str, router: &str, router_addr: &str, lan: &str) {
        self.host(router, router_addr);
        self.add(host);
        self.run(router, &format!("ip link add lan0 type veth peer name eth0 netns {}", self.name(host)));
        self.run(router, &format!("ip link set lan0 up && ip addr add {lan}.1/24 dev lan0"));
        self.run(host, &format!("ip link set eth0 up && ip addr add {lan}.2/24 dev eth0"));
        self.run(host, &format!("ip route add default via {lan}.1"));
        self.run(
            router,
            "sysctl -qw net.ipv4.ip_forward=1
            nft -f - <<END
            table ip nat {
                chain after { type nat hook postrouting priority 100; oifname eth0 masquerade; }
            }
            table ip filter {
                set allowed { type ipv4_addr; flags interval; elements = { 0.0.0.0/0 }; }
                chain in { type filter hook input priority 0; iifname eth0 ct state new drop; }
                chain through {
                    type filter hook forward priority 0;
                    iifname eth0 ct state new drop;
                    oifname eth0 ip daddr != @allowed drop;
                }
            }
END",
        );
    }

    /// Lets packets through a router only to this address, or to all again.
    pub fn restrict(&self, router: &str, to: Option<&str>) {
        let to = to.unwrap_or("0.0.0.0/0");
        self.run(
            router,
            &format!("nft flush set ip filter allowed && nft add element ip filter allowed '{{ {to} }}'"),
        );
    }

    /// Starts a node on a host and waits until it is ready. Returns its `ready`.
    pub fn node(&self, host: &str, key: u8, args: &[&str]) -> (Child, Value) {
        let home = TempDir::new().unwrap();
        let mut node = Command::new("ip");
        node.args(["netns", "exec", &self.name(host), env!("CARGO_BIN_EXE_p2p-node")])
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("P2P_NODE_NETWORK", NETWORK)
            .env("P2P_NODE_LOCK_SCOPE", home.path())
            .env("P2P_NODE_RENDEZVOUS", "off")
            .env("PRIVATE_KEY", test_key(key))
            .envs(std::env::var("P2P_NODE_LOG_LEVEL").map(|level| ("P2P_NODE_LOG_LEVEL", level)))
            .current_dir(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Child::start(home, node);
        child.command(json!({"type":"connect","port":4001,"protocol":1,"id":"connect"}));
        let ready = child.expect("ready", |event| event["type"] == "ready");
        child.expect("the answer to connect", |event| event["id"] == "connect");
        (child, ready)
    }
}

/// Returns the flag with which an IPv6 address is usable at once.
fn nodad(addr: &str) -> &'static str {
    if addr.contains(':') { "nodad" } else { "" }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = Command::new("ip").args(["netns", "del", host]).status();
        }
    }
}
