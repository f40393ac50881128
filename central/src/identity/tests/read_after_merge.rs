//! What a query, a late object and a reversal see: through the gate, as every request.

use super::*;
use crate::testing::soap::query;
use crate::testing::{Instance, PKI, Party};
use idr_ihe::transaction::iti_18::ReturnType;
use idr_profile::access::{Claims, DenialTarget};

const APPROVED: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved";

async fn found(world: &World, party: &Party, claims: &Claims, patient: &PatientId) -> Vec<String> {
    let parameters = vec![("$XDSDocumentEntryPatientId", vec![patient.to_cx()]), ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()])];
    let answer = world.soap(party, query(party, claims, "FindDocuments", ReturnType::LeafClass, &parameters)).await;
    answer.objects().entries.into_iter().map(|entry| entry.patient_id.to_cx()).collect()
}

#[tokio::test]
async fn i01_i02_images_under_a_temporary_id_are_found_under_both_before_and_after_and_go_back() {
    let world = World::new().await;
    let (t, h) = (temporary(1), hetu(H1));
    world.done(&[person("A28", "1", &t)]).await;
    let images = [1, 2, 3].map(|n| Instance::ct(n).of(&t));
    world.stored_under(&t, &images).await;
    world.registered_under(&t, &images).await;
    world.done(&[merge("2", &t, &h)]).await;
    let by_hetu = PKI.hospital.physician(&h);
    let by_temporary = PKI.hospital.physician(&t);
    for (claims, asked) in [(&by_hetu, &h), (&by_hetu, &t), (&by_temporary, &t), (&by_temporary, &h)] {
        assert_eq!(found(&world, &PKI.hospital, claims, asked).await, [h.to_cx()], "the survivor's id is shown");
    }
    // Late, under the old id: the same patient.
    world.stored_under(&t, &[Instance::ct(4).of(&t)]).await;
    let mut tx = world.central.store.read().await.expect("a store");
    let unit = tx.unit_of(&Instance::ct(4).sop_instance_uid).await.expect("readable").expect("stored");
    drop(tx);
    assert_eq!((unit.patient, unit.recorded_under), (h.clone(), Some(t.clone())));

    world.split(&world.last_merge(&h).await).await;
    assert_eq!(found(&world, &PKI.hospital, &by_hetu, &h).await, Vec::<String>::new());
    assert_eq!(found(&world, &PKI.hospital, &by_temporary, &t).await, [t.to_cx()]);
    let mut tx = world.central.store.read().await.expect("a store");
    let unit = tx.unit_of(&Instance::ct(4).sop_instance_uid).await.expect("readable").expect("stored");
    assert_eq!((unit.patient, unit.recorded_under), (t.clone(), None), "what came late too");
}

#[tokio::test]
async fn another_register_sees_after_a_merge_what_the_declarations_of_both_ids_allow() {
    let world = World::new().await;
    let (t, h) = (temporary(1), hetu(H1));
    let images = [Instance::ct(1).of(&t)];
    world.stored_under(&t, &images).await;
    world.registered_under(&t, &images).await;
    world.consent(&h).await;
    let other = PKI.other.physician(&h);
    assert_eq!(found(&world, &PKI.other, &other, &h).await.len(), 0, "nothing is this patient's yet");
    world.done(&[merge("1", &t, &h)]).await;
    assert_eq!(found(&world, &PKI.other, &other, &h).await.len(), 1, "the consent of the survivor");
    assert_eq!(found(&world, &PKI.other, &other, &t).await.len(), 1, "by the old id");
    // I10: a denial under the old id hits under the survivor.
    let act = Act::Denial { target: DenialTarget::All, emergency_allowed: false, data_from: None, data_to: None, valid_from: None };
    world.declare(&t, act).await;
    assert_eq!(found(&world, &PKI.other, &other, &h).await.len(), 0);
    assert_eq!(found(&world, &PKI.hospital, &PKI.hospital.physician(&h), &h).await.len(), 1, "own use");
}

#[tokio::test]
async fn i26_a_denial_of_a_linked_patient_hits() {
    let world = World::new().await;
    let (a, b) = (hetu(H1), hetu(H2));
    let images = [Instance::ct(1)];
    world.stored(&images).await;
    world.registered(&images).await;
    world.consent(&a).await;
    let other = PKI.other.physician(&a);
    let act = Act::Denial { target: DenialTarget::All, emergency_allowed: false, data_from: None, data_to: None, valid_from: None };
    world.declare(&b, act).await;
    assert_eq!(found(&world, &PKI.other, &other, &a).await.len(), 1);
    world.done(&[link("A24", "1", &a, &b)]).await;
    assert_eq!(found(&world, &PKI.other, &other, &a).await.len(), 0, "linked");
    assert_eq!(found(&world, &PKI.other, &PKI.other.physician(&b), &b).await.len(), 0, "results are not expanded");
    world.done(&[link("A37", "2", &a, &b)]).await;
    assert_eq!(found(&world, &PKI.other, &other, &a).await.len(), 1, "unlinked");
}
