//! The index is only an index: deleted, emptied, taken from earlier or of another kind, nothing is lost and nothing is done
//! twice.

use std::path::Path;

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, Program, World, edit};
use idr_tests::story::{fetch_and_compare, outgoing, send_all, study_registered};

use crate::story;

/// Folder of sled below the state folder.
const INDEX: &str = "index";

#[test]
fn a_deleted_index_changes_nothing() {
    story(after(|site, _| Ok(std::fs::remove_dir_all(site.state().join(INDEX))?)));
}

#[test]
fn an_emptied_index_changes_nothing() {
    story(after(|site, _| {
        let index = site.state().join(INDEX);
        std::fs::remove_dir_all(&index)?;
        Ok(std::fs::create_dir(index)?)
    }));
}

#[test]
fn an_older_copy_of_the_index_changes_nothing() {
    story(after(|site, older| {
        let index = site.state().join(INDEX);
        std::fs::remove_dir_all(&index)?;
        copy(older, &index)
    }));
}

#[test]
fn an_index_of_another_kind_changes_nothing() {
    story(after(|site, _| {
        site.configure(|table| edit(table, [("storage.index", "redb".into())]))?;
        anyhow::ensure!(site.command(&["fsck", "--deep"])?.contains("0 findings"), "the index is made again");
        anyhow::ensure!(!site.state().join(INDEX).exists(), "what sled kept is of no use to anyone");
        anyhow::ensure!(site.state().join("index.redb").is_file(), "redb keeps the rows now");
        Ok(())
    }));
}

/// Sends one study with and one without the centre, changes the index, and starts the site again.
async fn after(change: impl Fn(&Program, &Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut world = World::start(Plan::default()).await?;
    let (modality, viewer) = (world.site().modality_tls(), world.viewer()?);
    let delivered = Recipe::small(Kind::Ct, Person::numbered(91), 3, 1).make();
    send_all(&modality, &outgoing([&delivered]), 1).await?;
    let first = study_registered(&viewer, &delivered).await?;
    world.site_mut().program.stop().await?;
    let (index, older) = (world.site().program.state().join(INDEX), world.folder().join("older"));
    copy(&index, &older)?;
    world.central.program.stop().await?;
    world.site_mut().program.start().await?;
    let waiting = Recipe::small(Kind::Dx, Person::numbered(92), 2, 2).make();
    send_all(&modality, &outgoing([&waiting]), 1).await?;
    world.site_mut().program.kill().await?;

    change(&world.site().program, &older)?;

    world.central.program.start().await?;
    world.site_mut().program.start().await?;
    let second = study_registered(&viewer, &waiting).await?;
    fetch_and_compare(&viewer, &waiting, &second).await?;
    let again = study_registered(&viewer, &delivered).await?;
    anyhow::ensure!(again.entry.unique_id == first.entry.unique_id, "a study that was done was registered anew");
    world.check_stored_once([&delivered, &waiting]).await?;
    // What came before is still known: the same object again is no new one.
    send_all(&modality, &outgoing([&delivered, &waiting]), 1).await?;
    // A study that is sent afterwards has passed when it is registered; the others had their chance.
    let witness = Recipe::small(Kind::Ct, Person::numbered(93), 1, 3).make();
    send_all(&modality, &outgoing([&witness]), 1).await?;
    study_registered(&viewer, &witness).await?;
    for (study, before) in [(&delivered, &first), (&waiting, &second)] {
        let after = study_registered(&viewer, study).await?;
        anyhow::ensure!(after.entry.unique_id == before.entry.unique_id, "a second manifest was made of the same content");
    }
    world.check_stored_once([&delivered, &waiting, &witness]).await?;
    world.stop_and_check().await
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
