//! Routes that read × permit, omit, refuse, inside the process (profile 05 §9, 09 §8). All of them, over the wire:
//! `tests/scenarios/read_routes.rs`.

use axum::body::Body;
use http::Request;
use http::header::{AUTHORIZATION, RETRY_AFTER};
use idr_ihe::transaction::iti_18::ReturnType;
use idr_ihe::transaction::registry_response::Status;
use idr_profile::access::Claims;
use idr_profile::mapping::Revision;

use crate::testing::soap::{Answer, imaging, query, retrieve};
use crate::testing::{EXPLICIT, Instance, PKI, Party, STUDY, World, patient};

const APPROVED: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved";

/// What is asked for: something that is there, or that is not.
#[derive(Clone, Copy, PartialEq)]
enum Asked {
    Stored,
    Unknown,
}

struct Route {
    name: &'static str,
    scope: &'static str,
    request: fn(&Party, &Claims, &Revision, Asked) -> Request<Body>,
    /// Whether the answer holds what was asked for.
    holds: fn(&Answer) -> bool,
    /// Whether the answer says that there is no such thing.
    absent: fn(&Answer) -> bool,
    /// Whether the answer refuses openly.
    refuses: fn(&Answer) -> bool,
}

const UNKNOWN: &str = "1.2.246.10.90000011.77.1.1.9";

fn fault(answer: &Answer) -> bool {
    answer.status.as_u16() == 500 && answer.refusal() == "IDR-X-27"
}

const ROUTES: [Route; 6] = [
    Route {
        name: "ITI-18 FindDocuments",
        scope: "",
        request: |party, claims, _, asked| {
            let status = if asked == Asked::Stored { APPROVED } else { "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated" };
            let parameters =
                [("$XDSDocumentEntryPatientId", vec![patient().to_cx()]), ("$XDSDocumentEntryStatus", vec![status.to_owned()])];
            query(party, claims, "FindDocuments", ReturnType::LeafClass, &parameters)
        },
        holds: |answer| answer.objects().entries.len() == 1,
        absent: |answer| answer.found().registry.status == Status::Success && answer.objects().entries.is_empty(),
        refuses: fault,
    },
    Route {
        name: "ITI-18 GetDocuments",
        scope: "",
        request: |party, claims, revision, asked| {
            let uid = if asked == Asked::Stored { revision.document_uid.clone() } else { UNKNOWN.to_owned() };
            query(party, claims, "GetDocuments", ReturnType::LeafClass, &[("$XDSDocumentEntryUniqueId", vec![uid])])
        },
        holds: |answer| answer.objects().entries.len() == 1,
        absent: |answer| answer.found().registry.status == Status::Success && answer.objects().entries.is_empty(),
        refuses: fault,
    },
    Route {
        name: "ITI-18 GetAssociations",
        scope: "",
        request: |party, claims, revision, asked| {
            let uuid = if asked == Asked::Stored { &revision.entry_uuid } else { "urn:uuid:00000000-0000-4000-8000-000000000001" };
            query(party, claims, "GetAssociations", ReturnType::ObjectRef, &[("$uuid", vec![uuid.to_owned()])])
        },
        holds: |answer| !answer.found().objects.objects.is_empty(),
        absent: |answer| answer.found().registry.status == Status::Success && answer.found().objects.objects.is_empty(),
        refuses: fault,
    },
    Route {
        name: "ITI-43",
        scope: "",
        request: |party, claims, revision, asked| {
            retrieve(party, claims, &[if asked == Asked::Stored { &revision.document_uid } else { UNKNOWN }])
        },
        holds: |answer| answer.parts.len() == 1,
        absent: |answer| {
            answer.retrieved().registry.status == Status::Failure
                && answer.retrieved().registry.errors[0].code_context.starts_with("IDR-R-07 XDSDocumentUniqueIdError")
        },
        refuses: fault,
    },
    Route {
        name: "RAD-69",
        scope: "",
        request: |party, claims, _, asked| {
            let stored = Instance::ct(1).sop_instance_uid;
            imaging(party, claims, &[if asked == Asked::Stored { &stored } else { UNKNOWN }], &[EXPLICIT])
        },
        holds: |answer| answer.parts.len() == 1,
        absent: |answer| {
            answer.retrieved().registry.status == Status::Failure
                && answer.retrieved().registry.errors[0].code_context.starts_with("IDR-R-07 XDSDocumentUniqueIdError")
        },
        refuses: fault,
    },
    Route {
        name: "WADO-RS instance",
        scope: "idr.retrieve",
        request: |party, claims, _, asked| {
            let uid = if asked == Asked::Stored { Instance::ct(1).sop_instance_uid } else { UNKNOWN.to_owned() };
            Request::get(format!("/dicomweb/studies/{STUDY}/series/{STUDY}.1/instances/{uid}"))
                .header(AUTHORIZATION, party.bearer(claims, "idr.retrieve"))
                .body(Body::empty())
                .expect("a request")
        },
        holds: |answer| answer.status.as_u16() == 200,
        absent: |answer| answer.status.as_u16() == 404,
        refuses: |answer| answer.status.as_u16() == 403,
    },
];

