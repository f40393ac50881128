//! What makes a request count once: `wsa:MessageID` as idempotency key (profile 08 §4), and used assertions (04 §8).

use super::sql::sql;
use super::{StoreError, Tx};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// Who sent which message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// Issuer organisation of the verified assertion, OID.
    pub organisation: String,
    /// `wsa:MessageID` after trimming.
    pub message_id: String,
}

/// What a worker that claims a message says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Random, one per attempt.
    pub token: Uuid,
    /// Until when others wait for it (`idempotency.lease_seconds`, 600 s).
    pub until: Timestamp,
}

/// What was found under a message key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nothing, or a lease that is over: the caller goes on and owns the message.
    Mine,
    /// The message was done.
    Done {
        /// Whether its content is the same.
        same_content: bool,
        /// The stored answer.
        answer: String,
    },
    /// Somebody is at it.
    Running,
}

/// A presentation of an assertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presentation {
    /// SHA-256(`Issuer` ‖ 00H ‖ `ID`), hex.
    pub key: String,
    /// SHA-256 of the TLS client certificate, hex.
    pub certificate_sha256: String,
    /// `NotOnOrAfter` + skew.
    pub keep_until: Timestamp,
}

/// Whether an assertion was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// Never.
    First,
    /// Before. `single_use` refuses it; `bound_reuse` refuses another certificate.
    Again {
        /// With the same TLS client certificate as the first time.
        same_certificate: bool,
    },
}

