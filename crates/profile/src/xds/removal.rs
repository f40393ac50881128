//! Removal of metadata and documents (ITI-62, ITI-86; profile 08 §7.2): what is asked, and whether the state it would leave
//! holds together.

use std::collections::{HashMap, HashSet};

use super::check::{Check, RemovalCheck, RequestCheck};
use super::errors::Errors;
use super::judge::{Collector, Findings};
use super::problem::Key;
use super::rules::XdsRules;
use idr_ihe::ebxml::lower_uuid;
use idr_ihe::transaction::iti_62::RemoveObjectsRequest;

/// An association, removed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tie {
    /// entryUUID.
    pub id: String,
    /// associationType.
    pub kind: String,
    /// Source.
    pub source: String,
    /// Target.
    pub target: String,
}

/// What the rules may know of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removable {
    /// May the caller correct it (05 S1)? If not, it counts as unknown.
    pub correctable: bool,
    /// A SubmissionSet.
    pub is_set: bool,
    /// Its status is Deprecated.
    pub deprecated: bool,
}

/// The registry around the objects of a removal, at one commit point.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemovalView {
    /// By entryUUID: the objects of the request and the ends of their associations.
    pub objects: HashMap<String, Removable>,
    ties: Vec<Tie>,
    by_id: HashMap<String, usize>,
    by_end: HashMap<String, Vec<usize>>,
}

impl RemovalView {
    /// A view with these objects, and with all associations that have one of them as an end.
    pub fn new(objects: HashMap<String, Removable>, ties: Vec<Tie>) -> Self {
        let mut view = Self { objects, ..Self::default() };
        for tie in ties {
            if view.by_id.contains_key(&tie.id) {
                continue;
            }
            let index = view.ties.len();
            view.by_id.insert(tie.id.clone(), index);
            view.by_end.entry(tie.source.clone()).or_default().push(index);
            if tie.target != tie.source {
                view.by_end.entry(tie.target.clone()).or_default().push(index);
            }
            view.ties.push(tie);
        }
        view
    }

    pub(super) fn tie(&self, id: &str) -> Option<&Tie> {
        self.by_id.get(id).map(|index| &self.ties[*index])
    }

    pub(super) fn ties_of(&self, end: &str) -> impl Iterator<Item = &Tie> {
        self.by_end.get(end).into_iter().flatten().map(|index| &self.ties[*index])
    }
}

/// A document that is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovableDocument {
    /// uniqueId as sent.
    pub unique_id: String,
    /// Is there one that the caller may correct? If not, it counts as unknown.
    pub correctable: bool,
    /// Is it an Approved manifest's, or somebody else's too?
    pub needed: bool,
}

/// The ids of a removal.
pub(super) struct Removed<'a> {
    sent: Vec<&'a str>,
    ids: HashSet<String>,
}

impl<'a> Removed<'a> {
    fn new(request: &'a RemoveObjectsRequest) -> Self {
        let sent: Vec<&str> = request.references.iter().flatten().filter_map(|reference| reference.id.as_deref()).collect();
        let ids = sent.iter().map(|id| lower_uuid(id)).collect();
        Self { sent, ids }
    }

    pub fn ids(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.sent.iter().copied()
    }

    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    pub fn stays(&self, tie: &Tie) -> bool {
        !self.has(&tie.id)
    }
}

impl XdsRules {
    /// Stage 1 of ITI-62: the request alone.
    pub fn judge_removal_request(&self, errors: &Errors, request: &RemoveObjectsRequest) -> Findings {
        let mut out = Collector::new(errors, None);
        let removed = Removed::new(request);
        let references = request.references.as_deref().unwrap_or_default();
        for row in self.all() {
            match &row.check {
                Check::Request(RequestCheck::TooManyObjects) if references.len() > self.limits.submission_objects => {
                    out.add(row, None, &[(Key::Attr, "ObjectRefList"), (Key::Val, &references.len().to_string())]);
                    return out.into_findings();
                }
                Check::Removal(RemovalCheck::RemovalScopeGiven) if request.has_query || request.has_deletion_scope => {
                    out.add(row, None, &[])
                }
                Check::Removal(RemovalCheck::RemovalEmpty) => {
                    let nameless = references.iter().any(|reference| reference.id.as_deref().unwrap_or_default().is_empty());
                    if references.is_empty() || nameless {
                        out.add(row, None, &[(Key::Attr, "id")]);
                    }
                }
                Check::Removal(RemovalCheck::RemovedTwice) => {
                    let mut seen = HashSet::new();
                    for (index, id) in removed.ids().enumerate().filter(|(_, id)| !id.is_empty()) {
                        if !seen.insert(lower_uuid(id)) {
                            out.add(row, Some((index, Some(id))), &[]);
                        }
                    }
                }
                _ => {}
            }
        }
        out.into_findings()
    }

    /// Stage 3 of ITI-62, inside the patient's lock. Objects that are unknown end it: of them nothing else is told.
    pub fn judge_removal(&self, errors: &Errors, request: &RemoveObjectsRequest, view: &RemovalView) -> Findings {
        let removed = Removed::new(request);
        let positions: HashMap<&str, usize> = removed.ids().enumerate().map(|(index, id)| (id, index)).collect();
        let mut out = Collector::new(errors, None);
        for row in self.all() {
            let Check::Removal(check) = &row.check else { continue };
            for id in check.broken(&removed, view) {
                let position = positions.get(id).copied().unwrap_or_default();
                out.add(row, Some((position, Some(id))), &[(Key::Ref, id)]);
            }
            if matches!(check, RemovalCheck::RemovedUnknown) && out.found() > 0 {
                break;
            }
        }
        out.into_findings()
    }

    /// ITI-86: the documents of our repository that a request names.
    pub fn judge_documents_removal(&self, errors: &Errors, documents: &[RemovableDocument]) -> Findings {
        let mut out = Collector::new(errors, None);
        for document in documents {
            for row in self.all() {
                let broken = match &row.check {
                    Check::Removal(RemovalCheck::DocumentUnknown) => !document.correctable,
                    Check::Removal(RemovalCheck::DocumentNeeded) => document.correctable && document.needed,
                    _ => false,
                };
                if broken {
                    out.add(row, None, &[(Key::Uid, &document.unique_id)]);
                }
            }
        }
        out.into_findings()
    }
}
