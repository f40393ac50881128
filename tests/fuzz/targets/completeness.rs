//! What devices say of a study: procedure steps (PS3.4 Annex F) and notices of availability (Annex R), read within the bound.
#![no_main]

use idr_dimse::service::data_set::TRANSFER_SYNTAXES;
use idr_dimse::service::instance_availability::Notice;
use idr_dimse::service::mpps::{Creation, Modification, STUDIES_MAX, State, Step};
use idr_fuzz::dicom::{CT, explicit, implicit};
use idr_fuzz::{seed, seeds, split};
use libfuzzer_sys::fuzz_target;

const MAX: usize = 8;

fuzz_target!(init: seeds(all), |data: &[u8]| {
    let (choice, data) = split(data);
    let syntax = TRANSFER_SYNTAXES[usize::from(choice % 2)];
    let modification = Modification::read(syntax, data, MAX);
    if let Ok(said) = &modification {
        assert!(said.study_uids.len() <= STUDIES_MAX && said.instances.iter().all(|list| list.len() <= MAX));
    }
    if let Ok(creation) = Creation::read(syntax, data, MAX) {
        assert!(!creation.study_uids.is_empty() && creation.instances.len() <= MAX);
        let step = Step::from(creation);
        // The same data set is also a modification, and one that changes nothing.
        let same = modification.expect("what creates can set");
        assert_eq!(step.set(same.clone()), Ok(step.clone()));
        let ended = Step { state: State::Completed, ..step };
        assert!(ended.set(same).is_err(), "a step that ended was set");
    }
    if let Ok(notice) = Notice::read(syntax, data, MAX) {
        assert!(!notice.study_uid.is_empty() && (1..=MAX).contains(&notice.instances.len()));
    }
});

fn all() -> Vec<Vec<u8>> {
    let item = |elements: Vec<u8>| [b"\xfe\xff\x00\xe0".to_vec(), (elements.len() as u32).to_le_bytes().to_vec(), elements].concat();
    let reference = |n: u8| {
        item(
            [
                explicit((0x0008, 0x0056), b"CS", b"ONLINE"),
                explicit((0x0008, 0x1150), b"UI", CT.as_bytes()),
                explicit((0x0008, 0x1155), b"UI", format!("1.2.{n}").as_bytes()),
            ]
            .concat(),
        )
    };
    let study = explicit((0x0020, 0x000d), b"UI", b"1.2.246.10.90000011.77.1");
    let images = [reference(1), reference(2)].concat();
    let series = [explicit((0x0008, 0x1140), b"SQ", &images), explicit((0x0040, 0x0220), b"SQ", &reference(3))].concat();
    let step = |state: &[u8]| {
        [
            explicit((0x0008, 0x0060), b"CS", b"CT"),
            explicit((0x0040, 0x0241), b"AE", b"CT01"),
            explicit((0x0040, 0x0244), b"DA", b"20260115"),
            explicit((0x0040, 0x0245), b"TM", b"101530"),
            explicit((0x0040, 0x0252), b"CS", state),
            explicit((0x0040, 0x0270), b"SQ", &item(study.clone())),
            explicit((0x0040, 0x0340), b"SQ", &item(series.clone())),
        ]
        .concat()
    };
    let listed = item(explicit((0x0008, 0x1199), b"SQ", &images));
    let notice = [explicit((0x0008, 0x1115), b"SQ", &listed), study.clone()].concat();
    let implicit_step = [implicit((0x0040, 0x0252), b"COMPLETED "), implicit((0x0040, 0x0340), b"")].concat();
    vec![seed(&[1], step(b"IN PROGRESS")), seed(&[1], step(b"COMPLETED")), seed(&[1], notice), seed(&[0], implicit_step)]
}
