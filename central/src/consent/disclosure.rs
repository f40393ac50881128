//! What a caller is told who may not see everything (profile 05 §7, §8).
//!
//! An omitted entry is answered as one that does not exist: no count, no warning, no other status. This needs no code of its
//! own: answers are made of [`idr_profile::access::Disclosed`] values, and counts and limits are taken from those. What is left
//! is the one case in which an entry is shown without some of its values: a guardian's view of a patient with `TURVAKIELTO`.

use idr_ihe::metadata::{Author, DocumentEntry, SubmissionSet};
use idr_profile::access::Permit;
use idr_profile::mapping::Slots;

/// The entry of an answer, without the values that tell where the patient was treated if the permit withholds them.
pub fn entry(mut entry: DocumentEntry, permit: &Permit, slots: &Slots) -> DocumentEntry {
    if permit.withholds_location() {
        entry.facility_type_code = None;
        entry.authors.iter_mut().for_each(without_institution);
        entry.source_patient_info.retain(|value| !value.starts_with("PID-11|"));
        entry.extra.retain(|(name, _)| *name != slots.service_unit_id && *name != slots.producer_id);
    }
    entry
}

/// The same for a SubmissionSet, by the permit of one of its members.
pub fn submission_set(mut set: SubmissionSet, permit: &Permit) -> SubmissionSet {
    if permit.withholds_location() {
        set.authors.iter_mut().for_each(without_institution);
        set.intended_recipients.clear();
    }
    set
}

fn without_institution(author: &mut Author) {
    author.institutions.clear();
    author.telecommunications.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_without_institution_keeps_the_person() {
        let mut author = Author {
            person: Some("1^Kuvaaja".to_owned()),
            institutions: vec!["Sairaala^^^^^^^^^1.2.3".to_owned()],
            telecommunications: vec!["^PRN^PH".to_owned()],
            ..Author::default()
        };
        without_institution(&mut author);
        assert_eq!(author, Author { person: Some("1^Kuvaaja".to_owned()), ..Author::default() });
    }
}
