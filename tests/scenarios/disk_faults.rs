//! The site's disk is full, or cannot be written, under the real program: what was answered with success stays, what cannot be
//! kept is refused so that the device keeps it, and when the disk can be written again the site takes objects by itself.
//!
//! The state folder is a small file system of its own, mounted in a user and mount namespace (no root needed where the
//! kernel lets users have them). Read-only is a read-only mount over the folder: nothing can be made or opened for writing,
//! while files that are open stay writable. Failing writes and syncs are simulated (`spool::crash` of the site): to have them
//! of the kernel takes dm-error and root.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use idr_dimse::pdu::Rejection;
use idr_dimse::status::Status;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::modality::{Answer, Association, AssociationError, Modality, Outgoing};
use idr_tests::shared::run;
use idr_tests::story::{outgoing, send_all};
use idr_tests::{poll, shared};
use serde_json::Value;

use crate::story;

/// Set in the process that has mounts of its own.
const OWN_MOUNTS: &str = "IDR_TESTS_OWN_MOUNTS";

#[test]
fn below_the_reserve_devices_are_refused_until_there_is_room_again() {
    with_own_mounts("disk_faults::below_the_reserve_devices_are_refused_until_there_is_room_again", async {
        let mut world = on_a_small_disk("96m", 48 << 20)?;
        world.site_mut().program.start().await?;
        let (before, refused) = (study(1), study(2));
        let modality = world.site().modality();
        send_all(&modality, &outgoing([&before]), 2).await?;
        let objects = outgoing([&refused]);
        let mut open = Association::open(&modality, &contexts(&objects)).await?;

        let ballast = world.site().program.state().join("ballast");
        std::fs::write(&ballast, vec![1; 60 << 20])?;
        refuses(&modality, Rejection::CONGESTION).await?;
        let answer = open.store(&objects[0]).await?;
        ensure!(answer.status() == Some(Status::OUT_OF_RESOURCES), "the spool refuses: {answer:?}");
        let status: Value = serde_json::from_str(&world.site().program.command(&["status", "--json"])?)?;
        ensure!(status["refusing"].as_str().is_some_and(|why| why.contains("free disk space")), "{status}");

        std::fs::remove_file(&ballast)?;
        takes(&modality).await?;
        let answer = open.store(&objects[0]).await?;
        ensure!(answer.is_acknowledged(), "the open association may go on: {answer:?}");
        open.release().await?;
        send_all(&modality, &objects, 2).await?;
        everything_is_kept(world, &[&before, &refused]).await
    });
}

#[test]
fn a_disk_that_is_full_to_its_last_byte_loses_nothing_that_was_acknowledged() {
    with_own_mounts("disk_faults::a_disk_that_is_full_to_its_last_byte_loses_nothing_that_was_acknowledged", async {
        let mut world = on_a_small_disk("96m", 0)?;
        world.site_mut().program.start().await?;
        let modality = world.site().modality();
        let studies = [study(1), study(2), study(3)];
        send_all(&modality, &outgoing([&studies[0]]), 2).await?;

        let state = world.site().program.state().to_owned();
        // Of 8 objects of 0.5 MB some fit, and one ends in the middle.
        fill(&state.join("ballast"), free_bytes(&state)?.saturating_sub(3 << 20))?;
        let objects = outgoing([&studies[1], &studies[2]]);
        let transfer = modality.send(&objects, 2, |_| {}).await;
        let answers: Vec<_> = transfer.answers.iter().filter_map(Answer::status).collect();
        let refused = |answer: &Answer| matches!(answer.status(), None | Some(Status::OUT_OF_RESOURCES | Status::PROCESSING_FAILURE));
        ensure!(transfer.answers.iter().all(|answer| answer.is_acknowledged() || refused(answer)), "{answers:?}");
        ensure!(answers.contains(&Status::OUT_OF_RESOURCES), "a full disk is A700H: {answers:?}");
        // Not a byte is left, for longer than from one checkpoint to the next: journal, receipts and index meet it too.
        fill_up(&state.join("rest"))?;
        let full = modality.send(&objects, 2, |_| {}).await;
        ensure!(
            full.answers.iter().zip(&transfer.answers).all(|(now, then)| !now.is_acknowledged() || then.is_acknowledged()),
            "there is no room for more"
        );
        tokio::time::sleep(Duration::from_secs(7)).await;

        std::fs::remove_file(state.join("rest"))?;
        std::fs::remove_file(state.join("ballast"))?;
        takes(&modality).await?;
        let held = held(&world, &studies)?;
        for (object, answer) in objects.iter().zip(&transfer.answers) {
            ensure!(
                !answer.is_acknowledged() || held.contains(&object.sop_instance),
                "{} was acknowledged and is lost",
                object.sop_instance
            );
        }
        // What a device does with what was refused.
        send_all(&modality, &objects, 2).await?;
        everything_is_kept(world, &studies.each_ref()).await
    });
}

