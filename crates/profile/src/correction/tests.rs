//! A corrected data set differs from its original in what was ordered, and in nothing else.
//!
//! Both are read with dicom-object, a reader that shares nothing with the walk under test.

use super::*;
use crate::scan::testing::{EXPLICIT, IMPLICIT, Set, ct, issuer};
use crate::scan::{Limits, Scanner, tags};
use dicom_core::value::Value;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use dicom_transfer_syntax_registry::{TransferSyntaxIndex as _, TransferSyntaxRegistry};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const JPEG: &str = "1.2.840.10008.1.2.4.70";
const STUDY: &str = "1.2.246.10.90000011.77.1";
const SERIES: &str = "1.2.246.10.90000011.77.1.1";
const INSTANCE: &str = "1.2.246.10.90000011.77.1.1.1";
const OTHER: &str = "1.2.246.10.90000011.77.1.1.2";
const ORIGINAL_ATTRIBUTES: Tag = Tag(0x0400, 0x0561);
const CONTRIBUTING: Tag = Tag(0x0018, 0xA001);

fn author() -> Author {
    Author { site_id: "site-1".to_owned(), source_institution: "Testisairaala".to_owned(), manufacturer: "IDR".to_owned() }
}

fn ordered(sets: &[&str], reason: &str, study_uid: Option<&str>) -> Result<Order, OrderError> {
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    let modifier = (reason == "113001").then_some("111209");
    let given = Given { sets: &sets, reason, modifier, study_uid };
    Order::new(&Attributes::shipped(), given, "2026-01-15T10:00:00Z".parse().expect("an instant"), author())
}

fn order(sets: &[&str]) -> Order {
    ordered(sets, "113038", None).expect("an order")
}

fn uids(order: &Order) -> UidMap {
    UidMap::derive(STUDY, [(INSTANCE, SERIES), (OTHER, SERIES)], order.study_uid(), "c1")
}

fn new_uid(kind: &str, old: &str) -> String {
    crate::mapping::ids::uid(&format!("correct|{kind}|{old}|c1"))
}

fn corrected_in(syntax: &str, bytes: &[u8], order: &Order, chunk: usize) -> Result<Vec<u8>, Fault> {
    let map = uids(order);
    let mut survey = Survey::new(syntax, order, &map, Limits::default())?;
    bytes.chunks(chunk).for_each(|part| survey.feed(part));
    let plan = survey.finish()?;
    let mut out = Vec::new();
    let mut rewrite = plan.rewrite();
    bytes.chunks(chunk).for_each(|part| rewrite.feed(part, &mut |bytes| out.extend_from_slice(bytes)));
    rewrite.finish(&mut |bytes| out.extend_from_slice(bytes))?;
    assert_eq!(out.len() as u64, plan.new_size_bytes(), "the size that was foretold");
    Ok(out)
}

fn corrected(syntax: &str, bytes: &[u8], order: &Order) -> Vec<u8> {
    corrected_in(syntax, bytes, order, bytes.len().max(1)).expect("corrected")
}

fn read(syntax: &str, bytes: &[u8]) -> InMemDicomObject {
    let syntax = TransferSyntaxRegistry.get(syntax).expect("a known syntax");
    InMemDicomObject::read_dataset_with_ts(bytes, syntax).expect("a data set")
}

/// Every element by its path, with its value as dicom-object decodes it.
fn flat(object: &InMemDicomObject) -> BTreeMap<String, String> {
    fn walk(object: &InMemDicomObject, inside: &str, out: &mut BTreeMap<String, String>) {
        for element in object {
            one(element, inside, out);
        }
    }
    fn one(element: &InMemElement, inside: &str, out: &mut BTreeMap<String, String>) {
        let path = format!("{inside}{}", element.header().tag);
        match element.value() {
            Value::Sequence(items) => {
                out.insert(path.clone(), format!("{} items", items.items().len()));
                for (number, item) in items.items().iter().enumerate() {
                    walk(item, &format!("{path}[{number}]/"), out);
                }
            }
            Value::Primitive(_) if element.vr().to_string() != "UN" && element.to_str().is_ok() => {
                let text = element.to_str().expect("text").trim_end_matches(['\0', ' ']).to_owned();
                out.insert(path, format!("text {text}"));
            }
            other => drop(out.insert(path, format!("{other:?}"))),
        }
    }
    let mut out = BTreeMap::new();
    walk(object, "", &mut out);
    out
}

