//! `skiffctl`: asks and looks after the daemon of this node.
//!
//! One module per subcommand; [`client`] is the connection to the daemon, for those that need one.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool"
)]

mod check;
mod client;
mod config;
mod info;
mod pod;
mod status;
mod wipe;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use skiff_config::{Config, Endpoint, Overrides};
use skiff_cri_server::telemetry::chain;

/// Ask and look after skiffd.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

/// What every subcommand takes.
#[derive(Debug, clap::Args)]
struct Options {
    /// Configuration file [default: /etc/skiff/skiff.toml, which may be missing]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where skiffd listens, such as unix:///run/skiff/skiff.sock [default: as configured]
    #[arg(long, global = true, value_name = "ENDPOINT")]
    listen: Option<Endpoint>,
}

impl Options {
    /// The configuration as skiffd would read it.
    fn load(&self) -> anyhow::Result<Config> {
        let overrides = Overrides {
            listen: self.listen.clone(),
            ..Overrides::default()
        };
        Ok(Config::load(self.config.as_deref(), &overrides)?.config)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether the daemon and its network are ready, and how many pods it has
    Status,
    /// Print all that the daemon tells about itself, as JSON
    Info,
    /// Check that this host has what skiff needs, with advice
    Check,
    /// Print the configuration that holds
    Config(config::Args),
    /// Remove all pods, containers and their traces from a host whose daemon is stopped
    Wipe(wipe::Args),
    /// Run and look after pods by hand
    #[command(subcommand)]
    Pod(pod::Command),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let options = &cli.options;
    let outcome = match cli.command {
        Command::Status => status::run(options).await,
        Command::Info => info::run(options).await,
        Command::Check => check::run(options).await,
        Command::Config(args) => config::run(options, &args),
        Command::Wipe(args) => wipe::run(options, &args).await,
        Command::Pod(command) => pod::run(options, command).await,
    };
    outcome.unwrap_or_else(|e| {
        eprintln!("skiffctl: {}", chain(e.as_ref()));
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
