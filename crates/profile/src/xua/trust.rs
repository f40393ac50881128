//! `trust.toml`: whom this installation believes (profile 04 §7, 10 §5.2, 11 §2).

use std::collections::{BTreeMap, HashMap, HashSet};

use idr_ihe::assertion::{Certificate, TrustStore, TrustStoreError};
use idr_ihe::metadata::is_oid;
use jiff::civil::Date;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::jwt::thumbprint;
use crate::access::Kind;
use crate::identifier::YTunnus;
use crate::receipt::ReceiptKey;

/// Largest `trust.toml` and largest certificate file, in bytes (10 §11 BD-26).
const FILE_BYTES: usize = 16 * 1024 * 1024;

/// Why a trust file is not taken; the running one stays in force.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("trust.toml: {0}")]
    Parse(#[from] toml::de::Error),
    /// A certificate file cannot be read.
    #[error("trust.toml: {list}: cannot read {file}")]
    File {
        /// The list that names it.
        list: &'static str,
        /// Its name.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An entry is no certificate.
    #[error("trust.toml: {list}: {entry} holds no readable certificate; expected PEM or DER")]
    Certificate {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
    },
    /// Anchors or intermediates cannot be used.
    #[error("trust.toml: {list}")]
    Store {
        /// The list.
        list: &'static str,
        /// Why.
        #[source]
        source: TrustStoreError,
    },
    /// A row contradicts itself or another.
    #[error("trust.toml: {0}")]
    Content(String),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    signing_anchors: Vec<String>,
    #[serde(default)]
    signing_intermediates: Vec<String>,
    #[serde(default)]
    tls_anchors: Vec<String>,
    #[serde(default)]
    tls_intermediates: Vec<String>,
    #[serde(default)]
    modality_anchors: Vec<String>,
    #[serde(default)]
    enrolment_authorities: Vec<String>,
    #[serde(default)]
    allow_shared_certificate: bool,
    #[serde(default = "two_years")]
    max_signature_days: u16,
    #[serde(default)]
    enforce_peer_lifetime: bool,
    #[serde(default)]
    organisation: Vec<OrganisationRow>,
    #[serde(default)]
    issuer: Vec<IssuerRow>,
    #[serde(default)]
    receipt_keys: Vec<ReceiptKey>,
}

fn two_years() -> u16 {
    732
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct OrganisationRow {
    oid: String,
    #[serde(default)]
    certificates: Vec<String>,
    #[serde(default)]
    identifiers: Vec<String>,
    #[serde(default)]
    serial_numbers: Vec<String>,
    rule_set: Option<String>,
    #[serde(default)]
    suspended: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerRow {
    entity_id: String,
    organisation: String,
    #[serde(default)]
    controllers: Vec<String>,
    #[serde(default)]
    producers: Vec<String>,
    kinds: Vec<Kind>,
    #[serde(default)]
    signing_certificates: Vec<String>,
    #[serde(default)]
    signing_organisations: Vec<String>,
    #[serde(default)]
    tls_organisations: Vec<String>,
    #[serde(default)]
    authn_contexts: Vec<String>,
    #[serde(default)]
    holder_of_key_required: bool,
    rule_set: Option<String>,
    valid_from: Option<toml::value::Datetime>,
    valid_to: Option<toml::value::Datetime>,
}

/// An organisation that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organisation {
    /// Its OID.
    pub oid: String,
    /// Rule set it uses; none: the first in force.
    pub rule_set: Option<String>,
    /// Neither its assertions nor its connections are accepted (10 §2.2 rule 6).
    pub suspended: bool,
}

/// Who may assert, for whom (04 §7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// `Issuer`, `iss`.
    pub entity_id: String,
    /// OID of its organisation.
    pub organisation: String,
    /// Controllers it may speak for.
    pub controllers: Vec<String>,
    /// Organisations whose units it may name beside its own.
    pub producers: Vec<String>,
    /// Kinds of subjects it may assert.
    pub kinds: Vec<Kind>,
    /// SHA-256 of the certificates it may sign with; empty: any of `signing_organisations`.
    pub signing_certificates: Vec<[u8; 32]>,
    /// Organisations whose certificates may sign for it; its own if the file lists none.
    pub signing_organisations: Vec<String>,
    /// Organisations whose TLS certificates may bring its assertions, beside its own.
    pub tls_organisations: Vec<String>,
    /// Authentication contexts accepted beside those of the kind.
    pub authn_contexts: Vec<String>,
    /// Bearer assertions are refused.
    pub holder_of_key_required: bool,
    /// Rule set of its requests.
    pub rule_set: Option<String>,
    valid_from: Option<Date>,
    valid_to: Option<Date>,
}

impl Issuer {
    /// Whether the record is in force on a civil date (Europe/Helsinki), both ends included.
    pub fn is_valid_on(&self, today: Date) -> bool {
        self.valid_from.is_none_or(|from| from <= today) && self.valid_to.is_none_or(|to| today <= to)
    }
}

/// What enrolment adds to the trust file for one site (profile 10 §6.2).
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// OID of the organisation.
    pub organisation: String,
    /// `Issuer` of its assertions.
    pub entity_id: String,
    /// Controllers it may speak for.
    pub controllers: Vec<String>,
    /// SHA-256 of its TLS certificates.
    pub tls: Vec<[u8; 32]>,
    /// DER of its signing certificates.
    pub signing: Vec<Vec<u8>>,
    /// Its public receipt keys.
    pub receipt_keys: Vec<ReceiptKey>,
}

