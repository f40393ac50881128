//! Messages made to hurt: refused with the fault of the profile, by a centre that goes on answering others.

use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use futures::stream;
use idr_ihe::soap::Envelope;
use idr_ihe::xml::Limits;
use idr_tests::consumer::Consumer;
use idr_tests::fixtures::person::Person;
use idr_tests::harness::{Plan, World, pss_bytes};
use idr_tests::story::patient_id;

use crate::story;

const PLAIN: &str = "application/soap+xml; charset=utf-8";
const MTOM: &str = "multipart/related; type=\"application/xop+xml\"; start=\"<0@x>\"; start-info=\"application/soap+xml\"; boundary=b";
/// What the centre may take above what it took at rest, MiB: far above what any message may make it take.
const GROWTH_MIB: u64 = 512;

/// A message and the codes of its refusal, any of which is right.
struct Hostile {
    name: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    gzip: bool,
    codes: &'static [&'static str],
}

#[test]
fn hostile_messages_are_refused_and_others_are_answered() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let viewer = world.viewer()?;
        let patient = patient_id(&Person::numbered(181));
        viewer.find_documents(&patient).await?;
        let pid = world.central.program.pid();
        let rest = pss_bytes(pid)? >> 20;

        let mut wrong = Vec::new();
        for hostile in all() {
            let told = send(&viewer, &hostile).await?;
            if !hostile.codes.contains(&told.as_str()) {
                wrong.push(format!("{}: {told} instead of {:?}", hostile.name, hostile.codes));
            }
            let grown = (pss_bytes(pid)? >> 20).saturating_sub(rest);
            ensure!(grown < GROWTH_MIB, "{}: {grown} MiB above {rest}", hostile.name);
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));

        // Twenty senders of a byte at a time hold their places; an ordinary request is answered beside them.
        let slow: Vec<_> = (0..20).map(|_| tokio::spawn(drip(viewer.http().clone(), viewer.gateway()))).collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        for _ in 0..3 {
            viewer.find_documents(&patient).await?;
        }
        ensure!(slow.iter().any(|sender| !sender.is_finished()), "the slow senders were not there any more");
        slow.iter().for_each(tokio::task::JoinHandle::abort);
        world.stop().await
    });
}

async fn drip(http: reqwest::Client, gateway: String) -> Option<u16> {
    let bytes = stream::unfold(0_u32, async |sent| {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), sent + 1))
    });
    let request = http.post(gateway).header("content-type", PLAIN).body(reqwest::Body::wrap_stream(bytes));
    request.send().await.ok().map(|answer| answer.status().as_u16())
}

/// The code of the answer: `idr:Refusal` of a fault, `code` of a problem.
async fn send(viewer: &Consumer, hostile: &Hostile) -> anyhow::Result<String> {
    let mut request = viewer.http().post(viewer.gateway()).header("content-type", hostile.content_type).body(hostile.body.clone());
    if hostile.gzip {
        request = request.header("content-encoding", "gzip");
    }
    let answer = match request.send().await {
        Ok(answer) => answer,
        // Bodies above the bound may be cut off while they are sent.
        Err(error) => return Ok(format!("no answer: {error}")),
    };
    let status = answer.status().as_u16();
    let body = answer.bytes().await?;
    if let Ok(problem) = serde_json::from_slice::<serde_json::Value>(&body)
        && let Some(code) = problem["code"].as_str()
    {
        return Ok(code.to_owned());
    }
    let fault = Envelope::read(&body, Limits::default()).ok().and_then(|envelope| envelope.fault().ok().flatten());
    Ok(fault.and_then(|fault| fault.refusal).unwrap_or_else(|| format!("HTTP {status} without a code")))
}

/// An envelope of ITI-18 around a body.
fn envelope(head: &str, body: &str) -> String {
    format!(
        "{head}<e:Envelope xmlns:e=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:a=\"http://www.w3.org/2005/08/addressing\"><e:Header>\
         <a:Action e:mustUnderstand=\"1\">urn:ihe:iti:2007:RegistryStoredQuery</a:Action><a:MessageID>urn:uuid:00000000-0000-4000-8000-000000000181\
         </a:MessageID></e:Header><e:Body>{body}</e:Body></e:Envelope>"
    )
}

