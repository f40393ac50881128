//! One vector: how its message is made, and what is expected of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bergshamra::c14n::{C14nMode, canonicalize_doc};
use bergshamra::xml::NodeSet;
use idr_ihe::assertion::{
    Assertion, CONFIRMATION_BEARER, Confirmation, Hash, NS_DS, NS_SOAP, NS_WSSE, NameId, SignatureMethod, Signer as _, build,
};
use idr_ihe::metadata::PatientId;
use jiff::Timestamp;

use super::world::{Party, SIGNER, WORLD, hetu, seconds, t0};
use crate::access::{Claims, Kind, Policy, Purpose};
use crate::identifier::{Environment, IdentityRules};
use crate::xua::{Carriage, Refusal, RequestFacts, SubmittedEvent, Transaction, Trust, Verified, Verifier, XuaRules, produce};

pub(super) const EXC_C14N: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
pub(super) const ID: &str = "_6f1c0b5e9d7a4c32a8e1f00d5b7c9e11";

type Edit<T> = Vec<Box<dyn Fn(T) -> T>>;
type Make = Box<dyn Fn(&str) -> Vec<u8>>;

/// A vector of profile 04 §14 with what it changes. Everything not named is P01.
pub(super) struct Vector {
    pub(super) id: String,
    pub(super) claims: Claims,
    pub(super) transaction: Transaction,
    pub(super) request_patient: Option<PatientId>,
    pub(super) service_event: SubmittedEvent<'static>,
    pub(super) now: Timestamp,
    pub(super) tls: Vec<u8>,
    pub(super) revocation_hours: i64,
    pub(super) carriage: Carriage,
    party: Option<Party>,
    method: Option<SignatureMethod>,
    digest: Hash,
    prefixes: Vec<String>,
    der_value: bool,
    model: Edit<Assertion>,
    xml: Edit<String>,
    template: Edit<String>,
    signed: Edit<String>,
    message: Make,
    trust: String,
    pub(super) rules: XuaRules,
    pub(super) expected: Result<(), u8>,
}

impl Vector {
    /// P01 under an id.
    pub(super) fn new(id: impl Into<String>) -> Self {
        Self::of(id, Kind::Professional, Purpose::Normal, Transaction::Iti18)
    }

    pub(super) fn of(id: impl Into<String>, kind: Kind, purpose: Purpose, transaction: Transaction) -> Self {
        Self {
            id: id.into(),
            claims: super::world::claims(kind, purpose),
            transaction,
            request_patient: None,
            service_event: SubmittedEvent::Unknown,
            now: t0(),
            tls: WORLD.tls_a.clone(),
            revocation_hours: 1,
            carriage: Carriage::Soap,
            party: None,
            method: None,
            digest: Hash::Sha256,
            prefixes: Vec::new(),
            der_value: false,
            model: Vec::new(),
            xml: Vec::new(),
            template: Vec::new(),
            signed: Vec::new(),
            message: Box::new(|assertion| envelope(assertion, "<q:Query xmlns:q=\"urn:x:q\" id=\"body\"/>").into_bytes()),
            trust: String::new(),
            rules: WORLD.rules.clone(),
            expected: Ok(()),
        }
    }

    pub(super) fn claims(mut self, edit: impl FnOnce(&mut Claims)) -> Self {
        edit(&mut self.claims);
        self
    }

    pub(super) fn party(mut self, party: Party) -> Self {
        self.party = Some(party);
        self
    }

    pub(super) fn method(mut self, method: SignatureMethod, digest: Hash) -> Self {
        self.method = Some(method);
        self.digest = digest;
        self
    }

    pub(super) fn prefixes(mut self, prefixes: &[&str]) -> Self {
        self.prefixes = prefixes.iter().map(|p| (*p).to_owned()).collect();
        self
    }

    pub(super) fn der_value(mut self) -> Self {
        self.der_value = true;
        self
    }

    /// Changes the values before they are written.
    pub(super) fn model(mut self, edit: impl Fn(&mut Assertion) + 'static) -> Self {
        self.model.push(Box::new(move |mut assertion| {
            edit(&mut assertion);
            assertion
        }));
        self
    }

    /// Replaces text of the assertion before it is signed ("rs").
    pub(super) fn xml(self, from: &str, to: &str) -> Self {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.edit_xml(move |text| replaced(&text, &from, &to))
    }

