//! Sample messages of others (`ihe/samples` of the shared folder): each is answered, by what it is or by what is wrong with it.
//!
//! Every file is sent as it stands, and once more with its body in an envelope of ours, under a fresh assertion and the action of
//! the body, about our patient. No answer is an incident of ours; what is accepted is printed by transaction.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axum::body::Body;
use http::Request;
use idr_ihe::soap::Envelope;
use idr_ihe::transaction::table::transactions;
use idr_ihe::xml::{Limits, Reader};

use crate::testing::soap::{Answer, envelope, message_id, plain, request};
use crate::testing::{PKI, World, patient};

#[tokio::test]
async fn each_sample_is_answered_and_none_is_an_incident() {
    let shared = std::env::var_os("IDR_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let folder = shared.join("ihe/samples");
    let mut files = Vec::new();
    below(&folder, &mut files);
    if files.is_empty() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no {}", folder.display());
        println!("skipped: no {} here (set IDR_SHARED)", folder.display());
        return;
    }
    let world = World::new().await;
    let (mut sent, mut told) = (0, BTreeMap::<String, usize>::new());
    for file in &files {
        let bytes = std::fs::read(file).expect("readable");
        let name = file.strip_prefix(&folder).unwrap_or(file).display().to_string();
        let mut requests = vec![("as it stands", "application/soap+xml", plain_bytes(bytes.clone()))];
        requests.push(("as a part", "multipart", part(&bytes)));
        for (number, text) in in_our_envelope(&bytes) {
            requests.push((number, "application/soap+xml", plain(text)));
        }
        for (how, _, request) in requests {
            let answer = world.soap(&PKI.hospital, request).await;
            sent += 1;
            let told_as = outcome(&answer);
            let text = String::from_utf8_lossy(&answer.body);
            assert!(!text.contains("IDR-B-04") && !text.contains("IDR-W-17"), "{name} {how}: {text}");
            assert_eq!(world.central.counters.panics.value(), 0, "{name} {how}");
            *told.entry(format!("{how}: {told_as}")).or_default() += 1;
        }
    }
    println!("{} samples, {sent} messages: {told:#?}", files.len());
    assert!(told.keys().any(|key| key.starts_with("ITI-18: Success")), "no query of a sample is answered: {told:#?}");
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { below(&path, files) } else { files.push(path) }
    }
}

fn plain_bytes(bytes: Vec<u8>) -> Request<Body> {
    request("application/soap+xml; charset=utf-8", bytes)
}

/// The file as the root part of an MTOM message.
fn part(bytes: &[u8]) -> Request<Body> {
    let head = b"--b\r\nContent-Type: application/xop+xml; type=\"application/soap+xml\"\r\n\r\n";
    let body = [&head[..], bytes, b"\r\n--b--\r\n"].concat();
    request("multipart/related; type=\"application/xop+xml\"; boundary=b", body)
}

/// The body of a message, or the file itself, in envelopes of ours: one for each transaction that has such a body.
fn in_our_envelope(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let body = match Envelope::read(bytes, Limits::default()) {
        Ok(envelope) => envelope.body_document(),
        Err(_) => bytes.to_vec(),
    };
    let Some(name) = Reader::new(&body, Limits::default()).ok().and_then(|mut reader| {
        let root = reader.root().ok()?;
        Some((root.ns, root.local().to_owned()))
    }) else {
        return Vec::new();
    };
    let Ok(text) = String::from_utf8(body) else { return Vec::new() };
    let text = text.trim_start_matches('\u{feff}');
    // A declaration stands at the start of a document alone.
    let text = text.trim_start().strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")).map_or(text, |(_, rest)| rest);
    let text = &of_our_patient(text);
    let matching = transactions().iter().filter(|transaction| transaction.body.0 == name.0 && transaction.body.1 == name.1);
    matching
        .map(|transaction| {
            let claims = if transaction.changes_state { PKI.hospital.site(&patient()) } else { PKI.hospital.physician(&patient()) };
            (transaction.number, envelope(&PKI.hospital.security(&claims), transaction.request_action, &message_id(), text))
        })
        .collect()
}

/// The same with our patient for each `id^^^&authority&ISO`.
fn of_our_patient(text: &str) -> String {
    const AUTHORITY: &str = "^^^&amp;";
    let own = patient().to_cx().replace('&', "&amp;");
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(AUTHORITY) {
        let start = rest[..at].rfind(['\'', '"', '>', '|', '~']).map_or(0, |before| before + 1);
        let Some(end) = rest[at..].find("&amp;ISO") else { break };
        out.push_str(&rest[..start]);
        out.push_str(&own);
        rest = &rest[at + end + "&amp;ISO".len()..];
    }
    out + rest
}

/// Status of a RegistryResponse with its first code, code of a fault or of a problem.
fn outcome(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    if let Some(at) = text.find("IDR-") {
        return text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    }
    match text.contains(":Success\"") {
        true => "Success".to_owned(),
        false => format!("HTTP {}", answer.status.as_u16()),
    }
}
