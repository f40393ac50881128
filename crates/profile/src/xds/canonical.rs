//! Canonical content of a submission: what makes a repeated SubmissionSet.uniqueId the same submission (profile 08 §4.7).

use super::check::DocumentScope;
use super::document::Document;
use super::message::{Message, SubmitTransaction};
use crate::receipt::canonical;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Changes when the form changes: digests are kept without time limit.
const FORM: &str = "idr-submission/1\n";

/// SHA-256 of the canonical content. Ids of the message's objects are replaced by uniqueIds, those of associations by their
/// content; objects are sorted; absent attributes leave no trace. Left out are availabilityStatus, version, logicalID, and,
/// for ITI-41, hash, size and repositoryUniqueId, which the repository adds; the SHA-256 of each document stands for them.
pub fn canonical_digest(message: &Message<'_>, documents: &[Document]) -> [u8; 32] {
    let submission = message.submission();
    let documents = DocumentScope::new(documents);
    let mut names: HashMap<&str, String> = HashMap::new();
    names.extend(submission.submission_sets.iter().map(|set| (set.entry_uuid.as_str(), format!("set {}", set.unique_id))));
    names.extend(submission.entries.iter().map(|entry| (entry.entry_uuid.as_str(), format!("entry {}", entry.unique_id))));
    names.extend(submission.folders.iter().map(|folder| (folder.entry_uuid.as_str(), format!("folder {}", folder.unique_id))));

    let mut lines = Vec::new();
    for set in &submission.submission_sets {
        lines.push(line("set", plain(set, &[])));
    }
    for entry in &submission.entries {
        let added: &[&str] = if message.transaction == SubmitTransaction::Iti41 { &["hash", "size", "repository_unique_id"] } else { &[] };
        let mut object = plain(entry, added);
        // A size above 2^53 − 1 has no exact place in JSON numbers.
        if let Some(size) = object.get_mut("size") {
            *size = Value::String(size.to_string());
        }
        let document = message.subject(&entry.entry_uuid).and_then(|subject| documents.of(&subject));
        if let Some(document) = document {
            object.insert("document".to_owned(), Value::String(hex::encode(document.sha256)));
        }
        lines.push(line("entry", object));
    }
    for folder in &submission.folders {
        lines.push(line("folder", plain(folder, &[])));
    }
    // First the associations that join objects, then those that have associations as their ends.
    let associations = &submission.associations;
    let mut pending: Vec<_> = associations.iter().collect();
    let is_association = |id: &str| associations.iter().any(|other| other.entry_uuid == id);
    pending.sort_by_key(|association| is_association(&association.target) || is_association(&association.source));
    let mut named_associations: HashMap<&str, String> = HashMap::new();
    for association in pending {
        let mut object = plain(association, &[]);
        for (end, id) in [("source", &association.source), ("target", &association.target)] {
            let name = names.get(id.as_str()).or_else(|| named_associations.get(id.as_str()));
            object.insert(end.to_owned(), Value::String(name.cloned().unwrap_or_else(|| id.clone())));
        }
        let text = line("association", object);
        named_associations.insert(&association.entry_uuid, text.clone());
        lines.push(text);
    }
    lines.sort_unstable();
    let mut digest = Sha256::new_with_prefix(FORM);
    for line in lines {
        digest.update(line.as_bytes());
        digest.update(b"\n");
    }
    digest.finalize().into()
}

fn line(kind: &str, object: Map<String, Value>) -> String {
    let value = Value::Object(object);
    // Every number in metadata is a version, which is left out, or a size, which was made a text.
    format!("{kind} {}", canonical(&value).unwrap_or_else(|_| value.to_string()))
}

/// An object without its id, status and version, without the members named, without what is absent; slots by name.
fn plain(object: &impl serde::Serialize, left_out: &[&str]) -> Map<String, Value> {
    let Ok(Value::Object(mut object)) = serde_json::to_value(object) else { return Map::new() };
    for member in ["entry_uuid", "logical_id", "version", "status"].iter().chain(left_out) {
        object.remove(*member);
    }
    object.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty()));
    for slots in ["extra", "slots"] {
        if let Some(Value::Array(slots)) = object.get_mut(slots) {
            slots.sort_by_cached_key(ToString::to_string);
        }
    }
    object
}
