//! Trust and revocation lists of the centre are exchanged while connections stay open.

use anyhow::{Context as _, ensure};
use idr_ihe::metadata::PatientId;
use idr_ihe::transaction::registry_response::Status;
use idr_tests::consumer::Consumer;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::pki::Identity;
use idr_tests::harness::{Plan, World};
use idr_tests::story::patient_id;
use toml::Value;

use crate::story;

/// A centre that asks for revocation lists and accepts that there is none, and no site.
async fn centre() -> anyhow::Result<World> {
    let central = Box::new(|table: &mut toml::Table| {
        table.insert("revocation".to_owned(), "prefer".into());
        // Exchanged when the story says so.
        table["reload"]["watch"] = false.into();
    });
    let mut world = World::prepare(Plan { central, ..Plan::default() })?;
    world.central.program.start().await?;
    Ok(world)
}

fn folder(world: &World) -> anyhow::Result<std::path::PathBuf> {
    Ok(world.central.program.config().parent().context("a folder")?.to_owned())
}

fn revoke(world: &World, number: u64, revoked: &[&Identity]) -> anyhow::Result<()> {
    let crl = folder(world)?.join("crl");
    std::fs::create_dir_all(&crl)?;
    Ok(std::fs::write(crl.join("tls.crl"), world.pki.tls_revocations(number, revoked)?)?)
}

async fn is_served(consumer: &Consumer, patient: &PatientId) -> anyhow::Result<bool> {
    match consumer.find_documents(patient).await {
        Ok(found) => {
            ensure!(found.status == Status::Success);
            Ok(true)
        }
        Err(error) if error.http_status().is_some() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[test]
fn a_certificate_that_is_revoked_is_refused_from_the_reload_on_and_on_open_connections_too() {
    story(async {
        let world = centre().await?;
        let program = &world.central.program;
        let patient = patient_id(&Person::numbered(31));
        let (own, other) = (world.viewer()?, world.other_viewer()?);
        for consumer in [&own, &other] {
            ensure!(is_served(consumer, &patient).await?, "without a list, mode prefer serves");
        }

        revoke(&world, 1, &[&world.other.viewer])?;
        ensure!(is_served(&other, &patient).await?, "a list that is not read yet changes nothing");
        program.command(&["reload"])?;
        ensure!(!is_served(&other, &patient).await?, "revoked, on the connection that was open");
        ensure!(!is_served(&world.other_viewer()?, &patient).await?, "revoked, on a new connection");
        ensure!(is_served(&own, &patient).await?, "the others are served, on their open connection");
        ensure!(program.printed().contains("IDR-T-08"), "the journal names the cause");

        // A list that is none changes nothing of what is in force.
        let file = folder(&world)?.join("crl/tls.crl");
        std::fs::write(&file, b"no list")?;
        let refused = program.command(&["reload"]).err().context("a list that is none is refused")?.to_string();
        ensure!(refused.contains("tls.crl") && refused.contains("stays in force"), "{refused}");
        ensure!(!is_served(&other, &patient).await? && is_served(&own, &patient).await?, "as before");

        revoke(&world, 2, &[])?;
        program.command(&["reload"])?;
        ensure!(is_served(&other, &patient).await?, "the newest list counts");
        world.stop_centre_and_check().await
    });
}

#[test]
fn trust_is_exchanged_as_a_whole_or_not_at_all() {
    story(async {
        let world = centre().await?;
        let program = &world.central.program;
        let patient = patient_id(&Person::numbered(32));
        let (own, other) = (world.viewer()?, world.other_viewer()?);
        let path = folder(&world)?.join("trust.toml");
        let whole = std::fs::read_to_string(&path)?;
        let with = |change: &dyn Fn(&mut toml::Table)| -> anyhow::Result<()> {
            let mut table: toml::Table = toml::from_str(&whole)?;
            change(&mut table);
            Ok(std::fs::write(&path, toml::to_string_pretty(&table)?)?)
        };
        let organisation = world.other.organisation;
        let suspend = |table: &mut toml::Table| {
            for row in table["organisation"].as_array_mut().expect("organisations") {
                if row["oid"].as_str() == Some(organisation) {
                    row.as_table_mut().expect("a row").insert("suspended".to_owned(), true.into());
                }
            }
        };
        ensure!(is_served(&own, &patient).await? && is_served(&other, &patient).await?);

        // Suspended, and an anchor that is no file: all or nothing.
        with(&|table| {
            suspend(table);
            table.insert("signing_anchors".to_owned(), Value::Array(vec!["no-such.pem".into()]));
        })?;
        let refused = program.command(&["reload"]).err().context("an anchor that is no file is refused")?.to_string();
        ensure!(refused.contains("trust.toml") && refused.contains("stays in force"), "{refused}");
        ensure!(is_served(&own, &patient).await? && is_served(&other, &patient).await?, "nothing of it is in force");

        with(&suspend)?;
        program.command(&["reload"])?;
        ensure!(!is_served(&other, &patient).await? && is_served(&own, &patient).await?, "the suspended one alone is refused");

        // A signer that nobody trusts any more is refused with the connection still open.
        with(&|table| table["issuer"].as_array_mut().expect("issuers").retain(|row| row["organisation"].as_str() == Some(organisation)))?;
        program.command(&["reload"])?;
        ensure!(!is_served(&own, &patient).await?, "its issuer is gone");

        std::fs::write(&path, &whole)?;
        program.command(&["reload"])?;
        ensure!(is_served(&own, &patient).await? && is_served(&other, &patient).await?, "as at first");
        world.stop_centre_and_check().await
    });
}
