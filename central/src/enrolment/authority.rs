//! The authority that signs for sites in mode issue (kind K5, profile 10 §5.2): P-384, no authority below it.

use std::time::Duration;

use anyhow::Context as _;
use idr_host::files;
use idr_ihe::assertion::Certificate;
use idr_profile::enrolment::{Binding, Use};
use idr_profile::tls;
use idr_profile::xua::Trust;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::RngCore as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PublicKeyData as _, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;

use crate::config::Config;
use crate::store::enrolment::HeldCertificate;

/// organizationIdentifier.
const ORGANIZATION_IDENTIFIER: [u64; 4] = [2, 5, 4, 97];
/// What is issued is valid from so long before now on, for clocks that are behind within 10 §10.
const BEFORE: SignedDuration = SignedDuration::from_secs(120);
/// Longest validity of the authority, days.
const AUTHORITY_DAYS: i64 = 3_653;

/// The authority with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    not_after: Timestamp,
}

impl Authority {
    /// That of the configuration.
    ///
    /// # Errors
    /// A file cannot be read; key and certificate do not fit; `enrolment_authorities` of `trust.toml` does not have it.
    pub fn load(config: &Config, trust: &Trust) -> anyhow::Result<Option<Self>> {
        let (Some(certificate), Some(key)) = (&config.enrol.authority_certificate, &config.enrol.authority_key) else { return Ok(None) };
        let pem = std::fs::read(certificate).with_context(|| format!("{}: cannot be read", certificate.display()))?;
        let der = tls::certificates(&pem, "enrol.authority_certificate")?.remove(0);
        let facts = Certificate::from_der(&der).with_context(|| format!("{}: not usable", certificate.display()))?;
        let key_pem = String::from_utf8(files::read_private(key)?).with_context(|| format!("{}: no PEM", key.display()))?;
        let pair = KeyPair::from_pem(&key_pem).map_err(|_| anyhow::anyhow!("{}: no PKCS#8 private key in PEM", key.display()))?;
        anyhow::ensure!(
            pair.subject_public_key_info() == facts.spki(),
            "enrol.authority_key: is not the key of enrol.authority_certificate"
        );
        anyhow::ensure!(
            trust.enrolment_authorities().iter().any(|known| known.sha256() == facts.sha256()),
            "enrol.authority_certificate: put it into enrolment_authorities of trust.toml too"
        );
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(|error| anyhow::anyhow!("{}: {error}", certificate.display()))?;
        Ok(Some(Self { issuer, not_after: facts.not_after() }))
    }

    /// A certificate for a key of a site.
    ///
    /// # Errors
    /// The key is none, or the library refuses.
    pub fn issue(
        &self,
        (use_, days): (Use, u32),
        spki: &[u8],
        binding: &Binding,
        names: &[String],
        now: Timestamp,
    ) -> anyhow::Result<HeldCertificate> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, binding.site.as_str());
        params.distinguished_name.push(DnType::CustomDnType(ORGANIZATION_IDENTIFIER.to_vec()), binding.organisation.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        if use_ == Use::Tls {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.subject_alt_names =
                names.iter().map(|name| Ok(SanType::DnsName(name.as_str().try_into()?))).collect::<Result<_, rcgen::Error>>()?;
        }
        params.serial_number = Some(serial());
        let from = now.checked_sub(BEFORE)?;
        let until = from.checked_add(SignedDuration::from_hours(24 * i64::from(days)))?.min(self.not_after);
        anyhow::ensure!(from < until, "the authority of enrolment has expired");
        valid(&mut params, from, until);
        let key = SubjectPublicKeyInfo::from_der(spki)?;
        let der = params.signed_by(&key, &self.issuer)?.der().clone();
        held(vec![der])
    }
}

/// A chain as it is kept.
///
/// # Errors
/// The certificate cannot be read.
pub fn held(chain: Vec<CertificateDer<'static>>) -> anyhow::Result<HeldCertificate> {
    let first = chain.first().context("an empty chain")?;
    let facts = Certificate::from_der(first)?;
    Ok(HeldCertificate {
        pem: chain.iter().map(|der| tls::to_pem(der)).collect(),
        sha256: hex::encode(facts.sha256()),
        serial: facts.serial_hex(),
        not_after: facts.not_after(),
        until: None,
    })
}

/// Makes an authority: certificate and key as PEM.
///
/// # Errors
/// No random bytes.
pub fn make(name: &str, now: Timestamp) -> anyhow::Result<(String, String)> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    let from = now.checked_sub(BEFORE)?;
    valid(&mut params, from, from.checked_add(SignedDuration::from_hours(24 * AUTHORITY_DAYS))?);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// 16 random octets, positive.
fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// Sets the validity, to the second.
fn valid(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let (from, until) = (TimeZone::UTC.to_datetime(from), TimeZone::UTC.to_datetime(until));
    let day = |at: DateTime| rcgen::date_time_ymd(i32::from(at.year()), at.month().unsigned_abs(), at.day().unsigned_abs());
    let of_day = |at: DateTime| {
        let [hours, minutes, seconds] = [at.hour(), at.minute(), at.second()].map(|part| u64::from(part.unsigned_abs()));
        Duration::from_secs(hours * 3600 + minutes * 60 + seconds)
    };
    (params.not_before, params.not_after) = (day(from) + of_day(from), day(until) + of_day(until));
}
