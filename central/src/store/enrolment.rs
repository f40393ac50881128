//! Invites, and sites that have joined (profile 10 §6).

use idr_profile::enrolment::Binding;
use idr_profile::receipt::ReceiptKey;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::sql::{Row, sql};
use super::{StoreError, Tx};

/// Whether an invite can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InviteState {
    /// A second operator has not approved it yet.
    Waiting,
    /// It can.
    Open,
    /// A site has joined by it.
    Used,
    /// It was revoked, or tried too often.
    Burned,
}

/// An invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// SHA-256 of its token, 64 hex digits.
    pub token_sha256: String,
    /// Whether it can be used.
    pub state: InviteState,
    /// Tries that were refused.
    pub failures: u64,
    /// Last instant of its use.
    pub expires_at: Timestamp,
    /// The rest.
    pub record: InviteRecord,
}

/// What is kept of an invite as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteRecord {
    /// What it is bound to.
    pub binding: Binding,
    /// `Issuer` of the site's assertions.
    pub entity_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Operator who made it.
    pub created_by: String,
    /// Operator who approved it.
    pub approved_by: Option<String>,
}

/// How far a join is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnrolledState {
    /// Answered, and not confirmed over mutual TLS.
    Pending,
    /// In force.
    Active,
    /// Out of force until it is taken back.
    Disabled,
    /// Out of force for good.
    Revoked,
    /// A later join of the same site is in force.
    Replaced,
}

impl EnrolledState {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
            Self::Replaced => "replaced",
        }
    }
}

/// A site that has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolledSite {
    /// SHA-256 of the token that it joined by, 64 hex digits.
    pub token_sha256: String,
    /// `site.id`.
    pub site: String,
    /// How far it is.
    pub state: EnrolledState,
    /// Since when.
    pub changed_at: Timestamp,
    /// The rest.
    pub record: EnrolledRecord,
}

/// What is kept of a site as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolledRecord {
    /// What it is bound to.
    pub binding: Binding,
    /// `Issuer` of its assertions.
    pub entity_id: String,
    /// Program and version.
    pub software: String,
    /// When it joined.
    pub joined_at: Timestamp,
    /// TLS certificates, the newest last.
    pub tls: Vec<HeldCertificate>,
    /// Signing certificates, the newest last.
    pub sign: Vec<HeldCertificate>,
    /// Public keys of its receipts.
    pub receipt_keys: Vec<ReceiptKey>,
    /// SHA-256 over the public keys that it joined with, hex: the same keys get the same answer again.
    pub keys_sha256: String,
    /// That answer, JSON.
    pub answer: String,
    /// The last renewal.
    #[serde(default)]
    pub renewal: Option<RenewalRecord>,
}

/// A renewal that may be asked for again, when its answer was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalRecord {
    /// When.
    pub at: Timestamp,
    /// SHA-256 over the new public keys, hex.
    pub keys_sha256: String,
    /// The answer, JSON.
    pub answer: String,
}

/// A certificate of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldCertificate {
    /// Chain, PEM, the certificate first.
    pub pem: String,
    /// SHA-256 of the certificate, 64 hex digits.
    pub sha256: String,
    /// Serial number, upper-case hex.
    pub serial: String,
    /// Last instant of its validity.
    pub not_after: Timestamp,
    /// A later one is in use; this one counts beside it until then.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

