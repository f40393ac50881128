//! STOW-RS at the site: who may send, what each part is answered, and that a 200 means durable (PS3.18 §10.5; profile 01 §4.4, §4.5).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use idr_tests::fixtures::defect::DEFECTS;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::pki::Usage;
use idr_tests::fixtures::study::{Instance, Kind, ORGANISATION, Recipe, Study};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::modality::{DataSet, Outgoing};
use idr_tests::shared;
use reqwest::{Body, Client, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use toml::Table;

use crate::story;

const TYPE: &str = "multipart/related; type=\"application/dicom\"; boundary=part";

/// A site with a plain STOW-RS listener and one over TLS; `change` has the last word.
async fn world(change: impl Fn(&mut Table) + Send + Sync + 'static) -> anyhow::Result<(World, SocketAddr, SocketAddr)> {
    let site = Arc::new(move |table: &mut Table| {
        let (certificate, key) = (table["dimse"]["certificate"].clone(), table["dimse"]["key"].clone());
        edit(
            table,
            [
                ("stow.listen", vec!["127.0.0.1:0".to_owned()].into()),
                ("stow.listen_tls", vec!["127.0.0.1:0".to_owned()].into()),
                ("stow.certificate", certificate),
                ("stow.key", key),
                ("reload.watch", false.into()),
            ],
        );
        edit(row(table), [("stow", true.into())]);
        change(table);
    });
    let mut world = World::prepare(Plan { site, ..Plan::default() })?;
    let listening = world.site_mut().program.start().await?;
    Ok((world, listening.stow[0], listening.stow_tls[0]))
}

fn row(table: &mut Table) -> &mut Table {
    table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("one row")
}

fn client() -> anyhow::Result<Client> {
    Ok(Client::builder().no_proxy().build()?)
}

/// A multipart/related body; each part with its head.
fn body<'a>(parts: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut body = Vec::new();
    for (content_type, content) in parts {
        body.extend_from_slice(format!("--part\r\nContent-Type: {content_type}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--part--\r\n");
    body
}

fn dicom(files: &[Vec<u8>]) -> Vec<u8> {
    body(files.iter().map(|file| ("application/dicom", file.as_slice())))
}

async fn post(client: &Client, url: String, body: impl Into<Body>) -> anyhow::Result<Response> {
    Ok(client.post(url).header("content-type", TYPE).body(body).send().await?)
}

fn files(study: &Study) -> Vec<Vec<u8>> {
    study.instances.iter().map(Instance::part10).collect()
}

fn items<'a>(answer: &'a Value, sequence: &str) -> &'a [Value] {
    answer[sequence]["Value"].as_array().map_or(&[], Vec::as_slice)
}

/// Failure Reason of each part that failed, in order; named ones first.
fn reasons(answer: &Value) -> Vec<u64> {
    let all = items(answer, "00081198").iter().chain(items(answer, "0008119A"));
    all.filter_map(|item| item["00081197"]["Value"][0].as_u64()).collect()
}

fn part10_of(object: &Outgoing) -> Vec<u8> {
    let data_set: Vec<u8> = object.data_set.pieces().flat_map(|piece| piece.to_vec()).collect();
    let (sop_class, sop_instance) = (object.sop_class.clone(), object.sop_instance.clone());
    Instance { sop_class, sop_instance, transfer_syntax: object.transfer_syntax.clone(), data_set }.part10()
}

/// What, rule, status (0: stored), Content-Type of the part, study of the URL, file.
type Case = (String, &'static str, u16, &'static str, Option<String>, Vec<u8>);

