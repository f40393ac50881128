use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use idr_dimse::service::query_retrieve::{Returned, Service, encode};
use idr_ihe::metadata::PatientId;
use idr_profile::mapping::AffinityDomain;
use jiff::tz::TimeZone;

use super::retrieval::Next;
use super::*;
use crate::config::Inbound;
use crate::spool::contract::to;
use crate::spool::sample::{self, announced, at, facts, hand_over, study_uid, tenant};
use crate::spool::{Announced, Facts, MemorySpool, Move, State};

const EXPLICIT_LE: &str = "1.2.840.10008.1.2.1";

/// Objects of CT1 are of the hospital, those of LAB1 of another controller, those of OTHER1 nobody can say whose.
const CONTROLLERS: &str = r#"
revision = 1
[[row]]
ae_title = "CT1"
controller = "1.2.246.10.12345671.19.0"
register = "2"
[[row]]
ae_title = "PACS"
controller = "1.2.246.10.12345671.19.0"
register = "2"
[[row]]
ae_title = "LAB1"
controller = "1.2.246.10.87654321.19.0"
register = "2"
"#;

fn query(spool: &Arc<MemorySpool>, change: &[(&str, &str)]) -> Arc<Query> {
    let row = "[[inbound]]\nname = \"pacs\"\nae_title = \"PACS\"\naddresses = [\"10.1.2.3\"]\nquery = true\n";
    let mut text = format!("environment = \"test\"\n{}\n{row}", include_str!("../../../configs/idr-site.toml"));
    for (from, to) in change {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let main = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/idr-site.toml");
    let config = Arc::new(Config::parse(&text, Path::new(main)).expect("valid"));
    let rules =
        Arc::new(ArcSwap::from_pointee(crate::site::load_rules(&config, jiff::Timestamp::UNIX_EPOCH).expect("shipped rules load").sets));
    let domain = AffinityDomain::load(include_str!("../../../configs/affinity-domain.toml")).expect("shipped");
    let maps = Maps::new(domain, CONTROLLERS, TimeZone::UTC, jiff::civil::date(2026, 1, 15)).expect("valid");
    let trust = Trust::parse(include_str!("../../../configs/trust.toml"), &mut |_| unreachable!("no file is named")).expect("valid");
    Query::new(config, &trust, rules, spool.clone(), Arc::new(maps), || at(100)).expect("no destination needs a key")
}

fn asker(query: &Query) -> Asker {
    let row: &Inbound = query.config.inbound.last().expect("a row");
    Asker {
        tenant: tenant(),
        called_ae: "IDRSITE".to_owned(),
        calling_ae: row.ae_title.clone(),
        device: OwnDevice {
            row: row.name.clone(),
            controller: "1.2.246.10.12345671.19.0".to_owned(),
            register: "2".to_owned(),
            specifier: None,
        },
    }
}

fn element(tag: Tag, vr: [u8; 2], value: &str) -> Returned {
    Returned { tag, vr, value: value.as_bytes().to_vec() }
}

/// Object `n`, sent by this AE title: of its study four objects, each a series of its own.
async fn arrive(spool: &MemorySpool, n: u64, calling_ae: &str, state: State) -> crate::spool::SpoolId {
    let announced = Announced { calling_ae: calling_ae.to_owned(), ..announced(n) };
    let facts = Facts { state, ..facts(n) };
    let name = if n < 4 { "Öhman^Sanni" } else { "Virtanen^Matti" };
    let data = encode(
        EXPLICIT_LE,
        vec![
            element(tags::SPECIFIC_CHARACTER_SET, *b"CS", "ISO_IR 192"),
            element(tags::SOP_CLASS_UID, *b"UI", &announced.sop_class_uid),
            element(tags::SOP_INSTANCE_UID, *b"UI", &announced.sop_instance_uid),
            element(tags::STUDY_DATE, *b"DA", "20260115"),
            element(tags::STUDY_TIME, *b"TM", "101530"),
            element(tags::MODALITY, *b"CS", "CT"),
            element(tags::PATIENT_NAME, *b"PN", name),
            element(tags::PATIENT_ID, *b"LO", "010190-900P"),
            element(tags::STUDY_INSTANCE_UID, *b"UI", &facts.study_uid),
            element(tags::SERIES_INSTANCE_UID, *b"UI", &facts.series_uid),
            element(tags::INSTANCE_NUMBER, *b"IS", &n.to_string()),
        ],
    );
    hand_over(spool, announced, facts, &data.expect("explicit")).await.expect("committed").id
}

fn held() -> State {
    State::Held(crate::spool::Cause::incomplete())
}

fn identifier(level: &str, keys: &[(Tag, &str)], service: Service) -> Identifier {
    let mut elements = vec![element(Tag(0x0008, 0x0052), *b"CS", level), element(tags::SPECIFIC_CHARACTER_SET, *b"CS", "ISO_IR 192")];
    elements.extend(keys.iter().map(|(tag, value)| element(*tag, *b"LO", value)));
    let bytes = encode(EXPLICIT_LE, elements).expect("explicit");
    Identifier::read(EXPLICIT_LE, &bytes, Model::StudyRoot, service).expect("valid")
}

/// The values of one element in all answers, and the final status.
async fn find(query: &Arc<Query>, asker: Option<Asker>, identifier: Identifier, tag: Tag) -> (Vec<String>, Status) {
    let mut finding = match query.begin_find(asker, identifier).await {
        Ok(finding) => finding,
        Err(status) => return (Vec::new(), status),
    };
    let mut values = Vec::new();
    loop {
        match finding.next().await {
            Found::Match(elements, _) => {
                let element = elements.into_iter().find(|element| element.tag == tag);
                values.push(element.map(|element| String::from_utf8_lossy(&element.value).into_owned()).unwrap_or_default());
            }
            Found::Nothing => {}
            Found::End(status) => return (values, status),
        }
    }
}

/// Study 0: objects 0, 1 of the hospital, 2 of another controller, 3 in quarantine. Study 1: object 4 of nobody knows whom,
/// object 5 of another controller. Study 2: object 8 of the hospital.
async fn filled() -> Arc<MemorySpool> {
    let spool = Arc::new(sample::memory_spool());
    for (n, calling_ae, state) in [
        (0, "CT1", held()),
        (1, "CT1", held()),
        (2, "LAB1", held()),
        (3, "CT1", State::Quarantined("D701".parse().expect("valid"))),
        (4, "OTHER1", held()),
        (5, "LAB1", held()),
        (8, "CT1", State::Queued),
    ] {
        arrive(&spool, n, calling_ae, state).await;
    }
    spool
}

#[tokio::test]
async fn a_device_finds_what_stands_in_its_own_register_and_nothing_of_others() {
    let spool = filled().await;
    let query = query(&spool, &[]);
    let studies = |keys: &[(Tag, &str)], tag: Tag| find(&query, Some(asker(&query)), identifier("STUDY", keys, Service::Find), tag);
    let all = studies(&[], tags::STUDY_INSTANCE_UID).await;
    assert_eq!(all, (vec![study_uid(0), study_uid(8)], Status::SUCCESS));
    let counted = studies(&[(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, "")], tags::NUMBER_OF_STUDY_RELATED_INSTANCES).await;
    assert_eq!(counted.0, ["2", "1"], "neither the other controller's nor the quarantined one is counted");
    assert_eq!(studies(&[(tags::STUDY_INSTANCE_UID, &study_uid(4))], tags::STUDY_INSTANCE_UID).await.0, Vec::<String>::new());
    for (key, value, found) in [
        (tags::PATIENT_NAME, "öhman*", 1),
        (tags::PATIENT_NAME, "nobody*", 0),
        (tags::STUDY_DATE, "20260101-20260131", 2),
        (tags::STUDY_DATE, "20260201-", 0),
        (tags::MODALITIES_IN_STUDY, "CT", 2),
        (tags::MODALITIES_IN_STUDY, "MR", 0),
        (tags::PATIENT_ID, "010190-900?", 2),
    ] {
        assert_eq!(studies(&[(key, value)], tags::STUDY_INSTANCE_UID).await.0.len(), found, "{key} {value}");
    }
    let twice = format!("{0}\\{0}", study_uid(0));
    let keys = [(tags::STUDY_INSTANCE_UID, twice.as_str()), (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, "")];
    assert_eq!(studies(&keys, tags::NUMBER_OF_STUDY_RELATED_INSTANCES).await.0, ["2"], "a study that is named twice is there once");
    let name = studies(&[(tags::PATIENT_NAME, "öhman*")], tags::PATIENT_NAME).await;
    assert_eq!(name.0, ["Öhman^Sanni"]);
}

#[tokio::test]
async fn who_may_not_ask_is_told_what_one_is_told_who_has_nothing() {
    let spool = filled().await;
    let query = query(&spool, &[]);
    let identifier = || identifier("STUDY", &[], Service::Find);
    assert_eq!(find(&query, None, identifier(), tags::STUDY_INSTANCE_UID).await, (Vec::new(), Status::SUCCESS));
    let mut other = asker(&query);
    other.device.register = "3".to_owned();
    assert_eq!(find(&query, Some(other), identifier(), tags::STUDY_INSTANCE_UID).await, (Vec::new(), Status::SUCCESS));
    let elsewhere = Asker { tenant: "t2".parse().expect("valid"), ..asker(&query) };
    assert_eq!(find(&query, Some(elsewhere), identifier(), tags::STUDY_INSTANCE_UID).await, (Vec::new(), Status::SUCCESS));
}

#[tokio::test]
async fn series_and_images_are_found_below_what_is_named() {
    let spool = filled().await;
    let query = query(&spool, &[]);
    let (study, series) = (study_uid(0), facts(1).series_uid);
    let of_study = identifier("SERIES", &[(tags::STUDY_INSTANCE_UID, &study)], Service::Find);
    let found = find(&query, Some(asker(&query)), of_study, tags::SERIES_INSTANCE_UID).await;
    assert_eq!(found.0, [facts(0).series_uid, series.clone()]);
    let keys = [(tags::STUDY_INSTANCE_UID, study.as_str()), (tags::SERIES_INSTANCE_UID, &series), (tags::INSTANCE_NUMBER, "01")];
    let found = find(&query, Some(asker(&query)), identifier("IMAGE", &keys, Service::Find), tags::SOP_INSTANCE_UID).await;
    assert_eq!(found.0, [announced(1).sop_instance_uid]);
}

#[tokio::test]
async fn what_one_query_may_cost_is_bounded() {
    let spool = filled().await;
    let limited = query(&spool, &[("objects_max = 50000 ", "objects_max = 5 ")]);
    let identifier = || identifier("STUDY", &[], Service::Find);
    assert_eq!(find(&limited, Some(asker(&limited)), identifier(), tags::STUDY_INSTANCE_UID).await.1, Status(0xA700));
    let limited = query(&spool, &[("results_max = 10000 ", "results_max = 1 ")]);
    let (found, status) = find(&limited, Some(asker(&limited)), identifier(), tags::STUDY_INSTANCE_UID).await;
    assert_eq!((found.len(), status), (1, Status(0xA700)));
    let limited = query(&spool, &[("at_once = 4 ", "at_once = 1 ")]);
    let first = limited.begin_find(Some(asker(&limited)), identifier()).await.expect("a place");
    assert_eq!(find(&limited, Some(asker(&limited)), identifier(), tags::STUDY_INSTANCE_UID).await.1, Status(0xA700));
    drop(first);
    assert_eq!(find(&limited, Some(asker(&limited)), identifier(), tags::STUDY_INSTANCE_UID).await.1, Status::SUCCESS);
}

#[tokio::test]
async fn a_retrieve_is_on_record_and_sends_what_may_still_be_sent() {
    let spool = filled().await;
    let query = query(&spool, &[]);
    let wanted = identifier("STUDY", &[(tags::STUDY_INSTANCE_UID, &study_uid(0))], Service::Get);
    let mut retrieval = query.begin_retrieve(Some(asker(&query)), (Model::StudyRoot, &wanted), "itself").await.expect("begun");
    assert_eq!(retrieval.counts().remaining, 2, "the omitted ones are in no count");
    let study = spool.study(&tenant(), &study_uid(0)).await.expect("readable").expect("here");
    let note = study.notes.get("retrieved").expect("on record before anything is sent");
    assert!(note.ends_with("row=pacs to=itself instances=2"), "{note}");

    let Next::Object(object) = retrieval.next().await else { panic!("an object") };
    assert_eq!((object.sop_instance.as_str(), object.transfer_syntax.as_str()), (announced(0).sop_instance_uid.as_str(), EXPLICIT_LE));
    retrieval.ended(&object.sop_instance, Some(Status::SUCCESS));
    // The second goes into quarantine while the first is sent.
    let second = spool.instances(&tenant(), &announced(1).sop_instance_uid).await.expect("readable")[0].id();
    let quarantined = State::Quarantined("D701".parse().expect("valid"));
    spool.advance(vec![Move { id: second, to: to(quarantined, 200) }]).await.expect("moved");
    assert!(matches!(retrieval.next().await, Next::Failed));
    assert!(matches!(retrieval.next().await, Next::End));
    assert_eq!(retrieval.failed(), [announced(1).sop_instance_uid]);
    assert_eq!(retrieval.counts().status(), Status(0xB000));
    drop(retrieval);

    let others = identifier("STUDY", &[(tags::STUDY_INSTANCE_UID, &study_uid(4))], Service::Get);
    let mut retrieval = query.begin_retrieve(Some(asker(&query)), (Model::StudyRoot, &others), "itself").await.expect("begun");
    assert!(matches!(retrieval.next().await, Next::End));
    assert_eq!((retrieval.counts().status(), retrieval.counts().completed), (Status::SUCCESS, 0));
    let study = spool.study(&tenant(), &study_uid(4)).await.expect("readable").expect("here");
    assert_eq!(study.notes.get("retrieved"), None);
}

#[tokio::test]
async fn what_a_study_holds_of_another_patient_is_an_access_unit_of_its_own() {
    let spool = Arc::new(sample::memory_spool());
    arrive(&spool, 0, "CT1", held()).await;
    let other = PatientId { id: "020190-901X".to_owned(), authority: "1.2.246.21".to_owned() };
    let announced = Announced { calling_ae: "CT1".to_owned(), ..announced(1) };
    let facts = Facts { state: held(), patient_id: Some(other), ..facts(1) };
    let study = facts.study_uid.clone();
    hand_over(&*spool, announced, facts, b"of another patient").await.expect("committed");
    let query = query(&spool, &[]);
    let parts =
        query.look_up(&tenant(), &identifier("STUDY", &[(tags::STUDY_INSTANCE_UID, &study)], Service::Find)).await.expect("looked up");
    let sizes: Vec<usize> = parts.iter().map(|part| part.instances.len()).collect();
    assert_eq!(sizes, [1, 1]);
}
