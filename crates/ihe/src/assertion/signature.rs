//! The signature: its shape, the signed bytes, and the check (profile 04 §6, §11 V5, V8, V9).

use bergshamra::c14n::{C14nMode, canonicalize_doc};
use bergshamra::xml::NodeSet;
use bergshamra::xml::nodeset::{NodeIdSet, NodeSetType};
use uppsala::{Document, NodeId};

use super::algorithm::{Hash, PublicKey, SignatureMethod};
use super::read::base64;
use super::scan::Limits;
use super::tree::{Element, Sequence, is_xml_space};
use super::{AssertionError, Defect, NS_DS};

/// Exclusive C14N 1.0 without comments.
pub(super) const EXC_C14N: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
/// The enveloped-signature transform.
pub(super) const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";

/// A signature whose shape holds, over the assertion it stands in.
#[derive(Debug, Clone)]
pub struct SignatureParts {
    pub(super) assertion: NodeId,
    pub(super) signature: NodeId,
    pub(super) signed_info: NodeId,
    pub(super) method: SignatureMethod,
    pub(super) digest: Hash,
    pub(super) digest_value: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// Prefixes of the reference's and of `CanonicalizationMethod`'s `InclusiveNamespaces`.
    pub(super) assertion_prefixes: Vec<String>,
    pub(super) signed_info_prefixes: Vec<String>,
    pub(super) certificate: Vec<u8>,
    pub(super) subject_name: Option<String>,
    pub(super) issuer_serial: Option<(String, String)>,
}

/// Reads the one signature of an assertion (V5).
///
/// # Errors
/// [`Defect::SignatureCount`], [`Defect::SignatureShape`], [`Defect::Algorithm`], [`Defect::Key`].
pub(super) fn shape(assertion: Element<'_>, id: &str, limits: &Limits, allow_ed25519: bool) -> Result<SignatureParts, AssertionError> {
    const SHAPE: Defect = Defect::SignatureShape;
    let mut signatures = assertion.descendants().filter(|element| element.is(NS_DS, "Signature"));
    let (Some(signature), None) = (signatures.next(), signatures.next()) else {
        return Err(Defect::SignatureCount.because("the assertion has not exactly one signature"));
    };
    let place = assertion.children(SHAPE)?;
    if place.get(1).map(|child| child.node) != Some(signature.node) {
        return Err(SHAPE.because("the signature does not stand directly after Issuer"));
    }
    signature.allow(&[], false, SHAPE)?;
    let mut children = Sequence::of(signature, SHAPE)?;
    let signed_info = children.required(NS_DS, "SignedInfo", "SignedInfo is missing")?.allow(&[], false, SHAPE)?;
    let value = children.required(NS_DS, "SignatureValue", "SignatureValue is missing")?.allow(&[], false, SHAPE)?;
    let key_info = children.optional(NS_DS, "KeyInfo");
    children.end("a signature with ds:Object, a second KeyInfo or another child")?;

    let mut children = Sequence::of(signed_info, SHAPE)?;
    let canonicalization = children.required(NS_DS, "CanonicalizationMethod", "CanonicalizationMethod is missing")?;
    let signature_method = children.required(NS_DS, "SignatureMethod", "SignatureMethod is missing")?;
    let reference = children.required(NS_DS, "Reference", "Reference is missing")?;
    children.end("more than one Reference")?;

    if canonicalization.attribute("Algorithm") != Some(EXC_C14N) {
        return Err(Defect::Algorithm.because("CanonicalizationMethod is not exclusive C14N without comments"));
    }
    let signed_info_prefixes = prefix_list(canonicalization.allow(&["Algorithm"], false, SHAPE)?, limits)?;
    let method = signature_method
        .allow(&["Algorithm"], false, SHAPE)?
        .attribute("Algorithm")
        .and_then(|uri| SignatureMethod::from_uri(uri, allow_ed25519))
        .ok_or(Defect::Algorithm.because("SignatureMethod is not allowed"))?;
    if signature_method.child_elements().next().is_some() {
        return Err(Defect::Algorithm.because("SignatureMethod has parameters"));
    }

    reference.allow(&["URI"], false, SHAPE)?;
    if reference.attribute("URI").and_then(|uri| uri.strip_prefix('#')) != Some(id) {
        return Err(SHAPE.because("Reference/@URI is not # and the ID of this assertion"));
    }
    let mut children = Sequence::of(reference, SHAPE)?;
    let transforms = children.required(NS_DS, "Transforms", "Transforms is missing")?.allow(&[], false, SHAPE)?;
    let digest_method = children.required(NS_DS, "DigestMethod", "DigestMethod is missing")?.allow(&["Algorithm"], false, SHAPE)?;
    let digest_value = children.required(NS_DS, "DigestValue", "DigestValue is missing")?.allow(&[], false, SHAPE)?;
    children.end("a Reference with another child")?;
    let assertion_prefixes = transform_prefixes(transforms, limits)?;
    let digest = digest_method
        .attribute("Algorithm")
        .and_then(Hash::from_uri)
        .filter(|_| digest_method.child_elements().next().is_none())
        .ok_or(Defect::Algorithm.because("DigestMethod is not allowed"))?;
    let digest_value = base64(&digest_value.text(Defect::Key)?)
        .filter(|bytes| bytes.len() == digest.output_len())
        .ok_or(Defect::Key.because("DigestValue is not base64 of the digest's length"))?;

    let key = key_info_parts(key_info)?;
    let value = base64(&value.text(Defect::Key)?)
        .filter(|bytes| (1..=1024).contains(&bytes.len()) && method.value_len().is_none_or(|length| bytes.len() == length))
        .ok_or(Defect::Key.because("SignatureValue is not base64 of the method's length"))?;
    Ok(SignatureParts {
        assertion: assertion.node,
        signature: signature.node,
        signed_info: signed_info.node,
        method,
        digest,
        digest_value,
        value,
        assertion_prefixes,
        signed_info_prefixes,
        certificate: key.certificate,
        subject_name: key.subject_name,
        issuer_serial: key.issuer_serial,
    })
}

