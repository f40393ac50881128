//! What is declared of two ids that become one patient (profile 06 §9).

use std::collections::BTreeMap;

use super::state::{Consent, Denial, DenialStatus, Informed, PatientState, Sector};
use crate::identifier::NoneAndActive;

/// Informing and consents of a merged patient, and denials that become absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combined {
    /// Informing.
    pub informed: Informed,
    /// Consents by sector.
    pub consents: BTreeMap<Sector, Consent>,
    /// Ids of active denials that another one of the same target makes absolute.
    pub absolute: Vec<String>,
    /// It is not what stood under the survivor, or not what stood under the old id, if anything did: a person looks at it.
    pub differs: bool,
}

/// Combines what stands under a survivor and under an old id. Denials and labels are their union, which needs no word here.
pub fn combine(survivor: &PatientState, old: &PatientState, rule: NoneAndActive) -> Combined {
    let informed = match (survivor.informed, old.informed) {
        (Informed::None, Informed::None) => Informed::None,
        (Informed::None, given) | (given, Informed::None) if rule == NoneAndActive::Active => given,
        (Informed::None, _) | (_, Informed::None) => Informed::None,
        (Informed::Given { since: a }, Informed::Given { since: b }) => Informed::Given { since: a.max(b) },
    };
    let consents: BTreeMap<Sector, Consent> = survivor
        .consents
        .keys()
        .chain(old.consents.keys())
        .map(|sector| (*sector, consent(survivor.consent(*sector), old.consent(*sector), rule)))
        .filter(|(_, consent)| *consent != Consent::None)
        .collect();
    let active = |state: &PatientState| -> Vec<Denial> {
        state.denials.iter().filter(|denial| denial.status == DenialStatus::Active).cloned().collect()
    };
    let (ours, theirs) = (active(survivor), active(old));
    let softer = |some: &[Denial], others: &[Denial]| -> Vec<String> {
        let absolute = |denial: &&Denial| others.iter().any(|other| other.target == denial.target && !other.emergency_allowed);
        some.iter().filter(|denial| denial.emergency_allowed).filter(absolute).map(|denial| denial.id.clone()).collect()
    };
    let mut absolute = softer(&ours, &theirs);
    absolute.extend(softer(&theirs, &ours));
    let stood = |state: &PatientState| state.informed != Informed::None || !state.consents.is_empty() || !state.denials.is_empty();
    let is_as = |state: &PatientState, denials: &[Denial], other: &[Denial]| {
        state.informed == informed && state.consents == consents && other.iter().all(|denial| denials.contains(denial))
    };
    let differs = !is_as(survivor, &ours, &theirs) || stood(old) && !is_as(old, &theirs, &ours);
    Combined { informed, consents, absolute, differs }
}

fn consent(survivor: Consent, old: Consent, rule: NoneAndActive) -> Consent {
    use Consent::{Active, None, Withdrawn};
    match (survivor, old) {
        (Withdrawn { since: a }, Withdrawn { since: b }) => Withdrawn { since: a.max(b) },
        (Withdrawn { since }, _) | (_, Withdrawn { since }) => Withdrawn { since },
        (Active { since: a }, Active { since: b }) => Active { since: a.max(b) },
        (None, Active { since }) | (Active { since }, None) if rule == NoneAndActive::Active => Active { since },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{DenialTarget, Freshness};
    use super::*;
    use crate::testing::profile_table;
    use idr_ihe::metadata::PatientId;
    use jiff::civil::{Date, date};

    fn state(consent: Consent, informed: Informed) -> PatientState {
        let id = PatientId { id: "010190-900P".to_owned(), authority: "1.2.246.21".to_owned() };
        let mut state = PatientState::new(id, Freshness::Store { confirmed: jiff::Timestamp::UNIX_EPOCH }, 1);
        state.informed = informed;
        if consent != Consent::None {
            state.consents.insert(Sector::Health, consent);
        }
        state
    }

    fn denial(id: &str, emergency_allowed: bool) -> Denial {
        let since = date(2025, 1, 1);
        Denial {
            id: id.to_owned(),
            target: DenialTarget::All,
            emergency_allowed,
            data_from: None,
            data_to: None,
            valid_from: since,
            set_on: since,
            status: DenialStatus::Active,
        }
    }

    #[test]
    fn every_cell_of_the_table_is_combined() {
        let Some(table) = profile_table("06_9_1.tsv") else { return };
        let of = |word: &str, since: Date| match word {
            "none" => (Consent::None, Informed::None),
            "active" => (Consent::Active { since }, Informed::Given { since }),
            _ => (Consent::Withdrawn { since }, Informed::Given { since }),
        };
        let first = |cell: &str| cell.split([' ', ',', '(']).next().unwrap_or_default().to_owned();
        let mut lines = table.lines().map(|line| line.split('\t').map(first).collect::<Vec<_>>());
        let head = lines.next().expect("a head");
        // The first cell of the head is "survivor \ old".
        let columns = &head[head.len() - 3..];
        let (early, late) = (date(2025, 1, 1), date(2025, 2, 2));
        for row in lines {
            for (column, expected) in columns.iter().zip(&row[1..]) {
                for (ours, theirs) in [(early, late), (late, early)] {
                    let (survivor, old) = (of(&row[0], ours), of(column, theirs));
                    let both = combine(&state(survivor.0, survivor.1), &state(old.0, old.1), NoneAndActive::Active);
                    let found = both.consents.get(&Sector::Health).copied().unwrap_or_default();
                    let name = match found {
                        Consent::None => "none",
                        Consent::Active { .. } => "active",
                        Consent::Withdrawn { .. } => "withdrawn",
                    };
                    assert_eq!(name, expected, "{} with {column}", row[0]);
                    if (row[0].as_str(), column.as_str()) == ("active", "active") {
                        assert_eq!(found, Consent::Active { since: late }, "the later date");
                        assert_eq!(both.informed, Informed::Given { since: late });
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_assumed_where_the_rule_says_so() {
        let (none, active) = (state(Consent::None, Informed::None), {
            let since = date(2025, 1, 1);
            state(Consent::Active { since }, Informed::Given { since })
        });
        for (survivor, old) in [(&none, &active), (&active, &none)] {
            let both = combine(survivor, old, NoneAndActive::None);
            assert_eq!((both.informed, both.consents.len()), (Informed::None, 0));
        }
        assert!(combine(&none, &active, NoneAndActive::Active).differs, "the survivor had none");
        assert!(!combine(&active, &none, NoneAndActive::Active).differs, "nothing stood under the old id");
    }

    #[test]
    fn of_two_denials_of_one_target_the_absolute_one_counts() {
        let (mut ours, mut theirs) = (state(Consent::None, Informed::None), state(Consent::None, Informed::None));
        ours.denials.push(denial("soft", true));
        theirs.denials.push(denial("hard", false));
        let both = combine(&ours, &theirs, NoneAndActive::Active);
        assert_eq!((both.absolute, both.differs), (vec!["soft".to_owned()], true));
        assert_eq!(combine(&theirs, &ours, NoneAndActive::Active).absolute, ["soft"]);
    }
}
