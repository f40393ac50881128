//! The chain of one holder (`log_prev`), and what receipts of several holders say about each other (`prev`, `r3`).

use super::{Carried, Commits, Ground, Kind, Object, Receipt, ReceiptHash, SignatureFault, Statement, Verifier};
use crate::digest::Digest;
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;

/// What is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogFault {
    /// Its own signature.
    #[error("receipt {id}: {fault}")]
    Signature {
        /// The receipt.
        id: Uuid,
        /// What is wrong.
        #[source]
        fault: SignatureFault,
    },
    /// A receipt of another holder stands in the log.
    #[error("receipt {id} is of another holder than the log")]
    Holder {
        /// The receipt.
        id: Uuid,
    },
    /// Not later than the one before it: the log was re-ordered, or a receipt stands twice.
    #[error("receipt {id} does not come after the one before it")]
    Order {
        /// The receipt.
        id: Uuid,
    },
    /// The receipt before it was removed or changed: no recovery record names it.
    #[error("receipt {id} follows a receipt {missing} that is not there and that no later recovery record names")]
    Break {
        /// The receipt whose `log_prev` leads nowhere.
        id: Uuid,
        /// That value.
        missing: ReceiptHash,
    },
    /// It says that it is the first receipt of its holder, and is not: all before it were removed, or it was put in.
    #[error("receipt {id} claims to be the first of its holder and is not")]
    First {
        /// The receipt.
        id: Uuid,
    },
    /// The log ends before the receipt that is known to be its last.
    #[error("the log ends before receipt {head}")]
    Head {
        /// Hash of the receipt known to be the last.
        head: ReceiptHash,
    },
}

/// Walks the receipts of one holder in order of `id` (11 §2). Memory: one entry per break that is still open.
#[derive(Debug, Clone)]
pub struct LogWalk {
    verifier: Verifier,
    last: Option<(Uuid, ReceiptHash)>,
    expected: Option<ReceiptHash>,
    holder: Option<super::Holder>,
    open: BTreeMap<ReceiptHash, Uuid>,
    faults: Vec<LogFault>,
    count: u64,
}

impl LogWalk {
    /// `before`: hash of the last receipt before the log begins, from the tombstone of a removed segment (11 §6); `None`
    /// for a log from its first receipt.
    pub fn new(verifier: Verifier, before: Option<ReceiptHash>) -> Self {
        Self { verifier, last: None, expected: before, holder: None, open: BTreeMap::new(), faults: Vec::new(), count: 0 }
    }

    /// The next receipt of the log.
    pub fn push(&mut self, carried: &Carried) {
        let receipt = carried.receipt();
        self.count += 1;
        let signed = self.verifier.learn(carried);
        if let Err(fault) = &signed {
            self.faults.push(LogFault::Signature { id: receipt.id, fault: fault.clone() });
        }
        if self.holder.get_or_insert_with(|| receipt.holder.clone()) != &receipt.holder {
            self.faults.push(LogFault::Holder { id: receipt.id });
        }
        if self.last.is_some_and(|(last, _)| receipt.id <= last) {
            self.faults.push(LogFault::Order { id: receipt.id });
        }
        if receipt.log_prev != self.expected {
            match receipt.log_prev {
                Some(missing) => {
                    self.open.insert(missing, receipt.id);
                }
                None => self.faults.push(LogFault::First { id: receipt.id }),
            }
        }
        if let (Ok(()), Statement::Recovery { missing }) = (signed, &receipt.statement) {
            for hash in missing {
                self.open.remove(hash);
            }
        }
        self.expected = Some(carried.hash());
        self.last = Some((receipt.id, carried.hash()));
    }

