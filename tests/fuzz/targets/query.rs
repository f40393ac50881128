//! Identifiers of queries and retrieves (PS3.4 Annex C): read within the bound; what matches itself.
#![no_main]

use idr_dimse::service::data_set::TRANSFER_SYNTAXES;
use idr_dimse::service::query_retrieve::matching::{Matching, matches};
use idr_dimse::service::query_retrieve::{Identifier, KEYS_MAX, Level, Model, Returned, Service, encode};
use idr_fuzz::dicom::{explicit, implicit};
use idr_fuzz::{seed, seeds, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds(all), |data: &[u8]| {
    let (choice, data) = split(data);
    let syntax = TRANSFER_SYNTAXES[usize::from(choice % 2)];
    let model = if choice & 2 == 0 { Model::StudyRoot } else { Model::PatientRoot };
    let service = [Service::Find, Service::Move, Service::Get][usize::from(choice >> 2) % 3];
    if let Ok(identifier) = Identifier::read(syntax, data, model, service) {
        assert!(identifier.keys.len() <= KEYS_MAX);
        assert!(service == Service::Find || !identifier.uids(identifier.level.unique_key()).is_empty());
        let unique = |level: Level| identifier.uids(level.unique_key()).len();
        let lowest = if model == Model::StudyRoot { Level::Study } else { Level::Patient };
        assert!(Level::ALL.into_iter().all(|level| level < lowest || level >= identifier.level || unique(level) == 1));
        let returned = identifier.keys.iter().map(|key| Returned { tag: key.tag, vr: *b"LO", value: key.value.clone() });
        let written = encode(syntax, returned.collect()).expect("one of the two");
        assert!(Identifier::read(syntax, &written, model, service).is_err(), "an identifier without a level");
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let (key, value) = text.split_once('\n').unwrap_or((text, text));
        for matching in [Matching::Uid, Matching::Text, Matching::Name, Matching::Date, Matching::Time, Matching::Number, Matching::No] {
            let _ = matches(matching, key, value);
            assert!(matches(matching, "", value), "an empty key matches everything");
        }
        assert!(matches(Matching::Text, "*", value));
    }
});

fn all() -> Vec<Vec<u8>> {
    let study = [
        explicit((0x0008, 0x0005), b"CS", b"ISO_IR 192"),
        explicit((0x0008, 0x0020), b"DA", b"20260101-20260131"),
        explicit((0x0008, 0x0052), b"CS", b"STUDY"),
        explicit((0x0010, 0x0010), b"PN", "Öhman*".as_bytes()),
        explicit((0x0020, 0x000d), b"UI", b"1.2.246.10.90000011.77.1\\1.2"),
    ];
    let image = [
        explicit((0x0008, 0x0018), b"UI", b""),
        explicit((0x0008, 0x0052), b"CS", b"IMAGE"),
        explicit((0x0010, 0x0020), b"LO", b"010190-900P"),
        explicit((0x0020, 0x000d), b"UI", b"1.2.3"),
        explicit((0x0020, 0x000e), b"UI", b"1.2.3.1"),
        explicit((0x0040, 0x0275), b"SQ", b""),
    ];
    let series = [implicit((0x0008, 0x0052), b"SERIES"), implicit((0x0020, 0x000d), b"1.2.3\0")];
    vec![
        seed(&[1], study.concat()),
        seed(&[9], study.concat()),
        seed(&[1], image.concat()),
        seed(&[3], image.concat()),
        seed(&[0], series.concat()),
        seed(&[1], "Öh*n^?anni\nÖhman^Sanni"),
        seed(&[1], "20260101-\n20260115"),
        seed(&[1], "1000-1015\n101530.5"),
    ]
}
