//! Signatures both ways with xmlsec1: it verifies ours, and the centre accepts one that it made.

use std::process::Command;

use anyhow::Context as _;
use idr_ihe::assertion::build;
use idr_ihe::transaction::iti_18::{Definition, ReturnType, encode};
use idr_ihe::transaction::table::action;
use idr_tests::consumer::{APPROVED, security};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, Relay, World};
use idr_tests::poll;
use idr_tests::shared::{folder, has_tool, run};
use idr_tests::story::{outgoing, patient_id, send_all};
use jiff::Timestamp;

use crate::story;

const ID: &str = "--id-attr:ID";
const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion:Assertion";

#[test]
fn xmlsec1_verifies_the_signature_of_the_viewer_of_the_tests_and_the_schema_holds() {
    if !has_tool("xmlsec1") {
        return;
    }
    story(async {
        let world = World::prepare(Plan::default())?;
        check(&world, &world.viewer()?.requester.saml(Some(&patient_id(&Person::numbered(141))))?)
    });
}

#[test]
fn xmlsec1_verifies_the_signatures_of_the_site_and_the_schema_holds() {
    if !has_tool("xmlsec1") {
        return;
    }
    story(async {
        let mut world = World::prepare(Plan::default())?;
        world.central.program.start().await?;
        let relay = Relay::start(&world).await?;
        // Both requests that the site makes: a submission, and the query for what became of it.
        relay.lose_answer_to("ProvideAndRegisterDocumentSetRequest");
        world.site_mut().program.start().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(143), 1, 1).make();
        send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
        for request in ["ProvideAndRegisterDocumentSetRequest", "AdhocQueryRequest"] {
            let message = poll::until(request, poll::DEADLINE, || async {
                let texts = relay.exchanges().into_iter().map(|exchange| String::from_utf8_lossy(&exchange.asked.body).into_owned());
                texts.rev().find(|text| text.contains(request))
            });
            let message = message.await?;
            let (begin, end) = (message.find("<saml2:Assertion ").context("an assertion")?, "</saml2:Assertion>");
            let length = message[begin..].find(end).context("its end")? + end.len();
            check(&world, &message[begin..begin + length]).context(request)?;
        }
        world.stop().await
    });
}

fn check(world: &World, assertion: &str) -> anyhow::Result<()> {
    let file = world.folder().join("ours.xml");
    std::fs::write(&file, assertion)?;
    run(Command::new("xmlsec1").args(["--verify", "--trusted-pem"]).arg(world.pki.signing_anchor()).args([ID, ASSERTION]).arg(&file))?;
    if let (Some(shared), true) = (folder(), has_tool("xmllint")) {
        let schema = shared.join("ihe/schemas/saml2/saml-schema-assertion-2.0.xsd");
        run(Command::new("xmllint").args(["--nonet", "--noout", "--schema"]).arg(schema).arg(&file))?;
    }
    Ok(())
}

#[test]
fn the_centre_accepts_an_assertion_that_xmlsec1_signed() {
    if !has_tool("xmlsec1") {
        return;
    }
    story(async {
        let world = World::start(Plan::default()).await?;
        let (viewer, patient) = (world.viewer()?, patient_id(&Person::numbered(142)));
        let unsigned = build(&viewer.requester.assertion(Some(&patient), Timestamp::now()))?;
        let template = format!(
            concat!(
                r#"<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo>"#,
                r#"<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>"#,
                r#"<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"/>"#,
                r##"<ds:Reference URI="#{id}"><ds:Transforms>"##,
                r#"<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>"#,
                r#"<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></ds:Transforms>"#,
                r#"<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue/></ds:Reference></ds:SignedInfo>"#,
                r#"<ds:SignatureValue/><ds:KeyInfo><ds:X509Data><ds:X509Certificate/></ds:X509Data></ds:KeyInfo></ds:Signature>"#,
            ),
            id = unsigned.id()
        );
        let file = world.folder().join("template.xml");
        std::fs::write(&file, unsigned.with_signature(&template))?;
        let keys = format!("{},{}", world.hospital.signature.key.display(), world.hospital.signature.certificate.display());
        let signed = Command::new("xmlsec1").args(["--sign", "--privkey-pem", &keys, ID, ASSERTION]).arg(&file).output()?;
        anyhow::ensure!(signed.status.success(), "xmlsec1: {}", String::from_utf8_lossy(&signed.stderr));
        let text = String::from_utf8(signed.stdout)?;
        let assertion = text.trim_start_matches("<?xml version=\"1.0\"?>").trim();
        let definition = Definition::of_name("FindDocuments").expect("a stored query of the table");
        let parameters = [("$XDSDocumentEntryPatientId", vec![patient.to_cx()]), ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()])];
        let body = encode(definition, ReturnType::LeafClass, None, &parameters);
        viewer.plain(action::ITI_18, &body, &security(assertion)).await?;
        world.stop().await
    });
}