    /// Ends the walk: everything that does not hold, in the order of the log, breaks that stayed open last.
    ///
    /// `head`: hash of the last receipt, if it is known from elsewhere; without it a log whose end was cut off cannot be
    /// told from a shorter one.
    pub fn finish(mut self, head: Option<ReceiptHash>) -> Vec<LogFault> {
        let mut breaks: Vec<_> = self.open.iter().map(|(missing, id)| (*id, *missing)).collect();
        breaks.sort_unstable();
        self.faults.extend(breaks.into_iter().map(|(id, missing)| LogFault::Break { id, missing }));
        if let Some(head) = head.filter(|head| self.expected != Some(*head)) {
            self.faults.push(LogFault::Head { head });
        }
        self.faults
    }

    /// Receipts so far.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// The `missing` of a recovery record: every `log_prev` among the durable receipts that no durable receipt has as its
/// hash and that no recovery record among them names already, in order of `id`. Empty: no record is needed.
///
/// `durable`: receipts of this holder since `before`, in order of `id`, each with its hash.
pub fn gaps<'a>(before: Option<ReceiptHash>, durable: impl IntoIterator<Item = (&'a Receipt, ReceiptHash)>) -> Vec<ReceiptHash> {
    let mut missing: Vec<ReceiptHash> = Vec::new();
    let mut present = HashSet::new();
    present.extend(before);
    for (receipt, hash) in durable {
        missing.extend(receipt.log_prev.filter(|prev| !present.contains(prev)));
        if let Statement::Recovery { missing: named } = &receipt.statement {
            missing.retain(|hash| !named.contains(hash));
        }
        present.insert(hash);
    }
    missing
}

/// What is wrong between a receipt and another that it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceFault {
    /// The named receipt is not among those given. Of a partial selection this proves nothing.
    #[error("receipt {id} names {named} as its {kind}, which is not among the receipts given")]
    Absent {
        /// The receipt that names it.
        id: Uuid,
        /// The name.
        named: ReceiptHash,
        /// What it should be.
        kind: Kind,
    },
    /// It is a receipt of another type.
    #[error("receipt {id} names {named} as its {kind}, but that is a {found}")]
    Kind {
        /// The receipt that names it.
        id: Uuid,
        /// The name.
        named: ReceiptHash,
        /// What it should be.
        kind: Kind,
        /// What it is.
        found: Kind,
    },
    /// They speak of different objects.
    #[error("receipt {id} and the {kind} that it names speak of different objects: {field}")]
    Object {
        /// The receipt that names the other.
        id: Uuid,
        /// What the other is.
        kind: Kind,
        /// The field that differs.
        field: &'static str,
    },
    /// A release names an R4 that does not list its R3.
    #[error("release {id} names an R4 that does not list its R3")]
    Unlisted {
        /// The release.
        id: Uuid,
    },
    /// Two acceptances of one object (11 §7.1).
    #[error("receipt {id} is a second R1 of the object of {first}")]
    SecondAcceptance {
        /// The later one.
        id: Uuid,
        /// The first.
        first: Uuid,
    },
}

impl ReferenceFault {
    /// Whether it is certain whatever other receipts exist.
    pub fn is_proof(&self) -> bool {
        !matches!(self, Self::Absent { .. })
    }
}