/// Paths that differ, the content of the two appended sequences left out.
fn differing(syntax: &str, before: &[u8], after: &[u8]) -> BTreeSet<String> {
    let (before, after) = (flat(&read(syntax, before)), flat(&read(syntax, after)));
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |path: &&&String| before.get(**path) != after.get(**path);
    paths.iter().filter(differs).map(ToString::to_string).collect()
}

fn without_appended(paths: &BTreeSet<String>) -> BTreeSet<&str> {
    paths.iter().map(String::as_str).filter(|path| !path.starts_with("(0400,0561)") && !path.starts_with("(0018,A001)")).collect()
}

fn text(object: &InMemDicomObject, tag: Tag) -> String {
    object.element(tag).expect("the element").to_str().expect("text").trim_end_matches(['\0', ' ']).to_owned()
}

fn items(object: &InMemDicomObject, tag: Tag) -> Vec<InMemDicomObject> {
    object.element(tag).expect("the sequence").items().expect("items").to_vec()
}

fn uid_of(value: &str) -> &str {
    value.strip_prefix("text ").unwrap_or_default()
}

fn reference(instance: &str) -> Set {
    Set::item(|item| {
        item.set(Tag(0x0008, 0x1150), "1.2.840.10008.5.1.4.1.1.2").set(Tag(0x0008, 0x1155), instance);
    })
}

/// A CT with references at several depths, to objects of the unit and to others.
fn referring() -> Set {
    let mut set = ct();
    let series = Set::item(|item| {
        item.set(tags::SERIES_INSTANCE_UID, SERIES).items(Tag(0x0008, 0x1199), vec![reference(OTHER), reference("1.2.3")]);
    });
    let study = Set::item(|item| {
        item.set(tags::STUDY_INSTANCE_UID, STUDY).items(Tag(0x0008, 0x1115), vec![series]);
    });
    set.items(Tag(0x0008, 0x1200), vec![study.clone(), study]);
    set.items(Tag(0x0008, 0x1140), vec![reference(OTHER)]);
    set
}

