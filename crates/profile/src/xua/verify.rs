//! The verification algorithm (profile 04 §11), V1–V17.

use std::sync::LazyLock;

use idr_ihe::assertion::{
    AssertionError, Bergshamra, Certificate, Presented, PublicKey, Revocation, RevocationMode, RevocationStatus, jws, sha256,
};
use idr_ihe::metadata::PatientId;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use super::attribute::{Attributes, Key};
use super::claims::{care_basis, consistent};
use super::class::{Class, Transaction};
use super::jwt::{self, thumbprint};
use super::refusal::{Code, Refusal};
use super::rules::{ReplayMode, XuaRules};
use super::statement::{Confirmation, Statement};
use super::trust::{Issuer, Trust};
use crate::access::{Claims, Kind, Policy, Subject};
use crate::identifier::{self, Environment, IdentityRules};

/// Below this many octets a serial number is as RFC 5280 §4.1.2.2 wants it.
const SERIAL_OCTETS: usize = 20;

/// How an assertion or token was carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carriage {
    /// SAML in `wsse:Security` of a SOAP envelope (04 §10.1).
    Soap,
    /// `Authorization` of an HTTP request (04 §10.2).
    Http,
    /// User identity of an association (04 §10.4).
    Dimse,
}

/// The service event of what is stored, against which C5 of 04 §4 is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SubmittedEvent<'a> {
    /// Not known at this point, or the request stores nothing.
    #[default]
    Unknown,
    /// The submission carries none: the assertion must not either.
    Absent,
    /// The submission carries this OID.
    Oid(&'a str),
}

/// What is known of the request itself.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The transaction or route.
    pub transaction: Transaction,
    /// The patient that the request names, after alias resolution (06 §7); `None` if it names none, or one that the data set names.
    pub patient: Option<&'a PatientId>,
    /// The service event of the submission.
    pub service_event: SubmittedEvent<'a>,
    /// Public URL of the endpoint: an audience beside those of the rules.
    pub endpoint: Option<&'a str>,
}

impl<'a> RequestFacts<'a> {
    /// A request of which only the transaction is known.
    pub fn of(transaction: Transaction) -> Self {
        Self { transaction, patient: None, service_event: SubmittedEvent::Unknown, endpoint: None }
    }

    /// The same with a patient that it names.
    pub fn about(self, patient: &'a PatientId) -> Self {
        Self { patient: Some(patient), ..self }
    }
}

/// The snapshots a request is judged by, from its first step to its last.
#[derive(Clone, Copy)]
pub struct Verifier<'a> {
    /// Trust file.
    pub trust: &'a Trust,
    /// Revocation data, fetched in the background.
    pub revocation: &'a Revocation,
    /// Rule set.
    pub rules: &'a XuaRules,
    /// Access policy: who may do what.
    pub policy: &'a Policy,
    /// Forms of patient identifiers.
    pub identity: &'a IdentityRules,
    /// Environment of the installation.
    pub environment: Environment,
    /// Authorities of secondary patient identifiers (06 §2.1).
    pub local_issuers: &'a [String],
}

/// Something worth a line in the journal that refuses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// The signing certificate's serial number is longer than 20 octets.
    LongSerialNumber,
    /// The signing certificate is valid for longer than `max_signature_days`.
    LongLifetime,
    /// No usable revocation data, and the mode accepts that.
    RevocationUnknown,
    /// So many attributes were ignored.
    UnknownAttributes(u32),
    /// The patient identifier was accepted with a warning of 06.
    Identifier(identifier::Warning),
}

/// What V18 inserts, if absent, before the answer; atomic over all nodes, durable (04 §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayKey {
    /// SHA-256 of `Issuer` ‖ 00H ‖ `ID`.
    pub key: [u8; 32],
    /// End of validity and skew: the key is kept until then.
    pub keep_until: Timestamp,
    /// A second presentation refuses; else it is accepted from the same TLS client.
    pub single_use: bool,
    /// SHA-256 of the TLS client certificate: the value of the key.
    pub tls_sha256: [u8; 32],
}

/// An assertion or token that passed V1–V17.
pub struct Verified {
    /// Who asks: gate G1.
    pub subject: Subject,
    /// For V18.
    pub replay: ReplayKey,
    /// Class of the request.
    pub class: Class,
    /// OID of the organisation of the TLS client: the issuer's, or an intermediary's.
    pub tls_organisation: String,
    /// Whom the assertion may be shown to besides us: the audiences of a bearer assertion (04 §8); none of one that is bound to a
    /// key, which is not passed on.
    pub audiences: Vec<String>,
    /// The assertion element or token as received; [`Claims::assertion_sha256`] is its digest.
    pub evidence: Vec<u8>,
    /// `NameID/@SPProvidedID`: an alias for the audit.
    pub alias: Option<String>,
    /// `SubjectConfirmation/NameID`: the technical user that acts for a responsible professional.
    pub technical_user: Option<String>,
    /// `acp`: recorded, never decided on.
    pub acp: Option<String>,
    /// `consent_doc`: recorded, never decided on.
    pub consent_doc: Option<String>,
    /// For the journal.
    pub warnings: Vec<Warning>,
}

impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified")
            .field("subject", &self.subject)
            .field("class", &self.class)
            .field("tls_organisation", &self.tls_organisation)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// Who signed and who is connected, as far as V6 and V7 know it.
struct Signed<'a> {
    statement: Statement,
    issuer: &'a Issuer,
    evidence: Vec<u8>,
    warnings: Vec<Warning>,
}

impl<'a> Verifier<'a> {
    /// Verifies SAML: the envelope for [`Carriage::Soap`], else the assertion alone. `tls_client` is the DER of the verified TLS
    /// client certificate.
    ///
    /// # Errors
    /// [`Refusal`] of the first step that fails.
    pub fn verify_saml(
        &self,
        bytes: &[u8],
        carriage: Carriage,
        tls_client: &[u8],
        facts: &RequestFacts<'_>,
        now: Timestamp,
    ) -> Result<Verified, Refusal> {
        let place = match carriage {
            Carriage::Soap => idr_ihe::assertion::Carriage::Envelope,
            Carriage::Http | Carriage::Dimse => idr_ihe::assertion::Carriage::Alone,
        };
        let limits = self.rules.limits();
        let presented = Presented::read(bytes, place, limits, self.rules.allow_ed25519)?;
        let certificate = Certificate::from_der(presented.signing_certificate())?;
        let warnings = self.certificate(&certificate, tls_client, now, || presented.fits(&certificate))?;
        let issuer = self.issuer(presented.issuer(), &certificate, now)?;
        let key: &PublicKey = certificate.public_key()?;
        let signed = presented.verify(key, &Bergshamra, limits)?;
        if presented.timestamp().and_then(|t| t.expires).is_some_and(|expires| now >= self.later(expires)) {
            return Err(Code::Expired.because("wsu:Timestamp is expired"));
        }
        let statement = Statement::of_saml(signed.assertion, &signed.canonical);
        let signed = Signed { statement, issuer, evidence: presented.received().to_vec(), warnings };
        self.judge(signed, carriage, tls_client, facts, now)
    }

    /// Verifies a compact JWT (04 §10.3).
    ///
    /// # Errors
    /// [`Refusal`] of the first step that fails.
    pub fn verify_jwt(
        &self,
        token: &str,
        carriage: Carriage,
        tls_client: &[u8],
        facts: &RequestFacts<'_>,
        now: Timestamp,
    ) -> Result<Verified, Refusal> {
        let read = jws::Token::read(token, self.rules.jwt_bytes(), self.rules.allow_ed25519)?;
        let unknown = Code::JwtKey.because("kid is not registered for iss");
        let certificate = self.trust.signer(read.kid()).ok_or(unknown)?;
        let warnings = self.certificate(certificate, tls_client, now, || Ok(()))?;
        let claims = read.verify(certificate.public_key()?)?;
        let payload = serde_json::to_string(&claims).unwrap_or_default();
        let statement = jwt::statement(claims, payload)?;
        if self.trust.issuer(&statement.issuer).is_some_and(|issuer| !issuer.signing_certificates.contains(&certificate.sha256())) {
            return Err(unknown);
        }
        let issuer = self.issuer(&statement.issuer, certificate, now)?;
        let signed = Signed { statement, issuer, evidence: token.as_bytes().to_vec(), warnings };
        self.judge(signed, carriage, tls_client, facts, now)
    }

    /// V6. `fits` is the message's part: KeyInfo and key against the certificate.
    fn certificate(
        &self,
        certificate: &Certificate,
        tls_client: &[u8],
        now: Timestamp,
        fits: impl FnOnce() -> Result<(), AssertionError>,
    ) -> Result<Vec<Warning>, Refusal> {
        let mut warnings = Vec::new();
        certificate.may_sign_assertions(now, self.trust.allow_shared_certificate)?;
        if !self.trust.allow_shared_certificate && certificate.der() == tls_client {
            return Err(Code::Certificate.because("one certificate serves for TLS and signing"));
        }
        let lifetime = certificate.not_after().duration_since(certificate.not_before());
        if lifetime > SignedDuration::from_hours(24 * i64::from(self.trust.max_signature_days)) {
            if self.trust.enforce_peer_lifetime {
                return Err(Code::Certificate.because("the signing certificate is valid for longer than max_signature_days"));
            }
            warnings.push(Warning::LongLifetime);
        }
        if certificate.serial().len() > SERIAL_OCTETS {
            warnings.push(Warning::LongSerialNumber);
        }
        let path = self.trust.signing().path(certificate, now)?;
        let status = self.revocation.status(certificate, &path, now)?;
        if status == RevocationStatus::Unknown && self.revocation.mode() != RevocationMode::Off {
            warnings.push(Warning::RevocationUnknown);
        }
        certificate.public_key()?;
        fits()?;
        Ok(warnings)
    }

