//! One accepted and one refused example for each rule of stage T (profile 01 §12.1), and order-independence (§12.4).

use super::*;
use crate::identifier::Environment;
use crate::rules::{Context, Level, RuleSets, Rules, Source, Stage};
use crate::scan::testing::{EXPLICIT, Set, ct, issuer};
use crate::scan::{Limits, Scan, Scanner, tags};
use dicom_core::Tag;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const STUDY: &str = "1.2.246.10.90000011.77.1";
const KO: &str = "1.2.840.10008.5.1.4.1.1.88.59";
const SR: &str = "1.2.840.10008.5.1.4.1.1.88.33";
const PR: &str = "1.2.840.10008.5.1.4.1.1.11.1";
const CONCEPT_NAME: Tag = Tag(0x0040, 0xA043);
const SERIES: Tag = tags::SERIES_INSTANCE_UID;

fn rules(site: &str) -> Arc<Rules> {
    let sets = RuleSets::load(&crate::rules::shipped_files(), Some(site), Environment::Test).expect("valid");
    sets.set("fi-2.4.1").expect("shipped").rules_for(None).clone()
}

fn scan(set: &Set, syntax: &str) -> Scan {
    let mut scanner = Scanner::new(syntax, Limits::default());
    scanner.feed(&set.encoded(syntax));
    scanner.finish()
}

fn uid(number: usize) -> String {
    format!("{STUDY}.1.{number}")
}

/// Image `number` of the study.
fn image(number: usize) -> Set {
    let mut set = ct();
    set.set(tags::SOP_INSTANCE_UID, uid(number)).set(tags::INSTANCE_NUMBER, number.to_string());
    set
}

fn images(count: usize) -> Vec<Set> {
    (1..=count).map(image).collect()
}

fn with(mut set: Set, edit: impl FnOnce(&mut Set)) -> Set {
    edit(&mut set);
    set
}

/// Two images, the second changed.
fn two(edit: impl FnOnce(&mut Set)) -> Story {
    Story::of(vec![image(1), with(image(2), edit)])
}

fn code(value: &str) -> Set {
    Set::item(|item| {
        item.set(tags::CODE_VALUE, value).set(tags::CODING_SCHEME_DESIGNATOR, "DCM");
    })
}

/// Current Requested Procedure Evidence: these instances of a study.
fn evidence(study: &str, targets: &[usize]) -> Set {
    let sops = targets.iter().map(|number| {
        with(Set::default(), |item| {
            item.set(Tag(0x0008, 0x1155), uid(*number));
        })
    });
    let series = with(Set::default(), |item| {
        item.items(Tag(0x0008, 0x1199), sops.collect());
    });
    with(Set::default(), |item| {
        item.set(tags::STUDY_INSTANCE_UID, study).items(Tag(0x0008, 0x1115), vec![series]);
    })
}

/// An object of another class in a series of its own.
fn document(class: &str, modality: &str, number: usize) -> Set {
    with(image(number), |set| {
        set.set(tags::SOP_CLASS_UID, class).set(tags::MODALITY, modality).set(SERIES, format!("{STUDY}.{number}"));
        set.set(tags::INSTANCE_NUMBER, "1").remove(tags::PIXEL_DATA);
    })
}

fn key_object(number: usize, title: &str, studies: Vec<Set>) -> Set {
    with(document(KO, "KO", number), |set| {
        set.items(CONCEPT_NAME, vec![code(title)]).items(Tag(0x0040, 0xA375), studies);
    })
}

fn with_reason(note: Set) -> Set {
    let modifier = with(code("113011"), |_| {});
    let item = with(Set::default(), |item| {
        item.items(CONCEPT_NAME, vec![modifier]).items(Tag(0x0040, 0xA168), vec![code("113003")]);
    });
    with(note, |set| {
        set.items(Tag(0x0040, 0xA730), vec![item]);
    })
}

/// A study, and what is known beside it.
#[derive(Clone)]
struct Story {
    objects: Vec<Set>,
    known: Known,
    site: &'static str,
}

impl Story {
    fn of(objects: Vec<Set>) -> Self {
        Self { objects, known: Known::default(), site: "" }
    }

    fn knows(mut self, edit: impl FnOnce(&mut Known)) -> Self {
        edit(&mut self.known);
        self
    }

