//! Who may see what: the own register, another controller without and with consent, a denial, and a technical user.

use idr_ihe::transaction::registry_response::Status;
use idr_tests::consumer::{Claim, Requester};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World};
use idr_tests::story::{fetch_and_compare, outgoing, patient_id, send_all, study_registered};

use crate::story;

#[test]
fn another_controller_sees_nothing_until_the_patient_is_informed_and_consents() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(21), 2, 1).make();
        let patient = patient_id(&study.person);
        send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
        let registered = study_registered(&world.viewer()?, &study).await?;
        let other = world.other_viewer()?;

        // Nothing by query, and nothing by somebody who knows every identifier.
        let series = &registered.series[0];
        let nothing = async || {
            let found = other.find_documents(&patient).await?;
            anyhow::ensure!(found.status == Status::Success && found.entries.is_empty(), "FindDocuments gave {}", found.entries.len());
            let found = other.get_documents(&patient, &[&registered.entry.unique_id]).await?;
            anyhow::ensure!(found.status == Status::Success && found.entries.is_empty(), "GetDocuments gave {}", found.entries.len());
            let manifest = other.iti_43(&patient, registered.repository(), &[&registered.entry.unique_id]).await?;
            anyhow::ensure!(manifest.status == Status::Failure && manifest.documents.is_empty(), "ITI-43 gave {:?}", manifest.status);
            anyhow::ensure!(manifest.errors.iter().all(|error| error.error_code == "XDSDocumentUniqueIdError"), "{:?}", manifest.errors);
            let images = other.rad_69(&patient, registered.repository(), &study.uid, &registered.series).await?;
            anyhow::ensure!(images.status == Status::Failure && images.documents.is_empty(), "RAD-69 gave {:?}", images.status);
            let wado = other.wado_instance(&patient, &study.uid, &series.0, &series.1[0]).await;
            anyhow::ensure!(wado.as_ref().err().and_then(|error| error.http_status()) == Some(404), "WADO-RS gave {wado:?}");
            Ok(())
        };
        nothing().await?;
        world.record_declaration(&patient, "informing")?;
        nothing().await?;
        world.record_declaration(&patient, "consent")?;
        let seen = study_registered(&other, &study).await?;
        fetch_and_compare(&other, &study, &seen).await?;

        // A denial bites at once, except in the register where the images were made.
        world.record_declaration(&patient, "denial")?;
        nothing().await?;
        fetch_and_compare(&world.viewer()?, &study, &registered).await?;
        world.stop().await
    });
}

#[test]
fn an_answer_to_a_denied_request_is_that_for_something_that_does_not_exist() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(22), 1, 1).make();
        let patient = patient_id(&study.person);
        send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
        let registered = study_registered(&world.viewer()?, &study).await?;
        let other = world.other_viewer()?;
        // UIDs of equal length, so that the bodies can be compared after the ids are replaced.
        let absent = registered.entry.unique_id.chars().rev().collect::<String>().replacen('.', "5", 0);
        let absent = format!("2.25.{}", &absent.replace('.', "7")[..registered.entry.unique_id.len() - 5]);
        let denied = other.iti_43(&patient, registered.repository(), &[&registered.entry.unique_id]).await?;
        let unknown = other.iti_43(&patient, registered.repository(), &[&absent]).await?;
        let plain = |envelope: &[u8], id: &str| {
            let text = String::from_utf8_lossy(envelope).replace(id, "ID");
            // MessageIDs are new in each answer.
            let mut parts: Vec<&str> = text.split("urn:uuid:").collect();
            let kept: Vec<String> =
                parts.drain(..).enumerate().map(|(n, part)| if n == 0 { part.to_owned() } else { part[36..].to_owned() }).collect();
            kept.join("UUID")
        };
        let (denied, unknown) = (plain(&denied.envelope, &registered.entry.unique_id), plain(&unknown.envelope, &absent));
        anyhow::ensure!(denied == unknown, "a denied document is told from an absent one:\n{denied}\n{unknown}");
        world.stop().await
    });
}

#[test]
fn a_technical_user_may_not_read() {
    story(async {
        let world = World::start(Plan::default()).await?;
        // A token of a technical user that claims all a retrieval needs: its kind alone forbids it (profile 05 C110).
        let mut requester = Requester::technical(&world.hospital)?;
        let of_professional = Requester::professional(&world.hospital)?;
        let wanted = |(key, _): &&(&str, Claim)| matches!(*key, "provider_identifier" | "care_reason");
        requester.attributes.extend(of_professional.attributes.iter().filter(wanted).cloned());
        let machine = world.consumer(requester, &world.hospital.viewer)?;
        let refused = machine.iti_43(&patient_id(&Person::numbered(23)), "1.2.246.10.12345671.12.100", &["2.25.1"]).await.err();
        let code = refused.as_ref().and_then(|error| error.code());
        anyhow::ensure!(code.as_deref() == Some("IDR-X-25"), "ITI-43 of a technical user: {refused:?}");
        world.stop().await
    });
}
