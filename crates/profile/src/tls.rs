//! TLS profile (profile 10 §5.1, §5.2): rustls configurations from PEM bytes, the same at site and centre.
//!
//! One provider, aws-lc-rs, whose suites are exactly those of §5.1: ECDHE with AES-GCM or ChaCha20, TLS 1.2 and 1.3.
//! Session resumption is off at servers, so that each connection shows its certificate; 0-RTT does not exist.
//! The operating system's trust store is never read: anchors are arguments.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// Why no TLS configuration can be made. Says which input and what it should hold.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text holds no certificate, or one that cannot be read.
    #[error("{what}: no readable certificate; expected PEM with BEGIN CERTIFICATE")]
    Certificate {
        /// Which input.
        what: &'static str,
    },
    /// A PEM text holds no private key.
    #[error("private key: none readable; expected PEM with BEGIN PRIVATE KEY (PKCS#8)")]
    Key,
    /// An anchor list is empty.
    #[error("{what}: no trust anchor given; nobody could be accepted")]
    NoAnchor {
        /// Which list.
        what: &'static str,
    },
    /// A certificate is not valid now.
    #[error("certificate {number} of the chain is valid from {from} to {until}; now is {now}")]
    Validity {
        /// Its place, from 1.
        number: usize,
        /// First instant.
        from: Timestamp,
        /// Last instant.
        until: Timestamp,
        /// The present.
        now: Timestamp,
    },
    /// No path from a certificate of our own to an anchor.
    #[error(
        "it leads to no anchor of tls_anchors or modality_anchors in trust.toml ({0}); put its intermediates behind it in the file, or its \
         authority into trust.toml"
    )]
    Path(rustls::Error),
    /// Key and certificate do not fit, or the verifier refuses its input.
    #[error("TLS configuration refused: {0}")]
    Rustls(#[from] rustls::Error),
    /// The verifier cannot be built.
    #[error("certificate verifier refused: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// What a listener asks of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// A certificate that leads to an anchor; without one the handshake ends.
    Required,
    /// A certificate is asked for; if one comes it must lead to an anchor. The row of the peer decides afterwards.
    Optional,
}

/// The provider of both programs. Install it once, first thing in `main`: two providers in one process panic.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Certificates of a PEM text, in order.
///
/// # Errors
/// [`TlsError::Certificate`] if there is none or one is not readable.
pub fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| TlsError::Certificate { what })?;
    if certificates.is_empty() { Err(TlsError::Certificate { what }) } else { Ok(certificates) }
}

/// Whether every certificate of a PEM text is valid at `now`; no skew is granted (profile 10 §5.2).
///
/// # Errors
/// [`TlsError::Certificate`], [`TlsError::Validity`].
pub fn check_validity(pem: &[u8], now: Timestamp) -> Result<(), TlsError> {
    let unreadable = || TlsError::Certificate { what: "certificate" };
    for (at, certificate) in certificates(pem, "certificate")?.iter().enumerate() {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| unreadable())?;
        let instant = |seconds| Timestamp::from_second(seconds).map_err(|_| unreadable());
        let from = instant(parsed.validity().not_before.timestamp())?;
        let until = instant(parsed.validity().not_after.timestamp())?;
        if !(from..=until).contains(&now) {
            return Err(TlsError::Validity { number: at + 1, from, until, now });
        }
    }
    Ok(())
}

