//! `p2p-node whoami`

use p2p_node_sdk::Builder;
use serde_json::{Value, json};

use super::ShellError;
use super::output::Output;
use super::session::Session;
use crate::attach;
use crate::config::{NodeArgs, WhoamiArgs};
use crate::node::{Identity, StartError, now};
use crate::socket::SocketError;

pub(super) async fn run(args: WhoamiArgs, out: &mut Output) -> Result<(), ShellError> {
    let daemon = attach::find(args.node.socket.as_deref(), &args.node.flags)?;
    let is_running = daemon.is_some();
    let agent = match is_running {
        true => of_daemon(&args.node).await?,
        false => of_keys(&args.node)?,
    };
    let text = || {
        let field = |name: &str| agent[name].as_str().unwrap_or_default().to_owned();
        let lines =
            ["address", "peerId", "name", "network"].map(|name| format!("{name:<9} {}\n", field(name)));
        let addrs = agent["addrs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let listens: String = addrs.map(|addr| format!("{:<9} {addr}\n", "listens")).collect();
        let nowhere = || format!("{:<9} no daemon runs\n", "listens");
        lines.concat() + &if is_running { listens } else { nowhere() }
    };
    out.object(&agent, text)
}

/// Asks the daemon.
async fn of_daemon(args: &NodeArgs) -> Result<Value, ShellError> {
    let session = Session::open(args, Builder::default().inbox(false)).await?;
    let ready = session.node.ready();
    Ok(json!({
        "address": ready.address,
        "peerId": ready.peer_id,
        "name": ready.name,
        "network": ready.network,
        "addrs": ready.addrs,
        "isRunning": true,
    }))
}

/// Reads the keys.
fn of_keys(args: &NodeArgs) -> Result<Value, ShellError> {
    let config = attach::load(&args.flags)?;
    let identity = Identity::from_config(&config, now())?;
    if identity.is_made_up(&config) {
        return Err(StartError::Socket(SocketError::NoName).into());
    }
    Ok(json!({
        "address": identity.binding.binding.account.to_string(),
        "peerId": identity.node_key.peer_id().to_string(),
        "name": config.name,
        "network": config.network,
        "addrs": [],
        "isRunning": false,
    }))
}