fn plain(name: &'static str, text: String, codes: &'static [&'static str]) -> Hostile {
    Hostile { name, content_type: PLAIN, body: text.into_bytes(), gzip: false, codes }
}

/// A message of a root part and others.
fn mtom(name: &'static str, root: &str, parts: &str, codes: &'static [&'static str]) -> Hostile {
    let root_part = format!(
        "--b\r\nContent-Type: application/xop+xml; charset=UTF-8; type=\"application/soap+xml\"\r\nContent-ID: <0@x>\r\n\r\n{root}"
    );
    Hostile { name, content_type: MTOM, body: format!("{root_part}{parts}\r\n--b--\r\n").into_bytes(), gzip: false, codes }
}

fn included(href: &str) -> String {
    let include = format!("<x:Include xmlns:x=\"http://www.w3.org/2004/08/xop/include\" {href}/>");
    let document = format!("<d:Document id=\"a\">{include}</d:Document>");
    envelope(
        "",
        &format!(
            "<d:ProvideAndRegisterDocumentSetRequest xmlns:d=\"urn:ihe:iti:xds-b:2007\">{document}</d:ProvideAndRegisterDocumentSetRequest>"
        ),
    )
    .replace("RegistryStoredQuery", "ProvideAndRegisterDocumentSet-b")
}

fn all() -> Vec<Hostile> {
    const MALFORMED: &[&str] = &["IDR-S-06"];
    let lol: String = (1..10).map(|n| format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10))).collect();
    let bomb = format!("<!DOCTYPE l [<!ENTITY l0 \"lol\">{lol}]>");
    let attributes: String = (0..1_000_000).map(|n| format!(" a{n}=\"\"")).collect();
    let part = |n: u32| format!("\r\n--b\r\nContent-ID: <{n}@x>\r\n\r\nx");
    let good = envelope("", "<q/>");
    let mut bombs = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut bombs, &vec![b' '; 512 << 20]).expect("memory");
    // Before anybody is asked who they are, what stands in the message is judged; an include is judged after.
    const UNKNOWN_CALLER: &[&str] = &["IDR-X-01", "IDR-S-24", "IDR-S-25", "IDR-S-11"];
    vec![
        plain("entities of entities", envelope(&bomb, "<q>&l9;</q>"), MALFORMED),
        plain("a file as an entity", envelope("<!DOCTYPE q [<!ENTITY f SYSTEM \"file:///etc/passwd\">]>", "<q>&f;</q>"), MALFORMED),
        plain("a DTD elsewhere", envelope("<!DOCTYPE q SYSTEM \"http://127.0.0.1:9/q.dtd\">", "<q/>"), MALFORMED),
        plain("parameter entities", envelope("<!DOCTYPE q [<!ENTITY % p \"<!ENTITY x 'y'>\">%p;]>", "<q>&x;</q>"), MALFORMED),
        plain("an entity without a DTD", envelope("", "<q>&f;</q>"), MALFORMED),
        plain("a million attributes", envelope("", &format!("<q{attributes}/>")), &["IDR-S-06", "IDR-W-10"]),
        plain("a hundred thousand levels", envelope("", &("<q>".repeat(100_000) + &"</q>".repeat(100_000))), MALFORMED),
        plain("a million siblings", envelope("", &format!("<q>{}</q>", "<a/>".repeat(1_000_000))), &["IDR-S-06", "IDR-S-12", "IDR-X-01"]),
        plain(
            "one text of eight million characters",
            envelope("", &format!("<q>{}</q>", "x".repeat(8_000_000))),
            &["IDR-S-06", "IDR-S-12", "IDR-X-01"],
        ),
        plain(
            "a name of a million characters",
            envelope("", &format!("<{0}/>", "q".repeat(1_000_000))),
            &["IDR-S-06", "IDR-S-12", "IDR-X-01"],
        ),
        plain("an instruction", envelope("", "<?php system('id') ?><q/>"), MALFORMED),
        plain(
            "XInclude",
            envelope("", "<i:include xmlns:i=\"http://www.w3.org/2001/XInclude\" href=\"file:///etc/passwd\"/>"),
            &["IDR-S-06", "IDR-S-12", "IDR-X-01"],
        ),
        plain("UTF-7", envelope("<?xml version=\"1.0\" encoding=\"UTF-7\"?>", "<q/>"), &["IDR-S-04", "IDR-S-06"]),
        plain("no end", envelope("", "<q>").replace("</e:Envelope>", ""), MALFORMED),
        Hostile { name: "gzip of 512 MiB", content_type: PLAIN, body: bombs.finish().expect("memory"), gzip: true, codes: &["IDR-W-10"] },
        mtom("more parts than there may be", &good, &(1..400).map(part).collect::<String>(), &["IDR-S-23", "IDR-X-01", "IDR-S-12"]),
        mtom(
            "a part head of a megabyte",
            &good,
            &format!("\r\n--b\r\nX-A: {}\r\n\r\nx", "a".repeat(1 << 20)),
            &["IDR-S-23", "IDR-X-01", "IDR-S-12"],
        ),
        mtom("two parts of one name", &good, &(part(1) + &part(1)), &["IDR-S-22", "IDR-X-01", "IDR-S-12"]),
        mtom("the root includes itself", &included("href=\"cid:0@x\""), "", UNKNOWN_CALLER),
        mtom("a path for a cid", &included("href=\"cid:..%2F..%2F..%2Fetc%2Fpasswd\""), &part(1), UNKNOWN_CALLER),
        mtom("a file for a cid", &included("href=\"file:///etc/passwd\""), &part(1), UNKNOWN_CALLER),
        mtom("an address for a cid", &included("href=\"http://127.0.0.1:9/\""), &part(1), UNKNOWN_CALLER),
        mtom("no href", &included(""), &part(1), UNKNOWN_CALLER),
        Hostile {
            name: "start that names no part",
            content_type: MTOM,
            body: b"--b\r\nContent-ID: <1@x>\r\n\r\nx\r\n--b--\r\n".to_vec(),
            gzip: false,
            codes: &["IDR-S-22"],
        },
        Hostile {
            name: "no closing delimiter",
            content_type: MTOM,
            body: b"--b\r\nContent-ID: <0@x>\r\n\r\n".to_vec(),
            gzip: false,
            codes: &["IDR-S-22"],
        },
    ]
}
