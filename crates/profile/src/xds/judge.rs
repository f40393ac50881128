//! The three stages, and what they find.

use super::canonical::canonical_digest;
use super::check::{Check, DocumentScope, RegistryScope, Scope};
use super::context::{Circumstances, SenderDefaults};
use super::document::Document;
use super::errors::Errors;
use super::message::{Class, Message, SubmitTransaction, is_national, known_slots};
use super::problem::{Key, RegistryProblem};
use super::rules::{Resubmission, Row, XdsRules};
use super::state::{RegisteredUniqueId, RegistryView, StateVerdict};
use crate::mapping;
use idr_ihe::metadata::{Slots, Submission};
use idr_ihe::transaction::registry_response::{RegistryResponse, Severity, Status};

/// Broken rules, by position of the object in the message, then by id (08 §9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// As many as `limits.problems_kept`.
    pub problems: Vec<RegistryProblem>,
    /// How many more there were.
    pub further: usize,
    has_errors: bool,
    errors_in_answer: usize,
}

impl Findings {
    /// Nothing, not even a warning.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Must the submission be refused?
    pub fn has_errors(&self) -> bool {
        self.has_errors
    }

    /// The answer: Failure with the first errors, or Success with the warnings, at most `limits.errors_in_answer` of them.
    pub fn response(&self) -> RegistryResponse {
        let severity = if self.has_errors { Severity::Error } else { Severity::Warning };
        let told = self.problems.iter().filter(|problem| problem.severity == severity).take(self.errors_in_answer);
        let status = if self.has_errors { Status::Failure } else { Status::Success };
        RegistryResponse { status, errors: told.map(RegistryProblem::registry_error).collect() }
    }

    /// Adds what a later stage found.
    pub fn and(mut self, later: Self) -> Self {
        self.problems.extend(later.problems);
        self.further += later.further;
        self.has_errors |= later.has_errors;
        self
    }
}

/// Gathers findings.
pub(super) struct Collector<'a> {
    errors: &'a Errors,
    /// `None`: a removal.
    transaction: Option<SubmitTransaction>,
    findings: Findings,
    /// Object and error code of the last problem that may occur once per object.
    last_single: Option<(usize, String)>,
    keeps_error: bool,
}

impl<'a> Collector<'a> {
    pub(super) fn new(errors: &'a Errors, transaction: Option<SubmitTransaction>) -> Self {
        let errors_in_answer = errors.limits.errors_in_answer;
        let findings = Findings { problems: Vec::new(), further: 0, has_errors: false, errors_in_answer };
        Self { errors, transaction, findings, last_single: None, keeps_error: false }
    }

    /// `object`: its position and its id as sent.
    pub(super) fn add(&mut self, row: &Row, object: Option<(usize, Option<&str>)>, keys: &[(Key, &str)]) {
        let code = row.code(self.transaction);
        let table = self.errors.row(code, &row.id);
        if let (Some((position, _)), true) = (object, table.is_some_and(|table| table.per_object)) {
            let single = Some((position, code.to_owned()));
            if self.last_single == single {
                return;
            }
            self.last_single = single;
        }
        let severity = table.map_or(Severity::Error, |table| table.severity());
        self.findings.has_errors |= severity == Severity::Error;
        // An error must not be crowded out by warnings: they are told only if nothing is refused.
        if self.findings.problems.len() >= self.errors.limits.problems_kept {
            self.findings.further += 1;
            if self.keeps_error || severity == Severity::Warning {
                return;
            }
            self.findings.problems.pop();
        }
        self.keeps_error |= severity == Severity::Error;
        let id = object.and_then(|(_, id)| id);
        let own = id.map(|id| (Key::Obj, id.to_owned()));
        let keys: Vec<(Key, String)> = own.into_iter().chain(keys.iter().map(|(key, value)| (*key, (*value).to_owned()))).collect();
        self.findings.problems.push(self.errors.problem(&row.id, code, &row.text, &keys, id.map(str::to_owned)));
    }

    pub(super) fn into_findings(self) -> Findings {
        self.findings
    }

    pub(super) fn found(&self) -> usize {
        self.findings.problems.len() + self.findings.further
    }
}

impl XdsRules {
    /// Stage 1: the message alone.
    pub fn judge_message(&self, errors: &Errors, message: &Message<'_>, circumstances: &Circumstances<'_>) -> Findings {
        let scope = Scope { message, circumstances, rules: self };
        let mut out = Collector::new(errors, Some(message.transaction));
        let rows: Vec<&Row> = self.rows(message.transaction).collect();
        for row in &rows {
            if let Check::Request(check) = &row.check {
                let before = out.found();
                check.judge(&scope, &mut |keys| out.add(row, None, keys));
                if row.stops && out.found() > before {
                    return out.findings;
                }
            }
        }
        for subject in message.subjects() {
            let object = Some((subject.index, subject.id()));
            for row in rows.iter().filter(|row| row.is_asked_of(&subject, message)) {
                let emit = &mut |keys: &[(Key, &str)]| out.add(row, object, keys);
                match &row.check {
                    Check::Structure(check) => check.judge(&subject, &scope, emit),
                    Check::Attribute(check) => check.judge(&subject, &scope, emit),
                    Check::Coded(check) => check.judge(&subject, &scope, emit),
                    Check::Part(check) => check.judge(&subject, emit),
                    Check::National(check) => check.judge(&subject, &scope, emit),
                    Check::Update(check) => check.judge(&subject, &scope, emit),
                    Check::Request(_) | Check::Document(_) | Check::Registry(_) | Check::Updated(_) | Check::Removal(_) => {}
                }
            }
        }
        out.findings
    }

