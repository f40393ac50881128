//! Documents and instances.

use std::os::unix::fs::FileExt as _;

use http::StatusCode;
use idr_ihe::transaction::registry_response::Status;
use idr_profile::scan::{Limits, Part10Reader};

use crate::audit::Stream;
use crate::testing::soap::{Answer, imaging, retrieve};
use crate::testing::{EXPLICIT, Instance, PKI, STUDY, World, patient};

/// The data set of a Part 10 file.
fn data_set(file: &[u8]) -> Vec<u8> {
    let mut reader = Part10Reader::new(Limits::default());
    let fed = reader.feed(file);
    [&fed.carried[..], fed.rest].concat()
}

fn closings(world: &World) -> Vec<serde_json::Value> {
    let entries = world.sink.entries().into_iter().filter(|(stream, _)| *stream == Stream::Use);
    entries.map(|(_, value)| value).filter(|value| value["closing"].is_object()).collect()
}

#[tokio::test]
async fn a_document_comes_back_byte_for_byte() {
    let world = World::new().await;
    let revision = world.registered(&[Instance::ct(1)]).await;
    let own = PKI.hospital.physician(&patient());
    let answer =
        world.soap(&PKI.hospital, retrieve(&PKI.hospital, &own, &[&revision.document_uid, "2.25.1", &revision.document_uid])).await;
    let response = answer.retrieved();
    assert_eq!(response.registry.status, Status::PartialSuccess);
    assert_eq!(answer.parts, [revision.kos.clone(), revision.kos.clone()], "once for each time it was asked for");
    let [error] = response.registry.errors.as_slice() else { panic!("one error") };
    assert_eq!(error.code_context, "IDR-R-07 XDSDocumentUniqueIdError uid=2.25.1: document is not available");
    assert_eq!(error.location.as_deref(), Some("2.25.1"));
    assert_eq!(answer.headers["content-length"].to_str().unwrap(), answer.body.len().to_string());
}

#[tokio::test]
async fn instances_stream_with_file_meta_of_ours_and_the_stored_data_set() {
    let world = World::new().await;
    let instances = [Instance::ct(1), Instance::ct(2).pixels(&vec![9; 3 << 20])];
    world.stored(&instances).await;
    world.registered(&instances).await;
    let own = PKI.hospital.physician(&patient());
    let uids: Vec<&str> = instances.iter().map(|instance| instance.sop_instance_uid.as_str()).collect();
    let answer = world.soap(&PKI.hospital, imaging(&PKI.hospital, &own, &[uids[1], uids[0], uids[1]], &[EXPLICIT])).await;
    assert_eq!(answer.retrieved().registry.status, Status::Success);
    assert_eq!(answer.headers["content-length"].to_str().unwrap(), answer.body.len().to_string());
    let expected: Vec<Vec<u8>> = [1, 0, 1].map(|n: usize| instances[n].data_set()).into();
    assert_eq!(answer.parts.iter().map(|part| data_set(part)).collect::<Vec<_>>(), expected);
    tokio::task::yield_now().await;
    let closing = closings(&world).pop().unwrap();
    assert_eq!(
        (&closing["closing"]["delivered"]["instances"], &closing["closing"]["delivered"]["extent"]),
        (&3.into(), &"complete".into())
    );
}

#[tokio::test]
async fn what_cannot_be_given_is_told_one_by_one() {
    let world = World::new().await;
    let instance = Instance::ct(1);
    world.stored(std::slice::from_ref(&instance)).await;
    let own = PKI.hospital.physician(&patient());
    let uid = instance.sop_instance_uid.as_str();
    let unknown = format!("{STUDY}.1.99");
    let partly = world.soap(&PKI.hospital, imaging(&PKI.hospital, &own, &[uid, &unknown], &[EXPLICIT])).await;
    assert_eq!((partly.retrieved().registry.status, partly.parts.len()), (Status::PartialSuccess, 1));
    assert!(partly.retrieved().registry.errors[0].code_context.starts_with("IDR-R-07"));
    let other_syntax = world.soap(&PKI.hospital, imaging(&PKI.hospital, &own, &[uid], &["1.2.840.10008.1.2.4.90"])).await;
    assert_eq!(other_syntax.retrieved().registry.status, Status::Failure);
    assert!(other_syntax.retrieved().registry.errors[0].code_context.starts_with("IDR-R-08"));
    let none = world.soap(&PKI.hospital, imaging(&PKI.hospital, &own, &[uid], &[])).await;
    assert!(none.retrieved().registry.errors[0].code_context.starts_with("IDR-R-04"));
    let nothing = world.soap(&PKI.hospital, imaging(&PKI.hospital, &own, &[], &[EXPLICIT])).await;
    assert!(nothing.retrieved().registry.errors[0].code_context.ends_with("XDSIRequestError request is incomplete"));
    let many: Vec<&str> = std::iter::repeat_n(uid, 2001).collect();
    let many = world.soap(&PKI.hospital, imaging(&PKI.hospital, &own, &many, &[EXPLICIT])).await;
    assert!(many.retrieved().registry.errors[0].code_context.starts_with("IDR-R-10 XDSRepositoryError limit=2000"));
}