/// The trust file, read and checked, with what enrolment added. Made once, then only read: a request keeps the one it started with.
#[derive(Debug, Clone)]
pub struct Trust {
    signing: TrustStore,
    tls_anchors: Vec<Vec<u8>>,
    tls_intermediates: Vec<Vec<u8>>,
    modality_anchors: Vec<Vec<u8>>,
    enrolment_authorities: Vec<Certificate>,
    in_force: HashSet<[u8; 32]>,
    out_of_force: HashSet<[u8; 32]>,
    pub(super) allow_shared_certificate: bool,
    pub(super) max_signature_days: u16,
    pub(super) enforce_peer_lifetime: bool,
    organisations: BTreeMap<String, Organisation>,
    by_certificate: HashMap<[u8; 32], String>,
    by_identifier: HashMap<String, String>,
    by_serial_number: HashMap<String, String>,
    issuers: HashMap<String, Issuer>,
    signers: HashMap<String, Certificate>,
    receipt_keys: Vec<ReceiptKey>,
}

/// Reads a file named by the trust file, relative to its folder.
pub type ReadFile<'a> = dyn FnMut(&str) -> std::io::Result<Vec<u8>> + 'a;

impl Trust {
    /// Reads `trust.toml`; `read` gives the certificate files that it names.
    ///
    /// # Errors
    /// [`TrustError`]; nothing is half taken.
    pub fn parse(text: &str, read: &mut ReadFile<'_>) -> Result<Self, TrustError> {
        if text.len() > FILE_BYTES {
            return Err(TrustError::Content("longer than 16777216 bytes".to_owned()));
        }
        let file: File = toml::from_str(text)?;
        let mut all = |list: &'static str, entries: &[String]| -> Result<Vec<Vec<u8>>, TrustError> {
            entries.iter().map(|entry| certificates(list, entry, read)).collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
        };
        let mut anchors = all("signing_anchors", &file.signing_anchors)?;
        let intermediates = all("signing_intermediates", &file.signing_intermediates)?;
        let (mut tls_anchors, tls_intermediates) =
            (all("tls_anchors", &file.tls_anchors)?, all("tls_intermediates", &file.tls_intermediates)?);
        // An authority of enrolment makes both kinds (10 §5.2 K5); which of its certificates count is the enrolment's to say.
        let enrolment = all("enrolment_authorities", &file.enrolment_authorities)?;
        anchors.extend_from_slice(&enrolment);
        tls_anchors.extend_from_slice(&enrolment);
        let unreadable = |_| TrustError::Certificate { list: "enrolment_authorities", entry: "an entry".to_owned() };
        let enrolment_authorities =
            enrolment.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        let modality_anchors = all("modality_anchors", &file.modality_anchors)?;
        let signing = TrustStore::new(&anchors, &intermediates)
            .map_err(|source| TrustError::Store { list: "signing_anchors, signing_intermediates", source })?;
        let mut trust = Self {
            signing,
            tls_anchors,
            tls_intermediates,
            modality_anchors,
            enrolment_authorities,
            in_force: HashSet::new(),
            out_of_force: HashSet::new(),
            allow_shared_certificate: file.allow_shared_certificate,
            max_signature_days: file.max_signature_days,
            enforce_peer_lifetime: file.enforce_peer_lifetime,
            organisations: BTreeMap::new(),
            by_certificate: HashMap::new(),
            by_identifier: HashMap::new(),
            by_serial_number: HashMap::new(),
            issuers: HashMap::new(),
            signers: HashMap::new(),
            receipt_keys: file.receipt_keys,
        };
        crate::receipt::Verifier::new(&trust.receipt_keys).map_err(|error| TrustError::Content(format!("receipt_keys: {error}")))?;
        for row in file.organisation {
            trust.add_organisation(row)?;
        }
        for row in file.issuer {
            trust.add_issuer(row, read)?;
        }
        Ok(trust)
    }

    fn add_organisation(&mut self, row: OrganisationRow) -> Result<(), TrustError> {
        let oid = oid("organisation.oid", row.oid)?;
        let claim = |map: &mut HashMap<String, String>, value: String, what: &str| match map.insert(value, oid.clone()) {
            None => Ok(()),
            Some(_) => Err(TrustError::Content(format!("organisation {oid}: {what} is another organisation's too"))),
        };
        for value in row.identifiers {
            claim(&mut self.by_identifier, value, "an identifier")?;
        }
        for value in row.serial_numbers {
            claim(&mut self.by_serial_number, value, "a serial number")?;
        }
        for value in row.certificates {
            let digest = digest(&value)
                .ok_or_else(|| TrustError::Content(format!("organisation {oid}: certificates: {value} is not 64 hex digits")))?;
            if self.by_certificate.insert(digest, oid.clone()).is_some() {
                return Err(TrustError::Content(format!("organisation {oid}: a certificate is another organisation's too")));
            }
        }
        let organisation = Organisation { oid: oid.clone(), rule_set: row.rule_set, suspended: row.suspended };
        match self.organisations.insert(oid.clone(), organisation) {
            None => Ok(()),
            Some(_) => Err(TrustError::Content(format!("organisation {oid} stands twice"))),
        }
    }

    fn add_issuer(&mut self, row: IssuerRow, read: &mut ReadFile<'_>) -> Result<(), TrustError> {
        let organisation = oid("issuer.organisation", row.organisation)?;
        for value in row.controllers.iter().chain(&row.producers).chain(&row.signing_organisations).chain(&row.tls_organisations) {
            oid("issuer", value.clone())?;
        }
        let mut signing_certificates = Vec::new();
        for entry in &row.signing_certificates {
            if let Some(digest) = digest(entry) {
                signing_certificates.push(digest);
                continue;
            }
            for der in certificates("issuer.signing_certificates", entry, read)? {
                let unreadable = |_| TrustError::Certificate { list: "issuer.signing_certificates", entry: entry.clone() };
                let certificate = Certificate::from_der(&der).map_err(unreadable)?;
                signing_certificates.push(certificate.sha256());
                self.signers.insert(thumbprint(&certificate.sha256()), certificate);
            }
        }
        let date = |value: Option<toml::value::Datetime>| {
            let parsed = value.map(|value| value.to_string().parse::<Date>()).transpose();
            parsed.map_err(|_| TrustError::Content(format!("issuer {}: valid_from and valid_to are dates, 2026-01-01", row.entity_id)))
        };
        let own = if row.signing_organisations.is_empty() { vec![organisation.clone()] } else { row.signing_organisations };
        let issuer = Issuer {
            controllers: row.controllers,
            producers: row.producers,
            kinds: row.kinds,
            signing_certificates,
            signing_organisations: own,
            tls_organisations: row.tls_organisations,
            authn_contexts: row.authn_contexts,
            holder_of_key_required: row.holder_of_key_required,
            rule_set: row.rule_set,
            valid_from: date(row.valid_from)?,
            valid_to: date(row.valid_to)?,
            entity_id: row.entity_id.clone(),
            organisation,
        };
        match self.issuers.insert(row.entity_id.clone(), issuer) {
            None => Ok(()),
            Some(_) => Err(TrustError::Content(format!("issuer {} stands twice", row.entity_id))),
        }
    }

    /// This trust file with the sites that are enrolled, and with `out_of_force`, SHA-256 of certificates that a site no longer
    /// has or that were taken from it: they belong to nobody, whatever else the file says. Where the file has a row for the organisation or the
    /// issuer, that row stays, and certificates, controllers and receipt keys are added to it; what contradicts the file is left out.
    pub fn with_enrolled(&self, enrolled: &[Enrolled], out_of_force: impl IntoIterator<Item = [u8; 32]>) -> Self {
        let mut trust = self.clone();
        for site in enrolled {
            trust.enrol(site);
        }
        trust.out_of_force = out_of_force.into_iter().filter(|certificate| !trust.in_force.contains(certificate)).collect();
        trust
    }

    fn enrol(&mut self, site: &Enrolled) {
        let signing: Vec<Certificate> = site.signing.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
        let oid = &site.organisation;
        self.organisations.entry(oid.clone()).or_insert_with(|| Organisation { oid: oid.clone(), rule_set: None, suspended: false });
        for certificate in site.tls.iter().copied().chain(signing.iter().map(Certificate::sha256)) {
            self.by_certificate.entry(certificate).or_insert_with(|| oid.clone());
            self.in_force.insert(certificate);
        }
        let pins = signing.iter().map(Certificate::sha256);
        match self.issuers.get_mut(&site.entity_id) {
            None => {
                let issuer = Issuer {
                    entity_id: site.entity_id.clone(),
                    organisation: oid.clone(),
                    controllers: site.controllers.clone(),
                    producers: Vec::new(),
                    kinds: vec![Kind::Technical],
                    signing_certificates: pins.collect(),
                    signing_organisations: vec![oid.clone()],
                    tls_organisations: Vec::new(),
                    authn_contexts: Vec::new(),
                    holder_of_key_required: false,
                    rule_set: None,
                    valid_from: None,
                    valid_to: None,
                };
                self.issuers.insert(site.entity_id.clone(), issuer);
            }
            Some(row) if row.organisation == *oid => {
                // None pinned: any of the organisation is taken, and these are of it.
                if !row.signing_certificates.is_empty() {
                    row.signing_certificates.extend(pins);
                }
                let further: Vec<String> = site.controllers.iter().filter(|oid| !row.controllers.contains(oid)).cloned().collect();
                row.controllers.extend(further);
            }
            Some(_) => return,
        }
        self.signers.extend(signing.into_iter().map(|certificate| (thumbprint(&certificate.sha256()), certificate)));
        for key in &site.receipt_keys {
            if self.receipt_keys.iter().all(|known| known.kid != key.kid) {
                self.receipt_keys.push(key.clone());
            }
        }
    }

    /// Authorities of enrolment: of their certificates only those of enrolled sites count.
    pub fn enrolment_authorities(&self) -> &[Certificate] {
        &self.enrolment_authorities
    }

    /// Anchors and intermediates of signing certificates.
    pub fn signing(&self) -> &TrustStore {
        &self.signing
    }

    /// DER of the TLS anchors.
    pub fn tls_anchors(&self) -> &[Vec<u8>] {
        &self.tls_anchors
    }

    /// DER of the configured TLS intermediates.
    pub fn tls_intermediates(&self) -> &[Vec<u8>] {
        &self.tls_intermediates
    }

    /// DER of the anchors of modalities.
    pub fn modality_anchors(&self) -> &[Vec<u8>] {
        &self.modality_anchors
    }

    /// Public keys of receipt holders, old ones included.
    pub fn receipt_keys(&self) -> &[ReceiptKey] {
        &self.receipt_keys
    }

    /// A known organisation by OID.
    pub fn organisation(&self, oid: &str) -> Option<&Organisation> {
        self.organisations.get(oid)
    }

    /// An issuer by `Issuer` or `iss`, byte for byte.
    pub fn issuer(&self, entity_id: &str) -> Option<&Issuer> {
        self.issuers.get(entity_id)
    }

    /// All issuers, in no order.
    pub fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.issuers.values()
    }

    /// The registered certificate of a JWT's `kid`.
    pub(super) fn signer(&self, kid: &str) -> Option<&Certificate> {
        self.signers.get(kid)
    }

    /// The organisation of a certificate (04 §7): by its digest, else by `organizationIdentifier`, else by the subject's
    /// `serialNumber`. `None`: no mapping, which refuses.
    ///
    /// An `organizationIdentifier` is mapped by `identifiers`, or is itself the OID of a known organisation, or `VATFI-` or `NTRFI-`
    /// (ETSI EN 319 412-1 §5.1.4) with a business id whose organisation is known.
    ///
    /// One that is out of force, or whose issuer is an authority of enrolment while no enrolled site has it, is nobody's.
    pub fn organisation_of(&self, certificate: &Certificate) -> Option<&Organisation> {
        self.organisations.get(&self.organisation_named_by(certificate)?)
    }

    /// The OID that [`Self::organisation_of`] looks up, whether the organisation is known or not.
    pub fn organisation_named_by(&self, certificate: &Certificate) -> Option<String> {
        let sha256 = certificate.sha256();
        let of_enrolment = self.enrolment_authorities.iter().any(|authority| certificate.claims_issuer(authority));
        if self.out_of_force.contains(&sha256) || of_enrolment && !self.in_force.contains(&sha256) {
            return None;
        }
        match self.by_certificate.get(&sha256) {
            Some(oid) => Some(oid.clone()),
            None => match certificate.organization_identifier() {
                Some(identifier) => self.by_identifier.get(identifier).cloned().or_else(|| derived(identifier)),
                None => self.by_serial_number.get(certificate.subject_serial_number()?).cloned(),
            },
        }
    }
}

