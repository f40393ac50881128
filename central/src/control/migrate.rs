//! `migrate`: moves registry, index, identity and receipts to the other database. Objects, audit logs and keys stay where they are.

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use crate::audit;
use crate::config::{Config, Engine};
use crate::run;
use crate::store::transfer::{TableContent, transfer};

/// Moves everything, with no centre running, and says what each table holds.
///
/// # Errors
/// A centre, or another command, works on the state or the database; the target is not empty; anything of either database. The
/// target is then as it was, or the error says otherwise.
pub fn migrate(config: &Config, from: Engine, to: Engine, json: bool) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(from != to, "--from and --to are the same database");
    let state = &config.storage.path;
    let _held = audit::hold(&state.join("audit")).context("a centre runs on this state; stop it first")?;
    anyhow::ensure!(
        from == Engine::Postgresql || run::database(config).exists(),
        "{}: there is no such database to move",
        run::database(config).display()
    );
    let contents: anyhow::Result<Vec<TableContent>> = super::runtime()?.block_on(async {
        let source = run::open_engine(config, from, true).await.context("the source")?;
        let target = run::open_engine(config, to, true).await.context("the target")?;
        let moved = transfer(&*source, &*target).await;
        source.close().await;
        target.close().await;
        Ok(moved?)
    });
    let contents = contents?;
    if json {
        println!("{}", json!({"from": from.name(), "to": to.name(), "tables": contents}));
    } else {
        contents.iter().for_each(|content| println!("{}: {} rows, SHA-256 {}", content.table, content.rows, content.sha256));
        println!("everything is in {}, read back and compared; now set database.engine = \"{}\"", to.name(), to.name());
    }
    Ok(ExitCode::SUCCESS)
}