/// The two transforms, in their order.
fn transform_prefixes(transforms: Element<'_>, limits: &Limits) -> Result<Vec<String>, AssertionError> {
    const SHAPE: Defect = Defect::SignatureShape;
    let children = transforms.children(SHAPE)?;
    let [enveloped, canonicalization] = children[..] else {
        return Err(SHAPE.because("not exactly two transforms"));
    };
    for (transform, algorithm) in [(enveloped, ENVELOPED), (canonicalization, EXC_C14N)] {
        if !transform.is(NS_DS, "Transform") || transform.attribute("Algorithm") != Some(algorithm) {
            return Err(SHAPE.because("the transforms are not enveloped-signature and exclusive C14N, in this order"));
        }
        transform.allow(&["Algorithm"], false, SHAPE)?;
    }
    Sequence::of(enveloped, SHAPE)?.end("the enveloped-signature transform has parameters")?;
    prefix_list(canonicalization, limits)
}

/// `InclusiveNamespaces/@PrefixList`, if it is there.
fn prefix_list(parent: Element<'_>, limits: &Limits) -> Result<Vec<String>, AssertionError> {
    const SHAPE: Defect = Defect::SignatureShape;
    let mut children = Sequence::of(parent, SHAPE)?;
    let Some(inclusive) = children.optional(EXC_C14N, "InclusiveNamespaces") else {
        children.end("a canonicalization method with another parameter than InclusiveNamespaces")?;
        return Ok(Vec::new());
    };
    children.end("a canonicalization method with more than one parameter")?;
    Sequence::of(inclusive.allow(&["PrefixList"], false, SHAPE)?, SHAPE)?.end("InclusiveNamespaces has content")?;
    let list = inclusive.attribute("PrefixList").ok_or(SHAPE.because("InclusiveNamespaces has no PrefixList"))?;
    let prefixes: Vec<String> = list.split(is_xml_space).filter(|prefix| !prefix.is_empty()).map(str::to_owned).collect();
    if prefixes.len() <= limits.prefixes { Ok(prefixes) } else { Err(SHAPE.because("PrefixList has more prefixes than its bound")) }
}

struct KeyInfo {
    certificate: Vec<u8>,
    subject_name: Option<String>,
    issuer_serial: Option<(String, String)>,
}

