//! Certificates, trust and tables are exchanged while associations run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use idr_dimse::message::command_set::{CommandField, CommandSet, Element};
use idr_dimse::pdu::Rejection;
use idr_dimse::status::Status;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::pki::{Pki, Usage};
use idr_tests::fixtures::study::{Kind, ORGANISATION, Recipe};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::modality::{Answer, Association, AssociationError, Modality, Outgoing};
use idr_tests::story::outgoing;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use toml::Table;

use crate::story;

/// Exchanges under load.
const RELOADS: usize = 100;

/// A world whose site runs without its centre and does not look at its files by itself.
async fn world() -> anyhow::Result<World> {
    let site = Arc::new(|table: &mut Table| {
        let quick = [("drop_folders.quiet_seconds", 1.into()), ("drop_folders.rescan_seconds", 1.into())];
        edit(table, [("reload.watch", false.into())].into_iter().chain(quick));
    });
    let mut world = World::prepare(Plan { site, ..Plan::default() })?;
    world.site_mut().program.start().await?;
    Ok(world)
}

fn beside(world: &World, name: &str) -> PathBuf {
    world.site().program.config().with_file_name(name)
}

fn change(path: &Path, change: impl FnOnce(&mut Table)) -> anyhow::Result<()> {
    let mut table = toml::from_str(&std::fs::read_to_string(path)?)?;
    change(&mut table);
    Ok(std::fs::write(path, toml::to_string_pretty(&table)?)?)
}

/// SHA-256 of the certificate that the TLS listener shows now.
async fn shown(modality: &Modality) -> anyhow::Result<String> {
    let config = modality.tls.clone().context("a modality with TLS")?;
    let stream = TcpStream::connect(modality.address).await?;
    let stream = TlsConnector::from(config).connect(modality.address.ip().into(), stream).await?;
    let chain = stream.get_ref().1.peer_certificates().context("a certificate")?;
    Ok(idr_profile::tls::fingerprint(&chain[0]))
}

fn contexts(objects: &[Outgoing]) -> Vec<(String, Vec<String>)> {
    objects.iter().take(1).map(|object| (object.sop_class.clone(), vec![object.transfer_syntax.clone()])).collect()
}

/// Study Root Query/Retrieve - FIND, Modality Performed Procedure Step, and their transfer syntax.
const FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
const STEP: &str = "1.2.840.10008.3.1.2.3.3";
const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";

/// The status of a query for a study that is not here.
async fn asked(association: &mut Association) -> anyhow::Result<Option<Status>> {
    let mut command = CommandSet::request(CommandField::C_FIND_RQ, 8, true);
    command.set_uid(Element::AFFECTED_SOP_CLASS_UID, FIND);
    command.set_unsigned(Element::PRIORITY, 0);
    let identifier = b"\x08\0\x52\0CS\x06\0STUDY \x20\0\x0d\0UI\x04\x001.2\0";
    Ok(association.perform(FIND, &command, identifier.to_vec().into()).await?.status())
}

#[derive(Default)]
struct Tally {
    done: AtomicBool,
    objects: AtomicUsize,
    associations: AtomicUsize,
    at_work: AtomicU64,
}

