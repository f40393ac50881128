//! `idr-site`: arguments, configuration, exit status.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use idr_host::process;
use idr_site::config::Config;
use idr_site::setup::{self, Answers};
use idr_site::{control, site};

const PROGRAM: &str = "idr-site";

/// Site appliance of the Imaging Data Repository: receives, validates, holds and forwards medical images.
#[derive(Parser)]
#[command(name = PROGRAM, version)]
struct Arguments {
    /// Main configuration file.
    #[arg(long, global = true, default_value = "/etc/idr-site/idr-site.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the appliance.
    Run,
    /// Check configuration, keys, rule sets and trust; exit 78 when something is wrong.
    CheckConfig,
    /// Make a valid configuration from a few answers; nothing that is set up is written over.
    Setup(Box<Answers>),
    /// Everything that needs or asks the running appliance, and the offline tools.
    #[command(flatten)]
    Operator(control::Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    process::install_crypto();
    let command = match arguments.command {
        Command::Setup(answers) => {
            return setup::execute(&arguments.config, *answers).unwrap_or_else(|error| process::fail(PROGRAM, &error));
        }
        command => command,
    };
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        // It is not the start that is refused: the running appliance goes on with what it has (profile 10 §5.5).
        Err(error) if matches!(command, Command::Operator(control::Command::Reload { .. })) => {
            return process::fail(PROGRAM, &error.into());
        }
        Err(error) => return process::refuse(PROGRAM, &error),
    };
    let done = match command {
        Command::Setup(_) => unreachable!("done above"),
        Command::Run => {
            process::log();
            if let Err(error) = site::check(&config) {
                return process::refuse(PROGRAM, &error);
            }
            process::run(async |stop| site::run(config, stop).await)
        }
        Command::CheckConfig => match site::check(&config) {
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
