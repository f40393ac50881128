//! Nobody may send or ask until a row says so.

use idr_dimse::pdu::Rejection;
use idr_tests::consumer::Requester;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::pki::Usage;
use idr_tests::harness::{Plan, World, edit};
use idr_tests::modality::{AssociationError, Modality};
use idr_tests::story::patient_id;

use crate::story;

#[test]
fn a_caller_without_a_row_is_rejected_with_the_reason_of_the_profile() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let known = world.site().modality();
        known.echo().await?;
        let unknown = Modality { calling: "STRANGER".to_owned(), ..known.clone() };
        let misdialled = Modality { called: "NOBODY".to_owned(), ..known.clone() };
        for (modality, rejection) in [(unknown, Rejection::CALLING_AE_TITLE), (misdialled, Rejection::CALLED_AE_TITLE)] {
            let answer = modality.echo().await;
            anyhow::ensure!(matches!(&answer, Err(AssociationError::Rejected(r)) if *r == rejection), "{}: {answer:?}", modality.calling);
        }
        world.stop().await
    });
}

#[test]
fn with_the_shipped_inbound_table_nobody_may_send() {
    story(async {
        let site = std::sync::Arc::new(|table: &mut toml::Table| {
            table.remove("inbound");
        });
        let mut world = World::prepare(Plan { site, ..Plan::default() })?;
        world.site_mut().program.start().await?;
        for modality in [world.site().modality(), world.site().modality_tls()] {
            let answer = modality.echo().await;
            anyhow::ensure!(matches!(answer, Err(AssociationError::Rejected(_))), "{answer:?}");
        }
        world.site_mut().program.stop().await
    });
}

#[test]
fn a_row_that_asks_for_mutual_tls_takes_only_a_certificate_of_its_anchors() {
    story(async {
        let site = std::sync::Arc::new(|table: &mut toml::Table| {
            let row = table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("one row");
            edit(row, [("tls", "mutual".into())]);
        });
        let mut world = World::prepare(Plan { site, ..Plan::default() })?;
        world.site_mut().program.start().await?;
        world.site().modality_tls().echo().await?;
        let plain = world.site().modality().echo().await;
        anyhow::ensure!(matches!(plain, Err(AssociationError::Rejected(_))), "plain: {plain:?}");
        world.site_mut().program.stop().await
    });
}

#[test]
fn a_certificate_without_a_peer_row_gets_no_answer_from_the_centre() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let stranger = world.pki.issue("stranger", "1.2.246.10.90000118", Usage::Client)?;
        let consumer = world.consumer(Requester::professional(&world.hospital)?, &stranger)?;
        let answer = consumer.find_documents(&patient_id(&Person::numbered(71))).await;
        anyhow::ensure!(answer.is_err(), "a certificate that no row names was served");
        // A known organisation, with a certificate that its row does not pin.
        let unpinned = world.pki.issue("unpinned", world.hospital.organisation, Usage::Client)?;
        let consumer = world.consumer(Requester::professional(&world.hospital)?, &unpinned)?;
        let answer = consumer.find_documents(&patient_id(&Person::numbered(71))).await;
        anyhow::ensure!(answer.is_err(), "an unpinned certificate was served");
        world.stop().await
    });
}
