use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use clap::{CommandFactory, Parser};
use p2p_node_core::gate::access_list::AccessRule;
use p2p_node_core::gate::address_scope::AddressScope;
use p2p_node_protocol::Role;
use tracing::level_filters::LevelFilter;

use super::*;

const PEER: &str = "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

/// A working directory with files in it, an environment, and a command line.
struct Case {
    directory: tempfile::TempDir,
    environment: Vec<(&'static str, &'static str)>,
    line: Vec<&'static str>,
}

fn case(line: &[&'static str]) -> Case {
    Case {
        directory: tempfile::tempdir().expect("a directory"),
        environment: Vec::new(),
        line: line.to_vec(),
    }
}

impl Case {
    fn file(self, name: &str, text: &str) -> Self {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).expect("closed to others");
        self
    }

    fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    fn resolve(&self) -> Result<Config, ConfigError> {
        let cli =
            Cli::try_parse_from([&["p2p-node"], self.line.as_slice()].concat()).expect("a command line");
        let environment = |name: &str| {
            self.environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        Config::resolve(&cli.run, &environment, self.directory.path())
    }

    fn config(&self) -> Config {
        self.resolve().expect("a configuration")
    }

    fn error(&self) -> ConfigError {
        self.resolve().expect_err("an error")
    }
}

#[test]
fn empty_configuration_limits_node_to_loopback() {
    let config = case(&[]).config();
    assert_eq!((config.network.as_str(), config.address_scope), ("dev", AddressScope::Loopback));
    assert_eq!(
        (config.port, config.role, config.connect, config.on_eof),
        (0, Role::Full, false, OnEof::Exit)
    );
    assert_eq!(config.drain_timeout, Duration::from_secs(5));
    assert_eq!(config.log_level, LevelFilter::WARN);
    assert!(config.private_key.is_none() && config.data_dir.is_none() && config.bootstrap.is_empty());
}

#[test]
fn flag_then_named_file_then_environment_then_dot_env_then_default() {
    let all = |line| case(line).file("named", "P2P_NODE_NAME=named").file(".env", "P2P_NODE_NAME=dot");
    let name = |case: Case| case.config().name;
    assert_eq!(name(all(&["-n", "flag", "-e", "named"]).env("P2P_NODE_NAME", "environment")), "flag");
    assert_eq!(name(all(&["-e", "named"]).env("P2P_NODE_NAME", "environment")), "named");
    assert_eq!(name(all(&[]).env("P2P_NODE_NAME", "environment")), "environment");
    assert_eq!(name(all(&[])), "dot");
    assert_eq!(name(case(&[])), "");
}

#[test]
fn binding_and_node_key_files_are_named_by_flag_or_variable() {
    let config = case(&["--binding", "a", "--node-key", "b"]).env("P2P_NODE_BINDING", "c").config();
    assert_eq!((config.binding_file, config.node_key_file), (Some("a".into()), Some("b".into())));
    let config = case(&["-e", "named"]).file("named", "P2P_NODE_BINDING=a\nP2P_NODE_NODE_KEY=b").config();
    assert_eq!((config.binding_file, config.node_key_file), (Some("a".into()), Some("b".into())));
    let config = case(&[]).config();
    assert!(config.binding_file.is_none() && config.node_key_file.is_none());
}

#[test]
fn times_of_connections_have_defaults_and_limits() {
    let config = case(&[]).config();
    assert_eq!((config.connection_timeout, config.join_stagger), (Duration::from_secs(10), Duration::ZERO));
    let config = case(&["--connection-timeout", "30", "--join-stagger", "100"]).config();
    assert_eq!(
        (config.connection_timeout, config.connections().join_stagger),
        (Duration::from_secs(30), Duration::from_millis(100))
    );
    for line in
        [["--connection-timeout", "0.5"], ["--connection-timeout", "301"], ["--join-stagger", "60001"]]
    {
        case(&line).error();
    }
}

#[test]
fn time_for_which_nodes_stay_in_a_report_has_a_default_and_limits() {
    assert_eq!(case(&[]).config().forget_nodes_after, Duration::from_secs(3600));
    let config = case(&["--forget-nodes-after", "10s"]).config();
    assert_eq!(config.forget_nodes_after, Duration::from_secs(10));
    for time in ["9.9", "3601"] {
        case(&["--forget-nodes-after", time]).error();
    }
}

#[test]
fn empty_variable_counts_as_unset() {
    let config = case(&["-e", "named"])
        .file("named", "P2P_NODE_NETWORK=\nP2P_NODE_PORT=")
        .env("P2P_NODE_PORT", "7")
        .config();
    assert_eq!((config.network.as_str(), config.port), ("dev", 7));
}

#[test]
fn variables_of_first_sidecar_keep_their_meaning() {
    let registry = "0x00000000000000000000000000000000000000a1";
    let file = &format!("PRIVATE_KEY=0xabc\nREGISTRY_ADDRESS={registry}\nRPC_URL=http://127.0.0.1:8545");
    let config = case(&["-e", ".env.agent1", "-p", "8000"]).file(".env.agent1", file).config();
    assert_eq!(config.private_key.as_ref().map(Secret::expose), Some("0xabc"));
    assert_eq!(config.port, 8000);
    let chain = config.chain().expect("a chain").expect("a registry");
    assert_eq!((chain.registry.map(|found| found.address), chain.rpc_urls.len()), (registry.parse().ok(), 1));
}

#[test]
fn private_key_is_never_printed_and_has_no_flag() {
    let config = case(&[]).env("PRIVATE_KEY", "hunter2").config();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(Cli::try_parse_from(["p2p-node", "--private-key", "hunter2"]).is_err());
}

#[test]
fn missing_named_env_file_fails_and_missing_dot_env_does_not() {
    let error = case(&["-e", "nowhere"]).error();
    assert_eq!(error.exit_code(), ExitCode::Config);
    assert_eq!(error.to_string(), "env file nowhere does not exist");
    case(&[]).config();
}

#[test]
fn bad_line_in_named_env_file_is_reported_by_number() {
    let error = case(&["-e", "named"]).file("named", "A=1\nhunter2 oh no\n").error();
    assert_eq!(error.exit_code(), ExitCode::Config);
    assert_eq!(error.to_string(), "env file named line 2 is not of the form NAME=value");
    for line in ["PRIVATE_KEY hunter2", "export P2P_NODE_NAME='unclosed"] {
        let error = case(&[]).file(".env", &format!("A=1\n{line}\n")).error();
        assert_eq!(error.to_string(), "env file .env line 2 is not of the form NAME=value", "{line}");
    }
}

#[test]
fn dot_env_of_another_program_is_ignored() {
    let text = "oh no\nNETWORK=mainnet\nROLE=assistant\nP2P_PORT=tcp://10.43.0.17:8000\nLISTEN=:8080\nACK=1\nP2P_NODE_NAME=ours\nLOG_LEVEL=WARNING\nX='";
    let config = case(&[]).file(".env", text).config();
    assert_eq!((config.network.as_str(), config.port, config.name.as_str()), ("dev", 0, "ours"));

    let directory = case(&[]);
    std::fs::create_dir(directory.directory.path().join(".env")).expect("a directory");
    assert_eq!(directory.config().name, "");
    let pipe = case(&[]);
    let path = pipe.directory.path().join(".env");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).expect("a pipe");
    assert_eq!(pipe.config().name, "", "opening it would wait for a writer");
}

