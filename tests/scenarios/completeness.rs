//! A device says what it has made: the study goes on when all of it is here, long before its quiet time.

use std::sync::Arc;

use idr_dimse::status::Status;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::story::{fetch_and_compare, outgoing, send_all, study_registered};

use crate::story;

/// Without what devices say, every study would wait for an hour; with it, for a second.
fn plan() -> Plan {
    let site_rules = |table: &mut toml::Table| edit(table, [("parameters.listed_settle_s", 1.into())]);
    Plan { study_quiet_seconds: 3600, site_rules: Arc::new(site_rules), ..Plan::default() }
}

fn study(person: u32, images: usize) -> Study {
    Recipe::small(Kind::Ct, Person::numbered(person), images, person).make()
}

/// A study of which nothing is missing: when it is registered, one that was there before has had its chance.
async fn witness(world: &World, person: u32) -> anyhow::Result<()> {
    let (study, modality) = (study(person, 1), world.site().modality_tls());
    send_all(&modality, &outgoing([&study]), 1).await?;
    anyhow::ensure!(modality.notify(&format!("1.2.3.{person}"), &study).await? == Status::SUCCESS);
    study_registered(&world.viewer()?, &study).await.map(drop)
}

/// Whether an instance of a study waits for others.
fn waits(world: &World, study: &Study) -> anyhow::Result<bool> {
    let shown: serde_json::Value = serde_json::from_str(&world.site().program.command(&["study", "show", "--json", &study.uid])?)?;
    let instances = shown["instances"].as_array().into_iter().flatten();
    Ok(instances.filter_map(|instance| instance["state"].as_str()).any(|state| state == "held(incomplete)"))
}

#[test]
fn a_completed_step_lets_its_study_go_when_its_last_instance_is_here() {
    story(async {
        let world = World::start(plan()).await?;
        let whole = study(61, 3);
        let modality = world.site().modality_tls();
        anyhow::ensure!(modality.begin_step("1.2.3.9", &whole).await? == Status::SUCCESS);
        let first = Study { instances: whole.instances[..2].to_vec(), ..whole.clone() };
        send_all(&modality, &outgoing([&first]), 1).await?;
        anyhow::ensure!(modality.end_step("1.2.3.9", "COMPLETED", &whole.instances).await? == Status::SUCCESS);
        witness(&world, 64).await?;
        anyhow::ensure!(waits(&world, &whole)?, "one is missing, and the study did not wait for it");
        let last = Study { instances: whole.instances[2..].to_vec(), ..whole.clone() };
        send_all(&modality, &outgoing([&last]), 1).await?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &whole).await?;
        fetch_and_compare(&viewer, &whole, &registered).await?;
        world.stop().await
    });
}

#[test]
fn what_a_device_has_said_survives_a_kill_before_the_last_instance() {
    story(async {
        let mut world = World::start(plan()).await?;
        let whole = study(62, 3);
        let modality = world.site().modality_tls();
        anyhow::ensure!(modality.begin_step("1.2.3.9", &whole).await? == Status::SUCCESS);
        world.site_mut().program.kill().await?;
        world.site_mut().program.start().await?;
        let first = Study { instances: whole.instances[..2].to_vec(), ..whole.clone() };
        send_all(&modality, &outgoing([&first]), 1).await?;
        anyhow::ensure!(modality.end_step("1.2.3.9", "COMPLETED", &whole.instances).await? == Status::SUCCESS);
        world.site_mut().program.kill().await?;
        world.site_mut().program.start().await?;
        anyhow::ensure!(modality.begin_step("1.2.3.9", &whole).await? == Status::DUPLICATE_SOP_INSTANCE, "it is known");
        let ended = modality.end_step("1.2.3.9", "COMPLETED", &whole.instances).await?;
        anyhow::ensure!(ended == Status::PROCESSING_FAILURE, "a step ends once: {ended}");
        let last = Study { instances: whole.instances[2..].to_vec(), ..whole.clone() };
        send_all(&modality, &outgoing([&last]), 1).await?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &whole).await?;
        fetch_and_compare(&viewer, &whole, &registered).await?;
        world.stop().await
    });
}

#[test]
fn a_notice_of_availability_lets_a_study_go_and_a_late_instance_opens_it_again() {
    story(async {
        let world = World::start(plan()).await?;
        let whole = study(63, 3);
        let first = Study { instances: whole.instances[..2].to_vec(), ..whole.clone() };
        let modality = world.site().modality_tls();
        send_all(&modality, &outgoing([&first]), 1).await?;
        anyhow::ensure!(modality.notify("1.2.3.8", &first).await? == Status::SUCCESS);
        let viewer = world.viewer()?;
        study_registered(&viewer, &first).await?;
        let last = Study { instances: whole.instances[2..].to_vec(), ..whole.clone() };
        send_all(&modality, &outgoing([&last]), 1).await?;
        witness(&world, 65).await?;
        anyhow::ensure!(waits(&world, &whole)?, "nobody listed the late instance, and it did not wait");
        anyhow::ensure!(modality.notify("1.2.3.7", &last).await? == Status::SUCCESS);
        let registered = study_registered(&viewer, &whole).await?;
        fetch_and_compare(&viewer, &whole, &registered).await?;
        world.stop().await
    });
}
