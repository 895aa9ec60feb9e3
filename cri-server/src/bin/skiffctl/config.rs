//! `skiffctl config`

use std::process::ExitCode;

use crate::Options;

/// Which configuration to print.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the default file, with a comment on every key
    #[arg(long)]
    default: bool,
}

/// Prints what skiffd would run with, or the default file.
pub(crate) fn run(options: &Options, args: &Args) -> anyhow::Result<ExitCode> {
    if args.default {
        print!("{}", skiff_config::DEFAULT_FILE);
    } else {
        print!("{}", options.load()?.to_toml()?);
    }
    Ok(ExitCode::SUCCESS)
}
