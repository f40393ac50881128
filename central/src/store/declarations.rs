//! Declarations and the state of a patient that decisions read (profile 05 §2). Versions are appended, never changed.

use super::patients::PatientKey;
use super::sql::{Row, sql};
use super::{StoreError, Tx};
use idr_ihe::metadata::PatientId;
use idr_profile::access::{Authorisation, Consent, Denial, DenialStatus, Freshness, Informed, KnownEvent, PatientState, Sector};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was declared. The end of a denial, or of an authorisation, is a new version of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Declaration {
    /// The patient was informed.
    Informing {
        /// Date of informing.
        since: Date,
    },
    /// Disclosure consent given.
    Consent {
        /// Sector of the consent.
        sector: Sector,
        /// Date of consent.
        since: Date,
    },
    /// Disclosure consent withdrawn. Has no effect when there is none.
    Withdrawal {
        /// Sector of the consent.
        sector: Sector,
        /// Date of withdrawal.
        since: Date,
    },
    /// A denial, with its present status.
    Denial(Denial),
    /// An authorisation of an outsourced service; its end is a shorter `valid`.
    Authorisation(Authorisation),
    /// What a merge made of the declarations of two ids (06 §9): stands in place of what was recorded before it.
    Combination {
        /// Informing.
        informed: Informed,
        /// Consents.
        consents: BTreeMap<Sector, Consent>,
        /// Denials that are absolute from now on, by id.
        absolute: Vec<String>,
    },
    /// The merge was taken back: the combination has no effect.
    Separation,
}

impl Declaration {
    fn kind(&self) -> &'static str {
        match self {
            Self::Informing { .. } => "informing",
            Self::Consent { .. } | Self::Withdrawal { .. } => "consent",
            Self::Denial(_) => "denial",
            Self::Authorisation(_) => "authorisation",
            Self::Combination { .. } | Self::Separation => "combination",
        }
    }

    fn status(&self) -> &'static str {
        match self {
            Self::Informing { .. } | Self::Consent { .. } | Self::Authorisation(_) => "active",
            Self::Combination { .. } => "active",
            Self::Separation => "ended",
            Self::Withdrawal { .. } => "withdrawn",
            Self::Denial(denial) => match denial.status {
                DenialStatus::Active => "active",
                DenialStatus::Ended => "ended",
                DenialStatus::EnteredInError => "entered_in_error",
            },
        }
    }
}

/// One version to be recorded.
#[derive(Debug, Clone)]
pub struct NewDeclaration<'a> {
    /// Names the declaration; a later version has the same id.
    pub id: &'a str,
    /// Whose it is, as named when it was recorded; `None` for an authorisation of everybody.
    pub patient: Option<&'a PatientId>,
    /// What is declared.
    pub declaration: &'a Declaration,
    /// JSON: who decided, who recorded, document. Not read by decisions.
    pub detail: &'a str,
    /// When.
    pub recorded_at: Timestamp,
}

/// A declaration as it stands: its latest version.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Names the declaration.
    pub id: String,
    /// Store version of this version.
    pub store_version: u64,
    /// What is declared; `None`: it cannot be read.
    pub declaration: Option<Declaration>,
    /// JSON: who decided, who recorded, document.
    pub detail: String,
    /// When this version was recorded.
    pub recorded_at: Timestamp,
    /// Patient as named when it was recorded; `None` for an authorisation of everybody.
    pub recorded_under: Option<PatientId>,
}