    /// The objects as they came, one a second; put in by this order of their numbers.
    fn gather(&self, order: &[usize]) -> Gathering {
        let rules = rules(self.site);
        let mut gathering = Gathering::new(rules.clone());
        for number in order {
            let seconds = i64::try_from(*number).expect("few");
            let received = "2026-01-15T12:00:00Z".parse::<Timestamp>().expect("instant") + SignedDuration::from_secs(seconds);
            let context = Context {
                received,
                source: Source::DropFolder,
                patient_id_issuer: None,
                accession_issuer: None,
                refuse_to_quarantine: false,
                organisation_oids: &[],
            };
            let instance = StudyInstance::of(&scan(&self.objects[*number], EXPLICIT), &context, &rules).expect("a whole object");
            gathering.add(*number as u64, instance);
        }
        gathering
    }

    fn judge(&self) -> Vec<StudyFinding> {
        self.gather(&(0..self.objects.len()).collect::<Vec<_>>()).judge(&self.known)
    }
}

fn found(findings: &[StudyFinding]) -> Vec<&str> {
    findings.iter().map(|found| found.finding.rule.as_str()).collect()
}

fn keys<const N: usize>(keys: [u64; N]) -> Concerns {
    Concerns::Instances(BTreeSet::from(keys))
}

fn of_series() -> Concerns {
    Concerns::Series(BTreeSet::from([format!("{STUDY}.1")]))
}

/// Rule, refused example, whom it is about, accepted example.
// A table: one line per rule where it fits.
#[rustfmt::skip]
fn examples() -> Vec<(&'static str, Story, Concerns, Story)> {
    let ok = || Story::of(images(3));
    let mut list = Vec::new();
    let mut add = |id, refused: Story, concerns: Concerns, accepted: Story| list.push((id, refused, concerns, accepted));
    let all = || Concerns::Study;
    let controlled = |answer| ok().knows(|known| known.controlled = BTreeSet::from([Controlled::Own, answer]));
    let own = || controlled(Controlled::Own);
    add("D437", controlled(Controlled::Unknown), all(), own());
    add("D438", controlled(Controlled::NoSpecifier), all(), own());
    add("D738", controlled(Controlled::Foreign), all(), own());
    add("D701", two(|set| { set.set(tags::PATIENT_ID, "020290-901X"); }), all(), two(|set| { set.set(tags::PATIENT_ID, "010190-900P "); }));
    let root = "1.2.246.10.12345671.22.2026";
    add("D702", two(|set| { set.items(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE, vec![issuer(root)]); }), all(), ok());
    add("D703", two(|set| { set.set(tags::PATIENT_NAME, "Virtanen^Aino"); }), all(), two(|set| { set.set(tags::PATIENT_NAME, "O\u{308}HMAN^SANNI^^"); }));
    add("D704", two(|set| { set.set(tags::PATIENT_BIRTH_DATE, "19900102"); }), all(), two(|set| { set.set(tags::PATIENT_BIRTH_DATE, "").set(tags::PATIENT_SEX, ""); }));
    add("D705", two(|set| { set.set(tags::STUDY_DATE, "20260116"); }), all(), ok());
    add("D706", two(|set| { set.set(tags::ACCESSION_NUMBER, "T042059118707"); }), all(), two(|set| { set.set(tags::ACCESSION_NUMBER, ""); }));
    add("D707", two(|set| { set.set(tags::STUDY_DESCRIPTION, "GD1AA Thorax"); }), all(), two(|set| { set.set(tags::STUDY_DESCRIPTION, "aa1ad other words"); }));
    add("D708", two(|set| { set.set(Tag(0x0008, 0x0090), "Toinen^Testi"); }), all(), ok());
    let elsewhere = |series: &str| ok().knows(|known| known.series_elsewhere = BTreeSet::from([series.to_owned()]));
    add("D711", elsewhere("1.2.246.10.90000011.77.1.1"), of_series(), elsewhere("1.2.246.10.90000011.77.1.2"));
    add("D712", two(|set| { set.set(tags::MODALITY, "SR"); }), of_series(), two(|set| { set.set(tags::MODALITY, "SR").set(SERIES, format!("{STUDY}.2")); }));
    let (same, other) = (Patient::new("010190-900P", "1.2.246.21"), Patient::new("020290-901X", "1.2.246.21"));
    let known_for = |patient| ok().knows(|known| known.patients = BTreeSet::from([patient]));
    add("D713", known_for(other), all(), known_for(same));
    let used_by = |patient| ok().knows(|known| known.accessions = vec![Some(patient)]);
    add("D714", used_by(other), all(), used_by(same));
    add("D715", used_by(same), all(), ok());
    let listed = |seconds| ok().knows(|known| known.missing_for = Some(SignedDuration::from_secs(seconds)));
    add("D721", listed(3_600), all(), listed(3_599));
    add("D722", Story::of(vec![image(1), image(2), image(4)]), of_series(), ok());
    let declares = |number: &str| two(|set| { set.set(Tag(0x0020, 0x1208), number).set(Tag(0x0020, 0x1209), number); });
    add("D723", declares("3"), all(), declares("2"));
    let report = |target| Story::of(vec![image(1), with(document(SR, "SR", 9), |set| { set.items(Tag(0x0040, 0xA375), vec![evidence(STUDY, &[target])]); })]);
    add("D724", report(2), all(), report(1));
    let part = |number: usize, total: u16| with(image(number), |set| {
        set.set(Tag(0x0020, 0x9161), "1.2.3.4").us(Tag(0x0020, 0x9162), u16::try_from(number).expect("few")).us(Tag(0x0020, 0x9163), total);
    });
    add("D725", Story::of(vec![part(1, 3), part(3, 3)]), of_series(), Story::of(vec![part(1, 2), part(2, 2)]));
    let copies = |copies: &[Copy]| ok().knows(|known| known.copies = BTreeMap::from([(1, copies.to_vec())]));
    add("D731", copies(&[Copy::Identical]), keys([1]), ok());
    add("D732", copies(&[Copy::OtherEncoding, Copy::OtherContent]), keys([1]), copies(&[Copy::OtherEncoding]));
    add("D733", copies(&[Copy::OtherEncoding]), keys([1]), copies(&[Copy::OtherContent]));
    let note = |title, note: fn(Set) -> Set| Story::of(vec![image(1), image(2), note(key_object(9, title, vec![evidence(STUDY, &[2])]))]);
    add("D734", note("113001", with_reason), keys([1]), note("113039", |set| set));
    let naming = |target| Story::of(vec![image(1), key_object(9, "113037", vec![evidence(STUDY, &[target])])]);
    add("D735", naming(2), all(), naming(1));
    let two_studies = vec![evidence(STUDY, &[1]), evidence("1.2.3", &[2])];
    add("D736", Story::of(vec![image(1), key_object(9, "113038", two_studies)]), keys([1]), naming(1));
    let titled = |title| Story::of(vec![image(1), key_object(9, title, vec![evidence(STUDY, &[1])])]);
    add("D739", titled("113030"), keys([1]), titled("113000"));
    let small = |count| Story { site: "parameters = { study_instances_max = 3 }", ..Story::of(images(count)) };
    add("D826", small(4), all(), small(3));
    let report_only = || Story::of(vec![document(SR, "SR", 9)]);
    add("D832", report_only(), all(), Story::of(vec![image(1), document(SR, "SR", 9)]));
    list
}

