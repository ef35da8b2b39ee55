//! Checks that `Debug` and `Display` output, which may reach a log or a panic message, shows no
//! secret.

use std::sync::Arc;

use p2p_node_core::crypto_task::{CryptoTask, OpenTask};
use p2p_node_protocol::Role;
use p2p_node_testing::secrets::{check, secret};
use p2p_node_wire::identity::{AgentKey, NodeKey, SecretBytes};
use p2p_node_wire::seal::hpke::Info;
use p2p_node_wire::seal::kem::{Keyring, Secret};
use p2p_node_wire::time::{Instant, Now};

use crate::mesh::{CONNECT, Mesh, START_MS};

#[test]
fn nothing_that_holds_a_secret_shows_it() {
    let now = Now { mono: Instant::ZERO, unix_ms: START_MS };
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
        kem_id: p2p_node_wire::seal::kem::KemId([0; 16]),
    };
    let secret_key = Arc::new(Secret::from(secret()));
    let (enc, ciphertext) = (bytes::Bytes::new(), bytes::Bytes::new());
    check(
        "work for the pool",
        &CryptoTask::Open(Box::new(OpenTask { token: 1, secret: secret_key, info, enc, ciphertext })),
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