fn derived(identifier: &str) -> Option<String> {
    let oid = identifier.strip_prefix("urn:oid:").unwrap_or(identifier);
    if is_oid(oid) {
        return Some(oid.to_owned());
    }
    let number = identifier.strip_prefix("VATFI-").or_else(|| identifier.strip_prefix("NTRFI-"))?;
    let digits: String = number.chars().filter(|c| *c != '-').collect();
    YTunnus::parse(digits.trim_start_matches('0')).map(|id| id.to_oid())
}

fn oid(key: &str, value: String) -> Result<String, TrustError> {
    if is_oid(&value) { Ok(value) } else { Err(TrustError::Content(format!("{key}: {value} is no OID"))) }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    hex::decode(text).ok()?.try_into().ok()
}

/// The certificates of one entry: PEM text, or the name of a PEM or DER file.
fn certificates(list: &'static str, entry: &str, read: &mut ReadFile<'_>) -> Result<Vec<Vec<u8>>, TrustError> {
    let inline = entry.contains("-----BEGIN");
    let named = || if inline { "PEM text".to_owned() } else { entry.to_owned() };
    let bytes = match inline {
        true => entry.as_bytes().to_vec(),
        false => read(entry).map_err(|source| TrustError::File { list, file: entry.to_owned(), source })?,
    };
    let none = || TrustError::Certificate { list, entry: named() };
    if bytes.len() > FILE_BYTES {
        return Err(none());
    }
    if !inline && bytes.first() == Some(&0x30) {
        return Ok(vec![bytes]);
    }
    let found: Vec<Vec<u8>> =
        CertificateDer::pem_slice_iter(&bytes).map(|der| der.map(|der| der.to_vec())).collect::<Result<_, _>>().map_err(|_| none())?;
    if found.is_empty() { Err(none()) } else { Ok(found) }
}