#[test]
fn every_study_rule_accepts_its_accepted_example_and_finds_the_refused_one() {
    for (id, refused, concerns, accepted) in examples() {
        assert!(!found(&accepted.judge()).contains(&id), "{id}");
        let findings = refused.judge();
        let one = findings.iter().find(|found| found.finding.rule == id);
        let one = one.unwrap_or_else(|| panic!("{id} not found, but {:?}", found(&findings)));
        assert_eq!(one.concerns, concerns, "{id}");
        let rules = rules(refused.site);
        let rule = rules.rule(id).expect("built");
        let level = rule.levels.at(jiff::civil::date(2026, 1, 15), Environment::Test);
        assert!(level > Level::Off && one.finding.level == level, "{id}");
        assert!(rule.tags_text() == "–" || !one.finding.tags.is_empty(), "{id} names no element");
    }
}

#[test]
fn every_study_rule_that_is_built_has_examples() {
    let rules = rules("");
    let judged: BTreeSet<&str> = rules.iter().filter(|rule| rule.stage == Stage::T).map(|rule| rule.id.as_str()).collect();
    assert_eq!(judged, examples().iter().map(|example| example.0).collect());
}

#[test]
fn a_whole_study_of_one_patient_has_no_finding() {
    assert!(found(&Story::of(images(3)).judge()).is_empty());
}

