//! An image that comes after the manifest was registered: one new manifest replaces the old one.

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, World};
use idr_tests::story::{fetch_and_compare, outgoing, patient_id, send_all, study_registered};

use crate::story;

#[test]
fn a_late_image_gives_one_new_manifest_that_names_all() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let whole = Recipe::small(Kind::Ct, Person::numbered(31), 3, 1).make();
        let first = Study { instances: whole.instances[..2].to_vec(), ..whole.clone() };
        let modality = world.site().modality_tls();
        let viewer = world.viewer()?;
        send_all(&modality, &outgoing([&first]), 1).await?;
        let old = study_registered(&viewer, &first).await?;
        let late = Study { instances: whole.instances[2..].to_vec(), ..whole.clone() };
        send_all(&modality, &outgoing([&late]), 1).await?;
        let new = study_registered(&viewer, &whole).await?;
        anyhow::ensure!(new.entry.unique_id != old.entry.unique_id, "the manifest has kept its uniqueId");
        fetch_and_compare(&viewer, &whole, &new).await?;
        // The old entry is still there by its uniqueId, and no longer Approved.
        let old = viewer.get_documents(&patient_id(&whole.person), &[&old.entry.unique_id]).await?;
        let status = old.entries.first().and_then(|entry| entry.status).map(|status| status.urn());
        anyhow::ensure!(status.is_some_and(|urn| urn.ends_with(":Deprecated")), "status of the replaced entry: {status:?}");
        world.stop().await
    });
}

#[test]
fn the_same_study_sent_twice_changes_nothing() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let study = Recipe::small(Kind::Dx, Person::numbered(32), 2, 1).make();
        let (modality, viewer) = (world.site().modality_tls(), world.viewer()?);
        send_all(&modality, &outgoing([&study]), 1).await?;
        let first = study_registered(&viewer, &study).await?;
        send_all(&modality, &outgoing([&study]), 2).await?;
        // A study of another patient that is sent afterwards has passed when it is registered; the first had its chance.
        let witness = Recipe::small(Kind::Ct, Person::numbered(33), 1, 2).make();
        send_all(&modality, &outgoing([&witness]), 1).await?;
        study_registered(&viewer, &witness).await?;
        let again = study_registered(&viewer, &study).await?;
        anyhow::ensure!(again.entry.unique_id == first.entry.unique_id, "a second manifest was made of the same content");
        world.check_stored_once([&study]).await?;
        world.stop().await
    });
}
