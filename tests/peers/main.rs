//! Foreign programs against ours: each is skipped with a line when it is not installed, and fails in CI.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;

use idr_tests::fixtures::study::Study;
use idr_tests::shared::{has_tool, run, workspace};

mod adt;
mod central_dimse;
mod commitment;
mod completeness;
mod dcmtk;
mod dicomweb;
mod forward_by_c_store;
mod manifest;
mod orthanc;
mod pynetdicom;
mod query;
mod signatures;
mod soap_schemas;
mod soap_stacks;
mod stow;

/// Runs a story; the error says which step failed.
fn story(steps: impl Future<Output = anyhow::Result<()>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    if let Err(error) = runtime.block_on(steps) {
        panic!("{error:#}");
    }
}

/// The folder of this file.
fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Python of the peers, with its packages; `None` after a line when Python is not installed.
fn python() -> anyhow::Result<Option<PathBuf>> {
    if !has_tool("python3") || !set_up()? {
        return Ok(None);
    }
    Ok(Some(workspace().join("target/peers/venv/bin/python")))
}

/// Folder of the Node.js packages.
fn node() -> anyhow::Result<Option<PathBuf>> {
    if !has_tool("node") || !has_tool("npm") || !set_up()? {
        return Ok(None);
    }
    Ok(Some(workspace().join("target/peers/node")))
}

fn set_up() -> anyhow::Result<bool> {
    match run(&mut Command::new(here().join("set-up.sh"))) {
        Ok(_) => Ok(true),
        Err(error) => {
            idr_tests::shared::missing(&format!("packages of the peers ({error:#})"));
            Ok(false)
        }
    }
}

/// Writes the instances of a study as Part 10 files.
fn write_files(study: &Study, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)?;
    let write = |(number, instance): (usize, &idr_tests::fixtures::study::Instance)| {
        let path = folder.join(format!("{number}.dcm"));
        std::fs::write(&path, instance.part10())?;
        Ok(path)
    };
    study.instances.iter().enumerate().map(write).collect()
}