#[test]
fn a_corrected_object_says_what_was_ordered_and_what_stood_there_before() {
    let order = order(&["(0010,0020)=020290-901S", "(0010,0010)=Testinen^Maija", "(0008,1032)/(0008,0100)=AA1BD", "(0038,0060)=E1"]);
    for syntax in [EXPLICIT, IMPLICIT] {
        let original = referring().encoded(syntax);
        let new = corrected(syntax, &original, &order);
        let object = read(syntax, &new);
        assert_eq!(text(&object, tags::PATIENT_ID), "020290-901S");
        assert_eq!(text(&object, tags::PATIENT_NAME), "Testinen^Maija");
        assert_eq!(text(&object, Tag(0x0038, 0x0060)), "E1", "an attribute that was not there");
        assert_eq!(text(&items(&object, tags::PROCEDURE_CODE_SEQUENCE)[0], tags::CODE_VALUE), "AA1BD");
        assert_eq!(text(&object, tags::SOP_INSTANCE_UID), new_uid("instance", INSTANCE));
        assert_eq!(text(&object, tags::SERIES_INSTANCE_UID), new_uid("series", SERIES));
        assert_eq!(text(&object, tags::STUDY_INSTANCE_UID), new_uid("study", STUDY));
        let kept = items(&object, ORIGINAL_ATTRIBUTES);
        assert_eq!(kept.len(), 1);
        assert_eq!(text(&kept[0], Tag(0x0400, 0x0563)), "IDR-SITE site-1");
        assert_eq!(text(&kept[0], Tag(0x0400, 0x0565)), "CORRECT");
        assert_eq!(text(&kept[0], Tag(0x0400, 0x0562)), "20260115100000.000000+0000");
        let prior = &items(&kept[0], Tag(0x0400, 0x0550))[0];
        assert_eq!(text(prior, tags::PATIENT_ID), "010190-900P");
        assert_eq!(text(prior, tags::SOP_INSTANCE_UID), INSTANCE);
        assert_eq!(text(prior, tags::STUDY_INSTANCE_UID), STUDY);
        assert_eq!(items(prior, tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE).len(), 1, "a changed Patient ID has its prior issuer");
        assert!(prior.element(tags::PATIENT_SEX).is_err(), "what did not change is not listed");
        let equipment = items(&object, CONTRIBUTING);
        assert_eq!(text(&items(&equipment[0], Tag(0x0040, 0xA170))[0], tags::CODE_VALUE), "109103");

        let found = differing(syntax, &original, &new);
        let wanted = [
            "(0008,0018)",
            "(0008,1032)[0]/(0008,0100)",
            "(0008,1032)[0]/(0008,0102)",
            "(0008,1032)[0]/(0008,0104)",
            "(0008,1140)[0]/(0008,1155)",
            "(0008,1200)[0]/(0008,1115)[0]/(0008,1199)[0]/(0008,1155)",
            "(0008,1200)[0]/(0008,1115)[0]/(0020,000E)",
            "(0008,1200)[0]/(0020,000D)",
            "(0008,1200)[1]/(0008,1115)[0]/(0008,1199)[0]/(0008,1155)",
            "(0008,1200)[1]/(0008,1115)[0]/(0020,000E)",
            "(0008,1200)[1]/(0020,000D)",
            "(0010,0010)",
            "(0010,0020)",
            "(0020,000D)",
            "(0020,000E)",
            "(0038,0060)",
        ];
        assert_eq!(without_appended(&found), BTreeSet::from(wanted), "{syntax}");
    }
}

#[test]
fn items_are_appended_to_those_of_earlier_corrections_and_history_stays_as_it_is() {
    for (syntax, count) in [(EXPLICIT, 1), (IMPLICIT, 1), (EXPLICIT, 2), (IMPLICIT, 2)] {
        let mut set = ct();
        let earlier = Set::item(|item| {
            let prior = Set::item(|prior| {
                prior.set(tags::STUDY_INSTANCE_UID, STUDY);
            });
            item.items(Tag(0x0400, 0x0550), vec![prior]).set(Tag(0x0400, 0x0565), "COERCE");
        });
        set.items(ORIGINAL_ATTRIBUTES, vec![earlier; count]);
        let equipment = Set::item(|item| {
            item.set(Tag(0x0008, 0x0070), "Testilaite");
        });
        set.items(CONTRIBUTING, vec![equipment; count]);
        let new = corrected(syntax, &set.encoded(syntax), &order(&["(0008,0050)=T1"]));
        let object = read(syntax, &new);
        let kept = items(&object, ORIGINAL_ATTRIBUTES);
        assert_eq!((kept.len(), items(&object, CONTRIBUTING).len()), (count + 1, count + 1));
        assert_eq!(text(&items(&kept[0], Tag(0x0400, 0x0550))[0], tags::STUDY_INSTANCE_UID), STUDY, "what was, was");
        assert_eq!(text(&kept[count], Tag(0x0400, 0x0565)), "CORRECT");
    }
}

