//! Files in a folder come to the centre as if a device had sent them; what cannot be read stays with its reason; the death of the
//! site at any moment loses and doubles nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Instance, Kind, Recipe};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::poll;
use idr_tests::story::{fetch_and_compare, study_registered};

use crate::story;

/// A world whose site has a drop folder, with the path of it.
async fn world() -> anyhow::Result<(World, PathBuf)> {
    let site = Arc::new(|table: &mut toml::Table| {
        // One reader, so that a kill has time to come between two files.
        edit(
            table,
            [("drop_folders.quiet_seconds", 1.into()), ("drop_folders.rescan_seconds", 2.into()), ("drop_folders.files_at_once", 1.into())],
        );
        let row = table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("one row");
        row.insert("drop_folder".to_owned(), "drop".into());
    });
    let mut world = World::prepare(Plan { site, study_quiet_seconds: 3, ..Plan::default() })?;
    let folder = world.site().program.config().with_file_name("drop");
    std::fs::create_dir(&folder)?;
    world.central.program.start().await?;
    world.site_mut().program.start().await?;
    Ok((world, folder))
}

/// Writes instances as an exporting program does: one folder per series, files without an ending.
fn put(folder: &Path, instances: &[Instance]) -> anyhow::Result<()> {
    for (number, instance) in instances.iter().enumerate() {
        let series = folder.join(format!("PAT001/SER{:03}", number % 3));
        std::fs::create_dir_all(&series)?;
        std::fs::write(series.join(format!("IM{number:04}")), instance.part10())?;
    }
    Ok(())
}

/// Files that are not taken yet, wherever they wait.
fn waiting(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).map(|entries| entries.flatten().collect()).unwrap_or_else(|_| Vec::new());
    let count = entries.iter().map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() && entry.file_name() != "refused" => waiting(&entry.path()),
        Ok(kind) if kind.is_file() && entry.path().extension().is_none_or(|extension| extension != "name") => 1,
        _ => 0,
    });
    count.sum()
}

#[test]
fn files_reach_the_centre_and_a_defective_one_stays_with_its_reason() {
    story(async {
        let (world, folder) = world().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(91), 7, 1).make();
        put(&folder, &study.instances)?;
        let other = Recipe::small(Kind::Ct, Person::numbered(92), 1, 2).make().instances[0].part10();
        std::fs::write(folder.join("PAT001/cut"), &other[..other.len() / 2])?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &study).await?;
        fetch_and_compare(&viewer, &study, &registered).await?;
        world.check_stored_once([&study]).await?;
        poll::holds("everything is taken", poll::DEADLINE, || waiting(&folder) == 0).await?;
        let refused: Vec<PathBuf> = std::fs::read_dir(folder.join("refused"))?.flatten().map(|entry| entry.path()).collect();
        let (notes, files): (Vec<_>, Vec<_>) = refused.into_iter().partition(|path| path.extension().is_some());
        anyhow::ensure!(notes.len() == 1 && files.len() == 1 && notes[0].with_extension("") == files[0], "{notes:?} {files:?}");
        anyhow::ensure!(std::fs::read(&files[0])? == other[..other.len() / 2], "the refused file was changed");
        let note = std::fs::read_to_string(&notes[0])?;
        for part in ["File: PAT001/cut", "Rule: D611", "Elements: (7FE0,0010)", "What to do: "] {
            anyhow::ensure!(note.contains(part), "no {part} in {note}");
        }
        world.stop_and_check().await
    });
}

#[test]
fn a_site_that_is_killed_while_it_takes_files_loses_and_doubles_nothing() {
    story(async {
        let (mut world, folder) = world().await?;
        let study = Recipe { matrix: 256, ..Recipe::small(Kind::Ct, Person::numbered(93), 180, 1) }.make();
        for (batch, left) in study.instances.chunks(60).zip([59, 50, 30]) {
            put(&folder, batch)?;
            poll::holds("files are taken", poll::DEADLINE, || waiting(&folder) <= left).await?;
            world.site_mut().program.kill().await?;
            anyhow::ensure!(waiting(&folder) > 0, "the kill came after the last file");
            world.site_mut().program.start().await?;
            poll::holds("everything is taken", poll::DEADLINE, || waiting(&folder) == 0).await?;
        }
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &study).await?;
        fetch_and_compare(&viewer, &study, &registered).await?;
        world.check_stored_once([&study]).await?;
        anyhow::ensure!(std::fs::read_dir(folder.join(".idr"))?.next().is_none(), "claims are left behind");
        world.stop_and_check().await
    });
}