    /// V7.
    fn issuer(&self, entity_id: &str, certificate: &Certificate, now: Timestamp) -> Result<&'a Issuer, Refusal> {
        let refuse = |what| Err(Code::Issuer.because(what));
        let Some(issuer) = self.trust.issuer(entity_id) else { return refuse("the issuer is unknown") };
        if !issuer.is_valid_on(today(now)) {
            return refuse("the issuer's record is not in force");
        }
        if self.trust.organisation(&issuer.organisation).is_some_and(|organisation| organisation.suspended) {
            return refuse("the issuer's organisation is suspended");
        }
        let Some(signer) = self.trust.organisation_of(certificate) else {
            return refuse("the signing certificate belongs to no known organisation");
        };
        if signer.suspended || !issuer.signing_organisations.contains(&signer.oid) {
            return refuse("the signing certificate's organisation may not sign for the issuer");
        }
        if !issuer.signing_certificates.is_empty() && !issuer.signing_certificates.contains(&certificate.sha256()) {
            return refuse("the signing certificate is not one of the issuer's");
        }
        Ok(issuer)
    }

    /// V11–V17 over what was signed.
    fn judge(
        &self,
        signed: Signed<'a>,
        carriage: Carriage,
        tls_client: &[u8],
        facts: &RequestFacts<'_>,
        now: Timestamp,
    ) -> Result<Verified, Refusal> {
        let Signed { statement, issuer, evidence, mut warnings } = signed;
        let attributes = statement.attributes(self.rules);
        // Times depend on the kind; a role that cannot be read is refused in V13.
        let role = attributes.as_ref().ok().and_then(Attributes::role);
        let kind = role.and_then(|(code, system)| self.rules.kind_of_role(code, system));
        self.conditions(&statement, kind, facts, now)?;
        let tls_sha256 = sha256(tls_client);
        let tls_organisation = self.confirmation(&statement, issuer, tls_client, &tls_sha256)?;
        if statement.has_withdrawn(self.rules) {
            return Err(Code::Withdrawn.because("a value or attribute name that is withdrawn"));
        }
        let attributes = attributes?;
        let read = self.attributes(&statement, &attributes, issuer, facts, now)?;
        warnings.extend(read.warnings.iter().copied());
        if attributes.unknown > 0 {
            warnings.push(Warning::UnknownAttributes(attributes.unknown));
        }
        let digest = hex::encode(sha256(&evidence));
        let claims = Claims { issuer_organisation: issuer.organisation.clone(), assertion_sha256: digest, ..read.claims };
        consistent(&claims, &statement, issuer)?;
        self.allowed(&claims, &statement, read.class, facts)?;
        if let Some(named) = facts.patient
            && claims.patient.as_ref() != Some(named)
        {
            return Err(Code::Patient.because("the request is about another patient than the assertion"));
        }
        care_basis(&claims, read.class)?;
        let keep_until = self.later(claims.not_on_or_after);
        let key = sha256(&[statement.issuer.as_bytes(), &[0], statement.id.as_bytes()].concat());
        let single_use = carriage == Carriage::Soap && self.rules.soap_replay_mode() == ReplayMode::SingleUse;
        Ok(Verified {
            replay: ReplayKey { key, keep_until, single_use, tls_sha256 },
            class: read.class,
            tls_organisation,
            audiences: match statement.confirmation {
                Confirmation::Bearer { .. } => statement.audiences,
                _ => Vec::new(),
            },
            evidence,
            alias: statement.alias,
            technical_user: statement.technical_user.map(|name| name.value),
            acp: attributes.text(Key::Acp, self.rules)?,
            consent_doc: attributes.text(Key::ConsentDoc, self.rules)?,
            warnings,
            subject: Subject::verified(claims, self.rules.access_limits()),
        })
    }

    fn later(&self, at: Timestamp) -> Timestamp {
        at.checked_add(SignedDuration::from_secs(i64::from(self.rules.clock_skew_seconds()))).unwrap_or(Timestamp::MAX)
    }

    /// V11 (04 §8).
    fn conditions(&self, statement: &Statement, kind: Option<Kind>, facts: &RequestFacts<'_>, now: Timestamp) -> Result<(), Refusal> {
        let latest = self.later(now);
        let Statement { issued, not_before, not_on_or_after, authenticated, .. } = *statement;
        if now >= self.later(not_on_or_after) {
            return Err(Code::Expired.because("the assertion is expired"));
        }
        if not_before > latest {
            return Err(Code::NotYetValid.because("the assertion is not yet valid"));
        }
        let lifetime = SignedDuration::from_secs(self.rules.max_lifetime_seconds.of(kind));
        let authn_age = SignedDuration::from_secs(self.rules.max_authn_age_seconds.of(kind));
        let span = not_on_or_after.duration_since(not_before);
        let age = issued.duration_since(authenticated);
        let zero = SignedDuration::ZERO;
        for (wrong, what) in [
            (span <= zero || span > lifetime, "the lifetime is not above zero and within its bound"),
            (not_before > self.later(issued) || issued > latest, "the issue instant lies before validity or in the future"),
            (issued >= not_on_or_after, "the issue instant lies behind the end of validity"),
            (age < zero || age > authn_age, "the authentication lies behind the issue instant, or is too old"),
            (statement.session_until.is_some_and(|until| until <= now), "the session is over"),
            (statement.confirmation_until.is_some_and(|until| until > not_on_or_after), "the confirmation outlives the assertion"),
        ] {
            if wrong {
                return Err(Code::Lifetime.because(what));
            }
        }
        if statement.confirmation_until.is_some_and(|until| now >= self.later(until)) {
            return Err(Code::Expired.because("the subject confirmation is expired"));
        }
        let ours = |audience: &str| self.rules.is_audience(audience, facts.endpoint);
        if !statement.audiences.iter().any(|audience| ours(audience)) || !statement.recipient.as_deref().is_none_or(ours) {
            return Err(Code::Audience.because("audience or recipient is not this service"));
        }
        Ok(())
    }

    /// V12 (04 §9). Returns the OID of the TLS client's organisation.
    fn confirmation(&self, statement: &Statement, issuer: &Issuer, tls_client: &[u8], tls_sha256: &[u8; 32]) -> Result<String, Refusal> {
        let refuse = |what| Err(Code::Confirmation.because(what));
        match &statement.confirmation {
            Confirmation::Other => return refuse("the confirmation method is neither bearer nor holder-of-key"),
            Confirmation::Bearer { .. } if issuer.holder_of_key_required => return refuse("the issuer's assertions must be holder-of-key"),
            Confirmation::Bearer { data: false } if self.rules.require_confirmation_data => {
                return refuse("SubjectConfirmationData is missing");
            }
            Confirmation::Token(None) if self.rules.require_cnf() || issuer.holder_of_key_required => {
                return Err(Code::JwtBinding.because("cnf.x5t#S256 is missing"));
            }
            Confirmation::Token(Some(bound)) if *bound != thumbprint(tls_sha256) => {
                return Err(Code::JwtBinding.because("cnf is another certificate than that of the TLS client"));
            }
            _ => {}
        }
        let stranger = Code::TlsClient.because("the TLS client's organisation may not bring the issuer's assertions");
        let certificate = Certificate::from_der(tls_client).map_err(|_| stranger)?;
        let client = self.trust.organisation_of(&certificate).filter(|organisation| !organisation.suspended).ok_or(stranger)?;
        let own = client.oid == issuer.organisation;
        if !own && !issuer.tls_organisations.contains(&client.oid) {
            return Err(stranger);
        }
        match &statement.confirmation {
            Confirmation::HolderOfKey(_) if !own => refuse("holder-of-key behind an intermediary"),
            Confirmation::HolderOfKey(holder) if holder.as_deref() != Some(tls_client) => {
                refuse("the holder of key is another certificate than that of the TLS client")
            }
            _ => Ok(client.oid.clone()),
        }
    }
}

/// V16 for one instance of STOW-RS or C-STORE, whose patient stands in the data set (04 §11): `patient` after alias resolution.
///
/// # Errors
/// [`Code::Patient`].
pub fn patient_binding(subject: &Subject, patient: &PatientId) -> Result<(), Refusal> {
    match &subject.claims().patient {
        Some(own) if own == patient => Ok(()),
        _ => Err(Code::Patient.because("the data set is of another patient than the assertion")),
    }
}

/// Civil date of the profile, from the bundled time zone database: no file is read.
pub(super) fn today(now: Timestamp) -> Date {
    static HELSINKI: LazyLock<TimeZone> =
        LazyLock::new(|| TimeZoneDatabase::bundled().get("Europe/Helsinki").expect("the bundled database has Europe/Helsinki"));
    HELSINKI.to_datetime(now).date()
}
