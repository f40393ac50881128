//! A site joins the centre with keys that it makes itself, works, has them renewed while it works, and is taken out of force.

use anyhow::{Context as _, ensure};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, World};
use idr_tests::poll;
use idr_tests::story::{fetch_and_compare, outgoing, send_all, study_registered};

use crate::story;

async fn goes_the_whole_way(world: &World, study: &Study) -> anyhow::Result<()> {
    send_all(&world.site().modality_tls(), &outgoing([study]), 1).await?;
    let viewer = world.viewer()?;
    let registered = study_registered(&viewer, study).await?;
    fetch_and_compare(&viewer, study, &registered).await
}

fn fingerprints(world: &World) -> anyhow::Result<Vec<String>> {
    let listed: serde_json::Value = serde_json::from_str(&world.site().program.command(&["cert", "list", "--json"])?)?;
    let rows = listed.as_array().context("a list")?.iter();
    let joined = rows.filter(|row| row["key"] == "centre.certificate" || row["key"] == "assertion.certificate");
    joined.map(|row| Ok(row["sha256"].as_str().context("a fingerprint")?.to_owned())).collect()
}

#[test]
fn a_site_that_joined_sends_renews_its_keys_while_it_runs_and_is_disabled() {
    story(async {
        let mut world = World::prepare(Plan::default())?;
        world.open_enrolment()?;
        world.central.program.start().await?;
        let (text, person) = (world.invite("issue")?, Person::numbered(41));
        let site = &world.site().program;
        let join = ["cert", "join", "--file", text.to_str().context("a path")?];
        let said = site.command(&join)?;
        ensure!(said.contains("has joined"), "{said}");
        ensure!(site.command(&join)?.contains("has joined"), "given again, it says the same");
        site.command(&["check-config"])?;
        let keys = world.site().program.state().join("keys/current");
        for name in ["tls.key", "sign.key"] {
            use std::os::unix::fs::PermissionsExt as _;
            ensure!(std::fs::metadata(keys.join(name))?.permissions().mode() & 0o777 == 0o600, "{name}");
        }
        let token = std::fs::read_to_string(&text)?;
        world.site_mut().program.start().await?;
        let study = |seed: u32| Recipe::small(Kind::Ct, person.clone(), 2, seed).make();
        goes_the_whole_way(&world, &study(1)).await?;

        // Renewed while it runs: other keys, and what comes next goes on by them.
        let before = fingerprints(&world)?;
        let said = world.site().program.command(&["cert", "rotate"])?;
        ensure!(said.contains("the running appliance has taken them"), "{said}");
        let after = fingerprints(&world)?;
        ensure!(before.len() == 2 && after.iter().all(|now| !before.contains(now)), "{before:?} {after:?}");
        goes_the_whole_way(&world, &study(2)).await?;
        let verified = world.site().program.command(&["doctor"]);
        ensure!(!format!("{verified:?}").contains("revoked"), "{verified:?}");

        // Out of force, nothing more comes; back in force, it goes on by itself.
        let central = &world.central.program;
        central.command(&["peer", "disable", "site-1", "--reason", "a test"])?;
        let third = study(3);
        send_all(&world.site().modality_tls(), &outgoing([&third]), 1).await?;
        let refused = poll::until("the centre refuses the site", poll::DEADLINE, || {
            let seen = central.printed().contains("IDR-T-12").then_some(());
            async move { seen }
        });
        refused.await?;
        central.command(&["peer", "disable", "site-1", "--undo", "--reason", "a test"])?;
        // The refusal may still be on its way to the queue, so that it is asked until everything has gone.
        let site = &world.site().program;
        let gone = poll::until("what was refused goes on", poll::DEADLINE, || {
            for verb in ["release", "retry"] {
                site.command(&["queue", verb, &third.uid]).ok();
            }
            let shown = site.command(&["study", "show", &third.uid]).unwrap_or_default();
            let registered = shown.lines().filter(|line| line.contains(" registered ")).count();
            async move { (registered == 2).then_some(()) }
        });
        gone.await?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &third).await?;
        fetch_and_compare(&viewer, &third, &registered).await?;

        for program in [&world.central.program, &world.site().program] {
            ensure!(!program.printed().contains(token.trim()), "a join string is in no journal");
        }
        world.stop_and_check().await
    });
}

#[test]
fn a_site_that_brings_its_own_certificates_proves_that_it_has_their_keys() {
    story(async {
        let mut world = World::prepare(Plan::default())?;
        world.open_enrolment()?;
        world.central.program.start().await?;
        let text = world.invite("register")?;
        let keys = world.folder().join("keys");
        let file = |name: &str| keys.join(name).display().to_string();
        let (tls, tls_key) = (file("site-1-client.pem"), file("site-1-client.key"));
        let (sign, sign_key) = (file("hospital-signature.pem"), file("hospital-signature.key"));
        let join = |sign_key: &str| {
            let brought = ["--tls-certificate", &tls, "--tls-key", &tls_key, "--sign-certificate", &sign, "--sign-key", sign_key];
            let file = text.display().to_string();
            world.site().program.command(&[&["cert", "join", "--file", &file][..], &brought].concat())
        };
        let refused = join(&file("other-signature.key")).err().context("a key of another certificate")?.to_string();
        ensure!(refused.contains("IDR-J-05"), "{refused}");
        ensure!(join(&sign_key)?.contains("has joined"));
        world.site_mut().program.start().await?;
        goes_the_whole_way(&world, &Recipe::small(Kind::Ct, Person::numbered(42), 1, 1).make()).await?;
        world.stop_and_check().await
    });
}

#[test]
fn a_wrong_pin_an_unknown_token_and_a_site_of_another_name_join_nothing() {
    story(async {
        let mut world = World::prepare(Plan::default())?;
        world.open_enrolment()?;
        world.central.program.start().await?;
        let text = world.invite("issue")?;
        let whole = std::fs::read_to_string(&text)?;
        let site = &world.site().program;
        let join = |content: &str| -> anyhow::Result<String> {
            std::fs::write(&text, content)?;
            let error = site.command(&["cert", "join", "--file", text.to_str().context("a path")?]).err();
            Ok(error.context("it is refused")?.to_string())
        };
        let changed = |change: &dyn Fn(&mut idr_profile::enrolment::JoinString)| -> anyhow::Result<String> {
            let mut string = idr_profile::enrolment::JoinString::parse(&whole)?;
            change(&mut string);
            Ok(string.to_text()?)
        };
        let pin = changed(&|string| string.pins = vec!["sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()])?;
        let refused = join(&pin)?;
        ensure!(refused.contains("IDR-T-13") && refused.contains("Nothing was sent"), "{refused}");
        let refused = join(&changed(&|string| string.token = "A".repeat(43))?)?;
        ensure!(refused.contains("IDR-J-01"), "{refused}");
        let refused = join(&changed(&|string| string.expires = jiff::Timestamp::UNIX_EPOCH)?)?;
        ensure!(refused.contains("good until"), "{refused}");
        site.configure(|table| table["site"]["id"] = "site-2".into())?;
        let refused = join(&whole)?;
        ensure!(refused.contains("IDR-J-02"), "{refused}");
        let kept = toml::from_str::<toml::Table>(&std::fs::read_to_string(site.config())?)?;
        ensure!(!kept.contains_key("centre") && !site.state().join("keys/current").exists(), "nothing of it is kept");
        world.stop_centre_and_check().await
    });
}
