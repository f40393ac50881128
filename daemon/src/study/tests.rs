//! Stage T over the real spool: who is held, who is quarantined, and that a restart or another order changes nothing.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use idr_ihe::metadata::PatientId;
use idr_profile::identifier::Environment;
use idr_profile::mapping::AffinityDomain;
use idr_profile::rules::RuleSets;
use idr_profile::rules::study::accession_name;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::stage_t::EVALUATED;
use super::{Memory, STUDIES_PER_ROUND, Studies};
use crate::config::Config;
use crate::forward::Maps;
use crate::quarantine::Quarantine;
use crate::spool::disk::{Fault, MemoryDisk};
use crate::spool::index::MemoryStore;
use crate::spool::sample::{announced, at, facts, hand_over, memory_spool, open, tenant};
use crate::spool::{Announced, Claim, Entry, Facts, Lane, Move, Progress, Spool, SpoolId, Verb};

mod over_time;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const KO: &str = "1.2.840.10008.5.1.4.1.1.88.59";
const OTHER: &str = "020290-901X";
const MAP: &str = "revision = 1\ncontrollers_own = [\"1.2.246.10.12345671.19.0\"]\n[[row]]\ncontroller = \"1.2.246.10.12345671.19.0\"\nregister = \"2\"\n";

/// One object; what is not said is that of all the others.
#[derive(Clone)]
struct Object {
    number: u64,
    /// Of its SOP Instance UID.
    instance: u64,
    study: u64,
    series: u64,
    patient: &'static str,
    name: &'static str,
    accession: &'static str,
    class: &'static str,
    /// Instances that a rejection note names.
    rejects: Vec<u64>,
    pixels: u8,
    /// Implicit VR Little Endian.
    implicit: bool,
}

fn object(number: u64) -> Object {
    Object {
        number,
        instance: number,
        study: 1,
        series: 1,
        patient: "010190-900P",
        name: "Testi^Tiina",
        accession: "T1",
        class: CT,
        rejects: Vec::new(),
        pixels: 0,
        implicit: false,
    }
}

fn note(number: u64, rejects: &[u64]) -> Object {
    Object { class: KO, series: 9, rejects: rejects.to_vec(), ..object(number) }
}

fn study_uid(study: u64) -> String {
    format!("1.2.246.10.12345671.5.{study}")
}

fn instance_uid(instance: u64) -> String {
    format!("1.2.246.10.12345671.7.{instance}")
}

/// An element of Explicit or Implicit VR Little Endian.
fn encoded(group: u16, number: u16, vr: &str, value: &[u8], implicit: bool) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr == "UI" { 0 } else { b' ' });
    }
    let length = u32::try_from(value.len()).expect("short");
    let mut bytes = [group.to_le_bytes(), number.to_le_bytes()].concat();
    if !implicit {
        bytes.extend(vr.as_bytes());
    }
    match vr {
        _ if implicit => bytes.extend(length.to_le_bytes()),
        "SQ" | "OW" => bytes.extend([&[0, 0][..], &length.to_le_bytes()].concat()),
        _ => bytes.extend(&length.to_le_bytes()[..2]),
    }
    [bytes, value].concat()
}

fn item(content: &[u8]) -> Vec<u8> {
    [b"\xFE\xFF\x00\xE0", &u32::try_from(content.len()).expect("short").to_le_bytes()[..], content].concat()
}