#[test]
fn the_study_moves_with_its_patient_or_its_order_and_not_else() {
    type Case = (&'static [&'static str], &'static str, Option<&'static str>, StudyUid, Scope);
    let given = || StudyUid::Given("1.2.9".to_owned());
    let cases: [Case; 8] = [
        (&["(0008,1030)=X"], "113037", None, StudyUid::Kept, Scope::Study),
        (&["(0008,0060)=MR"], "113037", None, StudyUid::Kept, Scope::Series),
        (&["(0008,0060)=MR"], "113001", None, StudyUid::Kept, Scope::Series),
        (&["(0008,0060)=MR"], "113038", None, StudyUid::Derived, Scope::Study),
        (&["(0010,0020)=X"], "113037", None, StudyUid::Derived, Scope::Study),
        (&["(0010,0021)=X"], "113037", None, StudyUid::Derived, Scope::Study),
        (&["(0020,000D)=1.2.9"], "113037", None, given(), Scope::Study),
        (&[], "113038", Some("1.2.9"), given(), Scope::Study),
    ];
    for (sets, reason, study_uid, wanted, scope) in cases {
        let order = ordered(sets, reason, study_uid).expect("an order");
        assert_eq!((order.study_uid(), order.scope()), (&wanted, scope), "{sets:?} {reason}");
    }
}

#[test]
fn what_is_not_correctable_is_refused_by_name() {
    for tag in ["(0008,0016)", "(0018,0015)", "(0028,0010)", "(7FE0,0010)", "(0042,0011)", "(0008,0018)", "(0020,000E)", "(0011,1001)"] {
        let refused = ordered(&[&format!("{tag}=X")], "113038", None).expect_err("refused");
        assert!(refused.to_string().contains(tag), "{refused}");
    }
    type Bad = (&'static [&'static str], &'static str, Option<&'static str>);
    let bad: [Bad; 14] = [
        (&[], "113037", None),
        (&["(0010,0020)=A"], "113039", None),
        (&["PatientID=A"], "113038", None),
        (&["(0010,0020)=A", "(0010,0020)=B"], "113038", None),
        (&["(0010,0020)=A\\B"], "113038", None),
        (&["(0010,0020)=A\nB"], "113038", None),
        (&["(0010,0030)=1.1.1990"], "113038", None),
        (&["(0010,0040)=female"], "113038", None),
        (&["(0010,0024)=1.2"], "113038", None),
        (&["(0010,0020)/(0040,0032)=1.2"], "113038", None),
        (&["(0010,0024)/(0040,A170)=1.2"], "113038", None),
        (&[], "113038", Some("1.02")),
        (&["(0020,000D)=1.2"], "113038", Some("1.3")),
        (&["(0020,000D)="], "113038", None),
    ];
    for (sets, reason, study_uid) in bad {
        assert!(ordered(sets, reason, study_uid).is_err(), "{sets:?} {reason} {study_uid:?}");
    }
    let secret = ordered(&["(0010,0030)=010190-900P"], "113038", None).expect_err("no date").to_string();
    assert!(!secret.contains("900P"), "an error shows a value: {secret}");
}

