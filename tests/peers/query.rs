//! DCMTK and pynetdicom query and retrieve what the site holds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use anyhow::Context as _;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, World, free_port};
use idr_tests::modality::{Modality, export};
use idr_tests::poll;
use idr_tests::shared::{has_tool, run};
use idr_tests::story::{outgoing, send_all};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use toml::Value;

use crate::{here, python, story};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

/// A world without a centre; the row of the devices may ask, a row `SILENT` may not. Studies wait for an hour, so that all stay.
fn prepare(destinations: &[(&str, SocketAddr)]) -> anyhow::Result<World> {
    let destination = |(title, address): &(&str, SocketAddr)| {
        let row: [(&str, Value); 3] = [("ae_title", (*title).into()), ("address", address.to_string().into()), ("tls", false.into())];
        Value::Table(row.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    let destinations: Vec<Value> = destinations.iter().map(destination).collect();
    let site = move |table: &mut toml::Table| {
        table.insert("destination".to_owned(), Value::Array(destinations.clone()));
        let Some(Value::Array(rows)) = table.get_mut("inbound") else { return };
        let mut silent = rows[0].clone();
        if let Value::Table(silent) = &mut silent {
            silent.insert("name".to_owned(), "silent".into());
            silent.insert("ae_title".to_owned(), "SILENT".into());
        }
        if let Value::Table(row) = &mut rows[0] {
            row.insert("query".to_owned(), true.into());
        }
        rows.push(silent);
    };
    World::prepare(Plan { site: Arc::new(site), study_quiet_seconds: 3600, ..Plan::default() })
}

async fn held(world: &mut World) -> anyhow::Result<Vec<Study>> {
    world.site_mut().program.start().await?;
    let studies: Vec<Study> = (131..134).map(|person| Recipe::small(Kind::Ct, Person::numbered(person), 3, person).make()).collect();
    for study in &studies {
        send_all(&world.site().modality(), &outgoing([study]), 1).await?;
    }
    Ok(studies)
}

fn dcmtk(program: &str, world: &World, calling: &str, keys: &[String]) -> Command {
    let mut command = Command::new(program);
    command.env("TCP_NODELAY", "1").args(["-S", "-aet", calling, "-aec", "IDRSITE"]);
    keys.iter().for_each(|key| _ = command.args(["-k", key]));
    command.args(["localhost", &world.site().dimse.port().to_string()]);
    command
}

/// Files that a program of DCMTK wrote into a folder, by SOP Instance UID.
fn digests(folder: &std::path::Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for file in std::fs::read_dir(folder)? {
        let object = export(&std::fs::read(file?.path())?).object;
        found.insert(object.sop_instance.clone(), object.digest().to_string());
    }
    Ok(found)
}

fn sent(study: &Study) -> BTreeMap<String, String> {
    study.instances.iter().map(|instance| (instance.sop_instance.clone(), instance.digest().to_string())).collect()
}

#[test]
fn findscu_finds_studies_series_and_images() {
    if !has_tool("findscu") {
        return;
    }
    story(async {
        let mut world = prepare(&[])?;
        let studies = held(&mut world).await?;
        let folder = world.folder().join("found");
        let find = |calling: &str, keys: &[String]| -> anyhow::Result<usize> {
            std::fs::remove_dir_all(&folder).ok();
            std::fs::create_dir_all(&folder)?;
            run(dcmtk("findscu", &world, calling, keys).arg("-X").arg("-od").arg(&folder))?;
            Ok(std::fs::read_dir(&folder)?.count())
        };
        let key = |text: &str| text.to_owned();
        let study = format!("StudyInstanceUID={}", studies[0].uid);
        let hetu = format!("PatientID={}", studies[1].person.hetu);
        for (keys, expected) in [
            (vec![key("QueryRetrieveLevel=STUDY"), key("StudyInstanceUID"), key("PatientName")], 3),
            (vec![key("QueryRetrieveLevel=STUDY"), key("StudyInstanceUID"), hetu], 1),
            (vec![key("QueryRetrieveLevel=STUDY"), key("StudyInstanceUID"), key("PatientID=nobody*")], 0),
            (vec![key("QueryRetrieveLevel=STUDY"), key("StudyInstanceUID"), key("ModalitiesInStudy=CT")], 3),
            (vec![key("QueryRetrieveLevel=STUDY"), key("StudyInstanceUID"), key("StudyDate=20990101-")], 0),
            (vec![key("QueryRetrieveLevel=SERIES"), study.clone(), key("SeriesInstanceUID")], 1),
            (vec![key("QueryRetrieveLevel=IMAGE"), study, format!("SeriesInstanceUID={}.1", studies[0].uid), key("SOPInstanceUID")], 3),
        ] {
            let found = find("MODALITY", &keys)?;
            anyhow::ensure!(found == expected, "{keys:?}: {found}");
        }
        let mut refused = dcmtk("findscu", &world, "SILENT", &[key("QueryRetrieveLevel=STUDY"), key("StudyInstanceUID")]);
        let output = refused.output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        anyhow::ensure!(text.contains("No presentation context") || text.contains("No Acceptable"), "a row that may not ask: {text}");
        world.site_mut().program.stop().await
    });
}

#[test]
fn getscu_gets_a_study_byte_by_byte() {
    if !has_tool("getscu") {
        return;
    }
    story(async {
        let mut world = prepare(&[])?;
        let studies = held(&mut world).await?;
        let folder = world.folder().join("got");
        std::fs::create_dir_all(&folder)?;
        let keys = ["QueryRetrieveLevel=STUDY".to_owned(), format!("StudyInstanceUID={}", studies[1].uid)];
        run(dcmtk("getscu", &world, "MODALITY", &keys).arg("+B").arg("-od").arg(&folder))?;
        anyhow::ensure!(digests(&folder)? == sent(&studies[1]), "what came is not what was sent");
        world.site_mut().program.stop().await
    });
}

#[test]
fn movescu_has_a_study_sent_to_storescp_and_to_nowhere_else() {
    if !has_tool("movescu") || !has_tool("storescp") {
        return;
    }
    story(async {
        let (address, nobody) = (free_port()?, free_port()?);
        let mut world = prepare(&[("STORESCP", address), ("NOBODY", nobody)])?;
        let studies = held(&mut world).await?;
        let folder = world.folder().join("moved");
        std::fs::create_dir_all(&folder)?;
        let mut command = Command::new("storescp");
        command.env("TCP_NODELAY", "1").args(["+B", "+xa", "-od"]).arg(&folder).arg(address.port().to_string());
        let mut receiver = command.spawn()?;
        let moved = async {
            let modality = Modality { address, tls: None, calling: "TEST".to_owned(), called: "STORESCP".to_owned(), identity: None };
            poll::until("storescp answers", poll::DEADLINE, || async { modality.echo().await.ok() }).await?;
            let keys = ["QueryRetrieveLevel=STUDY".to_owned(), format!("StudyInstanceUID={}", studies[0].uid)];
            let to = |destination: &str| {
                let mut command = dcmtk("movescu", &world, "MODALITY", &keys);
                command.args(["-v", "-aem", destination]);
                command
            };
            run(&mut to("STORESCP"))?;
            anyhow::ensure!(digests(&folder)? == sent(&studies[0]), "what came is not what was sent");
            for (destination, answer) in [("ELSEWHERE", "MoveDestinationUnknown"), ("NOBODY", "OutOfResourcesSubOperations")] {
                let output = to(destination).output()?;
                let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                anyhow::ensure!(text.contains(answer), "to {destination}: {text}");
            }
            anyhow::ensure!(digests(&folder)?.len() == 3, "more came than was asked for");
            anyhow::Ok(())
        };
        let moved = moved.await;
        receiver.kill()?;
        receiver.wait()?;
        moved?;
        world.site_mut().program.stop().await
    });
}

fn lines(command: &mut Command) -> anyhow::Result<Vec<Json>> {
    run(command)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[test]
fn pynetdicom_finds_cancels_and_gets() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let mut world = prepare(&[])?;
        let studies = held(&mut world).await?;
        let port = world.site().dimse.port().to_string();
        let ask = |words: &[&str]| {
            let mut command = Command::new(&python);
            command.arg(here().join("query.py")).args(["--port", &port]).args(words);
            lines(&mut command)
        };
        let find = ["find", "--level", "STUDY", "--key", "StudyInstanceUID=", "--key", "PatientName="];
        let found = ask(&find)?;
        anyhow::ensure!(found.len() == 4 && found[3]["status"] == "0000", "{found:?}");
        anyhow::ensure!(found[..3].iter().all(|answer| answer["answer"]["RetrieveAETitle"] == "IDRSITE"), "{found:?}");
        // A cancel may come too late; an answer after it is final all the same.
        let cancelled = ask(&[&find[..], &["--cancel-after", "1"]].concat())?;
        let last = cancelled.last().context("a final answer")?;
        anyhow::ensure!(last["status"] == "FE00" || last["status"] == "0000", "{cancelled:?}");
        let series = ask(&["find", "--level", "SERIES", "--key", "SeriesInstanceUID="])?;
        anyhow::ensure!(series == [serde_json::json!({"status": "A900"})], "a series query without its study: {series:?}");

        let study = format!("StudyInstanceUID={}", studies[2].uid);
        let got = ask(&["get", "--level", "STUDY", "--key", &study, "--classes", CT])?;
        let digests: BTreeMap<&str, &str> = got.iter().filter_map(|line| Some((line["got"].as_str()?, line["sha256"].as_str()?))).collect();
        for instance in &studies[2].instances {
            let expected = hex::encode(Sha256::digest(&instance.data_set));
            anyhow::ensure!(digests.get(instance.sop_instance.as_str()) == Some(&expected.as_str()), "{} changed", instance.sop_instance);
        }
        anyhow::ensure!(got.last() == Some(&serde_json::json!({"status": "0000", "Completed": 3, "Failed": 0, "Warning": 0})), "{got:?}");
        // Without a presentation context for what is held nothing can be sent.
        let none = ask(&["get", "--level", "STUDY", "--key", &study, "--classes", "1.2.840.10008.5.1.4.1.1.4"])?;
        anyhow::ensure!(none == [serde_json::json!({"status": "A702", "Completed": 0, "Failed": 3, "Warning": 0})], "{none:?}");
        let silent = ask(&["--calling", "SILENT", "find", "--level", "STUDY"])?;
        anyhow::ensure!(silent == [serde_json::json!({"status": "not accepted"})], "{silent:?}");
        world.site_mut().program.stop().await
    });
}
