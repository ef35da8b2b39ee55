//! What is formatted for a log or a panic shows no secret.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use p2p_node::config::{Config, RunArgs};
use p2p_node::core::identity::{AgentKey, NodeKey, SecretBytes};
use p2p_node::core::input::Now;
use p2p_node::core::scope::AddressScope;
use p2p_node::core::seal::hpke::Info;
use p2p_node::core::seal::kem::{Keyring, Secret};
use p2p_node::core::seal::task::{OpenTask, Task};
use p2p_node::io::swarm::SwarmConfig;
use p2p_node_protocol::Role;

use crate::mesh::{CONNECT, Mesh, START_MS};

/// Unlike anything that may be shown.
fn secret() -> [u8; 32] {
    std::array::from_fn(|at| (at * 37 + 101) as u8)
}

/// Searches for four bytes in a row in every form in which `Debug` shows bytes.
fn check(what: &str, value: &dyn Debug) {
    for text in [format!("{value:?}"), format!("{value:#?}"), format!("{value:x?}"), format!("{value:X?}")] {
        let plain: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        for bytes in secret().windows(4) {
            let in_list = |form: fn(&u8) -> String| bytes.iter().map(form).collect::<Vec<_>>().join(",");
            for shown in [
                in_list(|byte| byte.to_string()),
                in_list(|byte| format!("{byte:x}")),
                in_list(|byte| format!("{byte:02X}")),
                bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                bytes.iter().map(|byte| format!("{byte:02X}")).collect(),
            ] {
                assert!(!plain.contains(&shown), "{what} shows {shown}: {text}");
            }
        }
    }
}

#[test]
fn the_search_finds_what_is_shown() {
    let shown: [&dyn Debug; 3] = [&secret(), &Some(secret().to_vec()), &hex(&secret())];
    for value in shown {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check("", value))).is_err());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn nothing_that_holds_a_secret_shows_it() {
    let now = Now { mono: Duration::ZERO, unix_ms: START_MS };
    let agent = AgentKey::from_bytes(&secret()).unwrap();
    check("secret bytes", &SecretBytes::from(secret()));
    check("an agent's key", &agent);
    check("its secret", &agent.secret());
    check("a node key", &NodeKey::from_seed(secret()));
    check("its seed", &NodeKey::from_seed(secret()).seed());
    check("KEM keys", &Keyring::new(secret(), now));
    let info = Info {
        network: "dev".to_owned(),
        sender: [0; 32],
        recipient: agent.address(),
        kem_id: Default::default(),
    };
    let secret_key = Arc::new(Secret::from(secret()));
    let (enc, ciphertext) = (bytes::Bytes::new(), bytes::Bytes::new());
    check(
        "work for the pool",
        &Task::Open(Box::new(OpenTask { token: 1, secret: secret_key, info, enc, ciphertext })),
    );
    check(
        "what a swarm is made of",
        &SwarmConfig {
            seed: secret().into(),
            network: "dev".to_owned(),
            scope: AddressScope::Loopback,
            role: Role::Full,
            listen: None,
            max_connections: 1,
            agent_version: String::new(),
        },
    );
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Full, CONNECT, |setup| {
        setup.node_key = NodeKey::from_seed(secret());
        setup.agent = Some(agent);
        setup.kem_seed = secret().into();
        check("what a core is made of", setup);
    });
    check("a core", &mesh.nodes[0].core);
}

#[test]
fn a_configuration_shows_no_key() {
    for variable in ["PRIVATE_KEY", "EPHEMERAL_KEY"] {
        let environment: HashMap<&str, OsString> = [(variable, hex(&secret()).into())].into();
        let read = |name: &str| environment.get(name).cloned();
        let config = Config::resolve(&RunArgs::default(), &read, Path::new("/nonexistent")).unwrap();
        check(variable, &config);
    }
}