/// Checks `prev`, `r3` and the objects over a set of receipts of any holders, in any order; signatures are not checked here.
pub fn check_references<'a>(receipts: impl IntoIterator<Item = &'a Carried> + Clone) -> Vec<ReferenceFault> {
    let by_hash: HashMap<ReceiptHash, &Receipt> = receipts.clone().into_iter().map(|carried| (carried.hash(), carried.receipt())).collect();
    let sent = sent_digests(receipts.clone());
    let mut faults = Vec::new();
    let mut acceptances: HashMap<(&super::Holder, &str, Digest), Uuid> = HashMap::new();
    for carried in receipts {
        let receipt = carried.receipt();
        let id = receipt.id;
        let look = |named: ReceiptHash, kind: Kind| match by_hash.get(&named) {
            None => Err(ReferenceFault::Absent { id, named, kind }),
            Some(found) if found.kind() != kind => Err(ReferenceFault::Kind { id, named, kind, found: found.kind() }),
            Some(found) => Ok(*found),
        };
        match &receipt.statement {
            Statement::Acceptance { object, .. } => {
                let first = *acceptances.entry((&receipt.holder, &object.sop_instance_uid, object.digest)).or_insert(id);
                if first != id {
                    faults.push(ReferenceFault::SecondAcceptance { id, first });
                }
            }
            Statement::HandOver { object, acceptance, .. } | Statement::Commit { object, acceptance: Some(acceptance), .. } => {
                match look(*acceptance, Kind::Acceptance) {
                    Err(fault) => faults.push(fault),
                    Ok(found) => {
                        // An R3 after transcoding holds the digest of what was sent (R2), not of what was accepted.
                        let transcoded = receipt.kind() == Kind::Commit && sent.contains(&(*acceptance, object.digest));
                        if let Some(field) = found.object().and_then(|accepted| difference(accepted, object, transcoded)) {
                            faults.push(ReferenceFault::Object { id, kind: Kind::Acceptance, field });
                        }
                    }
                }
            }
            Statement::Release { object, ground: Ground::Receipts { commit, registration }, .. } => {
                match look(*commit, Kind::Commit) {
                    Err(fault) => faults.push(fault),
                    Ok(found) => {
                        let transcoded = found
                            .object()
                            .is_some_and(|committed| found.prev().is_some_and(|acceptance| sent.contains(&(acceptance, committed.digest))));
                        if let Some(field) = found.object().and_then(|committed| difference(committed, object, transcoded)) {
                            faults.push(ReferenceFault::Object { id, kind: Kind::Commit, field });
                        }
                    }
                }
                match look(*registration, Kind::Registration).map(|found| &found.statement) {
                    Err(fault) => faults.push(fault),
                    Ok(Statement::Registration { commits: Commits::Listed(listed), .. }) if !listed.contains(commit) => {
                        faults.push(ReferenceFault::Unlisted { id });
                    }
                    Ok(Statement::Registration { study_uid, .. }) if *study_uid != object.study_uid => {
                        faults.push(ReferenceFault::Object { id, kind: Kind::Registration, field: "study_uid" });
                    }
                    Ok(_) => {}
                }
            }
            _ => {}
        }
    }
    faults
}

/// (R1, digest that was sent) of every hand-over after transcoding.
fn sent_digests<'a>(receipts: impl IntoIterator<Item = &'a Carried>) -> HashSet<(ReceiptHash, Digest)> {
    receipts
        .into_iter()
        .filter_map(|carried| match &carried.receipt().statement {
            Statement::HandOver { acceptance, sent_digest: Some(sent), .. } => Some((*acceptance, *sent)),
            _ => None,
        })
        .collect()
}

fn difference(a: &Object, b: &Object, transcoded: bool) -> Option<&'static str> {
    [
        ("sop_instance_uid", a.sop_instance_uid == b.sop_instance_uid),
        ("sop_class_uid", a.sop_class_uid == b.sop_class_uid),
        ("study_uid", a.study_uid == b.study_uid),
        ("transfer_syntax_uid", transcoded || a.transfer_syntax_uid == b.transfer_syntax_uid),
        ("digest", transcoded || a.digest == b.digest),
        ("size_bytes", transcoded || a.size_bytes == b.size_bytes),
    ]
    .into_iter()
    .find_map(|(field, equal)| (!equal).then_some(field))
}

/// Whether a receipt speaks of these bytes: digest and length of the data set as [`crate::digest::Digester`] found them.
/// Names the field that differs; `digest` for a receipt without an object.
///
/// # Errors
/// The name of the field.
pub fn check_object(receipt: &Receipt, digest: Digest, size_bytes: u64) -> Result<(), &'static str> {
    match receipt.object() {
        Some(object) if object.digest == digest && object.size_bytes == size_bytes => Ok(()),
        Some(object) if object.digest == digest => Err("size_bytes"),
        _ => Err("digest"),
    }
}