#[tokio::test]
async fn each_route_gives_omits_and_refuses_as_its_row_says() {
    let world = World::new().await;
    let instance = [Instance::ct(1)];
    world.stored(&instance).await;
    let revision = world.registered(&instance).await;
    let (own, other) = (PKI.hospital.physician(&patient()), PKI.other.physician(&patient()));
    let without_basis = Claims { care_reason: None, ..PKI.hospital.physician(&patient()) };
    for route in &ROUTES {
        assert!(route.scope.is_empty() || route.scope.starts_with("idr."));
        let ask = async |party: &Party, claims: &Claims, asked| world.soap(party, (route.request)(party, claims, &revision, asked)).await;
        let permitted = ask(&PKI.hospital, &own, Asked::Stored).await;
        assert!((route.holds)(&permitted), "{}, permit: {}", route.name, String::from_utf8_lossy(&permitted.body));
        let omitted = ask(&PKI.other, &other, Asked::Stored).await;
        assert!((route.absent)(&omitted), "{}, omit: {}", route.name, String::from_utf8_lossy(&omitted.body));
        let refused = ask(&PKI.hospital, &without_basis, Asked::Stored).await;
        assert!((route.refuses)(&refused), "{}, refuse: {}", route.name, String::from_utf8_lossy(&refused.body));

        // Denied equals unknown, byte for byte.
        let unknown = ask(&PKI.other, &other, Asked::Unknown).await;
        let echoes = [Instance::ct(1).sop_instance_uid, revision.document_uid.clone()];
        let denied = omitted.normal(&echoes.iter().map(String::as_str).collect::<Vec<_>>());
        let absent = unknown.normal(&[UNKNOWN, UNKNOWN]);
        let same = |text: &str| text.replace("echo-1", "echo-0");
        assert_eq!((omitted.status, same(&denied)), (unknown.status, same(&absent)), "{}", route.name);
        let names = |answer: &Answer| answer.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&omitted), names(&unknown), "{}", route.name);
    }
}

#[tokio::test]
async fn no_byte_of_an_answer_leaves_when_its_record_cannot_be_kept() {
    let receipts = |claims: &Claims| {
        Request::get(format!("/dicomweb/studies/{STUDY}/receipts"))
            .header(AUTHORIZATION, PKI.hospital.bearer(claims, "idr.store"))
            .body(Body::empty())
            .expect("a request")
    };
    // The last one is the route of receipts, which a site reads.
    for route in ROUTES.iter().map(Some).chain([None]) {
        let world = World::new().await;
        let instance = [Instance::ct(1)];
        world.stored(&instance).await;
        let revision = world.registered(&instance).await;
        let ask = async || match route {
            Some(route) => {
                let request = (route.request)(&PKI.hospital, &PKI.hospital.physician(&patient()), &revision, Asked::Stored);
                world.soap(&PKI.hospital, request).await
            }
            None => world.soap(&PKI.hospital, receipts(&PKI.hospital.site(&patient()))).await,
        };
        let name = route.map_or("receipts", |route| route.name);
        let told = ask().await;
        assert!(route.map_or(told.status.as_u16() == 200, |route| (route.holds)(&told)), "{name}");

        world.sink.fail_at_opening("disk gone");
        let recorded = world.sink.entries().len();
        let answer = ask().await;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        if name.starts_with("ITI") || name.starts_with("RAD") {
            assert_eq!((answer.status.as_u16(), answer.refusal().as_str()), (503, "IDR-X-32"), "{name}: {body}");
        } else {
            let problem: serde_json::Value = serde_json::from_slice(&answer.body).expect("a problem");
            assert_eq!((answer.status.as_u16(), &problem["refusal"]), (503, &"IDR-X-32".into()), "{name}: {body}");
        }
        assert_eq!(answer.headers.get(RETRY_AFTER).map(|value| value.to_str().expect("ASCII")), Some("60"), "{name}");
        assert!(answer.parts.is_empty(), "{name}");
        for payload in [&instance[0].sop_instance_uid, &revision.document_uid, &revision.entry_uuid, &patient().id] {
            assert!(!body.contains(payload.as_str()), "{name}: {body}");
        }
        for payload in ["DICM", "\"R3\"", "RegistryObjectList", "DocumentResponse"] {
            assert!(!body.contains(payload), "{name}: {body}");
        }
        // The assertion may have been recorded; no use was.
        let opened = world.sink.entries()[recorded..].iter().any(|(_, value)| !value["opening"].is_null());
        assert!(!opened, "{name}");
    }
}

#[tokio::test]
async fn a_refusal_does_not_depend_on_what_is_stored() {
    let (empty, full) = (World::new().await, World::new().await);
    let revision = full.registered(&[Instance::ct(1)]).await;
    let without_basis = Claims { care_reason: None, ..PKI.hospital.physician(&patient()) };
    for route in &ROUTES {
        let ask = async |world: &World| {
            let request = (route.request)(&PKI.hospital, &without_basis, &revision, Asked::Stored);
            world.soap(&PKI.hospital, request).await
        };
        let (empty, full) = (ask(&empty).await, ask(&full).await);
        assert_eq!((empty.status, empty.normal(&[])), (full.status, full.normal(&[])), "{}", route.name);
    }
}
