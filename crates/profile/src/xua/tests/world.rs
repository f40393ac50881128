//! Keys, certificates, trust and claims of the vectors, made once per process.

use std::sync::LazyLock;

use idr_ihe::assertion::{Certificate, Revocation, RevocationMode, SigningKey};
use idr_ihe::metadata::{Code as Coded, PatientId};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, RsaKeySize, SerialNumber, SignatureAlgorithm, date_time_ymd,
};

use crate::access::{Claims, Kind, Purpose, Representation};
use crate::xua::XuaRules;

/// The clock of the vectors.
pub(super) fn t0() -> Timestamp {
    "2025-06-15T09:00:00Z".parse().expect("an instant")
}

pub(super) fn seconds(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

/// Organisations: the one that asks, another, an intermediary.
pub(super) const A: &str = "1.2.246.10.90000011";
pub(super) const B: &str = "1.2.246.10.90000038";
pub(super) const V: &str = "1.2.246.10.90000046";
/// 2^152: the serial number of 20 octets `01 00 … 00`.
pub(super) const LONG_SERIAL: &str = "5708990770823839524233143877797980545530986496";
const REVOKED: &[u8] = &[0x7f; 20];

/// A key with a certificate.
pub(super) struct Party {
    pub(super) key: SigningKey,
    pub(super) pair: KeyPair,
    pub(super) certificate: Vec<u8>,
}

pub(super) struct World {
    root: Issuer<'static, KeyPair>,
    root_der: Vec<u8>,
    rsa: KeyPair,
    pub(super) rules: XuaRules,
    /// TLS client certificates of the three organisations.
    pub(super) tls_a: Vec<u8>,
    pub(super) tls_b: Vec<u8>,
    pub(super) tls_v: Vec<u8>,
}

pub(super) static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// The signer of P01: made once, so that its certificate has one length.
pub(super) static SIGNER: LazyLock<Party> = LazyLock::new(|| WORLD.rsa(Wanted::default()));

/// What a certificate is to be.
pub(super) struct Wanted {
    pub(super) organisation: &'static str,
    pub(super) serial: &'static [u8],
    pub(super) until: (i32, u8, u8),
    pub(super) authority: bool,
    pub(super) purpose: Option<ExtendedKeyUsagePurpose>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { organisation: A, serial: &[1, 2, 3], until: (2026, 1, 1), authority: false, purpose: None }
    }
}

impl Wanted {
    fn params(self) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Esimerkki, Oy");
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 97]), self.organisation);
        params.distinguished_name.push(DnType::CommonName, "System signature");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.serial_number = Some(SerialNumber::from_slice(self.serial));
        params.not_before = date_time_ymd(2025, 1, 1);
        params.not_after = date_time_ymd(self.until.0, self.until.1, self.until.2);
        params.extended_key_usages.extend(self.purpose);
        if self.authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        }
        params
    }
}

/// An RSA public key of any modulus and exponent, which need no private key to be refused.
pub(super) struct RsaNumbers(Vec<u8>);

impl RsaNumbers {
    pub(super) fn new(modulus_bytes: usize, exponent: &[u8]) -> Self {
        let integer = |value: &[u8]| {
            let mut content = value.to_vec();
            if content[0] & 0x80 != 0 {
                content.insert(0, 0);
            }
            [&[2], length(content.len()).as_slice(), &content].concat()
        };
        let modulus = vec![0xc1; modulus_bytes];
        let body = [integer(&modulus), integer(exponent)].concat();
        Self([&[0x30], length(body.len()).as_slice(), &body].concat())
    }
}

fn length(n: usize) -> Vec<u8> {
    match n {
        0..=127 => vec![n as u8],
        128..=255 => vec![0x81, n as u8],
        _ => vec![0x82, (n >> 8) as u8, n as u8],
    }
}

impl PublicKeyData for RsaNumbers {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

impl World {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "Signing root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(2025, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        let root_der = params.self_signed(&key).expect("signed").der().to_vec();
        let tls = |organisation| {
            let key = KeyPair::generate().expect("a key");
            let wanted = Wanted { organisation, purpose: Some(ExtendedKeyUsagePurpose::ClientAuth), ..Wanted::default() };
            wanted.params().self_signed(&key).expect("signed").der().to_vec()
        };
        Self {
            tls_a: tls(A),
            tls_b: tls(B),
            tls_v: tls(V),
            rsa: KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key"),
            root: Issuer::new(params, key),
            root_der,
            rules: XuaRules::shipped(),
        }
    }

    fn party(&self, pair: KeyPair, certificate: Vec<u8>) -> Party {
        Party { key: SigningKey::from_pkcs8(pair.serialized_der()).expect("a supported key"), pair, certificate }
    }

    fn rsa_pair(&self) -> KeyPair {
        KeyPair::from_pkcs8_der_and_sign_algo(&self.rsa.serialized_der().to_vec().into(), &rcgen::PKCS_RSA_SHA256).expect("its own form")
    }

    /// A party with the RSA key.
    pub(super) fn rsa(&self, wanted: Wanted) -> Party {
        let certificate = wanted.params().signed_by(&self.rsa, &self.root).expect("signed").der().to_vec();
        self.party(self.rsa_pair(), certificate)
    }

    pub(super) fn ec(&self, algorithm: &'static SignatureAlgorithm) -> Party {
        let pair = KeyPair::generate_for(algorithm).expect("a key");
        let certificate = Wanted::default().params().signed_by(&pair, &self.root).expect("signed").der().to_vec();
        self.party(pair, certificate)
    }