/// Whether a certificate of our own leads to an anchor (profile 10 §5.5): `pem` is it and its intermediates, `intermediates` are those
/// that the configuration adds. Its use may be that of a server or of a client (§5.2 K1). At `now`, or at the nearest instant at
/// which the certificate itself is valid: that it has expired is another matter ([`check_validity`]).
///
/// # Errors
/// [`TlsError::Certificate`], [`TlsError::NoAnchor`], [`TlsError::Path`].
pub fn check_path(
    pem: &[u8],
    anchors: &[CertificateDer<'static>],
    intermediates: &[CertificateDer<'static>],
    now: Timestamp,
) -> Result<(), TlsError> {
    let unreadable = || TlsError::Certificate { what: "certificate" };
    let mut chain = certificates(pem, "certificate")?;
    let own = chain.remove(0);
    // An anchor may be the certificate itself.
    if anchors.contains(&own) {
        return Ok(());
    }
    chain.extend_from_slice(intermediates);
    let (_, parsed) = x509_parser::parse_x509_certificate(&own).map_err(|_| unreadable())?;
    let (from, until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let at = u64::try_from(now.as_second().min(until).max(from)).unwrap_or(0);
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at));
    let roots = roots(anchors, "tls_anchors and modality_anchors of trust.toml")?;
    let algorithms = provider().signature_verification_algorithms;
    let as_server = ParsedCertificate::try_from(&own)
        .and_then(|own| verify_server_cert_signed_by_trust_anchor(&own, &roots, &chain, at, algorithms.all));
    let Err(cause) = as_server else { return Ok(()) };
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
    verifier.verify_client_cert(&own, &chain, at).map(drop).map_err(|_| TlsError::Path(cause))
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::Key)
}

