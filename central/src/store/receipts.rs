//! Custody receipts R3 and R4 (profile 11): issued in the commit of what they say, chained by holder.

use super::sql::sql;
use super::units::{self, ENTRY, IMAGING_UNIT, NEWEST, Units};
use super::{Found, StoreError, Tx, candidates};
use crate::control::Operator;
use idr_profile::access::Candidate;
use idr_profile::receipt::{Carried, Commits, Holder, Ids, Receipt, ReceiptHash, Signer, Source, Statement};
use jiff::Timestamp;
use std::sync::Arc;
use uuid::Uuid;

/// Who signs for this node.
#[derive(Clone)]
pub struct Custody {
    holder: Holder,
    signer: Arc<Signer>,
    random: Arc<dyn Fn() -> [u8; 10] + Send + Sync>,
}

impl Custody {
    /// `random` gives fresh bytes for each receipt id.
    pub fn new(holder: Holder, signer: Arc<Signer>, random: Arc<dyn Fn() -> [u8; 10] + Send + Sync>) -> Self {
        Self { holder, signer, random }
    }

    /// Holder of the receipts.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Its key, for what else it signs (11 §5).
    pub fn signer(&self) -> &Signer {
        &self.signer
    }
}

impl Tx {
    /// Signs a statement as the holder's next receipt and keeps it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn issue(&mut self, custody: &Custody, at: Timestamp, statement: Statement) -> Result<Carried, StoreError> {
        self.issue_about(custody, at, statement, None).await
    }

    async fn issue_about(
        &mut self,
        custody: &Custody,
        at: Timestamp,
        statement: Statement,
        entry_uuid: Option<&str>,
    ) -> Result<Carried, StoreError> {
        let holder = custody.holder.to_string();
        let mut select = sql("SELECT id, hash FROM receipts WHERE holder = $1 ORDER BY id DESC LIMIT 1").bind(&holder);
        select.push(self.connection.for_update());
        let (last, log_prev) = match self.row(select).await? {
            Some(row) => {
                let id = row.parsed("id", |text| Uuid::try_parse(text).ok())?;
                (Some(id), Some(row.parsed("hash", ReceiptHash::parse)?))
            }
            None => (None, None),
        };
        let id = Ids::after(last).next(at, (custody.random)());
        let carried = custody.signer.sign(Receipt { id, at, holder: custody.holder.clone(), log_prev, statement });
        let receipt = carried.receipt();
        let (study_uid, document_uid) = match &receipt.statement {
            Statement::Registration { study_uid, document_uid, .. } => (Some(study_uid.as_str()), Some(document_uid.as_str())),
            _ => (receipt.object().map(|object| object.study_uid.as_str()), None),
        };
        let insert = "INSERT INTO receipts (id, holder, kind, hash, log_prev, study_uid, sop_instance_uid, document_uid, entry_uuid, \
                      carried) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let insert = sql(insert)
            .bind(id.to_string())
            .bind(holder)
            .bind(receipt.kind().to_string())
            .bind(carried.hash().to_string())
            .bind(log_prev.map(|hash| hash.to_string()).unwrap_or_default())
            .bind(study_uid)
            .bind(receipt.object().map(|object| object.sop_instance_uid.as_str()))
            .bind(document_uid)
            .bind(entry_uuid)
            .bind(carried.to_json());
        self.execute(insert).await?;
        Ok(carried)
    }

    /// R4 of a registered manifest: names every R3 of it that exists now. Only instances of the manifest's own patient,
    /// controller, register and specifier count.
    pub(super) async fn issue_registration(
        &mut self,
        custody: &Custody,
        at: Timestamp,
        source: &Source,
        manifest: &ManifestRow,
    ) -> Result<Carried, StoreError> {
        let select = "SELECT rc.hash FROM manifest_references r JOIN manifests m ON m.entry_uuid = r.entry_uuid \
             JOIN entries e ON e.entry_uuid = r.entry_uuid JOIN instances i ON i.sop_instance_uid = r.sop_instance_uid \
             JOIN imaging_units u ON u.unit_id = i.unit_id JOIN receipts rc ON rc.sop_instance_uid = i.sop_instance_uid \
             WHERE r.entry_uuid = $1 AND rc.kind = 'R3' AND i.study_uid = m.study_uid AND u.patient_key = e.patient_key \
             AND u.controller = e.controller AND u.register = e.register AND u.specifier = e.specifier";
        let rows = self.rows(sql(select).bind(&manifest.entry_uuid)).await?;
        let hashes = rows.iter().map(|row| row.parsed("hash", ReceiptHash::parse)).collect::<Result<Vec<_>, _>>()?;
        let statement = Statement::Registration {
            study_uid: manifest.study_uid.clone(),
            source: source.clone(),
            document_uid: manifest.document_unique_id.clone(),
            commits: Commits::of(hashes),
        };
        self.issue_about(custody, at, statement, Some(&manifest.entry_uuid)).await
    }

    /// R3 and R4 of a study with the access units they are about, in the order of their ids: at most `limit` of those after a
    /// receipt, and the one after which there are more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn receipts_of_study(
        &mut self,
        study_uid: &str,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<(Vec<Candidate<Carried>>, Option<Uuid>), StoreError> {
        let (found, more) = self.receipts_found(study_uid, after, limit).await?;
        Ok((candidates(found), more))
    }

    pub(super) async fn receipts_found(
        &mut self,
        study_uid: &str,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<(Found<Carried>, Option<Uuid>), StoreError> {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let select = sql("SELECT id FROM receipts WHERE study_uid = $1 AND id > $2 AND kind IN ('R3', 'R4') ORDER BY id LIMIT $3");
        let page = self.rows(select.bind(study_uid).bind(&after).bind(limit as u64 + 1)).await?;
        let Some(last) = page.iter().take(limit).next_back() else { return Ok((Vec::new(), None)) };
        let more = if page.len() > limit { Some(last.parsed("id", |text| Uuid::try_parse(text).ok())?) } else { None };
        let last = last.text("id")?;
        let select = format!(
            "SELECT rc.id AS receipt_id, rc.carried, {IMAGING_UNIT} FROM receipts rc \
             JOIN instances i ON i.sop_instance_uid = rc.sop_instance_uid JOIN imaging_units u ON u.unit_id = i.unit_id \
             JOIN patients p ON p.patient_key = u.patient_key \
             WHERE rc.study_uid = $1 AND rc.id > $2 AND rc.id <= $3 AND rc.kind = 'R3'"
        );
        let commits = self.rows(sql(&select).bind(study_uid).bind(&after).bind(&last)).await?;
        let select = format!(
            "SELECT rc.id AS receipt_id, rc.carried, {ENTRY} FROM receipts rc \
             JOIN entries e ON e.entry_uuid = rc.entry_uuid {NEWEST} \
             WHERE rc.study_uid = $1 AND rc.id > $2 AND rc.id <= $3 AND rc.kind = 'R4'"
        );
        let registrations = self.rows(sql(&select).bind(study_uid).bind(&after).bind(&last)).await?;
        let mut found = Vec::with_capacity(commits.len() + registrations.len());
        let mut known = Units::new();
        for row in &commits {
            let unit = self.unit_of_instance(row, &mut known).await?;
            found.push((row.text("receipt_id")?, (unit, carried(row)?)));
        }
        for row in &registrations {
            found.push((row.text("receipt_id")?, (units::entry_unit(row)?, carried(row)?)));
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok((found.into_iter().map(|(_, found)| found).collect(), more))
    }

    /// Receipts of a holder after `after`, in order, at most `limit`: the log itself, for `receipt verify --log`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn receipt_log(
        &mut self,
        _: &Operator,
        holder: &Holder,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Carried>, StoreError> {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let select = sql("SELECT carried FROM receipts WHERE holder = $1 AND id > $2 ORDER BY id LIMIT $3");
        let rows = self.rows(select.bind(holder.to_string()).bind(after).bind(limit)).await?;
        rows.iter().map(carried).collect()
    }

    /// Whether the holder has signed no receipt yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn nothing_signed(&mut self, holder: &Holder) -> Result<bool, StoreError> {
        let select = sql("SELECT id FROM receipts WHERE holder = $1 LIMIT 1");
        Ok(self.row(select.bind(holder.to_string())).await?.is_none())
    }

    /// Key records of a holder, oldest first: what a reader needs before it believes later receipts (11 §2). No patient
    /// data.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn key_records(&mut self, holder: &Holder) -> Result<Vec<Carried>, StoreError> {
        let select = sql("SELECT carried FROM receipts WHERE holder = $1 AND kind = 'key' ORDER BY id");
        self.rows(select.bind(holder.to_string())).await?.iter().map(carried).collect()
    }
}

/// A registered manifest, as a receipt names it.
pub(super) struct ManifestRow {
    pub entry_uuid: String,
    pub document_unique_id: String,
    pub study_uid: String,
}

pub(super) fn carried(row: &super::sql::Row) -> Result<Carried, StoreError> {
    row.parsed("carried", |text| Carried::parse(text).ok())
}
