//! A data set as it streams in, then stages S and I of the rules (PS3.5 §7, Annex A; profile 01). First byte: transfer
//! syntax, second: length of the pieces.
#![no_main]

use std::sync::LazyLock;

use idr_fuzz::dicom::{BIG_ENDIAN, CT, DEFLATED, EXPLICIT, IMPLICIT, JPEG, deflate, encapsulated, image, implicit_image};
use idr_fuzz::{pieces, seed, seeds, split, trusted};
use idr_profile::identifier::Environment;
use idr_profile::rules::{Context, RuleSets, Source};
use idr_profile::scan::{Header, Limits, Scan, Scanner};
use libfuzzer_sys::fuzz_target;

static SETS: LazyLock<RuleSets> = LazyLock::new(|| RuleSets::shipped(Environment::Test));

/// Small, so that inputs of a few kilobytes reach them.
const LIMITS: Limits = Limits {
    instance_bytes_max: 8_192,
    header_bytes_max: 4_096,
    elements_max: 256,
    nesting_depth_max: 8,
    inflate_bytes_max: 65_536,
    kept_bytes_max: 1_024,
};

fuzz_target!(init: seeds(all), |data: &[u8]| {
    let (choice, data) = split(data);
    let (length, data) = split(data);
    let limits = if choice & 0x80 == 0 { Limits::default() } else { LIMITS };
    let deflated;
    let (syntax, data) = match choice & 0x7f {
        0 => (EXPLICIT, data),
        1 => (IMPLICIT, data),
        2 => (JPEG, data),
        3 => (DEFLATED, data),
        4 => (BIG_ENDIAN, data),
        _ => {
            deflated = deflate(data);
            (DEFLATED, &deflated[..])
        }
    };
    let scan = walk(syntax, limits, [data].into_iter());
    assert!(walk(syntax, limits, pieces(data, length)) == scan, "the cut changes the scan");
    is_kept_as_written(&scan);
    judge(&scan, choice);
});

fn walk<'a>(syntax: &str, limits: Limits, pieces: impl Iterator<Item = &'a [u8]>) -> Scan {
    let mut scanner = Scanner::new(syntax, limits);
    pieces.for_each(|piece| scanner.feed(piece));
    scanner.finish()
}

/// The spool's record of a header reads back as itself.
fn is_kept_as_written(scan: &Scan) {
    let written = scan.header.to_explicit_le();
    let again = Header::read(&written, Limits::default()).expect("what is written can be read");
    assert!(again.to_explicit_le() == written, "a header that changes when it is written");
}

fn judge(scan: &Scan, choice: u8) {
    let set = SETS.in_force(&["fi-2.4.1".to_owned()], trusted::now()).expect("in force");
    let uid = |tag| scan.data_set().uid(tag).unwrap_or_default();
    let source = match choice >> 4 & 3 {
        0 => Source::Dimse {
            affected_class: uid(idr_profile::scan::tags::SOP_CLASS_UID),
            affected_instance: uid(idr_profile::scan::tags::SOP_INSTANCE_UID),
            abstract_syntax: CT,
        },
        1 => Source::Stow { url_study: None, part_transfer_syntax: None },
        _ => Source::DropFolder,
    };
    let organisations = [trusted::ORGANISATION.to_owned()];
    let context = Context {
        received: trusted::now(),
        source,
        patient_id_issuer: None,
        accession_issuer: None,
        refuse_to_quarantine: false,
        organisation_oids: &organisations,
    };
    let verdict = set.rules_for(Some("CT01")).judge_instance(scan, &context);
    if let Some(answer) = verdict.refused() {
        assert!(answer.comment.chars().count() <= 64, "Error Comment is LO");
    }
}

fn all() -> Vec<Vec<u8>> {
    vec![
        seed(&[0, 0], image()),
        seed(&[0x90, 3], image()),
        seed(&[1, 7], implicit_image()),
        seed(&[2, 1], encapsulated()),
        seed(&[3, 16], deflate(&image())),
        seed(&[5, 16], image()),
        seed(&[4, 0], image()),
    ]
}
