//! One image of each kind goes the whole way and comes back bit for bit.

use idr_ihe::transaction::registry_response::Status;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World};
use idr_tests::story::{fetch_and_compare, outgoing, patient_id, send_all, study_registered};

use crate::story;

#[test]
fn every_kind_sent_over_tls_comes_back_by_rad_69_and_wado_rs_as_sent() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let person = Person::numbered(7);
        let kinds = [(Kind::Ct, 5), (Kind::Dx, 2), (Kind::UsMultiFrame, 1), (Kind::Ecg, 1), (Kind::Pdf, 1)];
        let studies: Vec<_> =
            kinds.into_iter().zip(1..).map(|((kind, count), seed)| Recipe::small(kind, person.clone(), count, seed).make()).collect();
        send_all(&world.site().modality_tls(), &outgoing(&studies), 2).await?;
        let viewer = world.viewer()?;
        for study in &studies {
            let registered = study_registered(&viewer, study).await?;
            fetch_and_compare(&viewer, study, &registered).await?;
            // By uniqueId the same entry is found; its patient, kind and size are those of the manifest.
            let found = viewer.get_documents(&patient_id(&person), &[&registered.entry.unique_id]).await?;
            anyhow::ensure!(found.status == Status::Success && found.entries.len() == 1, "GetDocuments: {:?}", found.status);
            let entry = &found.entries[0];
            anyhow::ensure!(entry.patient_id == patient_id(&person) && entry.mime_type == "application/dicom");
            anyhow::ensure!(entry.size == Some(registered.manifest.len() as u64), "size {:?}", entry.size);
        }
        let all = viewer.find_documents(&patient_id(&person)).await?;
        anyhow::ensure!(all.entries.len() == studies.len(), "FindDocuments gave {} entries", all.entries.len());
        world.check_stored_once(&studies).await?;
        world.stop().await
    });
}

#[test]
fn a_plain_association_and_an_echo_are_served_too() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(8), 2, 1).make();
        let modality = world.site().modality();
        modality.echo().await?;
        send_all(&modality, &outgoing([&study]), 1).await?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &study).await?;
        fetch_and_compare(&viewer, &study, &registered).await?;
        world.stop().await
    });
}
