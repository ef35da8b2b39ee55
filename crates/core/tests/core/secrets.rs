//! Checks that `Debug` and `Display` output, which may reach a log or a panic message, shows no
//! secret.

use std::sync::Arc;

use p2p_node_core::crypto_task::{CryptoTask, OpenTask};
use p2p_node_protocol::Role;
use p2p_node_testing::secrets::{check, secret};
use p2p_node_wire::identity::{AgentKey, NodeKey, NodePublicKey, SecretBytes};
use p2p_node_wire::seal::hpke::Info;
use p2p_node_wire::seal::kem::{Keyring, Secret};
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::time::{Instant, Now};

use crate::mesh::{CONNECT, Mesh, START_MS};

#[test]
fn debug_output_of_types_with_secrets_shows_no_secret() {
    let now = Now { mono: Instant::ZERO, unix_ms: START_MS };
    let agent = AgentKey::from_bytes(&secret()).unwrap();
    check("secret bytes", &SecretBytes::from(secret()));
    check("an agent's key", &agent);
    check("an agent's secret", &agent.secret());
    check("a node key", &NodeKey::from_seed(secret()));
    check("a node key's seed", &NodeKey::from_seed(secret()).seed());
    check("KEM keys", &Keyring::new(secret(), Suite::default(), now));
    let info = Info {
        network: "dev".to_owned(),
        sender: NodePublicKey([0; 32]),
        recipient: agent.address(),
        kem_id: p2p_node_wire::seal::kem::KemId([0; 16]),
        suite: Suite::default(),
    };
    let secret_key = Arc::new(Secret::from(secret()));
    let (enc, ciphertext) = (bytes::Bytes::new(), bytes::Bytes::new());
    check(
        "a crypto task",
        &CryptoTask::Open(Box::new(OpenTask { token: 1, secret: secret_key, info, enc, ciphertext })),
    );
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Full, CONNECT, |config| {
        config.node_key = NodeKey::from_seed(secret());
        config.agent = Some(agent);
        config.kem_seed = secret().into();
        check("a core's configuration", config);
    });
    check("a core", &mesh.nodes[0].core);
}
