//! A signer whose certificate is trusted, so that what follows a signature is reached too.

use std::sync::LazyLock;

use idr_ihe::assertion::{Revocation, RevocationMode, SigningKey};
use idr_ihe::metadata::PatientId;
use idr_profile::access::{Claims, Policy};
use idr_profile::digest::Digester;
use idr_profile::identifier::{Environment, IdentityRules};
use idr_profile::receipt::{Carried, Holder, Ids, Object, Receipt, Signer, Source, Statement};
use idr_profile::xua::produce::{Production, TechnicalUser, Upload, automatic_upload};
use idr_profile::xua::{RequestFacts, Transaction, Trust, Verifier, XuaRules};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};

/// The organisation.
pub const ORGANISATION: &str = "1.2.246.10.90000011";

/// Keys, certificates and everything that a verification reads.
pub struct World {
    /// Signs assertions and tokens.
    pub key: SigningKey,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// TLS client certificate of the same organisation, DER.
    pub tls: Vec<u8>,
    /// The shipped rules.
    pub rules: XuaRules,
    trust: Trust,
    revocation: Revocation,
    policy: Policy,
    identity: IdentityRules,
}

/// Made once per process.
pub static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// The clock.
pub fn now() -> Timestamp {
    "2026-01-15T09:00:00Z".parse().expect("an instant")
}

fn params(usage: KeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 97]), ORGANISATION);
    params.distinguished_name.push(DnType::CommonName, "Fuzz");
    params.key_usages = vec![usage];
    params.not_before = date_time_ymd(2025, 6, 1);
    params.not_after = date_time_ymd(2026, 6, 1);
    params
}

impl World {
    fn new() -> Self {
        let (root_key, key, tls_key) = (pair(), pair(), pair());
        let mut root = params(KeyUsagePurpose::KeyCertSign);
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_pem = root.self_signed(&root_key).expect("signed").pem();
        let issuer = Issuer::new(root, root_key);
        let leaf = |key: &KeyPair| params(KeyUsagePurpose::DigitalSignature).signed_by(key, &issuer).expect("signed");
        let (certificate, tls) = (leaf(&key), leaf(&tls_key));
        let trust = format!(
            r#"
signing_anchors = ["""{root_pem}"""]
tls_anchors = ["""{root_pem}"""]
[[organisation]]
oid = "{ORGANISATION}"
[[issuer]]
entity_id = "urn:oid:{ORGANISATION}"
organisation = "{ORGANISATION}"
controllers = ["{ORGANISATION}.19.0"]
kinds = ["professional", "technical", "citizen", "guardian", "registrar", "privacy_officer", "operator", "mpi_administrator"]
signing_certificates = ["""{}"""]
"#,
            certificate.pem()
        );
        Self {
            key: SigningKey::from_pkcs8(key.serialized_der()).expect("a P-256 key"),
            certificate: certificate.der().to_vec(),
            tls: tls.der().to_vec(),
            rules: XuaRules::shipped(),
            trust: Trust::parse(&trust, &mut |name| panic!("no file is named: {name}")).expect("readable"),
            revocation: Revocation::new(RevocationMode::Off, 86_400),
            policy: Policy::shipped(),
            identity: IdentityRules::shipped(),
        }
    }

    /// The verifier of the centre.
    pub fn verifier(&self) -> Verifier<'_> {
        Verifier {
            trust: &self.trust,
            revocation: &self.revocation,
            rules: &self.rules,
            policy: &self.policy,
            identity: &self.identity,
            environment: Environment::Test,
            local_issuers: &[],
        }
    }

    /// The request: a store.
    pub fn facts(&self) -> RequestFacts<'static> {
        RequestFacts::of(Transaction::StowRs)
    }

    /// What a site says when it forwards by itself.
    pub fn claims(&self) -> Claims {
        let user = TechnicalUser {
            issuer: format!("urn:oid:{ORGANISATION}"),
            oid: format!("{ORGANISATION}.12.9"),
            name: "site-1".to_owned(),
            organisation: "Testisairaala".to_owned(),
            organisation_id: ORGANISATION.to_owned(),
            software: format!("{ORGANISATION}.12.9"),
            site: "site-1".to_owned(),
            home_community: None,
        };
        let upload = Upload {
            controller: format!("{ORGANISATION}.19.0"),
            register: "2".to_owned(),
            specifier: None,
            service_event: None,
            outsourced_authorisation: None,
            unit: Some(format!("{ORGANISATION}.10.1")),
            patient: Some(PatientId { id: "010190-900P".to_owned(), authority: "1.2.246.21".to_owned() }),
        };
        automatic_upload(&user, &upload, &self.rules).expect("the profile's own claims")
    }

    /// Circumstances of an assertion or token with these claims.
    pub fn production<'a>(&'a self, claims: &'a Claims) -> Production<'a> {
        Production {
            claims,
            audience: self.rules.audience(),
            authn_context: "urn:oasis:names:tc:SAML:2.0:ac:classes:X509",
            authn_instant: now(),
            now: now(),
            random: [7; 16],
        }
    }
}

fn pair() -> KeyPair {
    KeyPair::generate().expect("a key")
}

/// A receipt of a key that was made for it.
pub fn receipt() -> Carried {
    let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let mut digester = Digester::new(crate::dicom::EXPLICIT);
    digester.update(b"1");
    let object = Object {
        sop_instance_uid: "1.2.246.10.90000011.77.1.3.1".into(),
        sop_class_uid: crate::dicom::CT.into(),
        study_uid: "1.2.246.10.90000011.77.1".into(),
        transfer_syntax_uid: crate::dicom::EXPLICIT.into(),
        digest: digester.finish(),
        size_bytes: 1,
    };
    let source = Source { calling_ae_title: Some("CT01".into()), certificate_sha256: Some([0xab; 32]) };
    let receipt = Receipt {
        id: Ids::default().next(now(), [7; 10]),
        at: now(),
        holder: Holder::new(ORGANISATION, "site-1").expect("valid"),
        log_prev: None,
        statement: Statement::Acceptance { object, source },
    };
    Signer::from_pkcs8(pair.serialized_der()).expect("an Ed25519 key").sign(receipt)
}
