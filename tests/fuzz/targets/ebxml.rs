//! `lcm:SubmitObjectsRequest` without its envelope: XML → ebRIM objects → metadata, and the way back (ITI TF-3 §4.2.3).
#![no_main]

use idr_fuzz::seeds;
use idr_ihe::ebxml::{Placement, decode, encode};
use idr_ihe::transaction::iti_42;
use idr_ihe::xml::{Limits, Ns, Reader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds(all), |data: &[u8]| {
    let Some(objects) = read(data).and_then(|request| request.objects) else { return };
    let written = iti_42::encode(&objects);
    let again = read(written.as_bytes()).expect("what is written can be read").objects.expect("the list is there");
    assert!(again == objects, "objects that change when they are written");

    let submission = decode(&objects).submission;
    for placement in [Placement::Nested, Placement::Beside] {
        let again = decode(&encode(&submission, placement)).submission;
        assert!(again == submission, "metadata that change when they are written");
    }
});

fn read(bytes: &[u8]) -> Option<iti_42::SubmitObjectsRequest> {
    let mut reader = Reader::new(bytes, Limits::default()).ok()?;
    let root = reader.root().ok()?;
    if !root.is(Ns::Lcm, "SubmitObjectsRequest") {
        return None;
    }
    let request = iti_42::read_inside(&mut reader).ok()?;
    reader.finish().ok()?;
    Some(request)
}

fn all() -> Vec<Vec<u8>> {
    let objects = idr_fuzz::metadata::submission();
    let beside = encode(&decode(&objects).submission, Placement::Beside);
    vec![iti_42::encode(&objects).into(), iti_42::encode(&beside).into()]
}
