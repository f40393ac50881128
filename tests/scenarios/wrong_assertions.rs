//! Requests whose assertion must be refused, over the wire: one code each (profile 04 §12).

use idr_ihe::assertion::Assertion;
use idr_ihe::metadata::PatientId;
use idr_ihe::transaction::iti_18::{Definition, ReturnType, encode};
use idr_ihe::transaction::table::action;
use idr_tests::consumer::{AskError, Claim, Consumer, security};
use idr_tests::fixtures::person::Person;
use idr_tests::harness::{Plan, World};
use idr_tests::story::patient_id;
use jiff::{SignedDuration, Timestamp};

use crate::story;

async fn query(viewer: &Consumer, patient: &PatientId, security: &str) -> Result<Vec<u8>, AskError> {
    let definition = Definition::of_name("FindDocuments").expect("a stored query of the table");
    let approved = idr_tests::consumer::APPROVED.to_owned();
    let parameters = [("$XDSDocumentEntryPatientId", vec![patient.to_cx()]), ("$XDSDocumentEntryStatus", vec![approved])];
    viewer.plain(action::ITI_18, &encode(definition, ReturnType::LeafClass, None, &parameters), security).await
}

#[test]
fn a_refused_assertion_gets_its_code_and_the_right_one_still_works() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let viewer = world.viewer()?;
        let patient = patient_id(&Person::numbered(41));
        let fresh = |change: &dyn Fn(&mut Assertion)| -> anyhow::Result<String> {
            let mut assertion = viewer.requester.assertion(Some(&patient), Timestamp::now());
            change(&mut assertion);
            Ok(security(&viewer.requester.sign(&assertion)?))
        };
        let shift = |assertion: &mut Assertion, seconds: i64| {
            let by = SignedDuration::from_secs(seconds);
            assertion.issue_instant += by;
            assertion.not_before += by;
            assertion.not_on_or_after += by;
        };
        let good = fresh(&|_| {})?;
        query(&viewer, &patient, &good).await?;
        let altered = fresh(&|_| {})?.replace("Testaaja Tiina", "Testaaja Timo");
        let unsigned = {
            let whole = fresh(&|_| {})?;
            let (from, to) = (whole.find("<ds:Signature").expect("signed"), whole.find("</ds:Signature>").expect("signed"));
            format!("{}{}", &whole[..from], &whole[to + "</ds:Signature>".len()..])
        };
        let of_other = security(&world.other_viewer()?.requester.saml(Some(&patient))?);
        let somebody = patient_id(&Person::numbered(42));
        for (what, security, code) in [
            ("none", String::new(), "IDR-X-01"),
            ("used before", good, "IDR-X-21"),
            ("altered after signing", altered, "IDR-X-11"),
            ("unsigned", unsigned, "IDR-X-08"),
            ("expired", fresh(&|assertion| shift(assertion, -600))?, "IDR-X-15"),
            ("not yet valid", fresh(&|assertion| shift(assertion, 600))?, "IDR-X-16"),
            ("too long", fresh(&|assertion| assertion.not_on_or_after += SignedDuration::from_secs(300))?, "IDR-X-17"),
            ("other audience", fresh(&|assertion| assertion.audiences = vec!["urn:x:other".to_owned()])?, "IDR-X-18"),
            ("other organisation's", of_other, "IDR-X-20"),
            ("role missing", fresh(&|assertion| assertion.attributes.retain(|a| !a.name.ends_with(":role")))?, "IDR-X-22"),
            ("other patient", fresh(&|_| {})?.replace(&patient.id, &somebody.id), "IDR-X-11"),
            ("care reason missing", fresh(&|assertion| assertion.attributes.retain(|a| !a.name.ends_with("care-reason")))?, "IDR-X-27"),
        ] {
            let answer = query(&viewer, &patient, &security).await;
            let found = answer.as_ref().err().and_then(AskError::code);
            anyhow::ensure!(found.as_deref() == Some(code), "{what}: expected {code}, got {answer:?}");
        }
        let answer = query(&viewer, &somebody, &fresh(&|_| {})?).await;
        anyhow::ensure!(
            answer.as_ref().err().and_then(AskError::code).as_deref() == Some("IDR-X-26"),
            "query for another patient: {answer:?}"
        );
        query(&viewer, &patient, &fresh(&|_| {})?).await?;
        world.stop().await
    });
}

#[test]
fn a_controller_that_the_issuer_may_not_name_is_refused() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let mut viewer = world.viewer()?;
        for (key, claim) in &mut viewer.requester.attributes {
            if *key == "controller" {
                *claim = Claim::Oid(world.other.controller.to_owned());
            }
        }
        let refused = viewer.find_documents(&patient_id(&Person::numbered(43))).await.err();
        anyhow::ensure!(refused.as_ref().and_then(AskError::code).as_deref() == Some("IDR-X-24"), "{refused:?}");
        world.stop().await
    });
}