#[test]
fn port_variable_of_kubernetes_service_is_ignored() {
    for link in ["tcp://10.43.0.17:8000", "udp://10.43.0.17:8000", "sctp://[fd00::17]:8000"] {
        assert_eq!(case(&[]).env("P2P_NODE_PORT", link).config().port, 0, "{link}");
        let beside = case(&[]).env("P2P_NODE_PORT", link).file(".env", "P2P_NODE_PORT=4001");
        assert_eq!(beside.config().port, 4001, "{link}");
        assert_eq!(case(&["--port", link]).error().exit_code(), ExitCode::Usage, "{link}");
    }
    assert_eq!(case(&[]).env("P2P_NODE_PORT", "4002").config().port, 4002);
    let error = case(&[]).env("P2P_NODE_PORT", "http://10.43.0.17").error();
    assert!(error.to_string().contains("P2P_NODE_PORT"), "{error}");
}

#[test]
fn key_in_env_file_requires_private_file_and_reports_its_path() {
    for (line, name) in [(&["-e", "named"][..], "named"), (&[], ".env")] {
        let case = case(line).file(name, "PRIVATE_KEY=hunter2");
        assert_eq!(case.config().private_key_file, Some(name.into()));
        let path = case.directory.path().join(name);
        std::fs::set_permissions(path, Permissions::from_mode(0o640)).expect("open to others");
        let error = case.error();
        assert_eq!(error.exit_code(), ExitCode::NoPermission);
        let told = error.to_string();
        assert!(
            told.contains("PRIVATE_KEY") && told.contains("chmod 600") && told.contains("0640"),
            "{told}"
        );
        assert!(!format!("{told}{error:?}").contains("hunter2"));
        // The environment outranks .env, and a key there is not read from the file.
        if name == ".env" {
            assert_eq!(case.env("PRIVATE_KEY", "other").config().private_key_file, None);
        }
    }
}

#[test]
fn bootstrap_peers_are_accepted_as_list_or_repeated_flag() {
    let other = PEER.replace("4001", "4002");
    let twice = case(&["--bootstrap", PEER, "--bootstrap", PEER]).config();
    assert_eq!(twice.bootstrap.len(), 2);
    let listed = case(&[]).file(".env", &format!("P2P_NODE_BOOTSTRAP=\"{PEER}, {other}\"")).config();
    assert_eq!(listed.bootstrap.iter().map(ToString::to_string).collect::<Vec<_>>(), [PEER, other.as_str()]);
}