/// One `X509Data` with one certificate, and at most one subject name and issuer serial.
fn key_info_parts(key_info: Option<Element<'_>>) -> Result<KeyInfo, AssertionError> {
    const KEY: Defect = Defect::Key;
    let key_info = key_info.ok_or(KEY.because("KeyInfo is missing"))?.allow(&[], false, KEY)?;
    let mut children = Sequence::of(key_info, KEY)?;
    let data = children.required(NS_DS, "X509Data", "KeyInfo holds something else than X509Data")?.allow(&[], false, KEY)?;
    children.end("KeyInfo holds more than one child")?;
    let (mut certificate, mut subject_name, mut issuer_serial) = (None, None, None);
    for child in data.children(KEY)? {
        child.allow(&[], false, KEY)?;
        if child.is(NS_DS, "X509Certificate") && certificate.is_none() {
            certificate = Some(base64(&child.text(KEY)?).ok_or(KEY.because("X509Certificate is not base64"))?);
        } else if child.is(NS_DS, "X509SubjectName") && subject_name.is_none() {
            subject_name = Some(child.text(KEY)?);
        } else if child.is(NS_DS, "X509IssuerSerial") && issuer_serial.is_none() {
            let mut inner = Sequence::of(child, KEY)?;
            let name = inner.required(NS_DS, "X509IssuerName", "X509IssuerSerial has no X509IssuerName")?.text(KEY)?;
            let serial = inner.required(NS_DS, "X509SerialNumber", "X509IssuerSerial has no X509SerialNumber")?.text(KEY)?;
            inner.end("X509IssuerSerial has another child")?;
            issuer_serial = Some((name, serial.trim_matches(is_xml_space).to_owned()));
        } else {
            return Err(KEY.because("X509Data holds a second certificate, or something that is not allowed"));
        }
    }
    let certificate = certificate.ok_or(KEY.because("X509Data holds no certificate"))?;
    Ok(KeyInfo { certificate, subject_name, issuer_serial })
}

/// Checks an enveloped signature whose shape holds: the seam over the XML signature library.
pub trait XmlVerifier {
    /// Verifies digest and signature value with `key` and nothing else, over the nodes named by `parts`, and returns the
    /// canonical bytes of the assertion that were digested (V8, V9).
    ///
    /// # Errors
    /// [`Defect::Mismatch`] if either is wrong or the canonical bytes exceed their bound, [`Defect::Key`] if the key is of another kind.
    fn verify(
        &self,
        document: &Document<'static>,
        parts: &SignatureParts,
        key: &PublicKey,
        limits: &Limits,
    ) -> Result<Vec<u8>, AssertionError>;
}

/// [`XmlVerifier`] with bergshamra's canonicalization and aws-lc's signatures.
///
/// Only canonicalization is taken from bergshamra: the nodes are ours, so there is no reference to resolve and no key to choose.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bergshamra;

impl XmlVerifier for Bergshamra {
    fn verify(
        &self,
        document: &Document<'static>,
        parts: &SignatureParts,
        key: &PublicKey,
        limits: &Limits,
    ) -> Result<Vec<u8>, AssertionError> {
        let canonical = canonical(document, parts.assertion, Some(parts.signature), &parts.assertion_prefixes)?;
        if canonical.len() > limits.canonical_bytes {
            return Err(Defect::Mismatch.because("the canonical bytes are longer than their bound"));
        }
        let digest = parts.digest.digest(&canonical);
        if aws_lc_rs::constant_time::verify_slices_are_equal(&digest, &parts.digest_value).is_err() {
            return Err(Defect::Mismatch.because("the digest of the assertion is wrong"));
        }
        let signed_info = self::canonical(document, parts.signed_info, None, &parts.signed_info_prefixes)?;
        key.verify(parts.method, &signed_info, &parts.value)?;
        Ok(canonical)
    }
}

/// Exclusive C14N without comments of `apex` and what is in it, but for `without`.
pub(super) fn canonical(
    document: &Document<'_>,
    apex: NodeId,
    without: Option<NodeId>,
    prefixes: &[String],
) -> Result<Vec<u8>, AssertionError> {
    let mut nodes: NodeIdSet = std::iter::once(apex).chain(document.descendants(apex)).map(|node| node.index()).collect();
    if let Some(without) = without {
        nodes.remove(&without.index());
        for node in document.descendants(without) {
            nodes.remove(&node.index());
        }
    }
    let set = NodeSet::from_ids(nodes, NodeSetType::Normal);
    canonicalize_doc(document, C14nMode::Exclusive, Some(&set), prefixes)
        .map_err(|_| Defect::Mismatch.because("the element has no canonical form"))
}
