//! A KOS manifest (RAD TF-3 §4.68.4.1.2.1): a file of any source; and one that we write over any texts. First byte: which.
#![no_main]

use idr_fuzz::dicom::{EXPLICIT, IMPLICIT, image, implicit_image, part10};
use idr_fuzz::{Lines, seed, seeds, split};
use idr_ihe::manifest::{CodeItem, Content, Manifest, ReferencedInstance, ReferencedRequest, ReferencedSeries, Title, ValueType};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds(all), |data: &[u8]| {
    match split(data) {
        (0, rest) => read(rest),
        // Without the 128 bytes that a fuzzer would have to keep alive.
        (1, rest) => read(&[&[0; 128][..], b"DICM", rest].concat()),
        (_, rest) => written(rest),
    }
});

fn read(file: &[u8]) {
    if let Ok(manifest) = Manifest::read(file) {
        let _ = (manifest.patient(), manifest.reference_count());
    }
}

fn written(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let content = content(&mut Lines::of(text));
    let Ok(file) = content.to_part10() else { return };
    let manifest = Manifest::read(&file).expect("what is written can be read");
    assert_eq!(manifest.reference_count(), content.series.iter().map(|series| series.instances.len()).sum::<usize>());
    assert!(content.to_part10().is_ok_and(|again| again == file), "equal content gives equal bytes");
}

fn content(lines: &mut Lines<'_>) -> Content {
    let instance = |lines: &mut Lines<'_>| ReferencedInstance {
        sop_class_uid: lines.text(),
        sop_instance_uid: lines.text(),
        value_type: ValueType::Image,
    };
    let series = |lines: &mut Lines<'_>| ReferencedSeries {
        series_instance_uid: lines.text(),
        retrieve_ae_title: lines.text(),
        retrieve_url: lines.option(),
        retrieve_location_uid: lines.text(),
        instances: vec![instance(lines)],
    };
    Content {
        sop_instance_uid: lines.text(),
        series_instance_uid: lines.text(),
        study_instance_uid: lines.text(),
        study_date: lines.text(),
        study_time: lines.text(),
        content_date: lines.text(),
        content_time: lines.text(),
        timezone_offset: lines.option(),
        accession_number: lines.text(),
        accession_issuer: lines.option(),
        institution_name: lines.option(),
        institution_code: lines.option().map(|meaning| vec![CodeItem { code_meaning: Some(meaning), ..CodeItem::default() }]),
        referring_physician_name: lines.text(),
        study_description: lines.option(),
        procedure_code: lines.option().map(|value| vec![CodeItem { code_value: Some(value), ..CodeItem::default() }]),
        patient_name: lines.text(),
        patient_id: lines.text(),
        issuer_of_patient_id: lines.option(),
        patient_id_issuer: lines.text(),
        patient_birth_date: lines.text(),
        patient_sex: lines.text(),
        study_id: lines.text(),
        series_number: 0,
        title: Title::Manifest,
        requests: vec![ReferencedRequest { accession_number: lines.text(), ..ReferencedRequest::default() }],
        series: vec![series(lines), series(lines)],
        description: lines.option(),
    }
}

fn all() -> Vec<Vec<u8>> {
    let texts = "2.25.1\n2.25.2\n1.2.3\n20260115\n101530\n20260115\n102741\n+0200\nT1\n1.2.4\nTestisairaala\nTesti\nLähettäjä^Testi\nPään TT\nAA1AD\n\
                 Öhman^Sanni\n010190-900P\n1.2.246.21\n1.2.246.21\n19900101\nF\n1\nT1\n1.2.3.1\nIDRCENTRAL\nhttps://x/\n1.2.5\n\
                 1.2.840.10008.5.1.4.1.1.2\n1.2.3.1.1\n1.2.3.2\nIDRCENTRAL\n\n1.2.5\n1.2.840.10008.5.1.4.1.1.2\n1.2.3.2.1\ntext";
    let file = content(&mut Lines::of(texts)).to_part10().expect("a manifest");
    vec![
        seed(&[0], &file),
        seed(&[1], &file[132..]),
        seed(&[2], texts),
        seed(&[1], &part10(EXPLICIT, &image())[132..]),
        seed(&[1], &part10(IMPLICIT, &implicit_image())[132..]),
    ]
}