    /// A party whose certificate carries another public key than it signs with.
    pub(super) fn with_public_key(&self, public: &RsaNumbers) -> Party {
        let certificate = Wanted::default().params().signed_by(public, &self.root).expect("signed").der().to_vec();
        self.party(self.rsa_pair(), certificate)
    }

    pub(super) fn self_signed(&self) -> Party {
        let certificate = Wanted::default().params().self_signed(&self.rsa).expect("signed").der().to_vec();
        self.party(self.rsa_pair(), certificate)
    }

    pub(super) fn revoked(&self) -> Party {
        self.rsa(Wanted { serial: REVOKED, ..Wanted::default() })
    }

    /// The revocation list of the root, fetched `age` before T0.
    pub(super) fn revocation(&self, age: SignedDuration) -> Revocation {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 6, 1),
            next_update: date_time_ymd(2025, 7, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from_slice(REVOKED),
                revocation_time: date_time_ymd(2025, 6, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.root).expect("signed");
        let root = Certificate::from_der(&self.root_der).expect("readable");
        let mut revocation = Revocation::new(RevocationMode::Require, 86_400);
        revocation.add_list(list.der(), &root, t0() - age).expect("its own list");
        revocation
    }

    /// `trust.toml` of central. `issuer_a` is added to the row of A.
    pub(super) fn trust(&self, issuer_a: &str) -> String {
        let kinds =
            r#"["professional", "technical", "citizen", "guardian", "registrar", "privacy_officer", "operator", "mpi_administrator"]"#;
        let root = pem(&self.root_der);
        format!(
            r#"
signing_anchors = ["""{root}"""]
[[organisation]]
oid = "{A}"
[[organisation]]
oid = "{B}"
[[organisation]]
oid = "{V}"
[[issuer]]
entity_id = "urn:oid:{A}"
organisation = "{A}"
controllers = ["{A}.19.0"]
kinds = {kinds}
{issuer_a}
[[issuer]]
entity_id = "urn:oid:{B}"
organisation = "{B}"
controllers = ["{B}.19.0"]
kinds = {kinds}
"#
        )
    }
}

pub(super) fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

pub(super) fn hetu(id: &str) -> PatientId {
    PatientId { id: id.to_owned(), authority: "1.2.246.21".to_owned() }
}

pub(super) fn reason(code: &str) -> Coded {
    Coded { code: code.to_owned(), system: "2.25.90606782813441076564387547608149857321".to_owned(), display: String::new() }
}

pub(super) fn emergency_reason(code: &str) -> Coded {
    Coded { code: code.to_owned(), system: "2.25.82333036399073485655575102941018358447".to_owned(), display: String::new() }
}

/// Claims of a kind for the class that is its own: see [`claims`].
pub(super) fn claims(kind: Kind, purpose: Purpose) -> Claims {
    let rules = &WORLD.rules;
    let coded = |(code, system): (&str, &str)| Coded { code: code.to_owned(), system: system.to_owned(), display: String::new() };
    let rule = rules.kind(kind).expect("a row");
    let base = Claims {
        kind,
        purpose,
        purpose_code: coded(rules.purpose_code(purpose, kind).expect("a row")),
        name_id: "90000000001".to_owned(),
        name_qualifier: rule.name_qualifiers.last().expect("one").clone(),
        name: "Testi\u{e4} Lääkäri".to_owned(),
        organisation: Some("Esimerkki & Oy".to_owned()),
        organisation_id: A.to_owned(),
        role: coded(rules.role_of_kind(kind).expect("a row")),
        unit: Some(format!("{A}.10.1")),
        controller: Some(format!("{A}.19.0")),
        register: Some("2".to_owned()),
        specifier: None,
        patient: Some(hetu("010190-900P")),
        provider_identifier: Some("90000000001".to_owned()),
        service_event: None,
        care_reason: None,
        emergency_reason: None,
        emergency_text: None,
        outsourced_authorisation: None,
        software: format!("{A}.12.1"),
        site: None,
        representation: None,
        home_community: None,
        assertion_id: String::new(),
        issuer: format!("urn:oid:{A}"),
        issuer_organisation: String::new(),
        assertion_sha256: String::new(),
        not_on_or_after: Timestamp::UNIX_EPOCH,
    };
    match kind {
        Kind::Professional if purpose == Purpose::Normal => Claims { care_reason: Some(reason("REFERRAL")), ..base },
        Kind::Professional if purpose == Purpose::Emergency => {
            Claims { emergency_reason: Some(emergency_reason("LIFE")), emergency_text: Some("tajuton tien vieressä".to_owned()), ..base }
        }
        Kind::Professional => base,
        Kind::Technical => {
            Claims { name_id: format!("urn:oid:{A}.12.1"), provider_identifier: None, site: Some("site-1".to_owned()), ..base }
        }
        Kind::Citizen | Kind::Guardian | Kind::Representative => Claims {
            name_id: "010190-900P".to_owned(),
            patient: Some(hetu(if kind == Kind::Citizen { "010190-900P" } else { "150610A952T" })),
            representation: (kind != Kind::Citizen).then(|| Representation {
                code: "GUARD".to_owned(),
                source: "VTJ".to_owned(),
                checked: t0() - seconds(600),
            }),
            unit: None,
            controller: None,
            register: None,
            provider_identifier: None,
            ..base
        },
        _ => Claims { name_id: "staff-7".to_owned(), unit: None, register: None, provider_identifier: None, patient: None, ..base },
    }
}