impl Object {
    fn data(&self) -> Vec<u8> {
        let study = study_uid(self.study);
        let element = |group, number, vr: &str, value: &[u8]| encoded(group, number, vr, value, self.implicit);
        let mut data = [
            element(0x0008, 0x0016, "UI", self.class.as_bytes()),
            element(0x0008, 0x0018, "UI", instance_uid(self.instance).as_bytes()),
            element(0x0008, 0x0020, "DA", b"20260115"),
            element(0x0008, 0x0050, "SH", self.accession.as_bytes()),
            element(0x0008, 0x0060, "CS", if self.class == CT { b"CT" } else { b"KO" }),
            element(0x0010, 0x0010, "PN", self.name.as_bytes()),
            element(0x0010, 0x0020, "LO", self.patient.as_bytes()),
            element(0x0010, 0x0021, "LO", b"1.2.246.21"),
            element(0x0020, 0x000D, "UI", study.as_bytes()),
            element(0x0020, 0x000E, "UI", format!("1.2.246.10.12345671.6.{}", self.series).as_bytes()),
        ]
        .concat();
        if self.class == KO {
            let code = [element(0x0008, 0x0100, "SH", b"113037"), element(0x0008, 0x0102, "SH", b"DCM")].concat();
            let sops: Vec<u8> =
                self.rejects.iter().flat_map(|instance| item(&element(0x0008, 0x1155, "UI", instance_uid(*instance).as_bytes()))).collect();
            let series = item(&element(0x0008, 0x1199, "SQ", &sops));
            let evidence = [element(0x0008, 0x1115, "SQ", &series), element(0x0020, 0x000D, "UI", study.as_bytes())].concat();
            data.extend(element(0x0040, 0xA043, "SQ", &item(&code)));
            data.extend(element(0x0040, 0xA375, "SQ", &item(&evidence)));
        } else {
            data.extend(element(0x7FE0, 0x0010, "OW", &[self.pixels; 8]));
        }
        data
    }

    fn announced(&self) -> Announced {
        Announced {
            sop_instance_uid: instance_uid(self.instance),
            sop_class_uid: self.class.to_owned(),
            transfer_syntax_uid: if self.implicit { "1.2.840.10008.1.2" } else { "1.2.840.10008.1.2.1" }.to_owned(),
            ..announced(self.number)
        }
    }

    fn facts(&self) -> Facts {
        Facts {
            study_uid: study_uid(self.study),
            series_uid: format!("1.2.246.10.12345671.6.{}", self.series),
            patient_id: Some(PatientId { id: self.patient.to_owned(), authority: "1.2.246.21".to_owned() }),
            accession: Some(accession_name(self.accession, None)),
            rule_set: "fi-2.4.1/1".to_owned(),
            findings: Vec::new(),
            ..facts(self.number)
        }
    }
}

fn rules(site: &str) -> Arc<ArcSwap<RuleSets>> {
    let site = format!("allow_stricter = true\n{site}");
    Arc::new(ArcSwap::from_pointee(
        RuleSets::load(&idr_profile::rules::shipped_files(), Some(&site), Environment::Test).expect("valid settings"),
    ))
}

fn studies(spool: &Arc<dyn Spool>, site: &str, map: &str) -> Studies {
    studies_over(spool, Arc::new(MemoryDisk::default()), site, map, || at(2000))
}

fn maps(map: &str) -> Maps {
    let zone = TimeZone::get("Europe/Helsinki").expect("bundled");
    Maps::new(AffinityDomain::shipped(), map, zone, jiff::civil::date(2026, 1, 15)).expect("loads")
}

/// What devices said is on this disk.
fn studies_over(spool: &Arc<dyn Spool>, disk: Arc<MemoryDisk>, site: &str, map: &str, clock: fn() -> Timestamp) -> Studies {
    let text = "environment = \"test\"\n[site]\nid = \"site-1\"\norganisation = \"1.2.246.10.12345671\"\norganisation_name = \"o\"\n\
                source_oid = \"1.2.246.10.12345671.1\"\nrule_sets = [\"fi-2.4.1\"]\n[dimse]\nlocal_ae_titles = [\"IDRSITE\"]\n[storage]\npath = \"state\"\n";
    let config = Arc::new(Config::parse(text, Path::new("idr-site.toml")).expect("a usual configuration"));
    let completeness = crate::completeness::Completeness::open(config.clone(), disk, spool.clone(), clock).expect("a working disk");
    Studies::new(config, rules(site), spool.clone(), vec![tenant()], Arc::new(maps(map)), completeness, clock)
}

/// Hands them over in this order, and evaluates their studies.
async fn evaluated(spool: &Arc<dyn Spool>, objects: &[Object], site: &str) -> Vec<String> {
    for object in objects {
        hand_over(&**spool, object.announced(), object.facts(), &object.data()).await.expect("kept");
    }
    evaluate(spool, site, MAP).await;
    states(spool).await
}

