//! Neighbours that answer what they may not: each answer is refused as a whole, and the own part stays.

use idr_ihe::transaction::iti_18::ReturnType;
use idr_ihe::transaction::registry_response::Status;
use idr_ihe::transaction::table::action;

use super::query::find;
use super::{Beside, NEIGHBOUR, ask, asking, neighbour, row};
use crate::testing::soap::HOME;
use crate::testing::{Instance, PKI, other_patient, patient};

const AWAY: &str = "XDSUnavailableCommunity";
const ERRORS: &str = "<rs:RegistryErrorList xmlns:rs=\"urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0\">";

fn failing(code: &str, times: usize, context: &str) -> impl Fn(String) -> String + Send + Sync + 'static {
    let error = format!("<rs:RegistryError errorCode=\"{code}\" codeContext=\"{context}\"/>");
    let list = format!("{ERRORS}{}</rs:RegistryErrorList>", error.repeat(times));
    move |text| {
        let text = text.replace("ResponseStatusType:Success\">", &format!("ResponseStatusType:Failure\">{list}"));
        let (from, to) =
            (text.find("<rim:RegistryObjectList>").expect("objects"), text.find("</rim:RegistryObjectList>").expect("objects"));
        format!("{}<rim:RegistryObjectList>{}", &text[..from], &text[to..])
    }
}

type Said = Box<dyn Fn(String) -> String + Send + Sync>;

fn replaced(from: impl Into<String>, to: impl Into<String>) -> Said {
    let (from, to) = (from.into(), to.into());
    Box::new(move |text| {
        assert!(text.contains(&from), "{from} is not in {text}");
        text.replace(&from, &to)
    })
}

#[tokio::test]
async fn an_answer_to_a_query_is_taken_as_a_whole_or_not_at_all() {
    let there = neighbour().await;
    there.registered(&[Instance::ct(2)]).await;
    let patients = (patient().to_cx().replace('&', "&amp;"), other_patient().to_cx().replace('&', "&amp;"));
    let home = format!("home=\"{NEIGHBOUR}\"");
    // What the neighbour says instead; the error that is told, if one is; whether its part counts as answered.
    let cases: Vec<(&str, Said, Option<&str>, bool)> = vec![
        ("as it is", Box::new(|text| text), None, true),
        ("of another community", replaced(&home, format!("home=\"{HOME}\"")), Some(AWAY), false),
        ("of a community in other letters", replaced(&home, home.to_uppercase().replace("HOME", "home")), Some(AWAY), false),
        ("without community", replaced(&home, ""), Some("XDSMissingHomeCommunityId"), false),
        ("about another patient", replaced(patients.0.clone(), patients.1), Some(AWAY), false),
        ("about nobody", replaced(format!("value=\"{}\"", patients.0), ""), Some(AWAY), false),
        ("about a patient of another scheme", replaced("urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427", "urn:uuid:1"), Some(AWAY), false),
        ("to another message", replaced("RelatesTo>urn:uuid:", "RelatesTo>urn:uuid:0"), Some(AWAY), false),
        ("with another action", replaced("CrossGatewayQueryResponse", "RegistryStoredQueryResponse"), Some(AWAY), false),
        ("Failure with objects", replaced("Type:Success", "Type:Failure"), Some(AWAY), false),
        (
            "Success with an error",
            replaced("Type:Success\">", format!("Type:Success\">{ERRORS}<rs:RegistryError/></rs:RegistryErrorList>")),
            Some(AWAY),
            false,
        ),
        ("an unknown status", replaced("Type:Success", "Type:Perhaps"), Some(AWAY), false),
        ("not its end", Box::new(|text| text[..text.len() / 2].to_owned()), Some(AWAY), false),
        ("nothing", Box::new(|_| String::new()), Some(AWAY), false),
        ("no XML", Box::new(|_| "no answer today".to_owned()), Some(AWAY), false),
        ("an entity", Box::new(|text| format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{text}")), Some(AWAY), false),
        (
            "too much",
            Box::new(|text| text.replace("<rim:RegistryObjectList>", &format!("{}<rim:RegistryObjectList>", " ".repeat(9 << 20)))),
            Some(AWAY),
            false,
        ),
        ("another body", replaced("AdhocQueryResponse", "AdhocQueryAnswer"), Some(AWAY), false),
        ("it does not know the patient", Box::new(failing("XDSUnknownPatientId", 1, "x")), None, true),
        (
            "it failed",
            Box::new(failing("XDSRegistryError", 1, "IDR-B-04 XDSRegistryError: internal error")),
            Some("XDSRegistryError"),
            false,
        ),
        ("many errors", Box::new(failing("XDSRegistryError", 201, "x")), Some(AWAY), false),
        ("a long error", Box::new(failing("XDSRegistryError", 1, &"x".repeat(5000))), Some(AWAY), false),
    ];
    let own = PKI.hospital.physician(&patient());
    for (name, said, expected, succeeded) in cases {
        let wire = Beside::new(&there).that_says(said);
        let here = asking(&row(NEIGHBOUR, "query_by_patient = true"), &[], vec![(NEIGHBOUR, Box::new(wire))]).await;
        here.registered(&[Instance::ct(1)]).await;
        let answer = ask(&here, &PKI.hospital, &own, action::ITI_18, &find(None, ReturnType::LeafClass)).await;
        let found = answer.found();
        let codes: Vec<&str> = found.registry.errors.iter().map(|error| error.error_code.as_str()).collect();
        assert_eq!(codes, expected.into_iter().collect::<Vec<_>>(), "{name}");
        let entries = answer.objects().entries;
        assert_eq!(entries[0].home_community_id.as_deref(), Some(HOME), "{name}: the own part stays");
        assert_eq!(entries.len(), if name == "as it is" { 2 } else { 1 }, "{name}");
        assert!(!answer.envelope.contains(&other_patient().id), "{name}");
        assert_eq!(found.registry.status, if expected.is_none() { Status::Success } else { Status::PartialSuccess }, "{name}");
        let alone = ask(&here, &PKI.hospital, &own, action::ITI_18, &find(Some(NEIGHBOUR), ReturnType::LeafClass)).await.found();
        assert_eq!(alone.registry.status, if succeeded { Status::Success } else { Status::Failure }, "{name}");
    }
}

#[tokio::test]
async fn there_is_a_bound_to_what_is_merged() {
    let there = neighbour().await;
    there.registered(&[Instance::ct(2)]).await;
    let own = PKI.hospital.physician(&patient());
    for (objects, expected) in [(1, Status::Success), (2, Status::Failure)] {
        let doubled: Said = Box::new(move |text| {
            let (from, to) = (text.find("<rim:ExtrinsicObject").expect("one"), text.find("</rim:RegistryObjectList>").expect("a list"));
            format!("{}{}{}", &text[..from], text[from..to].repeat(objects), &text[to..])
        });
        let wire = Beside::new(&there).that_says(doubled);
        let changes = [("objects_max = 20000", "objects_max = 1")];
        let here = asking(&row(NEIGHBOUR, ""), &changes, vec![(NEIGHBOUR, Box::new(wire))]).await;
        let answer = ask(&here, &PKI.hospital, &own, action::ITI_18, &find(Some(NEIGHBOUR), ReturnType::LeafClass)).await;
        assert_eq!(answer.found().registry.status, expected);
    }
}