#[test]
fn each_rule_answers_with_the_number_of_its_row() {
    story(async {
        let (mut world, plain, _) = world(|_| {}).await?;
        let client = client()?;
        let numbers = stow_column()?;
        let good = |seed: u32| Recipe::small(Kind::Ct, Person::numbered(61), 1, 700 + seed).make();
        let file = |seed: u32| good(seed).instances[0].part10();
        let with = |seed: u32, change: fn(&mut Vec<u8>)| {
            let mut file = file(seed);
            change(&mut file);
            file
        };
        let at = |file: &[u8], tag: [u8; 4]| file.windows(4).position(|window| window == tag);
        let dicom = "application/dicom";
        let mut cases: Vec<Case> = vec![
            ("131 bytes".into(), "D101", 0xC101, dicom, None, vec![0; 131]),
            ("no preamble".into(), "D102", 0xC102, dicom, None, [&[0xFF, 0xD8][..], &[1; 300]].concat()),
            ("no transfer syntax".into(), "D103", 0xC103, dicom, None, {
                let mut file = file(1);
                let at = at(&file, [2, 0, 0x10, 0]).context("file meta has a transfer syntax")?;
                file[at + 2] = 0x11;
                file
            }),
            ("meta length".into(), "D104", 0, dicom, None, with(2, |file| file[140] ^= 1)),
            ("implicit meta".into(), "D105", 0xC105, dicom, None, with(3, |file| file.splice(136..138, [0, 0]).for_each(drop))),
            ("big endian".into(), "D122", 0xC122, dicom, None, {
                Instance { transfer_syntax: "1.2.840.10008.1.2.2".to_owned(), ..good(4).instances[0].clone() }.part10()
            }),
            ("part head differs".into(), "D124", 0, "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.70", None, file(5)),
            ("another study".into(), "D125", 0xC125, dicom, Some("1.2.246.10.90000011.77.1".to_owned()), file(6)),
            ("the study of the URL".into(), "–", 0, dicom, Some(good(7).uid), file(7)),
        ];
        for (defect, seed) in DEFECTS.iter().zip(1..) {
            // File meta of an object without UIDs, or with ones that are none, has its own rules.
            let object = defect.make(seed);
            if !matches!(object.data_set, DataSet::Whole(_)) || object.sop_class.is_empty() || object.sop_instance.is_empty() {
                continue;
            }
            cases.push((defect.name.to_owned(), defect.rule, defect.status, dicom, None, part10_of(&object)));
        }
        let (mut wrong, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
        for (what, rule, status, content_type, study, file) in &cases {
            let url = study.as_ref().map_or_else(|| format!("http://{plain}/studies"), |uid| format!("http://{plain}/studies/{uid}"));
            let response = post(&client, url, body([(*content_type, file.as_slice())])).await?;
            let (http, warnings) = (response.status().as_u16(), response.headers().get_all("warning").iter().count());
            let comment = response.headers().get("warning").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
            let answer: Value = serde_json::from_slice(&response.bytes().await?).with_context(|| what.clone())?;
            let right = match status {
                0 => http == 200 && items(&answer, "00081199").len() == 1 && reasons(&answer).is_empty() && warnings == 0,
                // A data set that is not read on (stage S) may name its instance only in file meta, or not at all.
                status => {
                    http == 409
                        && reasons(&answer) == [u64::from(*status)]
                        && warnings == 1
                        && comment.starts_with(&format!("299 idr \"{rule} "))
                        && numbers.get(*rule).is_none_or(|number| number == &u64::from(*status))
                }
            };
            seen.insert(*rule);
            if !right {
                wrong.push(format!("{what}: expected {rule} {status}, got {http} {comment} {answer}"));
            }
        }
        println!("{} cases of {} rules over STOW-RS", cases.len(), seen.len());
        ensure!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
        world.site_mut().program.stop().await
    });
}

/// Column STOW of the profile's tables by rule; empty without the shared folder.
fn stow_column() -> anyhow::Result<BTreeMap<String, u64>> {
    let mut numbers = BTreeMap::new();
    let Some(folder) = shared::folder() else { return Ok(numbers) };
    for table in 1..=9 {
        let text = std::fs::read_to_string(folder.join(format!("profile/tables/01_D{table}_1.tsv")))?;
        let mut lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let head = lines.next().context("a head")?;
        let (rule, stow) = (0, head.iter().position(|name| *name == "STOW").context("column STOW")?);
        for line in lines {
            if let (Some(rule), Some(Ok(number))) = (line.get(rule), line.get(stow).map(|text| text.parse())) {
                numbers.insert((*rule).to_owned(), number);
            }
        }
    }
    ensure!(numbers.len() > 150, "{} rows", numbers.len());
    Ok(numbers)
}

#[test]
fn what_is_answered_as_stored_survives_a_kill() {
    story(async {
        let (mut world, plain, _) = world(|_| {}).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(62), 8, 1).make();
        let response = post(&client()?, format!("http://{plain}/studies/{}", study.uid), dicom(&files(&study))).await?;
        world.site_mut().program.kill().await?;
        let status = response.status().as_u16();
        let answer: Value = serde_json::from_slice(&response.bytes().await?)?;
        ensure!(status == 200 && items(&answer, "00081199").len() == 8, "{status} {answer}");
        world.site_mut().program.start().await?;
        let shown: Value = serde_json::from_str(&world.site().program.command(&["study", "show", &study.uid, "--json"])?)?;
        let held: BTreeMap<&str, &str> = shown["instances"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|row| Some((row["sop_instance_uid"].as_str()?, row["digest"].as_str()?)))
            .collect();
        for instance in &study.instances {
            let digest = instance.digest().to_string();
            ensure!(held.get(instance.sop_instance.as_str()) == Some(&digest.as_str()), "{}: {held:?}", instance.sop_instance);
        }
        ensure!(shown["receipts"].as_array().is_some_and(|receipts| receipts.len() == 8), "an R1 for each: {shown}");
        world.site_mut().program.stop().await?;
        world.site().program.command(&["fsck", "--deep"]).map(drop)
    });
}