#[test]
fn on_a_disk_that_becomes_read_only_nothing_is_taken_until_it_can_be_written() {
    with_own_mounts("disk_faults::on_a_disk_that_becomes_read_only_nothing_is_taken_until_it_can_be_written", async {
        let mut world = on_a_small_disk("96m", 0)?;
        world.site_mut().program.start().await?;
        let (before, refused) = (study(1), study(2));
        let modality = world.site().modality();
        send_all(&modality, &outgoing([&before]), 2).await?;
        let objects = outgoing([&refused]);
        let mut open = Association::open(&modality, &contexts(&objects)).await?;

        let state = world.site().program.state().to_owned();
        run(Command::new("mount").arg("--bind").args([&state, &state]))?;
        run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&state))?;
        let answer = open.store(&objects[0]).await?;
        ensure!(answer.status() == Some(Status::PROCESSING_FAILURE), "the file cannot be made: {answer:?}");
        refuses(&modality, Rejection::CONGESTION).await?;
        let answer = open.store(&objects[1]).await?;
        ensure!(answer.status() == Some(Status::OUT_OF_RESOURCES), "nothing is taken: {answer:?}");

        run(Command::new("umount").arg(&state))?;
        takes(&modality).await?;
        open.release().await?;
        send_all(&modality, &objects, 2).await?;
        everything_is_kept(world, &[&before, &refused]).await
    });
}

/// Runs the story of this test in a process with mounts of its own: the test program again, this test alone. Where the kernel does
/// not allow that (a container without user namespaces) the test is skipped with a line that says so: no set-up could mend it.
fn with_own_mounts(test: &str, steps: impl Future<Output = anyhow::Result<()>>) {
    if std::env::var_os(OWN_MOUNTS).is_some() {
        return story(steps);
    }
    if !shared::has_tool("unshare") || !shared::has_tool("mount") {
        return;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]);
        command
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    if let Err(error) = run(unshare().args(["mount", "-t", "tmpfs", "tmpfs"]).arg(folder.path())) {
        return eprintln!("SKIPPED {test}: no user namespace with mounts of its own here ({error:#})");
    }
    let program = std::env::current_exe().expect("this program");
    let output = unshare().arg(program).args(["--exact", test, "--nocapture"]).env(OWN_MOUNTS, "1").output().expect("unshare starts");
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && printed.contains("1 passed"), "in the namespace:\n{printed}");
}

/// A world whose site has its state on a file system of that size, and no centre.
fn on_a_small_disk(size: &str, reserve_bytes: i64) -> anyhow::Result<World> {
    let site = Arc::new(move |table: &mut toml::Table| {
        table.remove("centre");
        table.remove("assertion");
        edit(table, [("storage.reserve_bytes", reserve_bytes.into()), ("scrub.interval_days", 0.into())]);
    });
    let world = World::prepare(Plan { site, ..Plan::default() })?;
    let state = world.site().program.state();
    // The receipt key is made already.
    let aside = world.folder().join("prepared");
    run(Command::new("cp").args(["-a"]).args([state, &aside]))?;
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"]).arg(state))?;
    run(Command::new("cp").args(["-a"]).arg(aside.join(".")).arg(state))?;
    Ok(world)
}

fn study(number: u32) -> Study {
    Recipe { matrix: 512, ..Recipe::small(Kind::Ct, Person::numbered(96), 8, number) }.make()
}

fn contexts(objects: &[Outgoing]) -> [(String, Vec<String>); 1] {
    [(objects[0].sop_class.clone(), vec![objects[0].transfer_syntax.clone()])]
}

/// Until a new association is rejected so.
async fn refuses(modality: &Modality, rejection: Rejection) -> anyhow::Result<()> {
    let answer = poll::until("a new association is rejected", poll::DEADLINE, || async {
        match modality.echo().await {
            Err(AssociationError::Rejected(answer)) => Some(answer),
            _ => None,
        }
    });
    let answer = answer.await?;
    ensure!(answer == rejection, "rejected with {answer}");
    Ok(())
}

/// Until a new association is accepted: nobody told the site that the disk works again.
async fn takes(modality: &Modality) -> anyhow::Result<()> {
    poll::until("the site takes objects again by itself", poll::DEADLINE, || async { modality.echo().await.ok() }).await
}

fn free_bytes(folder: &Path) -> anyhow::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail * stat.f_frsize)
}

fn fill(path: &Path, bytes: u64) -> anyhow::Result<()> {
    Ok(std::fs::write(path, vec![1; usize::try_from(bytes)?])?)
}

/// Takes what is left.
fn fill_up(path: &Path) -> anyhow::Result<()> {
    let mut file = std::fs::File::create(path)?;
    loop {
        match file.write(&[1; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// SOP Instance UIDs that the running site holds.
fn held(world: &World, studies: &[Study]) -> anyhow::Result<std::collections::BTreeSet<String>> {
    let mut held = std::collections::BTreeSet::new();
    for study in studies {
        let Ok(text) = world.site().program.command(&["study", "show", &study.uid, "--json"]) else { continue };
        let answer: Value = serde_json::from_str(&text)?;
        let instances = answer["instances"].as_array().context("a list")?;
        held.extend(instances.iter().filter_map(|instance| instance["sop_instance_uid"].as_str()).map(str::to_owned));
    }
    Ok(held)
}

/// Every instance is held, with its digest and its receipt, and the next start finds nothing to complain of.
async fn everything_is_kept(mut world: World, studies: &[&Study]) -> anyhow::Result<()> {
    let all: Vec<Study> = studies.iter().map(|study| (*study).clone()).collect();
    let held = held(&world, &all)?;
    for instance in all.iter().flat_map(|study| &study.instances) {
        ensure!(held.contains(&instance.sop_instance), "{} is not held", instance.sop_instance);
    }
    world.site_mut().program.stop().await?;
    let findings = world.site().program.command(&["fsck", "--deep"])?;
    ensure!(findings.trim() == "0 findings", "{findings}");
    run(Command::new("umount").arg(world.site().program.state())).map(drop)
}