#[tokio::test]
async fn altered_bytes_never_come_as_a_whole_answer() {
    let world = World::new().await;
    let instance = Instance::ct(1).pixels(&vec![9; 3 << 20]);
    world.stored(std::slice::from_ref(&instance)).await;
    fn flip(folder: &std::path::Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                flip(&path);
            } else {
                let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.write_at(&[1], file.metadata().unwrap().len() - 1).unwrap();
            }
        }
    }
    flip(&world.folder.path().join("objects"));
    let own = PKI.hospital.physician(&patient());
    let request = imaging(&PKI.hospital, &own, &[&instance.sop_instance_uid], &[EXPLICIT]);
    let response = world.send(&PKI.hospital, request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(Answer::try_read(response).await.is_err(), "no closing delimiter, no normal end");
    let revision = world.registered(std::slice::from_ref(&instance)).await;
    flip(&world.folder.path().join("objects"));
    let answer = world.soap(&PKI.hospital, retrieve(&PKI.hospital, &own, &[&revision.document_uid])).await;
    assert!(answer.retrieved().registry.errors[0].code_context.starts_with("IDR-R-09"), "a small document is compared before");
}

#[tokio::test]
async fn a_permission_that_is_withdrawn_meanwhile_ends_the_answer_before_the_next_instance() {
    use crate::consent::declarations::{Act, Performer, Recording, record};
    use futures::StreamExt as _;
    use idr_profile::access::DenialTarget;

    let world = World::new().await;
    // Larger than what is on its way between storage and network.
    let instances: Vec<Instance> = (1..=3).map(|n| Instance::ct(n).pixels(&vec![n as u8; 8 << 20])).collect();
    world.stored(&instances).await;
    world.registered(&instances).await;
    world.consented().await;
    let uids: Vec<&str> = instances.iter().map(|instance| instance.sop_instance_uid.as_str()).collect();
    let request = imaging(&PKI.other, &PKI.other.physician(&patient()), &uids, &[EXPLICIT]);
    let response = world.send(&PKI.other, request).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body().into_data_stream();
    let mut received = body.next().await.unwrap().unwrap().len();
    let denial = Act::Denial { target: DenialTarget::All, emergency_allowed: false, data_from: None, data_to: None, valid_from: None };
    let recording = Recording {
        patient: patient(),
        act: denial,
        performer: Performer::Patient,
        decided_on: jiff::civil::date(2026, 1, 20),
        document_sha256: None,
    };
    record(&world.central, "clerk", &recording).await.unwrap();
    let end = loop {
        match body.next().await {
            Some(Ok(chunk)) => received += chunk.len(),
            end => break end,
        }
    };
    assert!(matches!(end, Some(Err(_))), "not a normal end");
    assert!(received < 17 << 20, "at most what was begun: {received} bytes");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_a_closing_record() {
    let world = World::new().await;
    let instance = Instance::ct(1).pixels(&vec![7; 32 << 20]);
    world.stored(std::slice::from_ref(&instance)).await;
    let own = PKI.hospital.physician(&patient());
    let response = world.send(&PKI.hospital, imaging(&PKI.hospital, &own, &[&instance.sop_instance_uid], &[EXPLICIT])).await;
    let before = closings(&world).len();
    drop(response);
    while closings(&world).len() == before {
        tokio::task::yield_now().await;
    }
    let closing = closings(&world).pop().unwrap();
    assert_ne!(closing["closing"]["delivered"]["extent"], "complete");
}
