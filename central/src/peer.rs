//! Whose certificate this is, and what its row allows: two of the three facts without which nobody is served (profile 10 §2;
//! the third is the assertion's issuer, [`crate::assertion`]).
//!
//! No row, no traffic: the row is chosen by the verified TLS certificate and the organisation that the trust file gives it,
//! never by a header or an address.
//!
//! # Failure
//! [`NotAdmitted`]: the journal names the cause (IDR-T-08, -09, -12, -13) and so does one refusal record; the peer learns nothing
//! but that it is not served.

use idr_ihe::assertion::Certificate;
use idr_profile::xua::{Refusal, Transaction};

use crate::assertion::{self, Asked};
use crate::central::Central;
use crate::config::{Model, Peer};
use crate::https::server::Client;
use crate::revocation::Revoked;

/// Why a TLS client is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The trust file knows no organisation for the certificate.
    #[error("the certificate belongs to no known organisation; add it to trust.toml")]
    Organisation,
    /// The organisation is suspended (10 §2.2 rule 6).
    #[error("the organisation of the certificate is suspended")]
    Suspended,
    /// No `[[peer]]` of the organisation is in force, and no enrolled site of it.
    #[error("no [[peer]] row of the certificate's organisation is in force")]
    Row,
    /// Rows exist, but each is pinned to other certificates.
    #[error("the certificate matches no pin of its organisation's [[peer]] rows")]
    Pin,
    /// Revoked, or nothing is known of that where it is asked for.
    #[error(transparent)]
    Revoked(#[from] Revoked),
}

impl NotAdmitted {
    /// `IDR-T-nn` of profile 10 §5.6.
    pub fn code(self) -> &'static str {
        match self {
            Self::Pin => "IDR-T-13",
            Self::Revoked(Revoked::Revoked) => "IDR-T-08",
            Self::Revoked(Revoked::Unknown) => "IDR-T-09",
            _ => "IDR-T-12",
        }
    }
}

/// A peer that may speak to the centre.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Its row.
    pub row: Peer,
    /// Organisation of its certificate, OID.
    pub organisation: String,
}

impl Admitted {
    /// Whether the row lists the transaction, as far as its action tells: RAD-68 is ITI-41 with a manifest, which shows only in
    /// the body (08 §7); then [`lists`](Self::lists) decides.
    pub fn may_use(&self, transaction: Transaction) -> bool {
        self.lists(transaction) || transaction == Transaction::Iti41 && self.lists(Transaction::Rad68)
    }

    /// Whether the row lists the transaction by its own name.
    pub fn lists(&self, transaction: Transaction) -> bool {
        self.row.transactions.iter().any(|name| name == number(transaction))
    }
}

/// Finds the row of a TLS client.
///
/// # Errors
/// [`NotAdmitted`].
pub fn admit(central: &Central, client: &Client) -> Result<Admitted, NotAdmitted> {
    let (config, trust, today) = (&central.config, central.trust.load(), central.today());
    let certificate = Certificate::from_der(&client.certificate).map_err(|_| NotAdmitted::Organisation)?;
    central.revocation.load().client(&certificate, central.now())?;
    let organisation = trust.organisation_of(&certificate).ok_or(NotAdmitted::Organisation)?;
    if organisation.suspended {
        return Err(NotAdmitted::Suspended);
    }
    let in_force = |row: &&Peer| {
        row.organisation == organisation.oid
            && row.valid_from.is_none_or(|from| from <= today)
            && row.valid_to.is_none_or(|to| today <= to)
            && (row.model != Model::C4 || config.direct.enabled)
    };
    let enrolled = central.enrolment.rows();
    let rows: Vec<&Peer> = config.peer.iter().chain(enrolled.iter()).filter(in_force).collect();
    let pinned = |row: &&&Peer| row.certificates.iter().any(|pin| pin.eq_ignore_ascii_case(&client.sha256));
    let found = rows.iter().find(pinned).or_else(|| rows.iter().find(|row| row.certificates.is_empty()));
    match found {
        Some(row) => Ok(Admitted { row: (*row).clone(), organisation: organisation.oid.clone() }),
        None if rows.is_empty() => Err(NotAdmitted::Row),
        None => Err(NotAdmitted::Pin),
    }
}

/// Finds the row of a TLS client, and tells journal and security log if there is none.
///
/// # Errors
/// What the peer is told: [`Refusal`] IDR-X-20, or IDR-X-32 while the audit store takes no records. HTTP routes answer 403.
pub async fn admitted(central: &Central, asked: &Asked) -> Result<Admitted, Refusal> {
    match admit(central, &asked.client) {
        Ok(admitted) => Ok(admitted),
        Err(cause) => Err(turn_away(central, asked, cause.code(), &cause.to_string()).await),
    }
}

/// The journal line and the refusal record of a peer that is not served.
pub async fn turn_away(central: &Central, asked: &Asked, code: &'static str, cause: &str) -> Refusal {
    tracing::warn!(code, peer = %asked.client.address.ip(), certificate = %asked.client.sha256, "peer refused: {cause}");
    assertion::refused_as(central, asked, None, code, Refusal::stranger()).await
}

/// The name of a transaction in peer rows and records: `ITI-18`, `WADO-RS`, `CUSTODY` …
pub fn number(transaction: Transaction) -> &'static str {
    match transaction {
        Transaction::Iti41 => "ITI-41",
        Transaction::Iti42 => "ITI-42",
        Transaction::Iti57 => "ITI-57",
        Transaction::Iti61 => "ITI-61",
        Transaction::Iti62 => "ITI-62",
        Transaction::Iti86 => "ITI-86",
        Transaction::Iti92 => "ITI-92",
        Transaction::Rad68 => "RAD-68",
        Transaction::Rad66 => "RAD-66",
        Transaction::Rad74 => "RAD-74",
        Transaction::StowRs => "STOW-RS",
        Transaction::CStore => "C-STORE",
        Transaction::StorageCommitment => "N-ACTION",
        Transaction::Receipts | Transaction::Reconcile => "CUSTODY",
        Transaction::Iti18 => "ITI-18",
        Transaction::Iti38 => "ITI-38",
        Transaction::Iti51 => "ITI-51",
        Transaction::QidoRs => "QIDO-RS",
        Transaction::CFind => "C-FIND",
        Transaction::LightState | Transaction::LightEvents => "LIGHT",
        Transaction::Iti43 => "ITI-43",
        Transaction::Iti39 => "ITI-39",
        Transaction::Rad69 => "RAD-69",
        Transaction::Rad75 => "RAD-75",
        Transaction::WadoRs => "WADO-RS",
        Transaction::WadoUri => "WADO-URI",
        Transaction::CMove => "C-MOVE",
        Transaction::CGet => "C-GET",
        Transaction::DeclarationRead | Transaction::DeclarationWrite => "DECLARATION",
        Transaction::AuditRead => "AUDIT",
        Transaction::Explain => "EXPLAIN",
        Transaction::Operate => "OPERATE",
        Transaction::Identity => "IDENTITY",
    }
}
