//! Whether the local copies of a study may be given up: what the centre has proven to hold (profile 03 §3.1, 11 §2).
//!
//! Pure: members and receipts in, receipts to be named out. Everything that is not there, does not verify or cannot be told apart is a
//! reason to keep the copies.

use std::collections::{BTreeMap, BTreeSet};

use idr_profile::digest::Digest;
use idr_profile::receipt::{Carried, Commits, Ground, ReceiptHash, Statement};
use jiff::{SignedDuration, Timestamp};

use crate::spool::{Entry, SpoolId, State};

/// Why a study stays. `Display` is for operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stays {
    /// An instance is not registered: on its way, held, quarantined, rejected, or in no manifest.
    #[error("object {0} is not registered at the centre")]
    NotRegistered(SpoolId),
    /// It was registered less than the retention time ago, by the clock.
    #[error("it was registered less than cache.retention_days ago")]
    Recent,
    /// The centre's R3 of an instance is not here, or does not verify.
    #[error("the receipt R3 of object {0} is not here, or does not hold")]
    NoCommit(SpoolId),
    /// No R4 of the centre names the R3 of an instance.
    #[error("no receipt R4 that holds names the R3 of object {0}")]
    NoRegistration(SpoolId),
    /// Something of it is open at the centre: a manifest on its way, a held study, an R4 that is waited for.
    #[error("something of it is still open at the centre ({0})")]
    Open(String),
    /// No reconciliation has found it equal at the centre since its last instance was registered.
    #[error("no reconciliation has found it equal at the centre since it was registered")]
    NotReconciled,
    /// All its copies were given up.
    #[error("its copies were given up")]
    Gone,
}

/// What each copy that is here may name when it is given up.
pub type Grounds = BTreeMap<SpoolId, Ground>;

/// Notes of a study that say that something of it is open at the centre.
pub const OPEN_NOTES: [&str; 3] = ["hold", "pending", "r4"];

/// What the members of a study that are here name when they are given up. `known`: receipts of the study in the log; `verifies`: by
/// the keys of the centre.
///
/// # Errors
/// [`Stays`]: the first reason.
pub fn grounds(
    members: &[Entry],
    notes: &BTreeMap<String, String>,
    known: &[Carried],
    verifies: impl Fn(&Carried) -> bool,
    retention: SignedDuration,
    now: Timestamp,
) -> Result<Grounds, Stays> {
    if let Some(note) = OPEN_NOTES.iter().find(|note| notes.contains_key(**note)) {
        return Err(Stays::Open((*note).to_owned()));
    }
    for entry in members {
        match entry.progress.state {
            // A clock that was set back says nothing of the time that went by.
            State::Registered if now.duration_since(entry.progress.since) < retention => return Err(Stays::Recent),
            State::Registered | State::Released => {}
            _ => return Err(Stays::NotRegistered(entry.id())),
        }
    }
    let centre: Vec<&Carried> = known.iter().filter(|carried| verifies(carried)).collect();
    let mut commits: BTreeMap<(String, Digest, u64), BTreeSet<ReceiptHash>> = BTreeMap::new();
    for carried in &centre {
        if let Statement::Commit { object, .. } = &carried.receipt().statement {
            commits.entry((object.sop_instance_uid.clone(), object.digest, object.size_bytes)).or_default().insert(carried.hash());
        }
    }
    let of = |entry: &Entry| {
        let record = &entry.record;
        commits.get(&(record.announced.sop_instance_uid.clone(), record.digest, record.size_bytes))
    };
    let mut all = BTreeSet::new();
    for entry in members {
        let hashes = of(entry).ok_or(Stays::NoCommit(entry.id()))?;
        if !entry.progress.unlisted {
            all.extend(hashes.iter().copied());
        }
    }
    // A root speaks of all that stand in the manifest, and of nothing else.
    let all: Vec<ReceiptHash> = all.into_iter().collect();
    let study_uid = members.first().map(|entry| entry.record.facts.study_uid.as_str());
    let registrations: Vec<(ReceiptHash, BTreeSet<ReceiptHash>)> = centre
        .iter()
        .filter_map(|carried| match &carried.receipt().statement {
            Statement::Registration { study_uid: of, commits, .. } if Some(of.as_str()) == study_uid => {
                let named = match commits {
                    Commits::Listed(hashes) => hashes.iter().copied().collect(),
                    Commits::Root(_) if commits.are(&all) => all.iter().copied().collect(),
                    Commits::Root(_) => BTreeSet::new(),
                };
                Some((carried.hash(), named))
            }
            _ => None,
        })
        .collect();
    let mut grounds = Grounds::new();
    for entry in members {
        let proven = of(entry).into_iter().flatten().find_map(|commit| {
            let registration = registrations.iter().rev().find(|(_, named)| named.contains(commit));
            registration.map(|(registration, _)| Ground::Receipts { commit: *commit, registration: *registration })
        });
        let ground = proven.ok_or(Stays::NoRegistration(entry.id()))?;
        if entry.progress.state == State::Registered {
            grounds.insert(entry.id(), ground);
        }
    }
    if grounds.is_empty() { Err(Stays::Gone) } else { Ok(grounds) }
}
