//! `wsa:MessageID` as idempotency key (profile 08 §4): a message is done once, and its answer is given again.
//!
//! # Failure
//! Only commits are kept. A claim whose worker died is taken over after its lease; until then others wait, then are busy.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::central::Central;
use crate::store::StoreError;
use crate::store::messages::{Claim, Lease, MessageKey};

/// The kept answer of a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The Body's child.
    pub response: String,
    /// R4 of each manifest, as carried.
    pub receipts: Vec<String>,
}

/// Whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// The caller's: it finishes or [gives up](give_up).
    Mine(Lease),
    /// It was done.
    Done(Answer),
    /// It was done with other content (S-20).
    OtherContent,
    /// Somebody is at it for too long (IDR-B-01).
    Busy,
}

/// Claims a message, waiting for another worker that is at it.
///
/// # Errors
/// [`StoreError`].
pub async fn turn(central: &Central, key: &MessageKey, fingerprint: &str) -> Result<Turn, StoreError> {
    let rules = &central.xds.idempotency;
    let retention = SignedDuration::from_secs(i64::from(rules.retention_seconds));
    let mut left = Duration::from_secs(u64::from(rules.wait_seconds));
    let mut pause = FIRST_PAUSE;
    loop {
        let now = central.now();
        let until = now.saturating_add(SignedDuration::from_secs(i64::from(rules.lease_seconds))).unwrap_or(Timestamp::MAX);
        let lease = Lease { token: central.random_id(), until };
        let mut tx = central.store.begin().await?;
        let claim = tx.claim_message(key, fingerprint, &lease, retention, now).await?;
        match claim {
            Claim::Mine => {
                tx.commit().await?;
                return Ok(Turn::Mine(lease));
            }
            Claim::Done { same_content: false, .. } => return Ok(Turn::OtherContent),
            Claim::Done { answer, .. } => {
                return serde_json::from_str(&answer).map(Turn::Done).map_err(|_| StoreError::Unreadable { column: "answer" });
            }
            Claim::Running => drop(tx),
        }
        if left.is_zero() {
            return Ok(Turn::Busy);
        }
        let wait = pause.min(left);
        tokio::time::sleep(wait).await;
        left -= wait;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Leaves no trace of a message that failed. If that fails, its lease ends by itself.
pub async fn give_up(central: &Central, key: &MessageKey, lease: &Lease) {
    let released = async {
        let mut tx = central.store.begin().await?;
        tx.release_message(key, lease).await?;
        tx.commit().await
    };
    if let Err(error) = released.await {
        tracing::warn!(cause = %error, "the claim of a failed message stays until its lease is over");
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