#[test]
fn the_status_says_how_much_was_stored() {
    story(async {
        let (mut world, plain, _) =
            world(|table| edit(table, [("stow.body_bytes_max", 200_000.into()), ("stow.parts_max", 5.into())])).await?;
        let client = client()?;
        let study = Recipe::small(Kind::Ct, Person::numbered(63), 6, 1).make();
        let good = files(&study);
        let studies = format!("http://{plain}/studies");
        let part = |file: &'static [u8]| body([("application/dicom", file)]);
        let garbage: &[u8] = &[7; 200];

        // Some stored, some not; those that name themselves and one that does not.
        let mixed = body([("application/dicom", good[0].as_slice()), ("application/dicom", garbage), ("text/plain", b"hello")]);
        let response = post(&client, studies.clone(), mixed).await?;
        let (status, answer): (u16, Value) = (response.status().as_u16(), serde_json::from_slice(&response.bytes().await?)?);
        ensure!(status == 202 && items(&answer, "00081199").len() == 1 && reasons(&answer) == [0xC102, 0xC000], "{status} {answer}");
        ensure!(answer["00081190"] == serde_json::json!({"vr": "UR"}), "{answer}");

        // The same answer in XML, if it is preferred.
        let xml =
            client.post(&studies).header("content-type", TYPE).header("accept", "application/dicom+xml, application/dicom+json;q=0.5");
        let response = xml.body(dicom(&good[..1])).send().await?;
        ensure!(response.headers()["content-type"] == "application/dicom+xml", "{:?}", response.headers());
        let text = response.text().await?;
        ensure!(text.contains("<NativeDicomModel") && text.contains(&study.instances[0].sop_instance), "{text}");

        let cut = {
            let whole = dicom(&good[..2]);
            whole[..whole.len() - 300].to_vec()
        };
        let large = dicom(&[vec![0; 200_000]]);
        let many = dicom(&vec![good[0].clone(); 6]);
        let send = |url: &str, content_type: &str, accept: &str, body: Vec<u8>| {
            client.post(url).header("content-type", content_type).header("accept", accept).body(body).send()
        };
        for (what, expected, url, content_type, accept, content) in [
            ("none stored", 409, studies.clone(), TYPE, "*/*", dicom(&[garbage.to_vec()])),
            ("not multipart at all", 400, studies.clone(), TYPE, "*/*", vec![1; 300]),
            ("no part", 400, studies.clone(), TYPE, "*/*", b"--part--\r\n".to_vec()),
            ("nothing", 400, studies.clone(), TYPE, "*/*", Vec::new()),
            ("no boundary", 400, studies.clone(), "multipart/related; type=\"application/dicom\"", "*/*", part(b"x")),
            ("a study that is no UID", 400, format!("{studies}/abc"), TYPE, "*/*", part(b"x")),
            ("cut after one instance", 202, studies.clone(), TYPE, "*/*", cut),
            ("too large", 413, studies.clone(), TYPE, "*/*", large.clone()),
            ("too many parts", 413, studies.clone(), TYPE, "*/*", many),
            ("another media type", 415, studies.clone(), "application/dicom", "*/*", good[0].clone()),
            (
                "metadata and bulk data",
                415,
                studies.clone(),
                "multipart/related; type=\"application/dicom+json\"; boundary=part",
                "*/*",
                part(b"x"),
            ),
            ("parts of another type", 415, studies.clone(), TYPE, "*/*", body([("image/jpeg", garbage)])),
            ("an answer as HTML", 406, studies.clone(), TYPE, "text/html", dicom(&good[..1])),
            ("no such path", 404, format!("http://{plain}/instances"), TYPE, "*/*", part(b"x")),
            ("a long target", 414, format!("{studies}?{}", "a".repeat(9_000)), TYPE, "*/*", part(b"x")),
            ("another tenant", 403, format!("http://{plain}/t/other/studies"), TYPE, "*/*", dicom(&good[..1])),
            ("the tenant by its path", 200, format!("http://{plain}/t/default/studies"), TYPE, "*/*", dicom(&good[..1])),
        ] {
            let response = send(&url, content_type, accept, content).await.with_context(|| what.to_owned())?;
            ensure!(
                response.status().as_u16() == expected,
                "{what}: {} instead of {expected}: {}",
                response.status(),
                response.text().await?
            );
        }
        // Larger than allowed and not announced.
        let stream = futures::stream::iter(
            large.chunks(4_096).map(|chunk| Ok::<_, std::io::Error>(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>(),
        );
        let response = post(&client, studies.clone(), Body::wrap_stream(stream)).await?;
        ensure!(response.status() == 413, "chunked: {}", response.status());
        let response = client.get(&studies).send().await?;
        ensure!(response.status() == 405 && response.headers()["allow"] == "POST", "{response:?}");
        world.site_mut().program.stop().await
    });
}

#[test]
fn a_site_without_room_says_when_to_come_again() {
    story(async {
        let (mut world, plain, _) = world(|table| edit(table, [("storage.reserve_bytes", i64::MAX.into())])).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(64), 1, 1).make();
        let response = post(&client()?, format!("http://{plain}/studies"), dicom(&files(&study))).await?;
        ensure!(response.status() == 503 && response.headers()["retry-after"] == "120", "{response:?}");
        world.site_mut().program.stop().await
    });
}

#[test]
fn who_may_send_is_decided_by_the_row_of_address_and_certificate() {
    story(async {
        let (mut world, plain, tls) = world(|table| {
            let mut guest = row(table).clone();
            edit(row(table), [("stow", false.into())]);
            edit(&mut guest, [("name", "pacs".into()), ("ae_title", "PACS".into()), ("stow", true.into()), ("tls", "mutual".into())]);
            guest.remove("addresses");
            // The fingerprint is made known by a reload, when the certificate is there.
            edit(&mut guest, [("certificates", vec!["0".repeat(64)].into())]);
            table["inbound"].as_array_mut().expect("rows").push(guest.into());
        })
        .await?;
        let pacs = world.pki.issue("stow-pacs", ORGANISATION, Usage::Client)?;
        world.site().program.configure(|table| {
            let row = table["inbound"].as_array_mut().and_then(|rows| rows[1].as_table_mut()).expect("a row");
            edit(row, [("certificates", vec![pacs.sha256.clone()].into())]);
        })?;
        world.site().program.command(&["reload"])?;
        let study = Recipe::small(Kind::Ct, Person::numbered(65), 2, 1).make();
        let content = dicom(&files(&study));
        let url = format!("https://localhost:{}/studies", tls.port());
        let known = world.http_client(&pacs)?;
        let response = post(&known, url.clone(), content.clone()).await?;
        ensure!(response.status() == 200, "{response:?}");
        let stranger = world.http_client(&world.pki.issue("stow-stranger", ORGANISATION, Usage::Client)?)?;
        let response = post(&stranger, url.clone(), content.clone()).await?;
        ensure!(response.status() == 403, "a certificate of no row: {response:?}");
        let response = post(&client()?, format!("http://{plain}/studies"), content.clone()).await?;
        ensure!(response.status() == 403, "a row that takes no STOW-RS: {response:?}");
        // Without a certificate there is no HTTP.
        let anchors = reqwest::Certificate::from_pem(&std::fs::read(world.pki.tls_anchor())?)?;
        let nobody = Client::builder().no_proxy().add_root_certificate(anchors).build()?;
        ensure!(post(&nobody, url.clone(), content).await.is_err(), "a client without a certificate was answered");
        // What the record says of it.
        let shown: Value = serde_json::from_str(&world.site().program.command(&["study", "show", &study.uid, "--json"])?)?;
        ensure!(shown["instances"].as_array().is_some_and(|rows| rows.len() == 2), "{shown}");
        world.site_mut().program.stop().await
    });
}

#[test]
fn two_rows_that_may_fit_one_request_are_refused_at_the_start() {
    story(async {
        let world = World::prepare(Plan {
            site: Arc::new(|table: &mut Table| {
                let mut other = row(table).clone();
                edit(row(table), [("stow", true.into())]);
                edit(&mut other, [("name", "other".into()), ("ae_title", "OTHER".into()), ("stow", true.into())]);
                table["inbound"].as_array_mut().expect("rows").push(other.into());
            }),
            ..Plan::default()
        })?;
        let refused = world.site().program.command(&["check-config"]).err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains("78") && refused.contains("inbound[1].stow"), "{refused}");
        Ok(())
    });
}