impl Tx {
    /// Claims a message, atomically over all nodes. A `done` record older than `retention` counts as nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_message(
        &mut self,
        key: &MessageKey,
        fingerprint: &str,
        lease: &Lease,
        retention: SignedDuration,
        now: Timestamp,
    ) -> Result<Claim, StoreError> {
        let insert = "INSERT INTO idempotency (organisation, message_id, fingerprint, state, lease_token, lease_until) \
                      VALUES ($1, $2, $3, 'in_progress', $4, $5) ON CONFLICT DO NOTHING";
        let insert = sql(insert).bind(&key.organisation).bind(&key.message_id).bind(fingerprint);
        if self.execute(insert.bind(lease.token.to_string()).bind(lease.until)).await? == 1 {
            return Ok(Claim::Mine);
        }
        let mut select = sql("SELECT fingerprint, state, lease_until, answer, committed_at FROM idempotency \
                              WHERE organisation = $1 AND message_id = $2")
        .bind(&key.organisation)
        .bind(&key.message_id);
        select.push(self.connection.for_update());
        let row = self.row(select).await?.ok_or(StoreError::Unreadable { column: "message_id" })?;
        if row.text("state")? == "done" {
            let committed = row.time("committed_at")?;
            if now.duration_since(committed) <= retention {
                return Ok(Claim::Done { same_content: row.text("fingerprint")? == fingerprint, answer: row.text("answer")? });
            }
        } else if row.time("lease_until")? > now {
            return Ok(Claim::Running);
        }
        let update = "UPDATE idempotency SET fingerprint = $3, state = 'in_progress', lease_token = $4, lease_until = $5, \
                      answer = NULL, committed_at = NULL WHERE organisation = $1 AND message_id = $2";
        let update = sql(update).bind(&key.organisation).bind(&key.message_id).bind(fingerprint);
        self.execute(update.bind(lease.token.to_string()).bind(lease.until)).await?;
        Ok(Claim::Mine)
    }

    /// Keeps the answer of a success, in the commit of its effects.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`]: another worker has the message; the caller drops the transaction.
    pub async fn finish_message(&mut self, key: &MessageKey, lease: &Lease, answer: &str, now: Timestamp) -> Result<(), StoreError> {
        let update = "UPDATE idempotency SET state = 'done', answer = $4, committed_at = $5 \
                      WHERE organisation = $1 AND message_id = $2 AND lease_token = $3 AND state = 'in_progress'";
        let update = sql(update).bind(&key.organisation).bind(&key.message_id).bind(lease.token.to_string());
        match self.execute(update.bind(answer).bind(now)).await? {
            1 => Ok(()),
            _ => Err(StoreError::LeaseLost),
        }
    }

    /// Forgets a message that failed: only commits are kept (08 §4.5).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release_message(&mut self, key: &MessageKey, lease: &Lease) -> Result<(), StoreError> {
        let delete = "DELETE FROM idempotency WHERE organisation = $1 AND message_id = $2 AND lease_token = $3 AND state = 'in_progress'";
        let delete = sql(delete).bind(&key.organisation).bind(&key.message_id).bind(lease.token.to_string());
        self.execute(delete).await.map(|_| ())
    }

    /// Forgets every message that is in progress: at the start of a process that has the database for itself, their workers
    /// are dead and had committed nothing (08 §4.4, §4.5). Without it a sender would wait for the end of the lease. Never
    /// where several nodes share the database. Gives how many there were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_running_messages(&mut self) -> Result<u64, StoreError> {
        self.execute(sql("DELETE FROM idempotency WHERE state = 'in_progress'")).await
    }

    /// Inserts an assertion if it is absent, atomically over all nodes. The caller commits before it answers.
    ///
    /// # Errors
    /// [`StoreError::ReplayStoreFull`]: the request is refused, never let through.
    pub async fn present_assertion(&mut self, presentation: &Presentation, capacity: u64) -> Result<Presented, StoreError> {
        let insert =
            "INSERT INTO used_assertions (assertion_key, certificate_sha256, keep_until) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let insert = sql(insert).bind(&presentation.key).bind(&presentation.certificate_sha256).bind(presentation.keep_until);
        if self.execute(insert).await? == 0 {
            let select = sql("SELECT certificate_sha256 FROM used_assertions WHERE assertion_key = $1").bind(&presentation.key);
            let row = self.row(select).await?.ok_or(StoreError::Unreadable { column: "assertion_key" })?;
            return Ok(Presented::Again { same_certificate: row.text("certificate_sha256")? == presentation.certificate_sha256 });
        }
        if self.count("used_assertions", 1).await? > capacity {
            self.execute(sql("DELETE FROM used_assertions WHERE assertion_key = $1").bind(&presentation.key)).await?;
            self.count("used_assertions", -1).await?;
            return Err(StoreError::ReplayStoreFull { capacity });
        }
        Ok(Presented::First)
    }

    /// Removes assertions that cannot be presented any more and answers beyond their retention: at most `limit` of each.
    /// Gives how many went. Holds no patient data and touches none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn purge_messages(&mut self, retention: SignedDuration, limit: u32, now: Timestamp) -> Result<u64, StoreError> {
        let delete = "DELETE FROM used_assertions WHERE assertion_key IN \
                      (SELECT assertion_key FROM used_assertions WHERE keep_until < $1 ORDER BY keep_until LIMIT $2)";
        let assertions = self.execute(sql(delete).bind(now).bind(limit)).await?;
        self.count("used_assertions", -i64::try_from(assertions).unwrap_or(i64::MAX)).await?;
        let oldest = now.saturating_sub(retention).unwrap_or(Timestamp::MIN);
        let keys = "SELECT organisation, message_id FROM idempotency \
                    WHERE (state = 'done' AND committed_at < $1) OR (state = 'in_progress' AND lease_until < $1) LIMIT $2";
        let keys = self.rows(sql(keys).bind(oldest).bind(limit)).await?;
        for row in &keys {
            let delete = sql("DELETE FROM idempotency WHERE organisation = $1 AND message_id = $2");
            self.execute(delete.bind(row.text("organisation")?).bind(row.text("message_id")?)).await?;
        }
        Ok(assertions + keys.len() as u64)
    }

    /// Adds to a counter and gives its value.
    pub(super) async fn count(&mut self, name: &'static str, by: i64) -> Result<u64, StoreError> {
        let update = sql("UPDATE counters SET value = value + $2 WHERE name = $1 RETURNING value").bind(name).bind(by);
        self.row(update).await?.ok_or(StoreError::Unreadable { column: "name" })?.unsigned("value")
    }
}
