//! What is stored, as QIDO-RS and a search by patient see it: instances of a patient or of some studies, one by one or gathered.
//! Everything comes as candidates.

use super::instances::{INSTANCE, StoredInstance, instance};
use super::sql::{Statement, sql};
use super::units::{IMAGING_UNIT, Units};
use super::{Found, StoreError, Tx, candidates};
use idr_ihe::metadata::PatientId;
use idr_profile::access::Candidate;

/// Instances of one series, one SOP class and one access unit: what is told of them together is decided once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathered {
    /// One of them: its header speaks for series, study and patient.
    pub first: StoredInstance,
    /// How many they are.
    pub instances: u64,
}

/// Where to look; what is empty restricts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sought<'a> {
    /// The patient, by any id.
    pub patient: Option<&'a PatientId>,
    /// Study Instance UIDs.
    pub studies: &'a [String],
    /// Series Instance UIDs.
    pub series: &'a [String],
    /// SOP Instance UIDs.
    pub instances: &'a [String],
}

impl Tx {
    /// What is stored of a patient or of studies, rejected instances apart (their unit says so): with `each`, every instance by
    /// itself, else gathered. In the order of study, series and instance UID. Neither patient nor study: nothing.
    ///
    /// # Errors
    /// [`StoreError::TooMany`] above `limit` candidates.
    pub async fn gathered(&mut self, sought: Sought<'_>, each: bool, limit: usize) -> Result<Vec<Candidate<Gathered>>, StoreError> {
        self.gathered_found(sought, each, limit).await.map(candidates)
    }

    /// One instance of each series and access unit: whether anything of them may be told is the same as for all instances.
    ///
    /// # Errors
    /// [`StoreError::TooMany`] above `limit` of them.
    pub async fn representatives(&mut self, sought: Sought<'_>, limit: usize) -> Result<Vec<Candidate<StoredInstance>>, StoreError> {
        let found = self.gathered_found(sought, false, limit).await?;
        Ok(candidates(found.into_iter().map(|(unit, gathered)| (unit, gathered.first)).collect()))
    }

    pub(super) async fn gathered_found(&mut self, sought: Sought<'_>, each: bool, limit: usize) -> Result<Found<Gathered>, StoreError> {
        let key = match sought.patient {
            Some(patient) => match self.patient_key(patient).await? {
                Some(key) => Some(key.0),
                None => return Ok(Vec::new()),
            },
            None if sought.studies.is_empty() => return Ok(Vec::new()),
            None => None,
        };
        let select = select("", key.as_deref(), sought, each, limit);
        let rows = self.rows(select).await?;
        if rows.len() > limit {
            return Err(StoreError::TooMany { limit });
        }
        let (mut found, mut known) = (Vec::with_capacity(rows.len()), Units::new());
        for row in rows {
            let unit = self.unit_with_rejection(&row, &mut known).await?;
            found.push((unit, Gathered { first: instance(&row)?, instances: row.unsigned("instances")? }));
        }
        Ok(found)
    }
}

/// The statement; `explain` stands before it.
fn select(explain: &str, patient_key: Option<&str>, sought: Sought<'_>, each: bool, limit: usize) -> Statement {
    let mut select = sql(&format!("{explain}SELECT g.instances, {INSTANCE}, {IMAGING_UNIT} FROM ("));
    match each {
        true => select.push("SELECT o.sop_instance_uid AS first, CAST(1 AS BIGINT) AS instances"),
        false => select.push("SELECT MIN(o.sop_instance_uid) AS first, COUNT(*) AS instances"),
    };
    // By the index of studies, whichever way a unit was found.
    select.push(" FROM imaging_units w JOIN instances o ON o.study_uid = w.study_uid AND o.unit_id = w.unit_id WHERE ");
    match patient_key {
        Some(key) => {
            select.push("w.patient_key = ").push_bind(key);
            select.and_in("w.study_uid", sought.studies);
        }
        None => {
            select.push("w.study_uid IN ").push_list(sought.studies);
        }
    }
    select.and_in("o.series_uid", sought.series);
    select.and_in("o.sop_instance_uid", sought.instances);
    if !each {
        let rejected = "CASE WHEN o.rejected_title IS NULL THEN 0 ELSE 1 END";
        select.push(" GROUP BY o.unit_id, o.series_uid, o.sop_class_uid, ").push(rejected);
    }
    select.push(") g JOIN instances i ON i.sop_instance_uid = g.first JOIN imaging_units u ON u.unit_id = i.unit_id ");
    select.push("JOIN patients p ON p.patient_key = u.patient_key ORDER BY i.study_uid, i.series_uid, i.sop_instance_uid LIMIT ");
    select.push_bind(limit as u64 + 1);
    select
}

#[cfg(test)]
mod tests {
    use super::super::{CentralStore as _, SqliteStore};
    use super::*;

    /// At national size a search that reads a whole table is none.
    #[tokio::test]
    async fn no_search_reads_a_whole_table() {
        let store = SqliteStore::memory().await.expect("memory");
        let mut tx = store.read().await.expect("a store");
        let (studies, series, instances) = (["1.2".to_owned()], ["1.2.3".to_owned()], ["1.2.3.4".to_owned()]);
        for (key, of, in_series, uids) in [
            (Some("a"), &[][..], &[][..], &[][..]),
            (Some("a"), &studies[..], &[][..], &[][..]),
            (Some("a"), &[][..], &series[..], &instances[..]),
            (None, &studies[..], &[][..], &[][..]),
            (None, &studies[..], &series[..], &instances[..]),
        ] {
            for each in [false, true] {
                let sought = Sought { patient: None, studies: of, series: in_series, instances: uids };
                let rows = tx.rows(select("EXPLAIN QUERY PLAN ", key, sought, each, 10)).await.expect("a plan");
                let plan: Vec<String> = rows.iter().map(|row| row.text("detail").expect("a step")).collect();
                // What is gathered is scanned, and no table.
                let scanned = plan.iter().any(|step| step.starts_with("SCAN") && !step.starts_with("SCAN g"));
                assert!(!plan.is_empty() && !scanned, "{key:?} {sought:?} {each}: {plan:#?}");
            }
        }
    }
}