impl Tx {
    /// Declarations of a patient and those of everybody, each in its latest version, in the order of recording.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn declarations_of(&mut self, patient: &PatientId) -> Result<Vec<Declared>, StoreError> {
        let key = self.patient_key(patient).await?;
        let select = format!("{DECLARED} AND (d.patient_key = $1 OR d.patient_key IS NULL) ORDER BY d.store_version");
        self.rows(sql(&select).bind(key.map(|key| key.0))).await?.iter().map(read).collect()
    }

    /// A declaration by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn declaration(&mut self, id: &str) -> Result<Option<Declared>, StoreError> {
        let select = format!("{DECLARED} AND d.declaration_id = $1");
        self.row(sql(&select).bind(id)).await?.as_ref().map(read).transpose()
    }

    /// Version of the declaration store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn store_version(&mut self) -> Result<u64, StoreError> {
        let select = sql("SELECT value FROM counters WHERE name = 'store_version'");
        self.row(select).await?.ok_or(StoreError::Unreadable { column: "value" })?.unsigned("value")
    }

    /// Appends a version and gives the store version from which every decision sees it: one more than before. Makes an
    /// unknown patient.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_declaration(&mut self, new: &NewDeclaration<'_>) -> Result<u64, StoreError> {
        let key = match new.patient {
            Some(patient) => Some(self.ensure_patient(patient, super::patients::Origin::Registration, new.recorded_at).await?),
            None => None,
        };
        let version = self.count("store_version", 1).await?;
        let insert = "INSERT INTO declarations (store_version, declaration_id, patient_key, recorded_authority, recorded_id, kind, status, \
                      body, detail, recorded_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let insert = sql(insert)
            .bind(version)
            .bind(new.id)
            .bind(key.map(|key| key.0))
            .bind(new.patient.map(|patient| patient.authority.as_str()))
            .bind(new.patient.map(|patient| patient.id.as_str()))
            .bind(new.declaration.kind())
            .bind(new.declaration.status())
            .bind(super::units::json(new.declaration))
            .bind(new.detail)
            .bind(new.recorded_at);
        self.execute(insert).await?;
        Ok(version)
    }

    /// Everything a decision about this patient needs, read at one commit point. An unknown patient has the state of one
    /// of whom nothing is recorded. A declaration that cannot be read makes the state `unreadable` (E6), not an error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn patient_state(&mut self, id: &PatientId, freshness: Freshness) -> Result<PatientState, StoreError> {
        let version = self.store_version().await?;
        let mut state = PatientState::new(id.clone(), freshness, version);
        let patient = self.patient(id).await?;
        if let Some(patient) = &patient {
            state.ids.clone_from(&patient.ids);
            state.birth_date = patient.birth_date;
            state.labels.clone_from(&patient.labels);
            state.service_events = self.service_events(&patient.key, &mut state.unreadable).await?;
        }
        let key = patient.map(|patient| patient.key);
        self.declared(key.clone(), &mut state).await?;
        if let Some(key) = key {
            self.denials_of_linked(&key, &mut state).await?;
        }
        Ok(state)
    }

    /// What a patient has declared under its own ids, without the denials of patients that it is linked with.
    pub(super) async fn own_state(&mut self, patient: &super::patients::Patient, now: Timestamp) -> Result<PatientState, StoreError> {
        let mut state = PatientState::new(patient.ids[0].clone(), Freshness::Store { confirmed: now }, self.store_version().await?);
        self.declared(Some(patient.key.clone()), &mut state).await?;
        Ok(state)
    }

    /// Denials of a link set are joined; consents are not shared (06 §6 A24).
    async fn denials_of_linked(&mut self, key: &PatientKey, state: &mut PatientState) -> Result<(), StoreError> {
        let Some(linked) = self.linked_with(key).await? else {
            // A set that is too large to be read: only own use opens anything.
            state.unreadable = true;
            return Ok(());
        };
        for other in linked {
            let mut theirs = PatientState::nobody(state.freshness, state.store_version);
            self.declared(Some(other), &mut theirs).await?;
            state.linked_denials.extend(theirs.denials.iter().map(|denial| denial.id.clone()));
            state.denials.append(&mut theirs.denials);
            state.unreadable |= theirs.unreadable;
        }
        Ok(())
    }

    /// The state for a request about no single patient: the authorisations for everybody.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn common_state(&mut self, freshness: Freshness) -> Result<PatientState, StoreError> {
        let version = self.store_version().await?;
        let mut state = PatientState::nobody(freshness, version);
        self.declared(None, &mut state).await?;
        Ok(state)
    }

    async fn declared(&mut self, patient: Option<PatientKey>, state: &mut PatientState) -> Result<(), StoreError> {
        let select = "SELECT d.declaration_id, d.body FROM declarations d WHERE (d.patient_key = $1 OR d.patient_key IS NULL) AND \
                      d.store_version = (SELECT MAX(v.store_version) FROM declarations v WHERE v.declaration_id = d.declaration_id) \
                      ORDER BY d.store_version";
        let mut absolute = Vec::new();
        for row in self.rows(sql(select).bind(patient.map(|key| key.0))).await? {
            match row.json("body") {
                Ok(declaration) => apply(state, declaration, &mut absolute),
                Err(_) => state.unreadable = true,
            }
        }
        // A denial may have been recorded again after the merge that made it absolute.
        for denial in &mut state.denials {
            denial.emergency_allowed &= !absolute.contains(&denial.id);
        }
        Ok(())
    }

    async fn service_events(&mut self, patient: &PatientKey, unreadable: &mut bool) -> Result<BTreeMap<String, KnownEvent>, StoreError> {
        let select = sql("SELECT oid, controller, start_date, end_date FROM service_events WHERE patient_key = $1").bind(&patient.0);
        let mut events = BTreeMap::new();
        for row in self.rows(select).await? {
            let mut date = |column| -> Result<Option<Date>, StoreError> {
                let text: Option<String> = row.optional_text(column)?;
                let date = text.as_deref().map(str::parse).transpose();
                // An event whose period cannot be read has no known period: denials on it bite.
                *unreadable |= date.is_err();
                Ok(date.unwrap_or(None))
            };
            let (start, end) = (date("start_date")?, date("end_date")?);
            events.insert(row.text("oid")?, KnownEvent { controller: row.text("controller")?, start, end });
        }
        Ok(events)
    }
}

/// The latest versions.
const DECLARED: &str = "SELECT d.declaration_id, d.store_version, d.body, d.detail, d.recorded_at, d.recorded_authority, d.recorded_id \
    FROM declarations d WHERE d.store_version = (SELECT MAX(v.store_version) FROM declarations v WHERE v.declaration_id = d.declaration_id)";

fn read(row: &Row) -> Result<Declared, StoreError> {
    let recorded = row.optional_text("recorded_authority")?.zip(row.optional_text("recorded_id")?);
    Ok(Declared {
        id: row.text("declaration_id")?,
        store_version: row.unsigned("store_version")?,
        declaration: row.json("body").ok(),
        detail: row.text("detail")?,
        recorded_at: row.time("recorded_at")?,
        recorded_under: recorded.map(|(authority, id)| PatientId { id, authority }),
    })
}

/// Declarations come in the order in which they were recorded: the last one of a sector counts.
fn apply(state: &mut PatientState, declaration: Declaration, made_absolute: &mut Vec<String>) {
    match declaration {
        Declaration::Informing { since } => state.informed = Informed::Given { since },
        Declaration::Consent { sector, since } => drop(state.consents.insert(sector, Consent::Active { since })),
        Declaration::Withdrawal { sector, since } => {
            if let Some(consent) = state.consents.get_mut(&sector) {
                *consent = Consent::Withdrawn { since };
            }
        }
        Declaration::Denial(denial) => state.denials.push(denial),
        Declaration::Authorisation(authorisation) => state.authorisations.push(authorisation),
        Declaration::Combination { informed, consents, absolute } => {
            state.informed = informed;
            state.consents = consents;
            made_absolute.extend(absolute);
        }
        Declaration::Separation => {}
    }
}