async fn evaluate(spool: &Arc<dyn Spool>, site: &str, map: &str) -> usize {
    let (studies, mut moved) = (studies(spool, site, map), 0);
    for study in 1..=2 {
        if let Some(study) = spool.study(&tenant(), &study_uid(study)).await.expect("readable") {
            moved += studies.evaluate_set(&study, at(2000)).await.expect("a working disk").instances;
        }
    }
    moved
}

/// `<instance> <state>` of every object, sorted; of both copies where there are two.
async fn states(spool: &Arc<dyn Spool>) -> Vec<String> {
    let mut states = Vec::new();
    for study in 1..=2 {
        for entry in spool.members(&tenant(), &study_uid(study), None, 1000).await.expect("readable") {
            let instance = entry.record.announced.sop_instance_uid;
            states.push(format!("{} {}", instance.rsplit('.').next().unwrap_or_default(), entry.progress.state));
        }
    }
    states.sort();
    states
}

fn memory() -> (MemoryDisk, Arc<dyn Spool>) {
    let disk = MemoryDisk::default();
    let (spool, _) = open(&disk, &MemoryStore::default(), false).expect("an empty disk");
    let seam = spool.seam();
    (disk, seam)
}

async fn decide(spool: &Arc<dyn Spool>, object: SpoolId, verb: Verb, now: Timestamp) -> Option<String> {
    let tenants = [tenant()];
    let quarantine = Quarantine { spool: &**spool, tenants: &tenants, rules: rules("").load_full(), now };
    let decided = quarantine.decide(&object.to_string(), verb, 1000, "asked").await.expect("a working disk").expect("here");
    decided[0].refused.clone()
}

#[tokio::test]
async fn a_finding_quarantines_whom_it_names_and_holds_the_others_if_the_rules_say_so() {
    let name = || Object { name: "Toinen^Testi", ..object(2) };
    let copy = || Object { instance: 1, pixels: 1, ..object(3) };
    type Case = (&'static str, Vec<Object>, &'static str, &'static [&'static str]);
    let second_encoding = || Object { instance: 1, pixels: 1, implicit: true, ..object(3) };
    let cases: [Case; 11] = [
        ("a second encoding", vec![object(1), object(2), second_encoding()], "", &["1 held(D733)", "1 queued", "2 queued"]),
        (
            "a second encoding with another name",
            vec![object(1), object(2), Object { name: "Toinen^Testi", ..second_encoding() }],
            "",
            &["1 held(incomplete)", "1 quarantined(D732)", "2 held(incomplete)"],
        ),
        ("a whole study", vec![object(1), object(2)], "", &["1 queued", "2 queued"]),
        ("a warning", vec![object(1), name()], "", &["1 queued", "2 queued"]),
        ("two patients", vec![object(1), Object { patient: OTHER, ..object(2) }], "", &["1 quarantined(D701)", "2 quarantined(D701)"]),
        ("a second copy", vec![object(1), object(2), copy()], "", &["1 held(incomplete)", "1 quarantined(D732)", "2 held(incomplete)"]),
        (
            "a second copy, the study not held",
            vec![object(1), object(2), copy()],
            "parameters = { hold_study_on_quarantine = false }",
            &["1 quarantined(D732)", "1 queued", "2 queued"],
        ),
        (
            "a series of two studies",
            vec![object(1), Object { study: 2, accession: "T2", ..object(2) }],
            "",
            &["1 queued", "2 quarantined(D711)"],
        ),
        (
            "an accession number of two patients",
            vec![object(1), Object { study: 2, series: 2, patient: OTHER, ..object(2) }],
            "",
            &["1 queued", "2 quarantined(D714)"],
        ),
        ("a level off", vec![object(1), Object { patient: OTHER, ..object(2) }], "levels = { D701 = \"OFF\" }", &["1 queued", "2 queued"]),
        ("a note", vec![object(1), object(2), note(3, &[2])], "", &["1 held(incomplete)", "2 quarantined(D734)", "3 held(incomplete)"]),
    ];
    for (what, objects, site, expected) in cases {
        let (_, spool) = memory();
        assert_eq!(evaluated(&spool, &objects, site).await, expected, "{what}");
        assert_eq!(evaluate(&spool, site, MAP).await, 0, "{what}: the second time changes nothing");
    }
}

