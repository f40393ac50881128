//! The data sets of Storage Commitment (PS3.4 Annex J): read within the bound, written, read again.
#![no_main]

use idr_dimse::service::storage_commitment::{ActionInformation, EventInformation, FailureReason, Reference, TRANSFER_SYNTAXES};
use idr_fuzz::dicom::CT;
use idr_fuzz::{seed, seeds, split};
use libfuzzer_sys::fuzz_target;

const MAX: usize = 8;

fuzz_target!(init: seeds(all), |data: &[u8]| {
    let (choice, data) = split(data);
    let syntax = TRANSFER_SYNTAXES[usize::from(choice % 2)];
    if let Ok(action) = ActionInformation::read(syntax, data, MAX) {
        assert!((1..=MAX).contains(&action.references.len()));
        let written = action.encode(syntax).expect("one of the two");
        assert_eq!(ActionInformation::read(syntax, &written, MAX), Ok(action), "a request that changes when it is written");
    }
    if let Ok(event) = EventInformation::read(syntax, data, MAX) {
        assert!(event.committed.len() + event.failed.len() <= MAX);
        let written = event.encode(syntax).expect("one of the two");
        assert_eq!(EventInformation::read(syntax, &written, MAX), Ok(event), "a report that changes when it is written");
    }
});

fn all() -> Vec<Vec<u8>> {
    let reference = |n: usize| Reference { sop_class_uid: CT.to_owned(), sop_instance_uid: format!("1.2.{n}") };
    let action = ActionInformation { transaction_uid: "1.2.3".to_owned(), references: (1..4).map(reference).collect() };
    let failed = vec![(reference(3), FailureReason::NO_SUCH_OBJECT_INSTANCE)];
    let event = EventInformation { transaction_uid: "1.2.3".to_owned(), committed: (1..3).map(reference).collect(), failed };
    let written = |n: u8| {
        let syntax = TRANSFER_SYNTAXES[usize::from(n)];
        [action.encode(syntax), event.encode(syntax)].map(|bytes| (n, bytes.expect("ours")))
    };
    (0..2).flat_map(written).map(|(n, bytes)| seed(&[n], bytes)).collect()
}
