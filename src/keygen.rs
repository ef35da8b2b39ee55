//! `p2p-node keygen`: creates an Ethereum key in a file that only its owner may read. The secret is
//! written nowhere else.

use std::io::Write;

use anyhow::Context;
use zeroize::Zeroizing;

use crate::config::KeygenArgs;
use crate::io::keystore::{random_secret, write_private};
use p2p_node_wire::identity::{AgentKey, NodeKey, SecretBytes};

/// Creates the key file. Writes the address, the PeerId and the command that uses the file to
/// `out`.
///
/// # Errors
/// Returns a `KeyFileError` if the file exists or cannot be written. Fails if `out` cannot be
/// written.
pub fn run(args: &KeygenArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let (secret, agent) = new_key()?;
    let node = NodeKey::derive(&secret, &args.network, &args.instance, 0);

    let mut content = Zeroizing::new(String::with_capacity(256));
    content.push_str("# Ethereum key of the agent ");
    content.push_str(&agent.address().to_string());
    content.push_str("\n# Keep this file secret: the key gives full control of the agent.\nPRIVATE_KEY=0x");
    let mut digits = Zeroizing::new([0; 64]);
    hex::encode_to_slice(*secret, digits.as_mut()).context("64 digits")?;
    content.push_str(std::str::from_utf8(digits.as_ref()).context("digits")?);
    content.push('\n');
    write_private(&args.out, content.as_bytes())?;

    let path = args.out.display();
    writeln!(out, "address  {}", agent.address())?;
    writeln!(out, "peer id  {} on network {}", node.peer_id(), args.network)?;
    writeln!(
        out,
        "key      in {path}, readable only by you; keep it secret, it gives full control of the agent"
    )?;
    write!(out, "run      p2p-node -e {path}")?;
    if args.network != crate::config::DEFAULT_NETWORK {
        write!(out, " --network {}", args.network)?;
    }
    if !args.instance.is_empty() {
        write!(out, " --instance {}", args.instance)?;
    }
    writeln!(out)?;
    Ok(())
}

/// Returns a random key. About one in 2^128 random numbers is not a valid key and is rejected.
fn new_key() -> anyhow::Result<(SecretBytes, AgentKey)> {
    loop {
        let secret = random_secret()?;
        if let Ok(agent) = AgentKey::from_bytes(&secret) {
            return Ok((secret, agent));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use crate::config::{Config, RunArgs, Secret};
    use crate::io::keystore::KeyFileError;

    use super::*;

    fn args(out: &Path) -> KeygenArgs {
        KeygenArgs { out: out.to_owned(), network: "dev".to_owned(), instance: String::new() }
    }

    #[test]
    fn generated_key_file_yields_printed_address_and_peer_id() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(".env.alice");
        let mut shown = Vec::new();
        run(&args(&path), &mut shown).expect("made");
        let shown = String::from_utf8(shown).expect("text");

        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let run = RunArgs { env_file: Some(path), ..RunArgs::default() };
        let config = Config::resolve(&run, &|_| None::<OsString>, directory.path()).expect("a configuration");
        let key = config.private_key.as_ref().map(Secret::expose).expect("a key");
        let agent = AgentKey::from_hex(key).expect("a key");
        let node = NodeKey::derive(&agent.secret(), "dev", "", 0);
        assert!(shown.contains(&agent.address().to_string()), "{shown}");
        assert!(shown.contains(&node.peer_id().to_string()), "{shown}");
        assert!(!shown.contains(key.trim_start_matches("0x")), "the secret is shown");
    }

    #[test]
    fn existing_key_file_is_not_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        std::fs::write(&path, "mine").expect("written");
        let mut shown = Vec::new();
        let error = run(&args(&path), &mut shown).expect_err("refused");
        assert!(matches!(error.downcast_ref(), Some(KeyFileError::Exists(_))), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "mine");
        assert!(shown.is_empty());
    }
}