#[tokio::test]
async fn what_was_set_aside_occupies_neither_series_nor_accession_number() {
    // Of study 1 all is set aside, or all but an object that came later: then it is that one that came first.
    let cases = [
        ("superseded", false, false, "2 queued"),
        ("rejected", false, false, "2 queued"),
        // Rejected by a note, which came to the centre.
        ("sent", true, false, "2 queued"),
        ("superseded", false, true, "2 quarantined(D711)"),
    ];
    for (aside, noted, left, expected) in cases {
        let (disk, spool) = memory();
        let mut first = vec![Object { patient: OTHER, ..object(1) }];
        first.extend(left.then(|| Object { patient: OTHER, ..object(3) }));
        evaluated(&spool, &first, "").await;
        let entry = spool.instances(&tenant(), &instance_uid(1)).await.expect("readable").remove(0);
        let state = aside.parse().expect("a state");
        spool.advance(vec![Move { id: entry.id(), to: Progress { state, ..entry.progress } }]).await.expect("a working disk");
        if noted {
            evaluated(&spool, &[Object { patient: OTHER, ..note(5, &[1]) }], "").await;
        }
        let after = evaluated(&spool, &[Object { study: 2, number: 20, instance: 2, ..object(2) }], "").await;
        assert!(after.contains(&expected.to_owned()), "{aside}: {after:?}");
        // The second study waits for both rules if one object of the first is left.
        let second = spool.instances(&tenant(), &instance_uid(2)).await.expect("readable").remove(0);
        assert_eq!(second.progress.reasons, if left { vec!["D711", "D714"] } else { Vec::new() });
        let here = spool.accession(&tenant(), &accession_name("T1", None)).await.expect("readable");
        assert_eq!(here.iter().map(|one| one.object).collect::<Vec<_>>(), {
            let first = spool.instances(&tenant(), &instance_uid(3)).await.expect("readable");
            first.iter().chain([&second]).map(Entry::id).collect::<Vec<_>>()
        });
        drop((spool, disk));
    }
}

#[tokio::test]
async fn note_and_object_give_the_same_end_state_in_every_order() {
    let all = [object(1), object(2), note(3, &[2])];
    let mut ends = Vec::new();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (_, spool) = memory();
        // Each comes after the study was evaluated without it.
        for (number, index) in (10..).zip(order) {
            evaluated(&spool, &[Object { number, ..all[index].clone() }], "").await;
        }
        ends.push(states(&spool).await);
    }
    // What was queued before its note came is taken back as long as it was not sent.
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    assert_eq!(ends[0][1], "2 quarantined(D734)");
}

#[tokio::test]
async fn what_is_being_sent_when_its_note_comes_is_left_out_of_the_manifest_when_that_is_over() {
    // Sent, or not: then it is taken back.
    for (arrives, expected, unlisted) in [(true, "2 sent", true), (false, "2 quarantined(D734)", true)] {
        let (_, spool) = memory();
        evaluated(&spool, &[object(1), object(2)], "").await;
        let claim = Claim { tenant: tenant(), state: "queued", lane: Lane::Normal, now: at(2000), lease_until: at(9000), limit: 10 };
        let claimed = spool.claim(claim).await.expect("readable");
        assert_eq!(claimed.len(), 2);
        let note = note(3, &[2]);
        hand_over(&*spool, note.announced(), note.facts(), &note.data()).await.expect("kept");
        let studies = studies(&spool, "", MAP);
        studies.round(&tenant()).await.expect("a working disk");
        let rejected = async || spool.instances(&tenant(), &instance_uid(2)).await.expect("readable").remove(0);
        let during = rejected().await;
        assert_eq!((during.progress.state.to_string().as_str(), during.progress.unlisted), ("sending", false), "nothing is cut");
        for entry in claimed {
            let to = Progress { state: "sent".parse().expect("a state"), ..entry.progress.clone() };
            match arrives {
                true => spool.advance(vec![Move { id: entry.id(), to }]).await.expect("a working disk"),
                false => spool.give_back(entry.id()),
            }
        }
        // The clock of these tests stands still: its rest is over.
        studies.memory().resting.clear();
        studies.round(&tenant()).await.expect("a working disk");
        assert!(states(&spool).await.contains(&expected.to_owned()), "{:?}", states(&spool).await);
        assert_eq!(rejected().await.progress.unlisted, unlisted);
        studies.memory().resting.clear();
        studies.round(&tenant()).await.expect("a working disk");
        assert!(studies.memory().again.is_empty(), "it is asked again no more");
    }
}

