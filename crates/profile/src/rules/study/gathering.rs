//! All instances of a study, and what the rules say of them.

use super::instance::StudyInstance;
use super::key_object::Role;
use super::{Name, REFERENCES_MAX, VALUES_MAX, name};
use crate::rules::check::{Check, ReadAs, StudyFault, Within};
use crate::rules::level::Level;
use crate::rules::reply::{Finding, Stage};
use crate::rules::set::{Rule, Rules};
use dicom_core::Tag;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A patient: name of an ID with its issuer. Two are equal if and only if both are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Patient(Name);

impl Patient {
    /// Of (0010,0020) and the resolved issuer (profile 01 §3.2).
    pub fn new(id: &str, issuer: &str) -> Self {
        Self(name(format!("{id}\0{issuer}").as_bytes()))
    }
}

/// Whose a study is, by the controller map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controlled {
    /// No row, or no register in it (D437).
    Unknown,
    /// Register 4 without specifier (D438).
    NoSpecifier,
    /// Of another organisation, without an outsourcing authorisation (D738).
    Foreign,
    /// It may be registered from here.
    Own,
}

/// Another object with the SOP Instance UID of an instance, which came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// The same bytes.
    Identical,
    /// Another transfer syntax, and the same elements outside groups 0002, 0028 and 7FE0.
    OtherEncoding,
    /// Anything else.
    OtherContent,
}

/// What the index of the site knows beside the instances that were read.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// SOP Instance UIDs of the study that are here and were not read, see [`Known::saw`].
    instances: BTreeSet<Name>,
    /// Patients for whom the study was known before, merges applied.
    pub patients: BTreeSet<Patient>,
    /// Series that another study had before this one.
    pub series_elsewhere: BTreeSet<String>,
    /// Patients of earlier studies with an accession number and issuer of this one; `None`: not known.
    pub accessions: Vec<Option<Patient>>,
    /// Copies that came before an instance, by its key.
    pub copies: BTreeMap<u64, Vec<Copy>>,
    /// Whose the instances are, by the controller map.
    pub controlled: BTreeSet<Controlled>,
    /// How long ago a device listed, by MPPS, IAN or a storage commitment request, what has not arrived: the first time that it
    /// did. `None` if all that was listed is here, or nothing was.
    pub missing_for: Option<SignedDuration>,
}

impl Known {
    /// An instance of the study is here that was not read: a rejected, superseded or released one.
    pub fn saw(&mut self, sop_instance_uid: &str) {
        self.instances.insert(name(sop_instance_uid.as_bytes()));
    }
}

/// Whom a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concerns {
    /// All instances of the study.
    Study,
    /// All instances of these series.
    Series(BTreeSet<String>),
    /// These, by their keys.
    Instances(BTreeSet<u64>),
}

/// What a finding does to the instances that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// They are released; the finding is noted.
    Note,
    /// They are quarantined (§6.3).
    Quarantine,
    /// They stay held, and go on by themselves when the finding is gone (§6.4; the second encoding of D733).
    Hold,
}

/// A study rule that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StudyFinding {
    /// Rule, level and tags, as the journal takes it.
    pub finding: Finding,
    /// Whom it is about.
    pub concerns: Concerns,
    /// What becomes of them.
    pub effect: Effect,
}

impl StudyFinding {
    /// It is about this instance.
    pub fn names(&self, key: u64, series_uid: &str) -> bool {
        match &self.concerns {
            Concerns::Study => true,
            Concerns::Series(series) => series.contains(series_uid),
            Concerns::Instances(keys) => keys.contains(&key),
        }
    }
}

/// Values of an element, in the study or in one of its series; `None` is an empty value.
type Values = BTreeSet<Option<Name>>;

#[derive(Default)]
struct Series {
    instances: BTreeSet<Name>,
    /// Of (0020,0013); and whether all are integers.
    numbers: BTreeSet<i64>,
    other_numbers: bool,
    /// Part numbers, and the greatest total, by (0020,9161).
    concatenations: BTreeMap<Name, (BTreeSet<u64>, u64)>,
    values: BTreeMap<(Tag, ReadAs), Values>,
}