#[test]
fn a_note_without_reason_or_references_is_not_valid_and_rejects_nothing() {
    let without_reason = key_object(9, "113001", vec![evidence(STUDY, &[1])]);
    let story = Story::of(vec![image(1), without_reason.clone()]);
    assert_eq!(found(&story.judge()), ["D736"]);
    assert_eq!(found(&Story::of(vec![image(1), with_reason(without_reason)]).judge()), ["D734"]);
    assert_eq!(found(&Story::of(vec![image(1), key_object(9, "113037", Vec::new())]).judge()), ["D736"]);
}

#[test]
fn notes_manifests_and_what_notes_name_stand_in_no_manifest_of_ours() {
    let note = |title| key_object(9, title, vec![evidence(STUDY, &[1, 3])]);
    // A note, then an image that comes after it.
    for (title, unlisted) in [("113037", [true, false, true, true]), ("113039", [true, false, true, false]), ("113000", [false; 4])] {
        let story = Story::of(vec![image(1), image(2), note(title), image(3)]);
        let gathering = story.gather(&[3, 1, 0, 2]);
        assert_eq!([0, 1, 2, 3].map(|key| gathering.is_unlisted(key)), unlisted, "{title}");
    }
}

#[test]
fn elements_outside_the_pixels_are_the_same_in_any_encoding() {
    let implicit = "1.2.840.10008.1.2";
    let native = content_outside_pixels(&scan(&image(1), EXPLICIT));
    assert!(native.is_some());
    assert_eq!(native, content_outside_pixels(&scan(&image(1), implicit)));
    let compressed = with(image(1), |set| {
        set.us(tags::BITS_STORED, 16).put(tags::PIXEL_DATA, "OW", [9; 64]);
    });
    assert_eq!(native, content_outside_pixels(&scan(&compressed, EXPLICIT)));
    assert_ne!(
        native,
        content_outside_pixels(&scan(
            &with(image(1), |set| {
                set.set(tags::PATIENT_SEX, "M");
            }),
            EXPLICIT
        ))
    );
    let moved = with(image(1), |set| {
        set.items(tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE, vec![issuer("1.2.246.10.90000011.12.6")]);
    });
    assert_ne!(native, content_outside_pixels(&scan(&moved, EXPLICIT)));
    let waveform = with(image(1), |set| {
        set.put(Tag(0x6000, 0x3000), "OW", [1; 8]);
    });
    assert_eq!(content_outside_pixels(&scan(&waveform, EXPLICIT)), None, "nothing can be said of bulk data");
}

/// Images that differ in one attribute or other, notes, a report.
fn object(number: usize, kind: u8) -> Set {
    let other = number % 3 + 1;
    match kind {
        0 => image(number),
        1 => with(image(number), |set| {
            set.set(tags::PATIENT_ID, "020290-901X");
        }),
        2 => with(image(number), |set| {
            set.set(tags::PATIENT_NAME, "Virtanen^Aino").set(tags::STUDY_DATE, "20260114");
        }),
        3 => with(image(number), |set| {
            set.set(tags::MODALITY, "MR").set(Tag(0x0020, 0x1208), "2");
        }),
        4 => key_object(number, "113037", vec![evidence(STUDY, &[other])]),
        5 => key_object(number, "113001", vec![evidence(STUDY, &[other])]),
        6 => with(document(PR, "PR", number), |set| {
            set.items(Tag(0x0040, 0xA375), vec![evidence(STUDY, &[other, 9])]);
        }),
        _ => key_object(number, "113030", vec![evidence(STUDY, &[other])]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_findings_are_a_function_of_the_set(kinds in prop::collection::vec(0_u8..8, 1..=6), seed in any::<u64>()) {
        let objects = kinds.iter().enumerate().map(|(at, kind)| object(at + 1, *kind)).collect();
        let story = Story::of(objects);
        let mut order: Vec<usize> = (0..kinds.len()).collect();
        let gathering = story.gather(&order);
        let (expected, unlisted) = (gathering.judge(&story.known), order.iter().map(|key| gathering.is_unlisted(*key as u64)).collect::<Vec<_>>());
        // Every cyclic shift of a shuffled order.
        let mut state = seed;
        for at in (1..order.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            order.swap(at, usize::try_from(state >> 33).expect("31 bits") % (at + 1));
        }
        for _ in 0..order.len() {
            order.rotate_left(1);
            let gathering = story.gather(&order);
            prop_assert_eq!(&gathering.judge(&story.known), &expected);
            prop_assert_eq!((0..kinds.len()).map(|key| gathering.is_unlisted(key as u64)).collect::<Vec<_>>(), unlisted.clone());
        }
    }
}