#[test]
fn networks_are_listed_by_flag_or_variable_up_to_their_limit() {
    let line = ["--block-ip", "192.0.2.1, 198.51.100.0/24", "--block-ip", "2001:db8::/32"];
    let config = case(&line).env("P2P_NODE_ALLOW_IP", "192.0.2.0/24").config();
    let listed: Vec<String> = config.block_ips.iter().map(ToString::to_string).collect();
    assert_eq!(listed, ["192.0.2.1/32", "198.51.100.0/24", "2001:db8::/32"]);
    let of = |ip: [u8; 4]| config.address_rules().of_ip(ip.into());
    assert_eq!(of([192, 0, 2, 1]), Some(AccessRule::Blocked));
    assert_eq!(of([192, 0, 2, 2]), Some(AccessRule::Allowed));
    let many: Vec<String> =
        (0..4097).map(|number| format!("10.0.{}.{}", number / 256, number % 256)).collect();
    let file = |count: usize| format!("P2P_NODE_BLOCK_IP={}", many[..count].join(","));
    assert_eq!(case(&[]).file(".env", &file(4096)).config().block_ips.len(), 4096);
    let error = case(&[]).file(".env", &file(4097)).error().to_string();
    assert!(error.ends_with("at most 4096 networks are possible"), "{error}");
}

#[test]
fn bad_value_is_reported_with_its_source() {
    for (line, told) in [
        (
            ["--bootstrap", "/ip4/127.0.0.1/tcp/4001"],
            "--bootstrap: /ip4/127.0.0.1/tcp/4001 does not end in /p2p/",
        ),
        (["--bootstrap", "localhost:4001"], "--bootstrap: localhost:4001 is not a multiaddr"),
        (["--port", "70000"], "--port: number too large"),
        (["--network", "Dev"], "--network: the value must be 1 to 32"),
        (["--role", "king"], "--role: the value must be full, light or bootstrap"),
        (["--address-scope", "wide"], "--address-scope: the value must be loopback, private or public"),
        (["--on-eof", "wait"], "--on-eof: the value must be exit or stay"),
        (["--drain-timeout", "3601"], "--drain-timeout: the value must be 0 to 3600 seconds"),
        (["--drain-timeout", "NaN"], "--drain-timeout: the value must be 0 to 3600 seconds"),
        (["--log-level", "loud"], "--log-level: the value must be off"),
        (["--generation", "soon"], "--generation: invalid digit"),
        (["--connect=maybe", "-nx"], "--connect: the value must be true or false"),
        (["--capability", "a,,b"], "--capability: a capability must not be empty"),
        (["--block-ip", "192.0.2.0/33"], "--block-ip: 192.0.2.0/33 is neither an IP address nor a network"),
        (["--allow-ip", "::ffff:192.0.2.0/120"], "--allow-ip: ::ffff:192.0.2.0/120 is an IPv4 network"),
    ] {
        let error = case(&line).error();
        assert!(error.to_string().starts_with(told), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Usage, "{error}");
    }
    let error = case(&[]).env("P2P_NODE_PORT", "many").error();
    assert!(error.to_string().starts_with("environment variable P2P_NODE_PORT: "), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Config);
}

#[test]
fn names_at_limit_are_accepted_and_longer_ones_rejected() {
    for (check, limit) in [
        (network_name as fn(&str) -> Result<String, String>, MAX_NETWORK_BYTES),
        (short_text as fn(&str) -> Result<String, String>, MAX_NAME_BYTES),
    ] {
        assert!(check(&"a".repeat(limit)).is_ok());
        assert!(check(&"a".repeat(limit + 1)).is_err());
    }
    assert!(network_name("").is_err());
    assert!(short_text("a\nb").is_err());
}

#[test]
fn connect_flag_overrides_variable() {
    assert!(case(&["--connect"]).config().connect);
    assert!(case(&[]).env("P2P_NODE_CONNECT", "1").config().connect);
    assert!(!case(&["--connect=false"]).env("P2P_NODE_CONNECT", "1").config().connect);
}

#[test]
fn command_line_is_valid_and_help_names_every_variable() {
    Cli::command().debug_assert();
    let help = Cli::command().render_long_help().to_string();
    for variable in [
        "P2P_NODE_PORT",
        "P2P_NODE_NETWORK",
        "P2P_NODE_BOOTSTRAP",
        "PRIVATE_KEY",
        "P2P_NODE_GENERATION",
        "P2P_NODE_ON_EOF",
    ] {
        assert!(help.contains(variable), "{variable} is not in\n{help}");
    }
}
