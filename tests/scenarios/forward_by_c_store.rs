//! The site forwards to the centre by C-STORE and storage commitment over TLS: the way of STOW-RS, on other wires.

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::poll;
use idr_tests::story::{fetch_and_compare, outgoing, send_all, study_registered};
use serde_json::Value;

use crate::story;

/// A world whose site forwards by C-STORE with this identity; the centre's row of the site lists these transactions besides.
fn world(identity: &str, transactions: &'static [&'static str]) -> anyhow::Result<World> {
    let world = World::prepare(Plan { central: Box::new(move |table| lists(table, transactions)), ..Plan::default() })?;
    let address = format!("localhost:{}", world.central.dimse.port());
    world.site().program.configure(|table| {
        edit(
            table,
            [
                ("centre.dimse.address", address.into()),
                ("centre.dimse.ae_title", "IDRCENTRAL".into()),
                ("centre.dimse.identity", identity.into()),
            ],
        );
    })?;
    Ok(world)
}

fn lists(table: &mut toml::Table, transactions: &[&str]) {
    let rows = table["peer"].as_array_mut().into_iter().flatten().filter_map(toml::Value::as_table_mut);
    for row in rows.filter(|row| row["name"].as_str() == Some("site-1")) {
        row.insert("ae_titles".to_owned(), toml::Value::Array(vec!["IDRSITE".into()]));
        if let Some(listed) = row.get_mut("transactions").and_then(toml::Value::as_array_mut) {
            listed.retain(|one| !["C-STORE", "N-ACTION"].contains(&one.as_str().unwrap_or_default()));
            listed.extend(transactions.iter().map(|one| toml::Value::from(*one)));
        }
    }
}

fn status(world: &World) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&world.site().program.command(&["status", "--json"])?)?)
}

/// Objects of a state and outcome in the site's queue.
fn queued(world: &World, state: &str, outcome: &str) -> anyhow::Result<u64> {
    let list: Value = serde_json::from_str(&world.site().program.command(&["queue", "list", "--json"])?)?;
    let groups = list["groups"].as_array().into_iter().flatten();
    let of_it = groups.filter(|group| group["state"] == state && group["outcome"] == outcome);
    Ok(of_it.filter_map(|group| group["objects"].as_u64()).sum())
}

#[test]
fn with_a_token_or_an_assertion_every_object_is_committed_registered_and_as_it_was_sent() {
    story(async {
        for (identity, seed) in [("jwt", 201), ("saml", 211)] {
            let mut world = world(identity, &["C-STORE", "N-ACTION"])?;
            world.central.program.start().await?;
            world.site_mut().program.start().await?;
            let kinds = [(Kind::Ct, 5), (Kind::UsMultiFrame, 1), (Kind::Pdf, 1)];
            let made =
                kinds.into_iter().zip(seed..).map(|((kind, count), seed)| Recipe::small(kind, Person::numbered(seed), count, seed).make());
            let studies: Vec<_> = made.collect();
            send_all(&world.site().modality_tls(), &outgoing(&studies), 2).await?;
            let viewer = world.viewer()?;
            for study in &studies {
                let registered = study_registered(&viewer, study).await?;
                fetch_and_compare(&viewer, study, &registered).await?;
            }
            let status = status(&world)?;
            anyhow::ensure!(status["centre"]["driver"] == "c-store" && status["centre"]["custody"] == "receipts", "{status}");
            world.check_stored_once(&studies).await?;
            let logged = world.central.program.printed();
            anyhow::ensure!(logged.contains("storage commitment asked for and decided"), "{identity}: it came by another way");
            world.stop_and_check().await?;
        }
        Ok(())
    });
}

#[test]
fn what_was_stored_and_not_committed_when_the_site_was_killed_is_committed_after_it() {
    story(async {
        // The centre takes what is stored and does not let the site ask for its commitment.
        let mut world = world("jwt", &["C-STORE"])?;
        world.central.program.start().await?;
        world.site_mut().program.start().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(221), 6, 221).make();
        send_all(&world.site().modality_tls(), &outgoing([&study]), 2).await?;
        poll::holds("stored and not committed", poll::DEADLINE, || queued(&world, "held(PC-1)", "PC-1").is_ok_and(|held| held == 6))
            .await?;
        world.check_stored_once([&study]).await?;
        world.site_mut().program.kill().await?;

        world.central.program.stop().await?;
        world.central.program.configure(|table| lists(table, &["C-STORE", "N-ACTION"]))?;
        world.central.program.start().await?;
        world.site_mut().program.start().await?;
        anyhow::ensure!(queued(&world, "held(PC-1)", "PC-1")? == 6, "a restart alone lets nothing go");
        world.site().program.command(&["queue", "release", &study.uid])?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &study).await?;
        fetch_and_compare(&viewer, &study, &registered).await?;
        world.check_stored_once([&study]).await?;
        world.stop_and_check().await
    });
}