    /// Stage 2: the documents of an ITI-41 that passed stage 1. Documents without entry come last.
    pub fn judge_documents(
        &self,
        errors: &Errors,
        message: &Message<'_>,
        documents: &[Document],
        circumstances: &Circumstances<'_>,
    ) -> Findings {
        let scope = Scope { message, circumstances, rules: self };
        let mut out = Collector::new(errors, Some(message.transaction));
        let rows = self.rows(message.transaction);
        let rows: Vec<_> = rows.filter_map(|row| if let Check::Document(check) = &row.check { Some((row, check)) } else { None }).collect();
        let documents = DocumentScope::new(documents);
        for (row, check) in &rows {
            let before = out.found();
            check.judge_message(&documents, &scope, &mut |keys| out.add(row, None, keys));
            if row.stops && out.found() > before {
                return out.findings;
            }
        }
        for subject in message.subjects() {
            for (row, check) in rows.iter().filter(|(row, _)| row.is_asked_of(&subject, message)) {
                check.judge_entry(&subject, &documents, &scope, &mut |keys| out.add(row, Some((subject.index, subject.id())), keys));
            }
        }
        for (index, document) in documents.documents().iter().enumerate() {
            let position = message.list.objects.len() + index;
            let id = document.id.as_deref().filter(|id| !id.is_empty());
            for (row, check) in &rows {
                check.judge_document(index, &documents, &scope, &mut |keys| out.add(row, Some((position, id)), keys));
            }
        }
        out.findings
    }

    /// Stage 3: the registry's state, for a message that passed stages 1 and 2. To be called inside the patient's lock, with
    /// what [`super::needs`] named.
    pub fn judge_state(
        &self,
        errors: &Errors,
        message: &Message<'_>,
        documents: &[Document],
        circumstances: &Circumstances<'_>,
        view: &RegistryView,
    ) -> StateVerdict {
        if self.idempotency.submission_set == Resubmission::Content && is_repeated(message, documents, view) {
            return StateVerdict::Repeated;
        }
        let scope = Scope { message, circumstances, rules: self };
        let mut out = Collector::new(errors, Some(message.transaction));
        let documents = DocumentScope::new(documents);
        let registry = RegistryScope::new(&scope, &documents, view);
        let rows = self.rows(message.transaction);
        let rows: Vec<_> = rows.collect();
        for subject in message.subjects() {
            for row in rows.iter().filter(|row| row.is_asked_of(&subject, message)) {
                let emit = &mut |keys: &[(Key, &str)]| out.add(row, Some((subject.index, subject.id())), keys);
                match &row.check {
                    Check::Registry(check) => check.judge(&subject, &scope, &registry, emit),
                    Check::Updated(check) => check.judge(&subject, &scope, view, emit),
                    _ => {}
                }
            }
        }
        if out.findings.has_errors { StateVerdict::Refuse(out.findings) } else { StateVerdict::Register(out.findings) }
    }
}

/// Is the set registered by the same organisation with equal content (08 §4.7)?
fn is_repeated(message: &Message<'_>, documents: &[Document], view: &RegistryView) -> bool {
    let Some(unique_id) = message.set().and_then(|set| set.identifier("uniqueId")) else { return false };
    let Some(uses) = view.unique_ids.get(unique_id) else { return false };
    uses.iter().any(|used| match used {
        RegisteredUniqueId::SubmissionSet { organisation, canonical } => {
            *organisation == view.submitter.organisation && *canonical == canonical_digest(message, documents)
        }
        _ => false,
    })
}

/// Takes the extra slots away that are not kept (`extra_slots_max`): of each entry, set and folder those that stage 1 warned
/// of. National slots always stay.
pub fn drop_extra_slots(submission: &mut Submission, rules: &XdsRules, national: &mapping::Slots) {
    let trim = |extra: &mut Slots, class: Class| {
        let mut kept = 0;
        extra.retain(|(name, _)| {
            let counts = !known_slots(class).contains(&name.as_str()) && !is_national(national, name);
            kept += usize::from(counts);
            !counts || kept <= rules.extra_slots_max
        });
    };
    submission.entries.iter_mut().for_each(|entry| trim(&mut entry.extra, Class::Entry));
    submission.submission_sets.iter_mut().for_each(|set| trim(&mut set.extra, Class::Set));
    submission.folders.iter_mut().for_each(|folder| trim(&mut folder.extra, Class::Folder));
}

/// Puts controller, register and specifier of the sender's peer row into the entries that say none (02 §4.7). The specifier
/// goes only where the register was filled too: it belongs to that register.
pub fn fill_sender_defaults(submission: &mut Submission, defaults: &SenderDefaults, national: &mapping::Slots) {
    for entry in &mut submission.entries {
        let mut fill = |name: &String, value: &Option<String>| {
            let absent = !entry.extra.iter().any(|(known, _)| known == name);
            if let Some(value) = value.as_ref().filter(|_| absent) {
                entry.extra.push((name.clone(), vec![value.clone()]));
            }
            absent
        };
        fill(&national.controller_id, &defaults.controller_id);
        if fill(&national.register_code, &defaults.register_code) {
            fill(&national.register_specifier, &defaults.register_specifier);
        }
    }
}