struct Member {
    sop_instance: Name,
    received: Timestamp,
    role: Role,
}

/// The newest instance and what it declares.
type Newest = (Timestamp, Name, String, [Option<u64>; 2]);

/// A study, instance by instance.
pub struct Gathering {
    rules: Arc<Rules>,
    members: BTreeMap<u64, Member>,
    sop_instances: BTreeSet<Name>,
    series: BTreeMap<String, Series>,
    values: BTreeMap<(Tag, ReadAs), Values>,
    issuers: BTreeSet<String>,
    patients: BTreeSet<Patient>,
    registrable: bool,
    newest: Option<Newest>,
    first: Option<Timestamp>,
    /// Referenced by PR, SR and KO.
    references: BTreeSet<Name>,
    /// What valid notes name, and the latest note; 113039 apart.
    rejected: BTreeMap<Name, Timestamp>,
    retained: BTreeMap<Name, Timestamp>,
}

impl Gathering {
    /// An empty study under these rules.
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            members: BTreeMap::new(),
            sop_instances: BTreeSet::new(),
            series: BTreeMap::new(),
            values: BTreeMap::new(),
            issuers: BTreeSet::new(),
            patients: BTreeSet::new(),
            registrable: false,
            newest: None,
            first: None,
            references: BTreeSet::new(),
            rejected: BTreeMap::new(),
            retained: BTreeMap::new(),
        }
    }

    /// Puts an instance in. `key`: the caller's name of it, which findings use.
    pub fn add(&mut self, key: u64, instance: StudyInstance) {
        let StudyInstance { sop_instance, series_uid, received, .. } = instance;
        let named = self.rejected.len() + self.retained.len() + instance.references.len();
        let role = match instance.role {
            // Notes that name more than is remembered cannot be applied: they wait for a person.
            Role::Note { retention, .. } if named > REFERENCES_MAX => Role::Note { retention, valid: false },
            role => role,
        };
        self.members.insert(key, Member { sop_instance, received, role });
        self.sop_instances.insert(sop_instance);
        let series = self.series.entry(series_uid.clone()).or_default();
        series.instances.insert(sop_instance);
        match instance.number {
            Some(number) => drop(series.numbers.insert(number)),
            None => series.other_numbers = true,
        }
        if let Some((uid, number, total)) = instance.concatenation {
            let (numbers, greatest) = series.concatenations.entry(uid).or_default();
            numbers.extend(number);
            *greatest = (*greatest).max(total.unwrap_or(0));
        }
        for (tag, read, value) in instance.values {
            for values in [self.values.entry((tag, read)).or_default(), series.values.entry((tag, read)).or_default()] {
                values.insert(value);
                // The greatest goes, whatever came first: what stays is a function of the set.
                if values.len() > VALUES_MAX {
                    values.pop_last();
                }
            }
        }
        self.issuers.extend(instance.issuer);
        self.patients.extend(instance.patient);
        let registrable = &self.rules.parameters().modalities_registrable;
        self.registrable |= instance.modality.is_some_and(|modality| registrable.contains(&modality));
        let newest = (received, sop_instance, series_uid, instance.declared);
        if self.newest.as_ref().is_none_or(|other| *other < newest) {
            self.newest = Some(newest);
        }
        self.first = Some(self.first.map_or(received, |first| first.min(received)));
        if let Role::Note { retention, valid: true } = role {
            let named = if retention { &mut self.retained } else { &mut self.rejected };
            for target in &instance.references {
                let at = named.entry(*target).or_insert(received);
                *at = (*at).max(received);
            }
        }
        let room = REFERENCES_MAX.saturating_sub(self.references.len());
        self.references.extend(instance.references.into_iter().take(room + 1));
    }

    /// The study's patients.
    pub fn patients(&self) -> &BTreeSet<Patient> {
        &self.patients
    }

    /// The instance was put in.
    pub fn contains(&self, key: u64) -> bool {
        self.members.contains_key(&key)
    }

    /// Series of the study.
    pub fn series(&self) -> impl Iterator<Item = &str> {
        self.series.keys().map(String::as_str)
    }

    /// Whether an instance stands in no manifest: a rejection note, a manifest of a sender, and what a valid note names
    /// (profile 02 §2.1); after 113039 what comes later is new.
    pub fn is_unlisted(&self, key: u64) -> bool {
        self.members.get(&key).is_some_and(|member| {
            let retained = self.retained.get(&member.sop_instance).is_some_and(|note| member.received <= *note);
            member.role != Role::Plain || retained || self.rejected.contains_key(&member.sop_instance)
        })
    }

    /// The rules of stage T that fail, by id, at their levels of the day on which the first instance came (UTC).
    pub fn judge(&self, known: &Known) -> Vec<StudyFinding> {
        use StudyFault as F;
        let Some(first) = self.first else { return Vec::new() };
        let mut findings = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.stage == Stage::T) {
            let level = self.rules.level(rule, first);
            if level == Level::Off {
                continue;
            }
            if let Some((tags, concerns)) = self.failed(rule, known) {
                let effect = match rule.check() {
                    Check::Study { fault: F::ControllerUnknown | F::SpecifierMissing | F::CopyOtherEncoding } => Effect::Hold,
                    _ if level.rejects() => Effect::Quarantine,
                    _ => Effect::Note,
                };
                findings.push(StudyFinding { finding: self.rules.finding(rule, level, &tags), concerns, effect });
            }
        }
        findings.sort_by(|a, b| a.finding.rule.cmp(&b.finding.rule));
        findings
    }

    fn failed(&self, rule: &Rule, known: &Known) -> Option<(Vec<Tag>, Concerns)> {
        match rule.check() {
            Check::StudyValues { tags, read, within, ignore_empty } => {
                let differ = |values: Option<&Values>| {
                    let empty = usize::from(*ignore_empty && values.is_some_and(|values| values.contains(&None)));
                    values.is_some_and(|values| values.len() - empty > 1)
                };
                let key = |tag: &Tag| (*tag, *read);
                match within {
                    Within::Study => {
                        let found: Vec<Tag> = tags.iter().copied().filter(|tag| differ(self.values.get(&key(tag)))).collect();
                        (!found.is_empty()).then_some((found, Concerns::Study))
                    }
                    Within::Series => {
                        let differs = |series: &Series| tags.iter().any(|tag| differ(series.values.get(&key(tag))));
                        self.series_where(differs).map(|concerns| (tags.clone(), concerns))
                    }
                }
            }
            Check::Study { fault } => self.fault(*fault, known).map(|concerns| (Vec::new(), concerns)),
            _ => None,
        }
    }

    fn fault(&self, fault: StudyFault, known: &Known) -> Option<Concerns> {
        use StudyFault as F;
        let study = |fails: bool| fails.then_some(Concerns::Study);
        match fault {
            F::IssuerConflict => study(self.issuers.len() > 1),
            F::SeriesInTwoStudies => {
                let found: BTreeSet<String> = self.series.keys().filter(|uid| known.series_elsewhere.contains(*uid)).cloned().collect();
                (!found.is_empty()).then_some(Concerns::Series(found))
            }
            F::OfAnotherPatient => study(!known.patients.is_empty() && !self.patients.is_subset(&known.patients)),
            F::AccessionOfAnotherPatient => study(known.accessions.iter().flatten().any(|patient| self.is_another(patient))),
            F::AccessionOfAnotherStudy => study(known.accessions.iter().flatten().any(|patient| !self.is_another(patient))),
            F::ListedMissing => {
                let wait = SignedDuration::from_secs(i64::from(self.rules.parameters().count_wait_s));
                study(known.missing_for.is_some_and(|since| since >= wait))
            }
            F::NumberGap => self.series_where(|series| {
                let (first, last) = (series.numbers.first(), series.numbers.last());
                let span = first.zip(last).map_or(0, |(first, last)| last.abs_diff(*first));
                !series.other_numbers && span >= series.numbers.len() as u64
            }),
            F::DeclaredCount => {
                let (_, _, series, [of_study, of_series]) = self.newest.as_ref()?;
                let in_series = self.series.get(series).map_or(0, |series| series.instances.len());
                let differs = |declared: &Option<u64>, here: usize| declared.is_some_and(|declared| declared != here as u64);
                study(differs(of_study, self.sop_instances.len()) || differs(of_series, in_series))
            }
            F::ReferenceMissing => study(self.missing(self.references.iter(), known)),
            F::ConcatenationIncomplete => self.series_where(|series| {
                series.concatenations.values().any(|(numbers, total)| {
                    let parts = numbers.len() as u64;
                    parts < *total || numbers.last().is_some_and(|last| parts < *last)
                })
            }),
            F::CopyIdentical => self.with_copy(known, Copy::Identical),
            F::CopyOtherEncoding => self.with_copy(known, Copy::OtherEncoding),
            F::CopyOtherContent => self.with_copy(known, Copy::OtherContent),
            F::Rejected => self.instances_where(|_, member| member.role == Role::Plain && self.rejected.contains_key(&member.sop_instance)),
            F::RejectionTargetUnknown => study(self.missing(self.rejected.keys().chain(self.retained.keys()), known)),
            F::RejectionNoteInvalid => self.instances_where(|_, member| matches!(member.role, Role::Note { valid: false, .. })),
            F::Manifest => self.instances_where(|_, member| member.role == Role::Manifest),
            F::TooLarge => study(self.members.len() as u64 > self.rules.parameters().study_instances_max),
            F::NotRegistrable => study(!self.registrable),
            F::ControllerUnknown => study(known.controlled.contains(&Controlled::Unknown)),
            F::SpecifierMissing => study(known.controlled.contains(&Controlled::NoSpecifier)),
            F::ControllerForeign => study(known.controlled.contains(&Controlled::Foreign)),
        }
    }

    fn is_another(&self, patient: &Patient) -> bool {
        !self.patients.is_empty() && !self.patients.contains(patient)
    }

    /// One of these UIDs is not here. With more references than are remembered nothing can be said.
    fn missing<'a>(&self, mut named: impl Iterator<Item = &'a Name>, known: &Known) -> bool {
        self.references.len() <= REFERENCES_MAX && named.any(|uid| !self.sop_instances.contains(uid) && !known.instances.contains(uid))
    }

    /// A copy is about what came later. Where one encoding and other content came before, the content is what is found.
    fn with_copy(&self, known: &Known, copy: Copy) -> Option<Concerns> {
        let worst = |copies: &Vec<Copy>| {
            let has = |copy: Copy| copies.contains(&copy);
            [Copy::OtherContent, Copy::OtherEncoding, Copy::Identical].into_iter().find(|copy| has(*copy))
        };
        self.instances_where(|key, _| known.copies.get(&key).and_then(worst) == Some(copy))
    }

    fn instances_where(&self, holds: impl Fn(u64, &Member) -> bool) -> Option<Concerns> {
        let found: BTreeSet<u64> = self.members.iter().filter(|(key, member)| holds(**key, member)).map(|(key, _)| *key).collect();
        (!found.is_empty()).then_some(Concerns::Instances(found))
    }

    fn series_where(&self, holds: impl Fn(&Series) -> bool) -> Option<Concerns> {
        let found: BTreeSet<String> = self.series.iter().filter(|(_, series)| holds(series)).map(|(uid, _)| uid.clone()).collect();
        (!found.is_empty()).then_some(Concerns::Series(found))
    }
}
