//! Differences that an operator has looked into: they stay in the report and are no alarm any more (profile 11 §5).
//!
//! A note of the study in the journal, `acknowledged`: when, which differences, by which user, and why. It holds for these differences and
//! no others: one more or one less instance, and the study is an alarm again.

use std::collections::BTreeMap;

use idr_profile::receipt::reconcile::Found;
use sha2::{Digest as _, Sha256};

use super::{Difference, Findings, Forward};
use crate::spool::Tenant;

/// Name of the note.
const ACKNOWLEDGED: &str = "acknowledged";
/// Longest reason, bytes: the note has room for 256 with what stands before it.
const REASON_BYTES_MAX: usize = 160;

/// Name of a set of differences of one study: 16 hex digits that change with each of them.
fn name_of<'a>(differences: impl IntoIterator<Item = (&'a str, Found)>) -> String {
    let mut lines: Vec<String> = differences.into_iter().map(|(uid, what)| format!("{what:?} {uid}\n")).collect();
    lines.sort_unstable();
    lines.dedup();
    hex::encode(&Sha256::digest(lines.concat())[..8])
}

fn of_study<'a>(found: &'a Findings, tenant: &Tenant, study_uid: &str) -> impl Iterator<Item = &'a Difference> {
    let (tenant, study_uid) = (tenant.clone(), study_uid.to_owned());
    found.differences.iter().filter(move |difference| difference.tenant == tenant && difference.study_uid == study_uid)
}

/// Whether the note of a study speaks of these differences.
pub(super) fn holds<'a>(notes: &BTreeMap<String, String>, differences: impl IntoIterator<Item = (&'a str, Found)>) -> bool {
    let name = notes.get(ACKNOWLEDGED).and_then(|note| note.split(' ').nth(1));
    name.is_some_and(|name| name == name_of(differences))
}

impl Findings {
    /// Marks the differences of a study.
    pub(super) fn acknowledge(&mut self, tenant: &Tenant, study_uid: &str, instances: u64) {
        self.acknowledged += instances;
        for difference in &mut self.differences {
            difference.acknowledged |= difference.tenant == *tenant && difference.study_uid == study_uid;
        }
    }
}

impl Forward {
    /// An operator has looked into the differences of a study that a run found; how many they are.
    ///
    /// # Errors
    /// The run found none of it, or could not name all; the reason is none, too long, or of more than one line; the journal.
    pub async fn acknowledge(&self, found: &mut Findings, study_uid: &str, reason: &str, user: u32) -> anyhow::Result<u64> {
        let fits = !reason.trim().is_empty() && reason.len() <= REASON_BYTES_MAX && !reason.chars().any(char::is_control);
        anyhow::ensure!(fits, "the reason is one line of 1 to {REASON_BYTES_MAX} bytes, without patient data");
        anyhow::ensure!(found.unnamed == 0, "the last run found more differences than it names; repair some first");
        let mut acknowledged = 0;
        for tenant in &self.tenants {
            let differences: Vec<&Difference> = of_study(found, tenant, study_uid).filter(|difference| !difference.acknowledged).collect();
            if differences.is_empty() {
                continue;
            }
            let name = name_of(of_study(found, tenant, study_uid).map(|one| (one.sop_instance_uid.as_str(), one.what)));
            let instances = differences.len() as u64;
            let value = format!("{} {name} {user} {reason}", self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"));
            self.note(tenant, study_uid, ACKNOWLEDGED, Some(value)).await?;
            found.acknowledge(tenant, study_uid, instances);
            acknowledged += instances;
            tracing::warn!(%tenant, study = study_uid, instances, user, reason, "an operator has acknowledged what the centre does not hold");
        }
        anyhow::ensure!(acknowledged > 0, "the last run found no open difference of study {study_uid}: `idr-site reconcile report`");
        Ok(acknowledged)
    }
}