impl Tx {
    /// Keeps an invite.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_invite(&mut self, new: &Invite) -> Result<(), StoreError> {
        let insert = "INSERT INTO enrolment_invites (token_sha256, state, failures, expires_at, record) VALUES ($1, $2, $3, $4, $5)";
        let insert = sql(insert).bind(&new.token_sha256).bind(word(new.state)?).bind(signed(new.failures)).bind(new.expires_at);
        self.execute(insert.bind(json(&new.record)?)).await.map(drop)
    }

    /// An invite by the SHA-256 of its token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invite(&mut self, token_sha256: &str) -> Result<Option<Invite>, StoreError> {
        let select = "SELECT token_sha256, state, failures, expires_at, record FROM enrolment_invites WHERE token_sha256 = $1";
        self.row(sql(select).bind(token_sha256)).await?.as_ref().map(invite).transpose()
    }

    /// The newest invites, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn invites(&mut self, limit: u32) -> Result<Vec<Invite>, StoreError> {
        let select = "SELECT token_sha256, state, failures, expires_at, record FROM enrolment_invites \
                      ORDER BY expires_at DESC, token_sha256 LIMIT $1";
        self.rows(sql(select).bind(i64::from(limit))).await?.iter().map(invite).collect()
    }

    /// Writes what changes of an invite.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_invite(&mut self, invite: &Invite) -> Result<(), StoreError> {
        let update = "UPDATE enrolment_invites SET state = $2, failures = $3, record = $4 WHERE token_sha256 = $1";
        let update = sql(update).bind(&invite.token_sha256).bind(word(invite.state)?).bind(signed(invite.failures));
        self.execute(update.bind(json(&invite.record)?)).await.map(drop)
    }

    /// Keeps a site that has joined, or what changed of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_enrolled(&mut self, site: &EnrolledSite) -> Result<(), StoreError> {
        let upsert = "INSERT INTO enrolled_sites (token_sha256, site, state, changed_at, record) VALUES ($1, $2, $3, $4, $5) \
                      ON CONFLICT (token_sha256) DO UPDATE SET state = excluded.state, changed_at = excluded.changed_at, \
                      record = excluded.record";
        let upsert = sql(upsert).bind(&site.token_sha256).bind(&site.site).bind(site.state.name()).bind(site.changed_at);
        self.execute(upsert.bind(json(&site.record)?)).await.map(drop)
    }

    /// Every site that has joined, in the order of their names and joins.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enrolled(&mut self) -> Result<Vec<EnrolledSite>, StoreError> {
        let select = "SELECT token_sha256, site, state, changed_at, record FROM enrolled_sites ORDER BY site, changed_at, token_sha256";
        self.rows(sql(select)).await?.iter().map(enrolled).collect()
    }

    /// A join by the SHA-256 of its token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enrolled_by(&mut self, token_sha256: &str) -> Result<Option<EnrolledSite>, StoreError> {
        let select = "SELECT token_sha256, site, state, changed_at, record FROM enrolled_sites WHERE token_sha256 = $1";
        self.row(sql(select).bind(token_sha256)).await?.as_ref().map(enrolled).transpose()
    }

    /// A join that was not confirmed in time is forgotten; its invite stays used.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_unconfirmed(&mut self, joined_before: Timestamp) -> Result<u64, StoreError> {
        let delete = "DELETE FROM enrolled_sites WHERE state = 'pending' AND changed_at < $1";
        self.execute(sql(delete).bind(joined_before)).await
    }
}

fn invite(row: &Row) -> Result<Invite, StoreError> {
    Ok(Invite {
        token_sha256: row.text("token_sha256")?,
        state: row.parsed("state", from_word)?,
        failures: row.unsigned("failures")?,
        expires_at: row.time("expires_at")?,
        record: row.json("record")?,
    })
}

fn enrolled(row: &Row) -> Result<EnrolledSite, StoreError> {
    Ok(EnrolledSite {
        token_sha256: row.text("token_sha256")?,
        site: row.text("site")?,
        state: row.parsed("state", from_word)?,
        changed_at: row.time("changed_at")?,
        record: row.json("record")?,
    })
}

fn from_word<T: serde::de::DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(word.into()).ok()
}

fn word(state: InviteState) -> Result<String, StoreError> {
    let unwritten = StoreError::Contradiction { what: "the state of an invite" };
    serde_json::to_value(state).ok().and_then(|value| value.as_str().map(str::to_owned)).ok_or(unwritten)
}

fn json(record: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|_| StoreError::Contradiction { what: "a record of enrolment" })
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
