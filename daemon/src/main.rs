//! `idr-site`: arguments, configuration, exit status.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use idr_site::config::{Config, ConfigError};
use idr_site::{control, site};
use tokio_util::sync::CancellationToken;

/// Site appliance of the Imaging Data Repository: receives, validates, holds and forwards medical images.
#[derive(Parser)]
#[command(name = "idr-site", version)]
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
    /// Everything that needs or asks the running appliance, and the offline tools.
    #[command(flatten)]
    Operator(control::Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Two providers in one process panic at start; this is the only one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    let result = match arguments.command {
        Command::Run => run(config),
        Command::CheckConfig => {
            return match site::check(&config) {
                Ok(()) => {
                    println!("{}: in order", arguments.config.display());
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    eprintln!("idr-site: {error:#}");
                    ExitCode::from(78)
                }
            };
        }
        Command::Operator(command) => control::execute(&config, command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("idr-site: {error:#}");
        ExitCode::FAILURE
    })
}

fn refuse(error: &ConfigError) -> ExitCode {
    eprintln!("idr-site: {error}");
    ExitCode::from(78)
}

fn run(config: Config) -> anyhow::Result<ExitCode> {
    // Journald takes lines from standard error; colours and a second time stamp would only be in its way.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    if let Err(error) = site::check(&config) {
        eprintln!("idr-site: {error:#}");
        return Ok(ExitCode::from(78));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stop = CancellationToken::new();
    let ended = runtime.block_on(async {
        let signals = stop.clone();
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            signals.cancel();
        });
        site::run(config, stop).await
    });
    runtime.shutdown_timeout(site::STOP_BLOCKING);
    ended?;
    Ok(ExitCode::SUCCESS)
}