#[tokio::test]
async fn a_restart_with_a_lost_index_forgets_nothing() {
    let (disk, spool) = memory();
    let before = evaluated(&spool, &[object(1), Object { patient: OTHER, ..object(2) }], "").await;
    let noted = spool.study(&tenant(), &study_uid(1)).await.expect("readable").expect("here").notes[EVALUATED].clone();
    assert!(noted.contains(" keeps ") && noted.ends_with("fi-2.4.1/1 D701"), "{noted}");
    drop(spool);
    let (again, _) = open(&disk.power_cut(1), &MemoryStore::default(), false).expect("readable");
    let spool = again.seam();
    assert_eq!(states(&spool).await, before);
    assert_eq!(evaluate(&spool, "", MAP).await, 0);
    let entry = spool.members(&tenant(), &study_uid(1), None, 1).await.expect("readable").remove(0);
    assert_eq!(entry.progress.reasons, ["D701"]);
}

#[tokio::test]
async fn after_a_change_of_the_rules_quarantined_objects_are_judged_by_those_in_force() {
    let (_, spool) = memory();
    let objects = [object(1), Object { name: "Toinen^Testi", ..object(2) }];
    let stricter = "levels = { D703 = \"REJECT\" }";
    assert_eq!(evaluated(&spool, &objects, stricter).await, ["1 quarantined(D703)", "2 quarantined(D703)"]);
    // Those of stage I are asked again too, and find much in these bare objects; what the study was held for is gone.
    evaluate(&spool, "", MAP).await;
    let entries = spool.members(&tenant(), &study_uid(1), None, 10).await.expect("readable");
    for entry in entries {
        assert!(!entry.progress.reasons.contains(&"D703".to_owned()), "{:?}", entry.progress.state);
        assert_eq!(entry.progress.judged.as_deref(), Some(rules("").load().set("fi-2.4.1").expect("shipped").edition.as_str()));
    }
}

#[tokio::test]
async fn a_study_without_controller_waits_for_the_map_and_one_of_another_controller_for_a_decision() {
    let (_, spool) = memory();
    for number in 1..=2 {
        hand_over(&*spool, object(number).announced(), object(number).facts(), &object(number).data()).await.expect("kept");
    }
    evaluate(&spool, "", "revision = 1").await;
    assert_eq!(states(&spool).await, ["1 held(D437)", "2 held(D437)"]);
    assert_eq!(evaluate(&spool, "", "revision = 1").await, 0);
    evaluate(&spool, "", &MAP.replace("controllers_own = [\"1.2.246.10.12345671.19.0\"]\n", "")).await;
    assert_eq!(states(&spool).await, ["1 quarantined(D738)", "2 quarantined(D738)"]);
    evaluate(&spool, "", MAP).await;
    let entry = spool.members(&tenant(), &study_uid(1), None, 1).await.expect("readable").remove(0);
    assert_eq!(entry.progress.state.to_string(), "queued", "the map has the controller now");
}