fn roots(anchors: &[CertificateDer<'static>], what: &'static str) -> Result<Arc<RootCertStore>, TlsError> {
    if anchors.is_empty() {
        return Err(TlsError::NoAnchor { what });
    }
    let mut store = RootCertStore::empty();
    for anchor in anchors {
        store.add(anchor.clone())?;
    }
    Ok(Arc::new(store))
}

/// A server: `chain_pem` and `key_pem` are its own, `client_anchors` the only authorities of its clients.
/// `alpn`: `h2` and `http/1.1` for HTTPS, empty for DIMSE.
///
/// # Errors
/// [`TlsError`]; with [`ClientAuth::Optional`] an empty anchor list means that no certificate is asked for.
pub fn server(
    chain_pem: &[u8],
    key_pem: &[u8],
    client_anchors: &[CertificateDer<'static>],
    client_auth: ClientAuth,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = if client_auth == ClientAuth::Optional && client_anchors.is_empty() {
        builder.with_no_client_auth()
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(client_anchors, "client anchors")?, provider);
        let verifier = if client_auth == ClientAuth::Optional { verifier.allow_unauthenticated() } else { verifier };
        builder.with_client_cert_verifier(verifier.build()?)
    };
    let mut config = builder.with_single_cert(certificates(chain_pem, "server certificate")?, private_key(key_pem)?)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.require_ems = true;
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(config)
}

/// A server that asks nobody for a certificate, TLS 1.3 alone: the door of enrolment (profile 10 §6.2).
///
/// # Errors
/// [`TlsError`].
pub fn server_for_anyone(chain_pem: &[u8], key_pem: &[u8], alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let certificates = certificates(chain_pem, "server certificate")?;
    let mut config = builder.with_no_client_auth().with_single_cert(certificates, private_key(key_pem)?)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(config)
}

/// A client without a certificate, TLS 1.3 alone, that believes no authority but a pinned certificate: that of the server, or one of
/// the chain that it shows, to which its path then leads. Name and validity are asked as everywhere (profile 10 §6.2 step 1).
///
/// # Errors
/// [`TlsError`].
pub fn client_by_pin(pins: &[String], alpn: &[&[u8]]) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = Arc::new(PinAlone { pins: pins.to_vec(), provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(config)
}

/// A pinned certificate is the anchor.
#[derive(Debug)]
struct PinAlone {
    pins: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinAlone {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = |certificate: &CertificateDer<'_>| is_pinned(certificate, &self.pins);
        if pinned(end_entity) {
            rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            let at = Timestamp::from_second(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
            let bad = || rustls::Error::from(CertificateError::BadEncoding);
            let (_, parsed) = x509_parser::parse_x509_certificate(end_entity).map_err(|_| bad())?;
            let (at, validity) = (at.map_err(|_| bad())?.as_second(), parsed.validity());
            return if at < validity.not_before.timestamp() {
                Err(CertificateError::NotValidYet.into())
            } else if at > validity.not_after.timestamp() {
                Err(CertificateError::Expired.into())
            } else {
                Ok(ServerCertVerified::assertion())
            };
        }
        let Some(anchor) = intermediates.iter().find(|certificate| pinned(certificate)) else {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        };
        let mut store = RootCertStore::empty();
        store.add(anchor.clone().into_owned())?;
        let path = WebPkiServerVerifier::builder_with_provider(Arc::new(store), self.provider.clone()).build();
        let path = path.map_err(|error| rustls::Error::General(error.to_string()))?;
        path.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A client with its own certificate; `server_anchors` are the only authorities of the server. With `pins` a certificate
/// of the server's path, from its own to the anchor, must also have one of these `sha256/<base64 of the SHA-256 of the SPKI>`
/// (profile 10 §5.4): one that is merely sent along counts for nothing. A mismatch is
/// [`CertificateError::ApplicationVerificationFailure`]. No pins: the path alone decides.
///
/// # Errors
/// [`TlsError`].
pub fn client(
    chain_pem: &[u8],
    key_pem: &[u8],
    server_anchors: &[CertificateDer<'static>],
    pins: &[String],
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let roots = roots(server_anchors, "server anchors")?;
    let path = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
    let mut pinned = RootCertStore::empty();
    for anchor in server_anchors.iter().filter(|anchor| is_pinned(anchor, pins)) {
        pinned.add(anchor.clone())?;
    }
    let verifier = Arc::new(Pinned { path, pins: pins.to_vec(), anchors: roots, pinned, provider: provider.clone() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(certificates(chain_pem, "client certificate")?, private_key(key_pem)?)?;
    config.require_ems = true;
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(config)
}

/// Path validation, then the pins: never instead of it.
#[derive(Debug)]
struct Pinned {
    path: Arc<WebPkiServerVerifier>,
    pins: Vec<String>,
    anchors: Arc<RootCertStore>,
    /// Those of the anchors that are pinned themselves.
    pinned: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    /// Whether a path leads from the certificate to an anchor, each signed by the next, on which a pinned one lies.
    fn is_on_path(&self, end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>], now: UnixTime) -> bool {
        if is_pinned(end_entity, &self.pins) {
            return true;
        }
        let Ok(own) = webpki::EndEntityCert::try_from(end_entity) else { return false };
        let pinned = |path: &webpki::VerifiedPath<'_>| {
            let signs = path.intermediate_certificates().any(|certificate| is_pinned(&certificate.der(), &self.pins));
            // Another path may have what this one has not: the search goes on.
            if signs || self.pinned.roots.contains(path.anchor()) { Ok(()) } else { Err(webpki::Error::UnknownIssuer) }
        };
        let (algorithms, usage) = (self.provider.signature_verification_algorithms.all, webpki::KeyUsage::server_auth());
        own.verify_for_usage(algorithms, &self.anchors.roots, intermediates, now, usage, None, Some(&pinned)).is_ok()
    }
}

fn is_pinned(certificate: &CertificateDer<'_>, pins: &[String]) -> bool {
    pin(certificate).is_some_and(|pin| pins.contains(&pin))
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.path.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        if self.pins.is_empty() || self.is_on_path(end_entity, intermediates, now) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.path.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.path.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.path.supported_verify_schemes()
    }
}

/// The pin of a certificate: `sha256/` and the base64 of the SHA-256 of its SubjectPublicKeyInfo; `None` if it cannot be read.
pub fn pin(certificate: &CertificateDer<'_>) -> Option<String> {
    use base64::Engine as _;
    use sha2::Digest as _;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let digest = sha2::Sha256::digest(parsed.public_key().raw);
    Some(format!("sha256/{}", base64::engine::general_purpose::STANDARD.encode(digest)))
}

/// A certificate as PEM (RFC 7468).
pub fn to_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line)));
    format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", lines.collect::<String>())
}

/// SHA-256 of a certificate, 64 lower-case hex digits: the form of pins and peer rows.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(certificate))
}

#[cfg(test)]
mod tests;
