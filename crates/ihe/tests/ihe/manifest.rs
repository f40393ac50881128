//! The manifest, byte for byte and back.

use idr_ihe::manifest::{Manifest, ManifestReadError, ManifestWriteError, REFERENCES_MAX};
use proptest::prelude::*;

use crate::example::{HASH, STUDY, manifest};

fn digests(bytes: &[u8]) -> (String, String) {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
    (hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes)), hex::encode(digest(&SHA256, bytes)))
}

#[test]
fn the_worked_example_has_the_bytes_that_the_profile_states() {
    let file = manifest().to_part10().expect("valid content");
    assert_eq!(file.len(), 3060);
    let sha256 = "173df887100898a4d797a9c095c6a358f9676ec1926d3c7d38b44bbbf07e6429".to_owned();
    assert_eq!(digests(&file), (HASH.to_owned(), sha256));
}

#[test]
fn another_reader_finds_the_same_values() {
    use dicom_dictionary_std::tags;
    let file = dicom_object::from_reader(&manifest().to_part10().expect("valid content")[..]).expect("readable by dicom-object");
    let text = |tag| file.element(tag).expect("present").to_str().expect("text").into_owned();
    assert_eq!(text(tags::PATIENT_NAME), "Öhman^Sanni");
    assert_eq!(text(tags::STUDY_INSTANCE_UID), STUDY);
    let content = file.element(tags::CONTENT_SEQUENCE).expect("present").items().expect("sequence");
    assert_eq!(content.len(), 3);
}

#[test]
fn the_manifest_is_read_back() {
    let read = Manifest::read(&manifest().to_part10().expect("valid content")).expect("readable");
    assert_eq!(read.sop_class_uid.as_deref(), Some(idr_ihe::manifest::SOP_CLASS_UID));
    assert_eq!(read.study_instance_uid.as_deref(), Some(STUDY));
    assert_eq!(read.title.as_ref().map(|t| (t.code.as_str(), t.system.as_str())), Some(("113030", "DCM")));
    assert_eq!(read.patient().map(|id| id.to_cx()).as_deref(), Ok("010190-900P^^^&1.2.246.21&ISO"));
    assert_eq!(read.accessions, [("T042059118706".to_owned(), Some("1.2.246.10.12345671.12.5".to_owned()))]);
    let [study] = &read.evidence[..] else { panic!("one study") };
    assert_eq!(study.study_instance_uid.as_deref(), Some(STUDY));
    let instances: Vec<&str> = study.series.iter().flat_map(|s| &s.instances).map(|(_, uid)| uid.as_str()).collect();
    assert_eq!(instances, [format!("{STUDY}.3.1"), format!("{STUDY}.3.2"), format!("{STUDY}.3.3")]);
    assert_eq!(study.series[1].retrieve_location_uid.as_deref(), Some("1.2.246.10.12345671.12.100"));
    assert_eq!(study.series[1].retrieve_ae_title.as_deref(), Some("IDRCENTRAL"));
}

#[test]
fn content_that_is_no_manifest_is_refused() {
    let mut empty = manifest();
    empty.series.clear();
    assert_eq!(empty.to_part10(), Err(ManifestWriteError::Empty));
    let mut twice = manifest();
    twice.series[1].instances = twice.series[0].instances.clone();
    assert_eq!(twice.to_part10(), Err(ManifestWriteError::InstanceTwice));
    let mut long = manifest();
    long.study_description = Some("x".repeat(65_537));
    assert_eq!(long.to_part10(), Err(ManifestWriteError::ValueTooLong { group: 0x0008, element: 0x1030 }));
}

#[test]
fn the_number_of_references_is_bounded() {
    let with = |count: usize| {
        let mut content = manifest();
        content.series.truncate(1);
        let instance = content.series[0].instances[0].clone();
        content.series[0].instances = (0..count)
            .map(|n| {
                let mut instance = instance.clone();
                instance.sop_instance_uid = format!("1.2.{n}");
                instance
            })
            .collect();
        Manifest::read(&content.to_part10().expect("valid content")).map(|read| read.reference_count())
    };
    assert_eq!(with(REFERENCES_MAX), Ok(REFERENCES_MAX));
    assert_eq!(with(REFERENCES_MAX + 1), Err(ManifestReadError::TooManyReferences));
}

#[test]
fn hostile_lengths_and_nesting_are_refused() {
    let file = manifest().to_part10().expect("valid content");
    let data_set = file.windows(8).position(|w| w == [0x08, 0, 0x05, 0, b'C', b'S', 10, 0]).expect("first element");
    let with = |tail: &[u8]| Manifest::read(&[&file[..data_set], tail].concat());
    let element = |length: u32| [&[0x42, 0, 0x11, 0, b'O', b'B', 0, 0][..], &length.to_le_bytes()].concat();
    assert!(matches!(with(&element(0xFFFF_FFFE)), Err(ManifestReadError::Malformed { .. })));
    assert!(matches!(with(&element(0xFFFF_FFFF)), Err(ManifestReadError::Malformed { .. })));
    let nested =
        [&[0x40, 0, 0x75, 0xA3, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF][..], &[0xFE, 0xFF, 0, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]].concat();
    assert_eq!(with(&nested.repeat(2_000)), Err(ManifestReadError::TooComplex));
    assert_eq!(Manifest::read(b"DICM"), Err(ManifestReadError::NotPart10));
}

proptest! {
    #[test]
    fn changed_and_cut_files_never_panic(changes in prop::collection::vec((0_usize..3060, any::<u8>()), 0..8), length in 0_usize..=3060) {
        let mut file = manifest().to_part10().expect("valid content");
        for (at, byte) in changes {
            file[at] = byte;
        }
        file.truncate(length);
        let _ = Manifest::read(&file);
    }
}
