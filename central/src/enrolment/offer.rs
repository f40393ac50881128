//! A key that a site offers: a request that the centre signs, or a certificate that the site proves to be its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idr_ihe::assertion::{Certificate, TrustStore};
use idr_profile::enrolment::message::{CHAIN_BYTES_MAX, Offer};
use idr_profile::enrolment::{Binding, Csr, JoinCode, Mode, OutsideBinding, Use, check_key, method, names_of_certificate};
use idr_profile::tls;
use rustls_pki_types::CertificateDer;

use super::Refused;
use super::authority::held;
use crate::central::Central;
use crate::store::enrolment::HeldCertificate;

/// An offer that was read, and whose key is one of the profile.
pub enum Offered {
    /// To be signed.
    Request(Csr),
    /// To be registered.
    Certificate(Box<Chain>),
}

/// A chain that a site brings.
pub struct Chain {
    certificate: Certificate,
    chain: Vec<CertificateDer<'static>>,
    proof: Vec<u8>,
}

impl Offered {
    /// Reads it.
    ///
    /// # Errors
    /// [`JoinCode::Malformed`], [`JoinCode::Profile`].
    pub fn read(offer: &Offer, use_: Use) -> Result<Self, Refused> {
        let what = use_.name();
        let malformed = |why: &str| Refused::new(JoinCode::Malformed, format!("{what}: {why}"));
        let profile = |why: &dyn std::fmt::Display| Refused::new(JoinCode::Profile, format!("{what}: {why}"));
        match (&offer.csr, &offer.certificate, &offer.proof) {
            (Some(csr), None, None) => Csr::read(csr, use_).map(Self::Request).map_err(|error| profile(&error)),
            (None, Some(pem), Some(proof)) => {
                if pem.len() > CHAIN_BYTES_MAX {
                    return Err(malformed("a chain has at most 24576 bytes"));
                }
                let chain = tls::certificates(pem.as_bytes(), "certificate").map_err(|error| profile(&error))?;
                if chain.len() > 4 {
                    return Err(profile(&"a chain has at most 4 certificates"));
                }
                let certificate = Certificate::from_der(&chain[0]).map_err(|error| profile(&error))?;
                check_key(certificate.spki(), use_).map_err(|error| profile(&error))?;
                let proof = URL_SAFE_NO_PAD.decode(proof).map_err(|_| malformed("the proof is no base64url"))?;
                Ok(Self::Certificate(Box::new(Chain { certificate, chain, proof })))
            }
            _ => Err(malformed("either a request, or a certificate with a proof")),
        }
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        match self {
            Self::Request(csr) => &csr.spki,
            Self::Certificate(offered) => offered.certificate.spki(),
        }
    }

    /// The certificate that the site gets, or has: everything that the invite and the profile ask of it holds.
    ///
    /// # Errors
    /// [`Refused`] with the code of what does not.
    pub fn settle(&self, central: &Central, use_: Use, binding: &Binding, proven: &dyn Proven) -> Result<HeldCertificate, Refused> {
        let what = use_.name();
        let outside = |error: OutsideBinding| Refused::new(JoinCode::Binding, error);
        match (self, binding.mode) {
            (Self::Request(csr), Mode::Issue) => {
                if csr.organisation.as_ref().is_some_and(|named| *named != binding.organisation) {
                    return Err(outside(OutsideBinding::Organisation { what }));
                }
                if csr.other_names || use_ == Use::Sign && !csr.names.is_empty() {
                    return Err(outside(OutsideBinding::NameKind { what }));
                }
                binding.check_names(what, &csr.names).map_err(outside)?;
                let Some(authority) = &central.enrolment.authority else {
                    return Err(Refused::unavailable("mode issue needs enrol.authority_certificate and enrol.authority_key"));
                };
                let days = if use_ == Use::Tls { central.config.enrol.tls_days } else { central.config.enrol.signature_days };
                let issued = authority.issue((use_, days), &csr.spki, binding, &csr.names, central.now());
                issued.map_err(|error| Refused::unavailable(format!("{what}: cannot be issued: {error:#}")))
            }
            (Self::Certificate(offered), Mode::Register) => offered.settle(central, use_, binding, proven),
            (_, Mode::Issue) => Err(outside(OutsideBinding::Mode { what, mode: "issue" })),
            (_, Mode::Register) => Err(outside(OutsideBinding::Mode { what, mode: "register" })),
        }
    }
}

/// What a proof is made over.
pub trait Proven {
    /// Whether `value` is the signature of `certificate`'s key over it.
    fn holds(&self, certificate: &Certificate, value: &[u8]) -> bool;
}

/// Text that must be signed; `None`: there was no nonce in force.
pub struct Over(pub Option<Vec<u8>>);

impl Proven for Over {
    fn holds(&self, certificate: &Certificate, value: &[u8]) -> bool {
        let (Some(text), Ok(key)) = (&self.0, certificate.public_key()) else { return false };
        key.verify(method(key.key_type()), text, value).is_ok()
    }
}

impl Chain {
    fn settle(&self, central: &Central, use_: Use, binding: &Binding, proven: &dyn Proven) -> Result<HeldCertificate, Refused> {
        let (what, now, certificate) = (use_.name(), central.now(), &self.certificate);
        let profile = |why: &dyn std::fmt::Display| Refused::new(JoinCode::Profile, format!("{what}: {why}"));
        let outside = |error: OutsideBinding| Refused::new(JoinCode::Binding, error);
        let (trust, revocation) = (central.enrolment.trust_file(), central.revocation.load());
        if trust.organisation_named_by(certificate).as_ref() != Some(&binding.organisation) {
            return Err(outside(OutsideBinding::Organisation { what }));
        }
        if !certificate.is_valid_at(now) {
            return Err(profile(&"the certificate is not valid now"));
        }
        match use_ {
            Use::Tls => {
                let (names, others) = names_of_certificate(certificate.der()).ok_or_else(|| profile(&"its names cannot be read"))?;
                if others {
                    return Err(outside(OutsideBinding::NameKind { what }));
                }
                binding.check_names(what, &names).map_err(outside)?;
                let store = TrustStore::new(trust.tls_anchors(), trust.tls_intermediates()).map_err(|error| profile(&error))?;
                store.path(certificate, now).map_err(|error| profile(&error))?;
                revocation.client(certificate, now).map_err(|error| profile(&error))?;
            }
            Use::Sign => {
                certificate.may_sign_assertions(now, false).map_err(|error| profile(&error))?;
                let path = trust.signing().path(certificate, now).map_err(|error| profile(&error))?;
                revocation.lists.status(certificate, &path, now).map_err(|error| profile(&error))?;
            }
        }
        if !proven.holds(certificate, &self.proof) {
            return Err(Refused::new(JoinCode::Proof, format!("{what}: no proof of its key over a nonce in force")));
        }
        held(self.chain.clone()).map_err(|error| profile(&error))
    }
}
