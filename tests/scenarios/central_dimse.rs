//! A PACS stores at the centre by C-STORE over TLS: the way of STOW-RS, with an identity in the association.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use idr_dimse::association::negotiation::{ContextResult, UserIdentityType};
use idr_dimse::pdu::Rejection;
use idr_dimse::status::Status;
use idr_tests::consumer::Requester;
use idr_tests::fixtures::defect::DEFECTS;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::pki::Usage;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World, identity};
use idr_tests::modality::{Answer, AssociationError, Modality};
use idr_tests::poll;
use idr_tests::story::{outgoing, patient_id, send_all, send_until_answered};

use crate::story;

/// A running centre without its site.
async fn centre() -> anyhow::Result<World> {
    let mut world = World::prepare(Plan::default())?;
    world.central.program.start().await?;
    Ok(world)
}

#[test]
fn a_pacs_stores_with_a_token_or_an_assertion_and_every_object_is_held_as_it_was_sent() {
    story(async {
        let world = centre().await?;
        let kinds = [Kind::Ct, Kind::Dx, Kind::UsMultiFrame, Kind::Pdf];
        let studies: Vec<_> =
            kinds.into_iter().zip(1..).map(|(kind, seed)| Recipe::small(kind, Person::numbered(seed), 4, seed).make()).collect();
        for (study, saml) in studies.iter().zip([false, true, false, true]) {
            let patient = patient_id(&study.person);
            let who = if saml {
                identity(UserIdentityType::SamlAssertion, Requester::technical(&world.hospital)?.saml(Some(&patient))?)
            } else {
                world.pacs_identity(&patient)?
            };
            let pacs = world.pacs_modality(Some(who))?;
            send_all(&pacs, &outgoing([study]), 2).await?;
            // The same bytes again are held already (01 D731).
            send_all(&pacs, &outgoing([study]), 1).await?;
        }
        world.check_stored_once(&studies).await?;
        world.stop_centre_and_check().await
    });
}

#[test]
fn without_an_identity_of_its_organisation_a_peer_may_do_nothing_but_echo() {
    story(async {
        let world = centre().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(11), 1, 1).make();
        let (patient, objects) = (patient_id(&study.person), outgoing([&study]));
        let known = world.pacs_modality(Some(world.pacs_identity(&patient)?))?;
        let nobody = world.pacs_modality(None)?;
        nobody.echo().await?;

        let technical = Requester::technical(&world.hospital)?;
        let elsewhere = world.pki.issue("elsewhere", world.hospital.organisation, Usage::Client)?;
        let rejected = [
            ("no identity", nobody.clone(), Rejection::PROVIDER_NO_REASON),
            ("a password", with(&nobody, UserIdentityType::Username, "pacs".to_owned()), Rejection::PROVIDER_NO_REASON),
            ("no token", with(&nobody, UserIdentityType::Jwt, "a.b.c".to_owned()), Rejection::PROVIDER_NO_REASON),
            (
                "a token of another certificate",
                with(&nobody, UserIdentityType::Jwt, technical.jwt(Some(&patient), &elsewhere.der)?),
                Rejection::PROVIDER_NO_REASON,
            ),
            (
                "a token of another organisation",
                with(&nobody, UserIdentityType::Jwt, Requester::technical(&world.other)?.jwt(Some(&patient), &world.pacs.der)?),
                Rejection::PROVIDER_NO_REASON,
            ),
            (
                "a calling AE title that its row does not list",
                Modality { calling: "MODALITY".to_owned(), ..known.clone() },
                Rejection::CALLING_AE_TITLE,
            ),
            ("a called AE title that is not ours", Modality { called: "IDRSITE".to_owned(), ..known.clone() }, Rejection::CALLED_AE_TITLE),
        ];
        for (what, modality, rejection) in rejected {
            let transfer = modality.send(&objects, 1, |_| {}).await;
            let told = matches!(&transfer.failures[..], [AssociationError::Rejected(told)] if *told == rejection);
            anyhow::ensure!(told, "{what}: {transfer:?}");
        }
        anyhow::ensure!(world.stored_digests().await?.is_empty(), "something was stored");

        // Another patient than that of the identity: nothing of it is stored (V16).
        let other = Recipe::small(Kind::Ct, Person::numbered(12), 1, 2).make();
        let transfer = known.send(&outgoing([&other]), 1, |_| {}).await;
        anyhow::ensure!(
            matches!(&transfer.answers[..], [Answer::Status(outcome)] if outcome.status == Status::NOT_AUTHORIZED && outcome.error_comment == "IDR-X-26"),
            "{transfer:?}"
        );
        anyhow::ensure!(world.stored_digests().await?.is_empty(), "an object of another patient was stored");
        send_all(&known, &objects, 1).await?;
        world.check_stored_once([&study]).await?;
        world.stop_centre_and_check().await
    });
}