    pub(super) fn edit_xml(mut self, edit: impl Fn(String) -> String + 'static) -> Self {
        self.xml.push(Box::new(edit));
        self
    }

    /// Replaces text of the signature before its value is made.
    pub(super) fn template(mut self, from: &str, to: &str) -> Self {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.template.push(Box::new(move |text| replaced(&text, &from, &to)));
        self
    }

    /// Changes the signed assertion.
    pub(super) fn signed(mut self, edit: impl Fn(String) -> String + 'static) -> Self {
        self.signed.push(Box::new(edit));
        self
    }

    /// Replaces text of the signed assertion.
    pub(super) fn changed(self, from: &str, to: &str) -> Self {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.signed(move |text| replaced(&text, &from, &to))
    }

    /// Makes the message of the signed assertion.
    pub(super) fn message(mut self, make: impl Fn(&str) -> Vec<u8> + 'static) -> Self {
        self.message = Box::new(make);
        self
    }

    /// As [`Self::message`], of text.
    pub(super) fn text(self, make: impl Fn(&str) -> String + 'static) -> Self {
        self.message(move |assertion| make(assertion).into_bytes())
    }

    pub(super) fn alone(mut self, carriage: Carriage) -> Self {
        self.carriage = carriage;
        self.message(|assertion| assertion.as_bytes().to_vec())
    }

    pub(super) fn at(mut self, now: Timestamp) -> Self {
        self.now = now;
        self
    }

    pub(super) fn tls(mut self, der: &[u8]) -> Self {
        self.tls = der.to_vec();
        self
    }

    /// Lines added to the issuer's row.
    pub(super) fn trust(mut self, lines: &str) -> Self {
        self.trust = lines.to_owned();
        self
    }

    /// A rule set that extends the shipped one.
    pub(super) fn rules(mut self, text: &str) -> Self {
        let shipped = include_str!("../../../../../configs/rules/base/xua.toml");
        self.rules = XuaRules::layered(&[shipped, text]).expect("readable");
        self
    }

    pub(super) fn about(mut self, id: &str) -> Self {
        self.request_patient = Some(hetu(id));
        self
    }

    pub(super) fn refused(mut self, code: u8) -> Self {
        self.expected = Err(code);
        self
    }

    /// The signed assertion.
    pub(super) fn assertion(&self) -> String {
        let party = self.party.as_ref().unwrap_or(&SIGNER);
        let xml = self.unsigned();
        let signed = self.enveloped(&xml, party);
        self.signed.iter().fold(signed, |text, edit| edit(text))
    }

    pub(super) fn unsigned(&self) -> String {
        let mut assertion = base(&self.claims, &self.rules);
        for edit in &self.model {
            assertion = edit(assertion);
        }
        let xml = build(&assertion).expect("writable").to_xml();
        self.xml.iter().fold(xml, |text, edit| edit(text))
    }

