//! The vectors of profile 04 §14, its tables, its properties.

mod properties;
mod saml;
mod tables;
mod token;
mod trust;
mod vector;
mod world;

use std::collections::BTreeSet;

use vector::Vector;

/// Vectors that need a running central or several nodes, with the suite that shows them.
const ELSEWHERE: [(&str, &str); 9] = [
    ("N83", "replay on one node: central's store contract, by the ReplayKey of p25_…"),
    ("N84", "replay on another node: central's store contract"),
    ("N85", "replay after a restart: central's scenarios"),
    ("N118", "a token used by another TLS client: central's store contract, by ReplayKey.tls_sha256; N117 refuses its cnf here"),
    ("N123", "replay store down: central's scenarios; the answer of IDR-X-32 is in tables.rs"),
    ("N124", "audit store full: central's scenarios"),
    ("N127", "no identity, C-FIND only: central's association driver"),
    ("N128", "expiry between two C-FIND: central's association driver; the verdict is N70's"),
    ("N130", "no identity, Verification and C-FIND: central's association driver"),
];
/// Vectors of carriage, shown in token.rs by name.
const CARRIAGE: [&str; 6] = ["N119", "N120", "N121", "N122", "N125", "N126"];

fn saml_vectors() -> Vec<Vector> {
    [saml::positive(), saml::message(), saml::wrapping(), saml::signature(), saml::conditions(), saml::attributes()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn every_saml_vector_ends_as_the_profile_says() {
    let mut wrong = Vec::new();
    for vector in saml_vectors() {
        let ended = vector.run();
        let code = ended.as_ref().map(|_| ()).map_err(|refusal| refusal.code.number());
        if code != vector.expected {
            let what = ended.err().map_or_else(|| "accepted".to_owned(), |e| e.to_string());
            wrong.push(format!("{}: expected {:?}: {what}", vector.id, vector.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_vector_of_the_profile_is_shown_here_or_named_elsewhere() {
    let Some(table) = crate::testing::profile_table("04_14_1.tsv") else { return };
    let id = regex::Regex::new(r"\b[PN][0-9]{2,3}\b").expect("a pattern");
    let listed: BTreeSet<String> = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split('\t').next())
        .flat_map(|cell| id.find_iter(cell).map(|found| found.as_str().to_owned()).collect::<Vec<_>>())
        .collect();
    assert!(listed.len() > 150, "{} vectors were found", listed.len());
    let here = saml_vectors().into_iter().map(|v| v.id).chain(token::tokens().into_iter().map(|t| t.id.to_owned()));
    let here = here.filter_map(|id| id.split(' ').next().map(str::to_owned)).chain(CARRIAGE.map(str::to_owned));
    let shown: BTreeSet<String> = here.chain(ELSEWHERE.map(|(id, _)| id.to_owned())).collect();
    let missing: Vec<_> = listed.difference(&shown).collect();
    assert!(missing.is_empty(), "not shown: {missing:?}");
}