/// The same peer with another identity.
fn with(modality: &Modality, kind: UserIdentityType, primary: String) -> Modality {
    Modality { identity: Some(identity(kind, primary)), ..modality.clone() }
}

#[test]
fn a_row_that_does_not_list_c_store_takes_none() {
    story(async {
        let mut world = World::prepare(Plan {
            central: Box::new(|table| {
                let rows = table["peer"].as_array_mut().into_iter().flatten().filter_map(toml::Value::as_table_mut);
                for row in rows.filter(|row| row["name"].as_str() == Some("hospital-pacs")) {
                    row.insert("transactions".to_owned(), toml::Value::Array(vec!["ITI-18".into()]));
                }
            }),
            ..Plan::default()
        })?;
        world.central.program.start().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(13), 1, 1).make();
        let pacs = world.pacs_modality(Some(world.pacs_identity(&patient_id(&study.person))?))?;
        let transfer = pacs.send(&outgoing([&study]), 1, |_| {}).await;
        anyhow::ensure!(transfer.answers == [Answer::NotNegotiated(ContextResult::UserRejection)], "{transfer:?}");
        world.stop_centre_and_check().await
    });
}

#[test]
fn every_defect_is_answered_with_the_status_of_its_rule() {
    story(async {
        let world = centre().await?;
        for (defect, seed) in DEFECTS.iter().zip(1..).filter(|(defect, _)| defect.status != 0) {
            let pacs = world.pacs_modality(Some(world.pacs_identity(&patient_id(&Person::numbered(seed)))?))?;
            let transfer = pacs.send(&Arc::from([defect.make(seed)]), 1, |_| {}).await;
            let answered = match &transfer.answers[..] {
                [Answer::Status(outcome)] => outcome.status == Status(defect.status) && outcome.error_comment.starts_with(defect.rule),
                _ => false,
            };
            anyhow::ensure!(answered, "{} ({}): {transfer:?}", defect.name, defect.rule);
        }
        anyhow::ensure!(world.stored_digests().await?.is_empty(), "a refused object was stored");
        world.stop_centre_and_check().await
    });
}

#[test]
fn what_was_acknowledged_before_the_kill_is_held() {
    story(async {
        let mut world = centre().await?;
        let study = Recipe { matrix: 256, ..Recipe::small(Kind::Ct, Person::numbered(21), 60, 1) }.make();
        let objects = outgoing([&study]);
        let pacs = world.pacs_modality(Some(world.pacs_identity(&patient_id(&study.person))?))?;
        let answered = Arc::new(AtomicUsize::new(0));
        let sending = tokio::spawn({
            let (objects, pacs, answered) = (objects.clone(), pacs.clone(), answered.clone());
            async move { pacs.send(&objects, 3, move |_| _ = answered.fetch_add(1, Ordering::Relaxed)).await }
        });
        poll::holds("20 answers", poll::DEADLINE, || answered.load(Ordering::Relaxed) >= 20).await?;
        world.central.program.kill().await?;
        let first = sending.await?;
        world.central.program.start().await?;
        let held = world.stored_digests().await?;
        for (object, answer) in objects.iter().zip(&first.answers).filter(|(_, answer)| answer.is_acknowledged()) {
            anyhow::ensure!(
                held.contains_key(&object.sop_instance),
                "{} was answered with {answer:?} and is not held",
                object.sop_instance
            );
        }
        let left: Arc<[_]> = first.unanswered().into_iter().map(|index| objects[index].clone()).collect();
        anyhow::ensure!(!left.is_empty(), "the kill came after the last answer");
        // The same token: it was bound to this certificate, and the centre has kept that over the kill.
        let (second, _) = send_until_answered(&pacs, &left, 3, poll::DEADLINE, |_| {}).await?;
        anyhow::ensure!(second.iter().all(Answer::is_acknowledged), "{second:?}");
        world.check_stored_once([&study]).await?;
        world.stop_centre_and_check().await
    });
}
