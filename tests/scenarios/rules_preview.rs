//! What other rules would do is counted before they are in force.

use idr_tests::fixtures::defect::DEFECTS;
use idr_tests::harness::{Plan, Program, World, edit};
use idr_tests::modality::Outgoing;
use idr_tests::story::send_all;
use serde_json::Value;

use crate::story;

fn answer(program: &Program, words: &[&str]) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&program.command(words)?)?)
}

#[test]
fn a_preview_counts_what_another_level_would_refuse_and_changes_nothing() {
    story(async {
        // Nothing moves by itself.
        let mut world = World::prepare(Plan { study_quiet_seconds: 3600, ..Plan::default() })?;
        world.site_mut().program.start().await?;
        let defect = DEFECTS.iter().find(|defect| defect.rule == "D315").expect("a warning");
        let objects = [defect.make(1), defect.make(2)].into();
        send_all(&world.site().modality(), &objects, 1).await?;
        let program = &world.site().program;
        let states = || -> anyhow::Result<Value> { Ok(answer(program, &["status", "--json"])?["states"].clone()) };
        let before = states()?;
        let preview = |words: &[&str]| answer(program, &[&["rules", "preview", "--json"], words].concat());
        let same = preview(&[])?;
        anyhow::ensure!(same["objects"] == 2 && same["inbound"][0]["refused"] == 0, "today's rules: {same}");
        let stricter = preview(&["--level", "D315=REJECT", "--since", "1d"])?;
        let row = &stricter["inbound"][0];
        anyhow::ensure!(row["name"] == "modality" && row["refused"] == 2 && row["rules"][0]["rule"] == "D315", "{stricter}");
        let later = preview(&["--level", "D315=REJECT", "--since", "2999-01-01"])?;
        anyhow::ensure!(later["objects"] == 0, "{later}");
        // A rule set to come, as a file.
        let folder = world.folder().join("coming");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("fi-9.toml");
        std::fs::write(&file, "[rule_set]\nid = \"fi-9\"\nrevision = 1\nextends = \"base\"\n[levels]\nD315 = \"REJECT\"\n")?;
        let coming = preview(&["--rule-set", &file.to_string_lossy()])?;
        anyhow::ensure!(coming["rule_set"] == "fi-9/1" && coming["inbound"][0]["refused"] == 2, "{coming}");
        let locked = preview(&["--level", "D101=WARN"]).expect_err("a locked rule").to_string();
        anyhow::ensure!(locked.contains("D101") && locked.contains("REJECT*"), "{locked}");
        anyhow::ensure!(before[0]["objects"] == 2 && states()? == before, "a preview changed something: {before}");
        world.site_mut().program.stop().await?;
        world.site().program.command(&["fsck", "--deep"])?;
        // Also without a running appliance.
        let listed = answer(&world.site().program, &["rules", "list", "--json"])?;
        anyhow::ensure!(listed["rules"].as_array().map(Vec::len) == Some(223), "{listed}");
        Ok(())
    });
}

#[test]
fn an_update_of_the_rules_refuses_nothing_more_before_somebody_has_seen_what() {
    story(async {
        let mut world = World::prepare(Plan { study_quiet_seconds: 3600, ..Plan::default() })?;
        world.site_mut().program.start().await?;
        let defect = DEFECTS.iter().find(|defect| defect.rule == "D315").expect("a warning");
        let modality = world.site().modality();
        let acknowledged = async |number: u32| {
            let objects: std::sync::Arc<[Outgoing]> = [defect.make(number)].into();
            modality.send(&objects, 1, |_| {}).await.answers[0].is_acknowledged()
        };
        anyhow::ensure!(acknowledged(1).await && acknowledged(2).await, "a warning is taken");
        let rules = world.site().program.config().with_file_name("rules").join("fi-2.4.1/dicom.toml");
        let mut table: toml::Table = toml::from_str(&std::fs::read_to_string(&rules)?)?;
        edit(&mut table, [("levels.D315", "REJECT".into())]);
        std::fs::write(&rules, toml::to_string_pretty(&table)?)?;
        world.site().program.command(&["reload"])?;
        let raised = || -> anyhow::Result<usize> {
            let listed = answer(&world.site().program, &["rules", "list", "--json"])?;
            Ok(listed["raised"].as_array().map_or(0, |lines| lines.iter().filter(|line| line.to_string().contains("D315")).count()))
        };
        anyhow::ensure!(raised()? == 1, "an update that would raise D315 is told of");
        anyhow::ensure!(acknowledged(3).await, "D315 stays a warning after a reload");
        world.site_mut().program.stop().await?;
        world.site_mut().program.start().await?;
        anyhow::ensure!(acknowledged(4).await, "D315 stays a warning after a restart");

        let program = &world.site().program;
        let whole = "the device was mended";
        let file = rules.to_string_lossy();
        let of_a_file = program.command(&["rules", "preview", "--rule-set", &file, "--record", whole]).expect_err("a file").to_string();
        anyhow::ensure!(of_a_file.contains("installed"), "{of_a_file}");
        let seen = answer(program, &["rules", "preview", "--rule-set", "fi-2.4.1", "--record", whole, "--json"])?;
        anyhow::ensure!(seen["inbound"][0]["refused"] == 4, "what it would have refused: {seen}");
        let listed = answer(program, &["rules", "list", "--json"])?;
        anyhow::ensure!(listed["raised"] == serde_json::json!([]), "{}", listed["raised"]);
        anyhow::ensure!(!acknowledged(5).await, "D315 refuses once it was previewed");
        world.site_mut().program.stop().await?;
        world.site_mut().program.start().await?;
        anyhow::ensure!(!acknowledged(6).await, "also after a restart");
        world.site_mut().program.stop().await
    });
}