    fn enveloped(&self, xml: &str, party: &Party) -> String {
        let method = self.method.unwrap_or_else(|| party.key.xml_method());
        let document = uppsala::parse(xml).expect("well-formed");
        let canonical = canonicalize_doc(&document, C14nMode::Exclusive, None, &self.prefixes).expect("canonical");
        let prefixes = match self.prefixes.is_empty() {
            true => String::new(),
            false => format!(r#"<ec:InclusiveNamespaces xmlns:ec="{EXC_C14N}" PrefixList="{}"/>"#, self.prefixes.join(" ")),
        };
        let template = format!(
            concat!(
                r#"<ds:Signature xmlns:ds="{ds}"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{c}">{p}</ds:CanonicalizationMethod>"#,
                r##"<ds:SignatureMethod Algorithm="{m}"/><ds:Reference URI="#{id}"><ds:Transforms>"##,
                r#"<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>"#,
                r#"<ds:Transform Algorithm="{c}">{p}</ds:Transform></ds:Transforms>"#,
                r#"<ds:DigestMethod Algorithm="{dm}"/><ds:DigestValue>{d}</ds:DigestValue></ds:Reference></ds:SignedInfo>"#,
                r#"<ds:SignatureValue>@VALUE@</ds:SignatureValue>"#,
                r#"<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{cert}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature>"#
            ),
            ds = NS_DS,
            c = EXC_C14N,
            p = prefixes,
            m = method.uri(),
            id = document.document_element().and_then(|root| document.get_attribute(root, "ID")).expect("an ID"),
            dm = self.digest.uri(),
            d = STANDARD.encode(self.digest.digest(&canonical)),
            cert = STANDARD.encode(&party.certificate),
        );
        let signature = self.template.iter().fold(template, |text, edit| edit(text));
        let end = xml.find("</saml2:Issuer>").map(|at| at + "</saml2:Issuer>".len());
        let at = end.or_else(|| xml.find("</Issuer>").map(|at| at + "</Issuer>".len())).expect("an Issuer");
        let whole = format!("{}{signature}{}", &xml[..at], &xml[at..]);
        let document = uppsala::parse(&whole).expect("well-formed");
        let info = document.get_elements_by_tag_name_ns(NS_DS, "SignedInfo")[0];
        let set = NodeSet::tree_without_comments(info, &document);
        let bytes = canonicalize_doc(&document, C14nMode::Exclusive, Some(&set), &self.prefixes).expect("canonical");
        let value = match self.der_value {
            true => rcgen::SigningKey::sign(&party.pair, &bytes).expect("signed"),
            false => party.key.sign(method, &bytes).expect("signed"),
        };
        whole.replacen("@VALUE@", &STANDARD.encode(value), 1)
    }

    /// The message, and the verdict on it.
    pub(super) fn run(&self) -> Result<Verified, Refusal> {
        self.judge(&(self.message)(&self.assertion()))
    }

    pub(super) fn judge(&self, message: &[u8]) -> Result<Verified, Refusal> {
        self.with(|verifier, facts| verifier.verify_saml(message, self.carriage, &self.tls, facts, self.now))
    }

    /// Gives the verifier and facts of this vector to `then`.
    pub(super) fn with<T>(&self, then: impl FnOnce(&Verifier<'_>, &RequestFacts<'_>) -> T) -> T {
        let trust = WORLD.trust(&self.trust);
        let trust = Trust::parse(&trust, &mut |name| panic!("no file is named: {name}")).expect("readable");
        let revocation = WORLD.revocation(jiff::SignedDuration::from_hours(self.revocation_hours));
        let verifier = Verifier {
            trust: &trust,
            revocation: &revocation,
            rules: &self.rules,
            policy: &Policy::shipped(),
            identity: &IdentityRules::shipped(),
            environment: Environment::Test,
            local_issuers: &[],
        };
        let facts = RequestFacts {
            transaction: self.transaction,
            patient: self.request_patient.as_ref(),
            service_event: self.service_event,
            endpoint: Some("https://central.idr.example/xds"),
        };
        then(&verifier, &facts)
    }
}

/// The values of P01 with other claims.
fn base(claims: &Claims, rules: &XuaRules) -> Assertion {
    let rule = rules.kind(claims.kind).expect("a row");
    Assertion {
        id: ID.to_owned(),
        issue_instant: t0() - seconds(5),
        issuer: claims.issuer.clone(),
        name_id: NameId { value: claims.name_id.clone(), name_qualifier: Some(claims.name_qualifier.clone()), sp_provided_id: None },
        confirmation: Confirmation { method: CONFIRMATION_BEARER.to_owned(), name_id: None, data: None },
        not_before: t0() - seconds(5),
        not_on_or_after: t0() + seconds(295),
        audiences: vec!["urn:x:elsewhere".to_owned(), "urn:x-idr:audience:central".to_owned()],
        one_time_use: false,
        authn_instant: t0() - seconds(1800),
        session_index: None,
        session_not_on_or_after: None,
        authn_context: rule.authn_contexts[0].clone(),
        attributes: produce::attributes(claims, rules),
    }
}

/// An envelope with one security header that holds `security`.
pub(super) fn envelope(security: &str, body: &str) -> String {
    with_header(&format!("<wsse:Security xmlns:wsse=\"{NS_WSSE}\" env:mustUnderstand=\"true\">{security}</wsse:Security>"), body)
}

/// An envelope with header blocks and a body.
pub(super) fn with_header(header: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><!-- outside --><env:Envelope xmlns:env=\"{NS_SOAP}\"><env:Header><wsa:MessageID xmlns:wsa=\"http://www.w3.org/2005/08/addressing\">urn:uuid:1</wsa:MessageID>{header}</env:Header><env:Body>{body}</env:Body></env:Envelope>"
    )
}

/// `text` with the first `from` replaced; it must be there.
pub(super) fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "nothing to replace: {from}\nin {text}");
    text.replacen(from, to, 1)
}
