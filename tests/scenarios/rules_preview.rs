//! What other rules would do is counted before they are in force.

use idr_tests::fixtures::defect::DEFECTS;
use idr_tests::harness::{Plan, Program, World};
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
