//! The centre is away: the site takes images all the same, and delivers them when it is back.

use std::sync::Arc;

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::poll;
use idr_tests::story::{fetch_and_compare, outgoing, send_all, study_registered};
use toml::Table;

use crate::story;

#[test]
fn images_taken_while_the_centre_is_down_are_delivered_when_it_is_back() {
    story(async {
        let mut world = World::prepare(Plan::default())?;
        world.site_mut().program.start().await?;
        let before = Recipe::small(Kind::Ct, Person::numbered(61), 3, 1).make();
        let modality = world.site().modality_tls();
        send_all(&modality, &outgoing([&before]), 1).await?;
        // A restart of the site in between loses nothing either.
        world.site_mut().program.stop().await?;
        world.site_mut().program.start().await?;
        let after = Recipe::small(Kind::Dx, Person::numbered(62), 2, 2).make();
        send_all(&modality, &outgoing([&after]), 1).await?;
        world.central.program.start().await?;
        let viewer = world.viewer()?;
        for study in [&before, &after] {
            let registered = study_registered(&viewer, study).await?;
            fetch_and_compare(&viewer, study, &registered).await?;
        }
        world.stop().await
    });
}

#[test]
fn a_centre_killed_while_it_receives_holds_every_instance_once() {
    story(async {
        // Instances go on at once; else the centre would have nothing until the study is complete.
        let site = Arc::new(|table: &mut Table| {
            let row = table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("one row");
            edit(row, [("forward_early", true.into())]);
        });
        let mut world = World::start(Plan { site, ..Plan::default() }).await?;
        let study = Recipe { matrix: 256, ..Recipe::small(Kind::Ct, Person::numbered(63), 40, 1) }.make();
        let (modality, objects) = (world.site().modality_tls(), outgoing([&study]));
        let sending = tokio::spawn(async move { send_all(&modality, &objects, 4).await });
        poll::until("the centre has some of the study", poll::DEADLINE, || async {
            world.stored_digests().await.ok().filter(|stored| !stored.is_empty())
        })
        .await?;
        world.central.program.kill().await?;
        let stored = world.stored_digests().await?.len();
        anyhow::ensure!((1..study.instances.len()).contains(&stored), "{stored} instances were stored when the centre was killed");
        sending.await??;
        world.central.program.start().await?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &study).await?;
        fetch_and_compare(&viewer, &study, &registered).await?;
        world.check_stored_once([&study]).await?;
        world.stop_and_check().await
    });
}