#[test]
fn text_goes_into_the_declared_set_or_the_whole_instance_becomes_utf_8() {
    let mut set = ct();
    set.set(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 100");
    set.set(tags::PATIENT_NAME, b"\xD6hman^Sanni").set(Tag(0x0008, 0x0090), b"L\xE4hett\xE4j\xE4");
    set.set(tags::STUDY_DESCRIPTION, b"P\xE4\xE4");
    let own = Set::item(|item| {
        item.set(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 144").set(Tag(0x0008, 0x0104), b"\xBB\xEE");
    });
    let inherited = Set::item(|item| {
        item.set(Tag(0x0008, 0x0104), b"S\xE4de");
    });
    // Behind all other text: dicom-object takes the set of an item for what follows it.
    set.items(Tag(0x0008, 0x2112), vec![inherited]).items(Tag(0x5200, 0x9229), vec![own]);
    for syntax in [EXPLICIT, IMPLICIT] {
        let original = set.encoded(syntax);
        // The declared set can hold it: nothing else moves.
        let new = corrected(syntax, &original, &order(&["(0010,0010)=Häkkinen^Aino"]));
        let object = read(syntax, &new);
        assert_eq!(
            (text(&object, tags::PATIENT_NAME).as_str(), text(&object, tags::SPECIFIC_CHARACTER_SET).as_str()),
            ("Häkkinen^Aino", "ISO_IR 100")
        );
        assert!(!differing(syntax, &original, &new).contains("(0008,0005)"));
        // It cannot.
        let new = corrected(syntax, &original, &order(&["(0010,0010)=Šefčíková^Aino"]));
        let object = read(syntax, &new);
        assert_eq!(text(&object, tags::SPECIFIC_CHARACTER_SET), "ISO_IR 192");
        assert_eq!(text(&object, tags::PATIENT_NAME), "Šefčíková^Aino");
        assert_eq!(text(&object, Tag(0x0008, 0x0090)), "Lähettäjä");
        assert_eq!(text(&items(&object, Tag(0x0008, 0x2112))[0], Tag(0x0008, 0x0104)), "Säde");
        let prior = items(&items(&object, ORIGINAL_ATTRIBUTES)[0], Tag(0x0400, 0x0550)).remove(0);
        assert_eq!(
            (text(&prior, tags::SPECIFIC_CHARACTER_SET).as_str(), text(&prior, tags::PATIENT_NAME).as_str()),
            ("ISO_IR 100", "Öhman^Sanni")
        );
        assert_eq!(new.windows(2).filter(|pair| *pair == b"\xBB\xEE").count(), 1, "an item with its own set keeps its bytes");
        let fresh = scan(syntax, &new);
        assert!(fresh.data_set().element(tags::STUDY_DESCRIPTION).and_then(|element| element.decoded()).is_some_and(|text| text.valid));
    }
    // Bytes that are none of the declared set: nobody can say what they were.
    set.set(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 6");
    assert_eq!(corrected_in(EXPLICIT, &set.explicit(), &order(&["(0010,0010)=Šef"]), 9), Err(Fault::Text(Tag(0x0008, 0x0090))));
    // The label alone was wrong: the bytes stay.
    let relabelled = corrected(EXPLICIT, &set.explicit(), &order(&["(0008,0005)=ISO_IR 100", "(0010,0010)=Häkkinen"]));
    let object = read(EXPLICIT, &relabelled);
    assert_eq!((text(&object, Tag(0x0008, 0x0090)).as_str(), text(&object, tags::PATIENT_NAME).as_str()), ("Lähettäjä", "Häkkinen"));
}

#[test]
fn an_absent_character_set_is_added_when_a_value_needs_one() {
    let mut set = ct();
    set.remove(tags::SPECIFIC_CHARACTER_SET);
    set.set(tags::PATIENT_NAME, "A^B").set(Tag(0x0008, 0x0090), b"L\xE4h").set(tags::STUDY_DESCRIPTION, "X");
    let object = read(EXPLICIT, &corrected(EXPLICIT, &set.explicit(), &order(&["(0010,0010)=Ähtäri^B"])));
    assert_eq!(text(&object, tags::SPECIFIC_CHARACTER_SET), "ISO_IR 192");
    assert_eq!((text(&object, tags::PATIENT_NAME).as_str(), text(&object, Tag(0x0008, 0x0090)).as_str()), ("Ähtäri^B", "Läh"));
}

#[test]
fn group_lengths_say_what_their_groups_hold() {
    let mut set = ct();
    let plain = set.explicit();
    let group_8 = plain.windows(4).position(|head| head == b"\x10\0\x10\0").expect("group 0010");
    set.ul(Tag(0x0008, 0), group_8 as u32);
    let new = corrected(EXPLICIT, &set.explicit(), &order(&["(0008,1030)=A longer description than before"]));
    let begins = new.windows(4).position(|head| head == b"\x10\0\x10\0").expect("group 0010");
    let said = u32::from_le_bytes(new[8..12].try_into().expect("four bytes"));
    assert_eq!(said as usize, begins - 12);
}

#[test]
fn pixel_data_passes_verbatim_and_bytes_behind_it_too() {
    let mut set = ct();
    set.fragments(&[b"", b"\xFF\xD8abcdef", b"1234\xFF\xD9"]);
    let mut original = set.explicit();
    original.extend_from_slice(b"\0\0\0garbage");
    let new = corrected_in(JPEG, &original, &order(&["(0010,0020)=X"]), 3).expect("corrected");
    let pixels = original.windows(4).position(|head| head == b"\xE0\x7F\x10\0").expect("pixel data");
    assert!(new.ends_with(&original[pixels..]));
}

#[test]
fn what_cannot_be_read_or_placed_is_refused_with_its_place() {
    let order = order(&["(0010,0020)=X"]);
    let whole = ct().explicit();
    assert!(matches!(corrected_in("1.2.840.10008.1.2.1.99", &whole, &order, 7), Err(Fault::TransferSyntax(_))));
    assert!(matches!(corrected_in(EXPLICIT, &whole[..whole.len() - 3], &order, 7), Err(Fault::Encoding { .. })));
    let mut twice = ct();
    twice.raw(Tag(0x0011, 0), crate::scan::testing::element(tags::PATIENT_ID, "LO", 2, b"A "));
    assert_eq!(corrected_in(EXPLICIT, &twice.explicit(), &order, 7), Err(Fault::Order(tags::PATIENT_ID)));
    let mut foreign = ct();
    foreign.set(tags::SOP_INSTANCE_UID, "1.2.3");
    assert_eq!(corrected_in(EXPLICIT, &foreign.explicit(), &order, 7), Err(Fault::NotOfUnit(tags::SOP_INSTANCE_UID)));
    let mut long = ct();
    long.put(tags::STUDY_DESCRIPTION, "UN", vec![b'x'; 70_000]);
    let described = super::tests::order(&["(0008,1030)=X"]);
    assert_eq!(corrected_in(EXPLICIT, &long.explicit(), &described, 4096), Err(Fault::PriorTooLong(tags::STUDY_DESCRIPTION)));
}

#[test]
fn the_second_pass_notices_other_bytes() {
    let (order, bytes) = (order(&["(0010,0020)=X"]), ct().explicit());
    let map = uids(&order);
    let mut survey = Survey::new(EXPLICIT, &order, &map, Limits::default()).expect("a syntax");
    survey.feed(&bytes);
    let plan = survey.finish().expect("a plan");
    let mut rewrite = plan.rewrite();
    rewrite.feed(&bytes[..bytes.len() - 2], &mut |_| {});
    assert_eq!(rewrite.finish(&mut |_| {}), Err(Fault::Changed));
}

#[test]
fn the_same_order_gives_the_same_bytes_and_its_debug_form_no_patient() {
    let order = order(&["(0010,0020)=020290-901S", "(0010,0010)=Testinen^Maija"]);
    let bytes = referring().explicit();
    assert_eq!(corrected(EXPLICIT, &bytes, &order), corrected(EXPLICIT, &bytes, &order));
    let told = format!("{order:?}");
    assert!(told.contains("(0010,0020)") && !told.contains("901S") && !told.contains("Testinen"), "{told}");
}

fn scan(syntax: &str, bytes: &[u8]) -> crate::scan::Scan {
    let mut scanner = Scanner::new(syntax, Limits::default());
    scanner.feed(bytes);
    scanner.finish()
}

/// A data set of any shape around what every object has.
fn any_set() -> impl Strategy<Value = Set> {
    let uid = prop_oneof![Just(INSTANCE), Just(OTHER), Just(SERIES), Just(STUDY), Just("1.2.3"), Just("")];
    let leaf = (uid, "[A-Za-z ]{0,9}", any::<bool>()).prop_map(|(uid, text, own)| {
        Set::item(|item| {
            item.set(Tag(0x0008, 0x1155), uid).set(Tag(0x0008, 0x0104), text);
            if own {
                item.set(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 100");
            }
        })
    });
    let nested = leaf.prop_recursive(4, 24, 3, |inner| {
        (prop::collection::vec(inner, 0..4), prop::sample::select(vec![0x1115_u16, 0x1140, 0x1199, 0x1200])).prop_map(|(items, element)| {
            Set::item(|item| {
                item.items(Tag(0x0008, element), items);
            })
        })
    });
    let private = prop::collection::vec(any::<u8>(), 0..40);
    let present = prop::collection::vec(any::<bool>(), 6);
    (prop::collection::vec(nested, 0..4), private, present).prop_map(|(items, private, present)| {
        let mut set = ct();
        set.items(Tag(0x0008, 0x1250), items);
        set.set(Tag(0x0009, 0x0010), "TEST").put(Tag(0x0009, 0x1001), "UN", private);
        let optional = [
            tags::ACCESSION_NUMBER,
            tags::PATIENT_NAME,
            tags::PATIENT_SEX,
            tags::STUDY_DESCRIPTION,
            tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE,
            Tag(0x0038, 0x0010),
        ];
        for (tag, _) in optional.iter().zip(present).filter(|(_, present)| !present) {
            set.remove(*tag);
        }
        set.items(Tag(0x0040, 0x0275), vec![issuer("1.2.246.21"), issuer("1.2.246.22")]);
        set
    })
}

fn any_order() -> impl Strategy<Value = Order> {
    let sets = vec![
        "(0010,0020)=020290-901S",
        "(0010,0010)=Testinen^Maija",
        "(0010,0010)=Ähtäri^Õie",
        "(0010,0040)=",
        "(0008,0050)=T1",
        "(0008,1030)=Pään tutkimus, joka on pidempi kuin ennen",
        "(0010,0024)/(0040,0032)=1.2.246.21.1",
        "(0038,0010)=",
        "(0008,0080)=Toinen sairaala",
        "(0038,0014)/(0040,0032)=1.2.246.9",
    ];
    let most = sets.len();
    (prop::sample::subsequence(sets, 1..most), prop::sample::select(vec!["113038", "113037"]))
        .prop_filter_map("two names", |(sets, reason)| ordered(&sets, reason, None).ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn nothing_but_what_was_named_differs(set in any_set(), order in any_order(), implicit: bool, chunk in 1_usize..300) {
        let syntax = if implicit { IMPLICIT } else { EXPLICIT };
        let original = set.encoded(syntax);
        let new = corrected_in(syntax, &original, &order, chunk).expect("corrected");
        prop_assert_eq!(&new, &corrected(syntax, &original, &order), "chunks do not matter");

        let named: Vec<String> = order.tags().map(|tag| tag.to_string()).collect();
        let map = uids(&order);
        let before = flat(&read(syntax, &original));
        let after = flat(&read(syntax, &new));
        for path in without_appended(&differing(syntax, &original, &new)) {
            let ordered = named.iter().any(|tag| path.starts_with(tag));
            let was = before.get(path).map(|value| uid_of(value));
            let mapped = was.and_then(|uid| map.new_of(uid)).is_some_and(|new| uid_of(&after[path]) == new);
            prop_assert!(ordered || mapped, "{path} differs");
        }
        // No reference to an object of the unit is left outside the history.
        for (path, value) in after.iter().filter(|(path, _)| !path.starts_with("(0400,0561)")) {
            prop_assert!(map.new_of(uid_of(value)).is_none(), "{path} still names an original");
        }
        let (old, new) = (scan(syntax, &original), scan(syntax, &new));
        let kinds: BTreeSet<_> = old.defects.iter().map(|defect| defect.kind).collect();
        for defect in &new.defects {
            prop_assert!(kinds.contains(&defect.kind), "a new defect: {:?}", defect.kind);
        }
    }

    #[test]
    fn bytes_that_are_no_data_set_never_end_in_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..900, chunk in 1_usize..50) {
        let mut damaged = referring().explicit();
        let at = at.min(damaged.len());
        damaged.truncate(at);
        damaged.append(&mut bytes);
        let order = order(&["(0010,0020)=X", "(0010,0010)=Ähtäri"]);
        for syntax in [EXPLICIT, IMPLICIT] {
            let _ = corrected_in(syntax, &damaged, &order, chunk);
        }
    }
}
