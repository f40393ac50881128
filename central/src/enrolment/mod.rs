//! Enrolment of sites (profile 10 §6): invites, joins, confirmations, renewals, and the rows that come of them.
//!
//! [`invites`] is what operators do, [`join`] what sites ask over [`crate::https::enrol`], [`authority`] signs for them where the
//! invite says so. What is in force is made by [`rows`]: peer rows beside those of the main file, and what is added to `trust.toml`. Trust
//! and rows are exchanged together, after the commit that they stand in and with every reload of the files.
//!
//! # Failure
//! Nothing of a join is kept unless all of it is: row, certificates, receipt keys and the use of the token are one commit, and the
//! record of it is on stable storage before. A join whose answer was lost is answered again for 600 s.
//!
//! # Bounds
//! Requests by address and altogether, tries of a token, nonces, bodies: `[enrol]` and profile 10 §6.1.

pub mod authority;
pub mod invites;
pub mod join;
mod limits;
mod offer;
pub mod renewal;
pub mod rows;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use idr_profile::enrolment::JoinCode;
use idr_profile::tls;
use idr_profile::xua::Trust;
use serde_json::Value;

use crate::audit::{AuditError, Entry, Note, Stream};
use crate::central::Central;
use crate::config::{Config, Peer};
use crate::keys::Keys;
use crate::store::StoreError;
use crate::store::enrolment::EnrolledSite;

use authority::Authority;
use limits::{Limiter, Nonces};

/// Path of the routes.
pub const PATH: &str = "/enrol/v1";

/// What a site is refused, and what the journal says of it.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// Its code.
    pub code: JoinCode,
    /// For the journal; the peer gets the fixed text of the code.
    pub why: String,
}

impl Refused {
    /// With the cause.
    pub fn new(code: JoinCode, why: impl ToString) -> Self {
        Self { code, why: why.to_string() }
    }

    /// Store, audit or key are away: the token is not burned.
    pub fn unavailable(why: impl ToString) -> Self {
        Self::new(JoinCode::Unavailable, why)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::unavailable(error)
    }
}

impl From<AuditError> for Refused {
    fn from(error: AuditError) -> Self {
        Self::unavailable(error)
    }
}

/// The part of the centre that enrols.
pub struct Enrolment {
    authority: Option<Authority>,
    /// Public keys of the audit checkpoints, base64url.
    audit_keys: Vec<String>,
    /// `trust.toml` as read, and who is in force beside it. Locked while either is exchanged.
    base: Mutex<(Arc<Trust>, Vec<EnrolledSite>)>,
    roster: ArcSwap<Vec<Peer>>,
    limiter: Mutex<Limiter>,
    nonces: Mutex<Nonces>,
    /// One join, confirmation or renewal at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Enrolment {
    /// Nobody is enrolled yet.
    ///
    /// # Errors
    /// The authority of the configuration cannot be used.
    pub fn open(config: &Config, trust: &Trust) -> anyhow::Result<Self> {
        use base64::Engine as _;
        let keys = Keys::new(config.storage.path.join("keys"));
        let audit = keys.checkpoint(false).ok().map(|key| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key.public_key()));
        Ok(Self {
            authority: Authority::load(config, trust)?,
            audit_keys: audit.into_iter().collect(),
            base: Mutex::new((Arc::new(trust.clone()), Vec::new())),
            roster: ArcSwap::default(),
            limiter: Mutex::default(),
            nonces: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Peer rows of enrolled sites in force.
    pub fn rows(&self) -> Arc<Vec<Peer>> {
        self.roster.load_full()
    }

    /// Reads who is enrolled, and exchanges rows and trust.
    ///
    /// # Errors
    /// [`StoreError`]: what is in force stays.
    pub async fn refresh(&self, central: &Central) -> Result<(), StoreError> {
        let sites = central.store.read().await?.enrolled().await?;
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        base.1 = sites;
        self.exchange(central, &base);
        Ok(())
    }

    /// Takes a trust file that was read again.
    pub fn take_trust(&self, central: &Central, trust: Trust) {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        base.0 = Arc::new(trust);
        self.exchange(central, &base);
    }

    fn exchange(&self, central: &Central, (trust, sites): &(Arc<Trust>, Vec<EnrolledSite>)) {
        let now = central.now();
        let (enrolled, out_of_force) = rows::trusted(sites, now);
        // Whose certificate it is comes before what its row allows.
        central.trust.store(Arc::new(trust.with_enrolled(&enrolled, out_of_force)));
        self.roster.store(Arc::new(rows::peers(sites, now)));
    }

    /// `trust.toml` as it was read.
    fn trust_file(&self) -> Arc<Trust> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

/// Pins of the centre: that of its certificate, then those of the configuration.
///
/// # Errors
/// The certificate cannot be read.
pub fn pins(config: &Config) -> anyhow::Result<Vec<String>> {
    let path = &config.https.certificate;
    let pem = std::fs::read(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let own = tls::certificates(&pem, "https.certificate")?.first().and_then(tls::pin);
    let mut pins: Vec<String> = own.into_iter().collect();
    for pin in &config.enrol.pins {
        if !pins.contains(pin) {
            pins.push(pin.clone());
        }
    }
    Ok(pins)
}

/// Writes to the system log, and returns when that is on stable storage.
async fn record(central: &Central, event: &str, data: Value) -> Result<(), AuditError> {
    let note = Note { id: Some(central.new_id()), time: central.now(), event: event.to_owned(), data };
    central.audit.append(vec![Entry::Note(Stream::System, note)]).await
}

#[cfg(test)]
mod tests;
