//! Entry point: parses the command line and runs the node or a subcommand.

use std::fmt::Display;
use std::io::{Write, stderr, stdout};

use clap::{CommandFactory, Parser};
use p2p_node::config::{
    AttachArgs, BindArgs, Cli, Config, ExplorerArgs, KeygenArgs, RegisterArgs, RegistryArgs, RunArgs,
    SchemaArgs, Task,
};
use p2p_node::explorer::{self, ExplorerError};
use p2p_node::io::keystore::KeyFileError;
use p2p_node::node::StartError;
use p2p_node::register::{self, RegisterError};
use p2p_node::{attach, bind, demo, keygen, logging, mcp, node, pipe, schema, shell};
use p2p_node_core::effect::ExitCode;
use tracing::level_filters::LevelFilter;

fn main() -> std::process::ExitCode {
    let code = match Cli::try_parse() {
        Ok(Cli { task: None, run }) => run_node(&run, |config| config),
        Ok(Cli { task: Some(Task::Daemon(run)), .. }) => run_node(&run, Config::daemon),
        Ok(Cli { task: Some(Task::Attach(args)), .. }) => attach_to(&args),
        Ok(Cli { task: Some(Task::OneShot(command)), .. }) => shell::run(*command),
        Ok(Cli { task: Some(Task::Mcp(args)), .. }) => mcp::run(&args),
        Ok(Cli { task: Some(Task::Demo), .. }) => play(),
        Ok(Cli { task: Some(Task::Keygen(args)), .. }) => make_key(&args),
        Ok(Cli { task: Some(Task::Bind(args)), .. }) => make_binding(&args),
        Ok(Cli { task: Some(Task::Register(args)), .. }) => register_agent(&args),
        Ok(Cli { task: Some(Task::Registry(args)), .. }) => show_entry(&args),
        Ok(Cli { task: Some(Task::Explorer(args)), .. }) => explore(*args),
        Ok(Cli { task: Some(Task::Schema(args)), .. }) => print_schema(&args),
        Err(error) => misread(&error),
    };
    std::process::ExitCode::from(code as u8)
}

/// Handles a command line that clap did not accept: `--help`, `--version`, or an error.
fn misread(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::Ok;
    }
    let first = std::env::args().nth(1).unwrap_or_default();
    if Cli::command().get_subcommands().all(|task| task.get_name() != first) {
        // The first paragraph is the error. The following ones show the usage.
        let text = error.to_string();
        let what = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        node::refuse(&StartError::CommandLine(what.to_owned()));
    }
    ExitCode::Usage
}

fn run_node(args: &RunArgs, change: impl FnOnce(Config) -> Config) -> ExitCode {
    let refused = |error: StartError| {
        let _ = writeln!(stderr(), "p2p-node: {error}");
        node::refuse(&error)
    };
    let config = match Config::load(args) {
        Ok(config) => change(config),
        Err(error) => return refused(error.into()),
    };
    let _logging = match logging::start(config.log_level, config.log_format) {
        Ok(logging) => logging,
        Err(error) => return refused(StartError::system("starting the log writer failed", &error)),
    };
    node::run(config)
}

fn attach_to(args: &AttachArgs) -> ExitCode {
    match attach::run(args) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(stderr(), "p2p-node: {error}");
            node::refuse(&error)
        }
    }
}

fn play() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, binary) = match (runtime, std::env::current_exe()) {
        (Ok(runtime), Ok(binary)) => (runtime, binary),
        (Err(error), _) | (_, Err(error)) => return failed(&error, ExitCode::Software),
    };
    match runtime.block_on(demo::run(&binary, demo::Screen::stdout())) {
        Ok(summary) => said(writeln!(stdout(), "{summary}")),
        Err(error) => failed(&format_args!("the demo failed: {error}"), ExitCode::Software),
    }
}

fn make_key(args: &KeygenArgs) -> ExitCode {
    match pipe::stdout().map_err(Into::into).and_then(|mut out| keygen::run(args, &mut out)) {
        Ok(()) => ExitCode::Ok,
        Err(error) => {
            let code = error.downcast_ref().map_or(ExitCode::Io, KeyFileError::exit_code);
            failed(&format_args!("{error:#}"), code)
        }
    }
}

fn make_binding(args: &BindArgs) -> ExitCode {
    let mut out = match pipe::stdout() {
        Ok(out) => out,
        Err(error) => return failed(&error, ExitCode::Io),
    };
    let servers = std::env::var_os("RPC_URL");
    match bind::run(args, node::unix_ms(), servers.as_deref(), &mut out, &mut stderr().lock()) {
        Ok(()) => ExitCode::Ok,
        Err(error) => failed(&error, error.exit_code()),
    }
}

fn register_agent(args: &RegisterArgs) -> ExitCode {
    with_stdout(async |out| register::register(args, node::now(), out, &mut stderr().lock()).await)
}

fn show_entry(args: &RegistryArgs) -> ExitCode {
    with_stdout(async |out| register::show(args, out).await)
}

/// Runs a subcommand of the registry on a runtime of its own.
fn with_stdout(run: impl AsyncFnOnce(&mut Box<dyn Write>) -> Result<(), RegisterError>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, mut out) = match (runtime, pipe::stdout()) {
        (Ok(runtime), Ok(out)) => (runtime, Box::new(out) as Box<dyn Write>),
        (Err(error), _) | (_, Err(error)) => return failed(&error, ExitCode::Io),
    };
    match runtime.block_on(run(&mut out)) {
        Ok(()) => ExitCode::Ok,
        Err(error) => failed(&error, error.exit_code()),
    }
}

fn explore(args: ExplorerArgs) -> ExitCode {
    let started = (|| {
        let Config { log_level, log_format, .. } = Config::load(&args.run)?;
        // Logs would cover the screen.
        let level = if args.tui { LevelFilter::OFF } else { log_level };
        let logging = logging::start(level, log_format).map_err(std::io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok::<_, ExplorerError>((logging, runtime, pipe::stdout()?))
    })();
    let explored = started.and_then(|(_logging, runtime, mut out)| {
        let explored = runtime.block_on(explorer::run(args, &mut out));
        runtime.shutdown_background();
        explored
    });
    match explored {
        Ok(()) => ExitCode::Ok,
        Err(error) => failed(&error, error.exit_code()),
    }
}

fn print_schema(args: &SchemaArgs) -> ExitCode {
    said(pipe::stdout().map_err(Into::into).and_then(|mut out| schema::run(args, &mut out)))
}

/// Returns the exit code for a result of writing to stdout.
fn said<E>(written: Result<(), E>) -> ExitCode {
    if written.is_ok() { ExitCode::Ok } else { ExitCode::Io }
}

fn failed(why: &dyn Display, code: ExitCode) -> ExitCode {
    let _ = writeln!(stderr(), "p2p-node: {why}");
    code
}
