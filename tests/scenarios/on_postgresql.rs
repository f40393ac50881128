//! The centre on a real PostgreSQL: the whole path, with the server killed in the middle, and the move to SQLite and back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::poll;
use idr_tests::postgres::{Cluster, USER};
use idr_tests::story::{fetch_and_compare, look, outgoing, patient_id, send_all, study_registered};
use toml::Table;

use crate::story;

const DATABASE: &str = "central";

/// The site waits out what the centre answered while its database was away.
const LONG: Duration = Duration::from_secs(300);

/// The site asks again soon, where it would wait a minute.
fn soon(world: &World) -> anyhow::Result<()> {
    let path = world.folder().join("site-1/rules/base/outcomes.toml");
    let text = std::fs::read_to_string(&path)?;
    let short = |text: &str, class: &str| -> anyhow::Result<String> {
        let line = text.lines().find(|line| line.starts_with(&format!("{class} = {{"))).context("a class of waits")?;
        Ok(text.replace(line, &format!("{class} = {{ base_s = 2, cap_s = 5, floor_s = 1 }}")))
    };
    Ok(std::fs::write(&path, short(&short(&text, "busy")?, "slow")?)?)
}

/// The server's socket in the centre's configuration. Commits are kept as in the field.
fn on(table: &mut Table, host: &Path) {
    edit(
        table,
        [
            ("database.engine", "postgresql".into()),
            ("database.host", host.to_string_lossy().into_owned().into()),
            ("database.name", DATABASE.into()),
            ("database.user", USER.into()),
            // Requests while the server is away end soon.
            ("database.lock_wait_seconds", 2.into()),
        ],
    );
}

fn plan(cluster: &Cluster) -> Plan {
    let host = cluster.host().to_owned();
    // Instances go on at once; else the centre would have nothing until the study is complete.
    let site = Arc::new(|table: &mut Table| {
        let row = table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("one row");
        edit(row, [("forward_early", true.into())]);
    });
    Plan { central: Box::new(move |table| on(table, &host)), site, ..Plan::default() }
}

fn stored(cluster: &Cluster, study: &Study) -> anyhow::Result<BTreeMap<String, String>> {
    let rows = cluster.sql(DATABASE, &format!("SELECT sop_instance_uid, digest FROM instances WHERE study_uid = '{}'", study.uid))?;
    Ok(rows.lines().filter_map(|row| row.split_once('|')).map(|(uid, digest)| (uid.to_owned(), digest.to_owned())).collect())
}

fn check_stored_once(cluster: &Cluster, study: &Study) -> anyhow::Result<()> {
    let sent: BTreeMap<String, String> =
        study.instances.iter().map(|instance| (instance.sop_instance.clone(), instance.digest().to_string())).collect();
    let stored = stored(cluster, study)?;
    anyhow::ensure!(stored == sent, "study {}: sent {sent:?}, in the index {stored:?}", study.uid);
    Ok(())
}

#[test]
fn a_server_killed_while_the_centre_receives_loses_nothing_that_was_acknowledged() {
    story(async {
        let Some(mut cluster) = Cluster::start(&[])? else { return Ok(()) };
        cluster.create(DATABASE)?;
        let mut world = World::prepare(plan(&cluster))?;
        soon(&world)?;
        world.central.program.start().await?;
        world.site_mut().program.start().await?;
        let study = Recipe { matrix: 256, ..Recipe::small(Kind::Ct, Person::numbered(71), 40, 1) }.make();
        let (modality, objects) = (world.site().modality_tls(), outgoing([&study]));
        let sending = tokio::spawn(async move { send_all(&modality, &objects, 4).await });
        poll::until("the centre has some of the study", poll::DEADLINE, || async {
            stored(&cluster, &study).ok().filter(|stored| !stored.is_empty())
        })
        .await?;
        cluster.kill()?;
        sending.await??;
        cluster.go_on()?;
        let before = stored(&cluster, &study)?;
        anyhow::ensure!(!before.is_empty(), "what was committed outlives the server");
        // The centre was not restarted: it finds the server again, and the site sends what was not acknowledged.
        let viewer = world.viewer()?;
        let registered = poll::until("the whole study is registered", LONG, || async {
            // What the server's end left may be asked about once more, while the centre finds it again.
            look(&viewer, &patient_id(&study.person), &study.uid).await.ok().flatten().filter(|found| found.instances().len() == 40)
        })
        .await?;
        fetch_and_compare(&viewer, &study, &registered).await?;
        check_stored_once(&cluster, &study)?;
        // And a centre that is killed finds its database free again, whatever of its sessions the server has not noticed yet.
        world.central.program.kill().await?;
        world.central.program.start().await?;
        fetch_and_compare(&viewer, &study, &registered).await?;
        world.stop_and_check().await
    });
}

#[test]
fn a_centre_is_moved_to_sqlite_and_back_and_shows_the_same() {
    story(async {
        let Some(cluster) = Cluster::start(&[])? else { return Ok(()) };
        cluster.create(DATABASE)?;
        let mut world = World::start(plan(&cluster)).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(72), 3, 1).make();
        send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &study).await?;
        let migrate =
            |world: &World, from: &str, to: &str| world.central.program.command(&["migrate", "--from", from, "--to", to, "--json"]);
        let refused = migrate(&world, "postgresql", "sqlite");
        anyhow::ensure!(refused.is_err_and(|error| format!("{error:#}").contains("stop it first")), "a centre runs on it");

        world.central.program.stop().await?;
        let there: serde_json::Value = serde_json::from_str(&migrate(&world, "postgresql", "sqlite")?)?;
        let rows = |table: &str| {
            let tables = there["tables"].as_array().map(Vec::as_slice).unwrap_or_default();
            tables.iter().find(|row| row["table"] == table).and_then(|row| row["rows"].as_u64())
        };
        anyhow::ensure!((rows("instances"), rows("manifests")) == (Some(3), Some(1)), "moved: {there}");
        anyhow::ensure!(world.central.program.start().await.is_err(), "a centre starts on what was moved away");
        world.central.program.configure(|table| edit(table, [("database.engine", "sqlite".into())]))?;
        world.central.program.start().await?;
        fetch_and_compare(&viewer, &study, &registered).await?;
        world.check_stored_once([&study]).await?;
        let second = Recipe::small(Kind::Dx, Person::numbered(73), 1, 2).make();
        send_all(&world.site().modality_tls(), &outgoing([&second]), 1).await?;
        study_registered(&viewer, &second).await?;

        // Back: the old content there is not the same any more, so the server gets a new database.
        world.central.program.stop().await?;
        anyhow::ensure!(migrate(&world, "sqlite", "postgresql").is_err(), "a database with other content is overwritten");
        cluster.create(DATABASE)?;
        migrate(&world, "sqlite", "postgresql")?;
        world.central.program.configure(|table| edit(table, [("database.engine", "postgresql".into())]))?;
        world.central.program.start().await?;
        for study in [&study, &second] {
            let registered = study_registered(&viewer, study).await?;
            fetch_and_compare(&viewer, study, &registered).await?;
            check_stored_once(&cluster, study)?;
        }
        world.stop_and_check().await
    });
}