#[tokio::test]
async fn an_operator_can_have_the_rules_asked_again_and_what_the_centre_refused_is_not_theirs() {
    let (_, spool) = memory();
    evaluated(&spool, &[object(1), Object { patient: OTHER, ..object(2) }], "").await;
    let id = spool.members(&tenant(), &study_uid(1), None, 1).await.expect("readable").remove(0).id();
    assert_eq!(decide(&spool, id, Verb::ReEvaluate, at(2000)).await, None);
    let entry = spool.entry(id).await.expect("readable").expect("here");
    assert_eq!((entry.progress.state.to_string().as_str(), entry.progress.judged), ("quarantined(D701)", None), "until it is judged");
    evaluate(&spool, "", MAP).await;
    let entry = spool.entry(id).await.expect("readable").expect("here");
    assert!(entry.progress.judged.is_some() && entry.progress.reasons.contains(&"D701".to_owned()), "{:?}", entry.progress.reasons);
    let refused = Progress { state: "quarantined(CS-C000)".parse().expect("a state"), ..entry.progress };
    spool.advance(vec![Move { id, to: refused }]).await.expect("a working disk");
    assert!(decide(&spool, id, Verb::ReEvaluate, at(2001)).await.is_some_and(|why| why.contains("no rule")));
}

#[tokio::test]
async fn of_two_copies_the_one_that_is_kept_goes_on() {
    for (verb, expected) in
        [(Verb::KeepFirst, ["1 queued", "1 rejected", "2 queued"]), (Verb::KeepSecond, ["1 queued", "1 rejected", "2 queued"])]
    {
        let (_, spool) = memory();
        evaluated(&spool, &[object(1), object(2), Object { instance: 1, pixels: 1, ..object(3) }], "").await;
        let copies = spool.instances(&tenant(), &instance_uid(1)).await.expect("readable");
        let second = copies.iter().max_by_key(|copy| copy.id()).expect("two copies").id();
        let first = copies.iter().map(Entry::id).min().expect("two copies");
        assert!(decide(&spool, first, verb, at(2000)).await.is_some(), "the second is the one to name");
        assert_eq!(decide(&spool, second, verb, at(2000)).await, None);
        assert_eq!(decide(&spool, second, verb, at(2001)).await, None, "the same decision again");
        evaluate(&spool, "", MAP).await;
        assert_eq!(states(&spool).await, expected, "{verb:?}");
        let kept = spool.entry(second).await.expect("readable").expect("here");
        assert_eq!(kept.progress.state.to_string() == "queued", verb == Verb::KeepSecond);
        assert_eq!(kept.progress.overrides.is_empty(), verb == Verb::KeepFirst);
    }
}

#[tokio::test]
async fn a_study_of_ten_thousand_instances_is_judged_and_goes_on() {
    let spool: Arc<dyn Spool> = Arc::new(memory_spool());
    for number in 1..=10_000 {
        hand_over(&*spool, object(number).announced(), object(number).facts(), &object(number).data()).await.expect("kept");
    }
    assert_eq!(evaluate(&spool, "", MAP).await, 10_000);
}

#[tokio::test]
async fn a_study_whose_evaluation_fails_is_evaluated_again() {
    let (disk, spool) = memory();
    hand_over(&*spool, object(1).announced(), object(1).facts(), &object(1).data()).await.expect("kept");
    let studies = studies(&spool, "", MAP);
    disk.fail(disk.steps() + 1, Fault::Enospc);
    studies.round(&tenant()).await.expect("other studies go on");
    assert_eq!(studies.memory().again.iter().map(|(_, uid)| uid.clone()).collect::<Vec<_>>(), [study_uid(1)]);
}

#[test]
fn studies_that_rest_take_no_place_of_those_that_are_judged_again() {
    let mut memory = Memory::default();
    for n in 0..STUDIES_PER_ROUND {
        let key = (tenant(), format!("1.{n}"));
        memory.resting.insert(key.clone(), (at(0), at(100)));
        memory.again.insert(key);
    }
    memory.again.insert((tenant(), "2".to_owned()));
    assert_eq!(memory.due_again(&tenant(), at(50)), ["2"]);
    assert_eq!(memory.due_again(&tenant(), at(100)).len(), STUDIES_PER_ROUND);
}
