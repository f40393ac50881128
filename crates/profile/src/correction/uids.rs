//! What the corrected objects are called (profile 01 §8.2.2, 02 §5.1).

use crate::mapping::ids::{Corrected, corrected_uid};
use std::collections::HashMap;

/// Which Study Instance UID the corrected objects get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StudyUid {
    /// The one they have.
    Kept,
    /// One that follows from the old one and the correction id.
    Derived,
    /// That of the right order.
    Given(String),
}

/// Old UIDs of the unit that is corrected and what stands for them. Equal input gives equal UIDs, on every node, for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UidMap(HashMap<String, String>);

impl UidMap {
    /// `instances`: SOP and Series Instance UID of each object of the unit.
    pub fn derive<'a>(
        study: &str,
        instances: impl IntoIterator<Item = (&'a str, &'a str)>,
        new_study: &StudyUid,
        correction_id: &str,
    ) -> Self {
        let mut map = HashMap::new();
        match new_study {
            StudyUid::Kept => {}
            StudyUid::Given(uid) if uid == study => {}
            StudyUid::Derived => {
                map.insert(study.to_owned(), corrected_uid(Corrected::Study, study, correction_id));
            }
            StudyUid::Given(uid) => {
                map.insert(study.to_owned(), uid.clone());
            }
        }
        for (instance, series) in instances {
            for (kind, old) in [(Corrected::Series, series), (Corrected::Instance, instance)] {
                if !map.contains_key(old) {
                    map.insert(old.to_owned(), corrected_uid(kind, old, correction_id));
                }
            }
        }
        Self(map)
    }

    /// What stands for a UID; `None` if it is none of the unit.
    pub fn new_of(&self, old: &str) -> Option<&str> {
        self.0.get(old).map(String::as_str)
    }
}
