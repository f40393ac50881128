//! Which certificates of a server's path a pin may name (profile 10 §5.4).

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str, is_ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(if is_ca { vec![] } else { vec!["centre.example".to_owned()] }).expect("names");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = if is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::NoCa };
    params
}

fn root() -> Authority {
    CertifiedIssuer::self_signed(params("root", true), KeyPair::generate().expect("a key")).expect("signs")
}

fn below(name: &str, above: &Authority) -> Authority {
    CertifiedIssuer::signed_by(params(name, true), KeyPair::generate().expect("a key"), above).expect("signs")
}

fn leaf(above: &Authority) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    (params("leaf", false).signed_by(&key, above).expect("signs").der().clone(), key)
}

/// What a client with the anchor `root` and this pin says of a server that shows these certificates.
fn verdict(root: &Authority, pinned: &CertificateDer<'_>, shown: &[CertificateDer<'static>]) -> Result<(), rustls::Error> {
    let anchors = [root.der().clone()];
    let pins = [pin(pinned).expect("a certificate")];
    let roots = roots(&anchors, "anchors").expect("an anchor");
    let path = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider()).build().expect("a verifier");
    let mut own = RootCertStore::empty();
    if is_pinned(root.der(), &pins) {
        own.add(root.der().clone()).expect("an anchor");
    }
    let verifier = Pinned { path, pins: pins.to_vec(), anchors: roots, pinned: own, provider: provider() };
    let name = ServerName::try_from("centre.example").expect("a name");
    verifier.verify_server_cert(&shown[0], &shown[1..], &name, &[], UnixTime::since_unix_epoch(INSTANT)).map(drop)
}

/// 2026, within what rcgen gives.
const INSTANT: std::time::Duration = std::time::Duration::from_secs(1_780_000_000);

#[test]
fn a_pin_names_a_certificate_of_the_path_and_none_that_is_sent_along() {
    let root = root();
    let (ours, other) = (below("ours", &root), below("other", &root));
    let ((server, _), (foreign, _)) = (leaf(&ours), leaf(&other));
    let (ours, other) = (ours.der().clone(), other.der().clone());
    for (name, pinned, shown, accepted) in [
        ("its own", &server, vec![server.clone(), ours.clone()], true),
        ("its authority", &ours, vec![server.clone(), ours.clone()], true),
        ("its authority, others before it", &ours, vec![server.clone(), other.clone(), ours.clone()], true),
        ("the anchor", root.der(), vec![server.clone(), ours.clone()], true),
        ("the anchor, sent along", root.der(), vec![server.clone(), ours.clone(), root.der().clone()], true),
        ("a foreign one and the pinned authority appended", &ours, vec![foreign.clone(), other.clone(), ours.clone()], false),
        ("a foreign one and the pinned leaf appended", &server, vec![foreign.clone(), other.clone(), server.clone()], false),
        ("nothing pinned", &foreign, vec![server.clone(), ours.clone()], false),
    ] {
        let verdict = verdict(&root, pinned, &shown);
        let refused = Err(rustls::Error::from(CertificateError::ApplicationVerificationFailure));
        assert_eq!(verdict, if accepted { Ok(()) } else { refused }, "{name}");
    }
}