/// A row that is removed while its request comes: what was stored is told, the rest is 0124H (profile 01 §2).
#[test]
fn a_row_removed_during_a_request_ends_what_its_sender_may_store() {
    story(async {
        let (mut world, plain, _) = world(|_| {}).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(66), 2, 1).make();
        let whole = dicom(&files(&study));
        let second = whole
            .windows(6)
            .rposition(|window| window == b"--part")
            .and_then(|end| whole[..end].windows(6).rposition(|window| window == b"--part"));
        let second = second.context("two parts")?;
        let mut stream = tokio::net::TcpStream::connect(plain).await?;
        let head = format!(
            "POST /studies HTTP/1.1\r\nHost: site\r\nContent-Type: {TYPE}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            whole.len()
        );
        stream.write_all(head.as_bytes()).await?;
        // The delimiter of the second part goes with the first: its end is known.
        stream.write_all(&whole[..second + 8]).await?;
        idr_tests::poll::holds("the first instance is held", idr_tests::poll::DEADLINE, || {
            world.site().program.command(&["study", "show", &study.uid]).is_ok()
        })
        .await?;
        world
            .site()
            .program
            .configure(|table| edit(row(table), [("stow", false.into()), ("addresses", vec!["192.0.2.1".to_owned()].into())]))?;
        world.site().program.command(&["reload"])?;
        stream.write_all(&whole[second + 8..]).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        let answer: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or_default())?;
        ensure!(items(&answer, "00081199").len() == 1 && reasons(&answer) == [0x0124], "{answer}");
        world.site_mut().program.stop().await
    });
}

/// Connections that ask nothing, and one that sends no body, end by themselves and keep nobody out.
#[test]
fn idle_connections_end_and_make_room() {
    story(async {
        let (mut world, plain, _) = world(|table| {
            edit(
                table,
                [("stow.head_seconds", 2.into()), ("stow.connections_max", 8.into()), ("stow.connections_per_address_max", 8.into())],
            );
        })
        .await?;
        let mut idle = Vec::new();
        for _ in 0..20 {
            idle.push(tokio::net::TcpStream::connect(plain).await?);
        }
        let study = Recipe::small(Kind::Ct, Person::numbered(67), 1, 1).make();
        let response = post(&client()?, format!("http://{plain}/studies"), dicom(&files(&study))).await?;
        ensure!(response.status() == 200, "{response:?}");
        for mut stream in idle {
            let mut rest = Vec::new();
            let ended = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
            ensure!(ended.is_ok(), "an idle connection stays");
        }
        world.site_mut().program.stop().await
    });
}