/// Sends without end: over one association, or a new one for every three objects. Ends with the first thing that goes wrong.
async fn keep_sending(modality: Modality, seed: u32, one: bool, tally: Arc<Tally>) -> anyhow::Result<()> {
    for round in 0.. {
        let objects = outgoing([&Recipe::small(Kind::Ct, Person::numbered(81), 3, seed + round).make()]);
        let mut association = Association::open(&modality, &contexts(&objects)).await?;
        tally.associations.fetch_add(1, Ordering::Relaxed);
        tally.at_work.fetch_add(u64::from(round == 0), Ordering::Relaxed);
        loop {
            for object in objects.iter() {
                let answer = association.store(object).await?;
                ensure!(answer.status() == Some(Status::SUCCESS), "{answer:?}");
                tally.objects.fetch_add(1, Ordering::Relaxed);
            }
            if !one || tally.done.load(Ordering::Relaxed) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        association.release().await?;
        if tally.done.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
    Ok(())
}

#[test]
fn a_hundred_exchanges_under_load_abort_no_association_and_fail_no_object() {
    story(async {
        let mut world = world().await?;
        let (plain, tls) = (world.site().modality(), world.site().modality_tls());
        let tally = Arc::new(Tally::default());
        let mut senders = tokio::task::JoinSet::new();
        for (number, (modality, one)) in
            (1..).zip([(&plain, true), (&plain, false), (&tls, true), (&tls, true), (&tls, false), (&tls, false)])
        {
            senders.spawn(keep_sending(modality.clone(), number * 100_000, one, tally.clone()));
        }
        idr_tests::poll::holds("six senders are at work", idr_tests::poll::DEADLINE, || tally.at_work.load(Ordering::Relaxed) == 6).await?;
        let first = shown(&tls).await?;
        let mut latest = first.clone();
        for round in 0..RELOADS {
            latest = world.pki.issue("site-1-dimse", ORGANISATION, Usage::Server)?.sha256;
            change(world.site().program.config(), |table| {
                edit(table, [("dimse.artim_seconds", (30 + i64::try_from(round).unwrap_or_default()).into())]);
                let rows = table["inbound"].as_array_mut().expect("rows");
                rows.truncate(1);
                let mut row = rows[0].as_table().expect("a row").clone();
                edit(&mut row, [("name", format!("guest-{round}").into()), ("ae_title", format!("GUEST{round}").into())]);
                rows.push(row.into());
            })?;
            change(&beside(&world, "controller-map.toml"), |table| edit(table, [("revision", (round as i64 + 2).into())]))?;
            change(&beside(&world, "site-rules.toml"), |table| edit(table, [("parameters.study_quiet_s", (round as i64 + 1).into())]))?;
            change(&beside(&world, "trust.toml"), |table| edit(table, [("max_signature_days", (round as i64 + 100).into())]))?;
            world.site().program.command(&["reload"]).with_context(|| format!("reload {round}"))?;
            // Who connects now is shown the new one, and who was added is let in.
            ensure!(shown(&tls).await? == latest, "reload {round}: an earlier certificate is shown");
            Modality { calling: format!("GUEST{round}"), ..plain.clone() }.echo().await?;
        }
        tally.done.store(true, Ordering::Relaxed);
        while let Some(ended) = senders.join_next().await {
            ended?.context("a sender was disturbed")?;
        }
        let (objects, associations) = (tally.objects.load(Ordering::Relaxed), tally.associations.load(Ordering::Relaxed));
        println!("{RELOADS} reloads, {objects} objects over {associations} associations, none failed");
        ensure!(first != latest && objects > RELOADS && associations > RELOADS / 10, "{objects} objects, {associations} associations");
        let gone = Modality { calling: "GUEST0".to_owned(), ..plain.clone() }.echo().await;
        ensure!(matches!(gone, Err(AssociationError::Rejected(_))), "a row that went is still in force: {gone:?}");
        let status: Value = serde_json::from_str(&world.site().program.command(&["status", "--json"])?)?;
        ensure!(status["reload"]["refused"].is_null() && status["reload"]["at"].is_string(), "{status}");
        world.site_mut().program.stop().await
    });
}

/// A row removed ends what its peer may do on the association that is open (profile 01 §2); others go on.
#[test]
fn a_peer_whose_row_is_removed_stores_asks_and_says_nothing_more_on_its_open_association() {
    story(async {
        let mut world = world().await?;
        change(world.site().program.config(), |table| {
            let rows = table["inbound"].as_array_mut().expect("rows");
            let mut row = rows[0].as_table().expect("a row").clone();
            edit(&mut row, [("name", "other".into()), ("ae_title", "OTHER".into()), ("query", true.into())]);
            rows.push(row.into());
        })?;
        world.site().program.command(&["reload"])?;
        let kept = world.site().modality();
        let removed = Modality { calling: "OTHER".to_owned(), ..kept.clone() };
        let objects = outgoing([&Recipe::small(Kind::Ct, Person::numbered(82), 4, 1).make()]);
        let mut proposed = contexts(&objects);
        proposed.extend([FIND, STEP].map(|sop_class| (sop_class.to_owned(), vec![EXPLICIT_VR_LITTLE_ENDIAN.to_owned()])));
        let (mut stays, mut goes) = (Association::open(&kept, &contexts(&objects)).await?, Association::open(&removed, &proposed).await?);
        let status = |answer: Answer| answer.status().map_or_else(String::new, |status| status.to_string());
        ensure!(goes.store(&objects[0]).await?.status() == Some(Status::SUCCESS), "before");
        ensure!(asked(&mut goes).await? == Some(Status::SUCCESS), "before");
        change(world.site().program.config(), |table| table["inbound"].as_array_mut().expect("rows").truncate(1))?;
        world.site().program.command(&["reload"])?;
        for object in &objects[1..3] {
            let answer = goes.store(object).await?;
            ensure!(answer.status() == Some(Status::NOT_AUTHORIZED), "{}", status(answer));
        }
        ensure!(asked(&mut goes).await? == Some(Status::NOT_AUTHORIZED), "it still asks");
        let mut create = CommandSet::request(CommandField::N_CREATE_RQ, 9, true);
        create.set_uid(Element::AFFECTED_SOP_CLASS_UID, STEP);
        create.set_uid(Element::AFFECTED_SOP_INSTANCE_UID, "2.25.1");
        let said = goes.perform(STEP, &create, b"\x08\0\x60\0CS\x02\0CT".to_vec().into()).await?;
        ensure!(said.status() == Some(Status::NOT_AUTHORIZED), "it still says what it does");
        let answer = stays.store(&objects[3]).await?;
        ensure!(answer.status() == Some(Status::SUCCESS), "{}", status(answer));
        let again = removed.echo().await;
        ensure!(matches!(again, Err(AssociationError::Rejected(Rejection::CALLING_AE_TITLE))), "{again:?}");
        // The association itself was not cut: it ends as its requestor wants.
        goes.release().await?;
        stays.release().await?;
        world.site_mut().program.stop().await
    });
}

/// Anchors of modalities: who is signed by a new authority is let in, who is signed by a former one is not.
#[test]
fn anchors_are_exchanged_for_new_connections() {
    story(async {
        let mut world = world().await?;
        let pki = Pki::create(&world.folder().join("keys2"))?;
        let old = world.site().modality_tls();
        old.echo().await?;
        let mut held = Association::open(&old, &contexts(&outgoing([&Recipe::small(Kind::Ct, Person::numbered(83), 1, 1).make()]))).await?;
        let newcomer = pki.issue("newcomer", ORGANISATION, Usage::Client)?;
        let new = world.modality_with(&newcomer)?;
        ensure!(new.echo().await.is_err(), "an unknown authority");
        change(&beside(&world, "trust.toml"), |table| {
            edit(table, [("modality_anchors", toml::Value::Array(vec![pki.tls_anchor().to_string_lossy().into_owned().into()]))]);
        })?;
        world.site().program.command(&["reload"])?;
        new.echo().await.context("the new authority")?;
        ensure!(old.echo().await.is_err(), "the former authority");
        let object = &outgoing([&Recipe::small(Kind::Ct, Person::numbered(83), 1, 1).make()])[0];
        ensure!(held.store(object).await?.status() == Some(Status::SUCCESS), "what had begun goes on");
        held.release().await?;
        world.site_mut().program.stop().await
    });
}

/// Each file in turn is spoilt; all of the earlier configuration stays in force, and everybody is told.
#[test]
fn a_bad_file_changes_nothing_and_says_so() {
    story(async {
        let mut world = world().await?;
        let (plain, tls) = (world.site().modality(), world.site().modality_tls());
        let before = shown(&tls).await?;
        let keys = world.folder().join("keys");
        let expired = world.pki.issue_expired("expired", ORGANISATION, Usage::Server)?;
        let other = world.pki.issue("other-server", ORGANISATION, Usage::Server)?;
        let bytes = |path: &Path| std::fs::read(path).context("there");
        let main = world.site().program.config().to_owned();
        let main_text = String::from_utf8(bytes(&main)?)?;
        let bad: Vec<(&str, PathBuf, Vec<u8>)> = vec![
            ("no TOML", main.clone(), b"[dimse".to_vec()),
            ("unknown key", main.clone(), main_text.replace("artim_seconds", "artim_second").into_bytes()),
            ("value out of range", main.clone(), main_text.replace("artim_seconds = 30", "artim_seconds = 301").into_bytes()),
            ("no certificate", keys.join("site-1-dimse.pem"), b"garbage".to_vec()),
            ("key of another certificate", keys.join("site-1-dimse.key"), bytes(&other.key)?),
            ("certificate of another key", keys.join("site-1-dimse.pem"), bytes(&other.certificate)?),
            ("expired", keys.join("site-1-dimse.pem"), bytes(&expired.certificate)?),
            ("no trust", beside(&world, "trust.toml"), b"modality_anchors = [\"nowhere.pem\"]".to_vec()),
            ("no map", beside(&world, "controller-map.toml"), b"revision = \"one\"".to_vec()),
            ("no domain", beside(&world, "affinity-domain.toml"), b"nonsense = 1".to_vec()),
            ("no rules", beside(&world, "site-rules.toml"), b"[levels]\nD999 = \"WARN\"".to_vec()),
            ("no rule set", beside(&world, "rules/fi-2.4.1/dicom.toml"), b"nonsense".to_vec()),
            ("no client certificate", keys.join("site-1-client.pem"), b"garbage".to_vec()),
            ("no signing key", keys.join("hospital-signature.key"), b"garbage".to_vec()),
        ];
        let mut refused = 0;
        for (what, path, content) in bad {
            let good = bytes(&path).with_context(|| format!("{what}: {}", path.display()))?;
            std::fs::write(&path, &content)?;
            let answer = world.site().program.command(&["reload"]);
            let told = answer.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
            ensure!(told.contains("ended with exit status: 1"), "{what}: {answer:?}");
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            println!("{what}: {}", told.lines().last().unwrap_or_default());
            ensure!(told.contains(name), "{what}: the file is not named: {told}");
            ensure!(shown(&tls).await? == before, "{what}: another certificate is shown");
            plain.echo().await.with_context(|| what.to_owned())?;
            tls.echo().await.with_context(|| what.to_owned())?;
            std::fs::write(&path, &good)?;
            if path != main {
                refused += 1;
                let status: Value = serde_json::from_str(&world.site().program.command(&["status", "--json"])?)?;
                ensure!(status["reload"]["refused"].as_str().is_some(), "{what}: {status}");
                ensure!(world.site().program.command(&["status"])?.contains("not accepted, the earlier one is in force"), "{what}");
            }
        }
        ensure!(world.site().program.printed().matches("the configuration is not accepted").count() == refused, "told in the journal");

        // A certificate with its key, which are in order but for their authority; and an authority that nobody knows any more.
        let foreign = Pki::create(&world.folder().join("keys2"))?.issue("foreign", ORGANISATION, Usage::Server)?;
        let nobody = toml::Value::Array(Vec::new());
        let [own, own_key] = ["site-1-dimse.pem", "site-1-dimse.key"].map(|name| keys.join(name));
        let trust = beside(&world, "trust.toml");
        let foreigner = vec![(&own, bytes(&foreign.certificate)?), (&own_key, bytes(&foreign.key)?)];
        let mut forgotten: Table = toml::from_str(&String::from_utf8(bytes(&trust)?)?)?;
        edit(&mut forgotten, [("tls_anchors", nobody.clone()), ("modality_anchors", nobody)]);
        for (what, files) in [("unknown authority", foreigner), ("no authority", vec![(&trust, toml::to_string(&forgotten)?.into_bytes())])]
        {
            let good = files.iter().map(|(path, _)| bytes(path)).collect::<anyhow::Result<Vec<_>>>()?;
            files.iter().try_for_each(|(path, content)| std::fs::write(path, content))?;
            for command in [["reload"], ["check-config"]] {
                let told = world.site().program.command(&command).err().map(|error| format!("{error:#}")).unwrap_or_default();
                println!("{what}, {command:?}: {}", told.lines().last().unwrap_or_default());
                ensure!(told.contains("anchor") && told.contains("trust.toml"), "{what}, {command:?}: {told}");
            }
            ensure!(shown(&tls).await? == before, "{what}: another certificate is shown");
            files.iter().zip(&good).try_for_each(|((path, _), content)| std::fs::write(path, content))?;
        }
        world.site().program.command(&["reload"])?;
        let status: Value = serde_json::from_str(&world.site().program.command(&["status", "--json"])?)?;
        ensure!(status["reload"]["refused"].is_null(), "{status}");
        world.site_mut().program.stop().await
    });
}

#[test]
fn a_key_that_needs_a_restart_is_named_and_the_others_are_taken() {
    story(async {
        let mut world = world().await?;
        change(world.site().program.config(), |table| {
            edit(table, [("dimse.connections_max", 7.into()), ("dimse.local_ae_titles", vec!["NEWNAME".to_owned()].into())]);
        })?;
        let answer: Value = serde_json::from_str(&world.site().program.command(&["reload", "--json"])?)?;
        ensure!(answer["restart"] == serde_json::json!(["dimse.connections_max"]), "{answer}");
        Modality { called: "NEWNAME".to_owned(), ..world.site().modality() }.echo().await?;
        ensure!(world.site().program.command(&["status"])?.contains("waits for a restart: dimse.connections_max"), "status");
        world.site_mut().program.stop().await
    });
}

#[test]
fn a_changed_file_is_seen_without_being_told_and_so_is_sighup() {
    story(async {
        let site = Arc::new(|table: &mut Table| edit(table, [("reload.poll_seconds", 1.into())]));
        let mut world = World::prepare(Plan { site, ..Plan::default() })?;
        world.site_mut().program.start().await?;
        let tls = world.site().modality_tls();
        let first = world.pki.issue("site-1-dimse", ORGANISATION, Usage::Server)?.sha256;
        let seen = |sha256: String| {
            let tls = tls.clone();
            async move {
                idr_tests::poll::until("the new certificate is shown", idr_tests::poll::DEADLINE, || {
                    let (tls, sha256) = (tls.clone(), sha256.clone());
                    async move { (shown(&tls).await.ok()? == sha256).then_some(()) }
                })
                .await
            }
        };
        seen(first).await?;
        change(world.site().program.config(), |table| edit(table, [("reload.watch", false.into())]))?;
        idr_tests::poll::holds("named", idr_tests::poll::DEADLINE, || {
            world.site().program.command(&["status"]).is_ok_and(|status| status.contains("waits for a restart: reload.watch"))
        })
        .await?;
        let second = world.pki.issue("site-1-dimse", ORGANISATION, Usage::Server)?.sha256;
        world.site().program.signal(rustix::process::Signal::HUP)?;
        seen(second).await?;
        world.site_mut().program.stop().await
    });
}

/// A row with a drop folder is taken up, moved and left as its row comes, changes and goes.
#[test]
fn drop_folders_follow_the_table() {
    story(async {
        let mut world = world().await?;
        let folders = [world.folder().join("drop-a"), world.folder().join("drop-b")];
        for folder in &folders {
            std::fs::create_dir(folder)?;
        }
        let study = Recipe::small(Kind::Ct, Person::numbered(84), 3, 1).make();
        let taken = async |folder: &Path, number: usize| {
            let file = folder.join(format!("{number}.dcm"));
            std::fs::write(file.with_extension("tmp"), study.instances[number].part10())?;
            std::fs::rename(file.with_extension("tmp"), &file)?;
            idr_tests::poll::holds("the file is taken", idr_tests::poll::DEADLINE, || !file.exists()).await
        };
        for (number, folder) in folders.iter().enumerate() {
            change(world.site().program.config(), |table| {
                let row = table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("a row");
                edit(row, [("drop_folder", folder.to_string_lossy().into_owned().into())]);
            })?;
            world.site().program.command(&["reload"])?;
            taken(folder, number).await?;
        }
        // The first is left: what lies there stays.
        let left = folders[0].join("left.dcm");
        std::fs::write(&left, b"not taken")?;
        taken(&folders[1], 2).await?;
        ensure!(left.exists(), "a folder that no row names any more is still looked into");
        world.site_mut().program.stop().await
    });
}
