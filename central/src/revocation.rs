//! Revoked certificates: of whoever signs assertions, and of TLS clients (profile 04 §7, 10 §5.3).
//!
//! Lists lie in the folder `files.revocation_lists` (`*.crl`, DER or PEM), put there by whatever fetches them; the time of a file
//! is when its list was fetched. Each is of an anchor or intermediate of the trust file. Nothing is fetched on the path of a
//! request, and never from an address that a certificate names.
//!
//! A TLS client is judged with its row ([`crate::peer`]), so with every request, association, message and storing of an
//! association: a list that is taken while connections are open counts for what is asked on them next.
//!
//! # Failure
//! A list that cannot be used leaves all of those in force. Without a usable list `revocation = "require"` refuses,
//! `"prefer"` accepts; a certificate that leads to no anchor of the trust file is refused by both.
//!
//! # Bounds
//! 64 MiB of a list.

use anyhow::Context as _;
use idr_ihe::assertion::{Certificate, Revocation, RevocationMode, TrustStore};
use idr_profile::xua::Trust;
use jiff::Timestamp;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;

use crate::config::{Config, Revocation as Mode};

/// Longest use of a revocation status after its fetch (profile 10 §5.3), seconds.
const REVOCATION_AGE_MAX_SECONDS: u32 = 86_400;
/// How a PEM file begins.
const PEM: &[u8] = b"-----BEGIN";

/// What is known of revoked certificates; exchanged as a whole.
#[derive(Debug)]
pub struct Revocations {
    /// Lists by issuer, of both kinds.
    pub lists: Revocation,
    /// Authorities of TLS clients; `None` where nothing is asked (`revocation = "off"`).
    clients: Option<TrustStore>,
}

impl Revocations {
    /// Nothing is asked of anybody.
    pub fn off() -> Self {
        Self { lists: Revocation::new(RevocationMode::Off, REVOCATION_AGE_MAX_SECONDS), clients: None }
    }

    /// Reads the lists of the configured folder.
    ///
    /// # Errors
    /// A list that is none, or of an unknown issuer; a TLS anchor that may not sign certificates.
    pub fn load(config: &Config, trust: &Trust) -> anyhow::Result<Self> {
        let mode = match config.revocation {
            Mode::Require => RevocationMode::Require,
            Mode::Prefer => RevocationMode::Prefer,
            Mode::Off => RevocationMode::Off,
        };
        let lists = Revocation::new(mode, REVOCATION_AGE_MAX_SECONDS);
        let clients = match mode {
            RevocationMode::Off => None,
            _ => Some(TrustStore::new(trust.tls_anchors(), trust.tls_intermediates()).context("tls_anchors, tls_intermediates")?),
        };
        let mut found = Self { lists, clients };
        // Which of their certificates count, the centre itself knows (10 §6): the others belong to no organisation.
        for authority in trust.enrolment_authorities() {
            found.lists.known_elsewhere(authority);
        }
        let folder = &config.files.revocation_lists;
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            entries => entries.with_context(|| format!("{}: revocation lists cannot be read", folder.display()))?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "crl") {
                continue;
            }
            let bytes = std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
            let fetched = Timestamp::try_from(std::fs::metadata(&path)?.modified()?)?;
            let der = if bytes.starts_with(PEM) { CertificateRevocationListDer::from_pem_slice(&bytes).ok() } else { Some(bytes.into()) };
            let der = der.with_context(|| format!("{}: no PEM of one revocation list", path.display()))?;
            let taken = found.add(&der, trust, fetched);
            anyhow::ensure!(taken, "{}: no complete revocation list of a signing or TLS anchor or intermediate", path.display());
        }
        Ok(found)
    }

    fn add(&mut self, der: &[u8], trust: &Trust, fetched: Timestamp) -> bool {
        let Self { lists, clients } = self;
        let authorities = trust.signing().certificates().chain(clients.iter().flat_map(TrustStore::certificates));
        // All are asked: an authority of one name and key counts once, however many certificates it has.
        let taken = authorities.filter(|issuer| lists.add_list(der, issuer, fetched).is_ok());
        taken.count() > 0
    }

    /// Whether a TLS client may be served: neither its certificate nor an issuer of it but the anchor is revoked.
    ///
    /// # Errors
    /// [`Revoked`].
    pub fn client(&self, certificate: &Certificate, now: Timestamp) -> Result<(), Revoked> {
        let Some(clients) = &self.clients else { return Ok(()) };
        // A certificate that has expired since the handshake, whose anchor was taken out of the trust file, or that came by an
        // intermediate which the file does not know: no list can tell of it, and no mode takes that for a list that is missing.
        let path = clients.path(certificate, now).map_err(|_| Revoked::Unknown)?;
        if self.lists.is_revoked(certificate, &path) {
            return Err(Revoked::Revoked);
        }
        self.lists.status(certificate, &path, now).map(|_| ()).map_err(|_| Revoked::Unknown)
    }
}

/// Why a TLS client is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Revoked {
    /// It is.
    #[error("the certificate, or an authority above it, is revoked")]
    Revoked,
    /// Nothing usable is known, and the mode asks for it.
    #[error(
        "no path to an anchor of the trust file, or no usable revocation list of an authority on it; put intermediates into tls_intermediates and a current list into files.revocation_lists"
    )]
    Unknown,
}
