//! `idr-central`: arguments, configuration, exit status.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use idr_central::config::Config;
use idr_central::{control, run};
use idr_host::process;

const PROGRAM: &str = "idr-central";

/// National instance of the Imaging Data Repository: registry, repository, imaging archive, access, audit.
#[derive(Parser)]
#[command(name = PROGRAM, version)]
struct Arguments {
    /// Main configuration file.
    #[arg(long, global = true, default_value = "/etc/idr-central/idr-central.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the centre.
    Run,
    /// Check configuration, keys, rule sets and trust; exit 78 when something is wrong.
    CheckConfig,
    /// Everything that needs or asks the running centre, and the offline tools.
    #[command(flatten)]
    Operator(control::Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    process::install_crypto();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => return process::refuse(PROGRAM, &error),
    };
    let done = match arguments.command {
        Command::Run => {
            process::log();
            if let Err(error) = run::check(&config) {
                return process::refuse(PROGRAM, &error);
            }
            process::run(async |stop| run::run(config, stop).await)
        }
        Command::CheckConfig => match run::check(&config) {
            Ok(()) => {
                println!("{}: in order", arguments.config.display());
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => return process::refuse(PROGRAM, &error),
        },
        Command::Operator(command) => control::execute(&config, command),
    };
    done.unwrap_or_else(|error| process::fail(PROGRAM, &error))
}
