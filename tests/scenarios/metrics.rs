//! What monitors read: the pages of both programs, and that what is shipped for Prometheus asks for nothing that they do not have.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::ensure;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World};
use idr_tests::modality::Modality;
use idr_tests::poll;
use idr_tests::story::{outgoing, send_all};

use crate::story;

async fn page(health: SocketAddr) -> anyhow::Result<String> {
    Ok(reqwest::get(format!("http://{health}/metrics")).await?.error_for_status()?.text().await?)
}

/// Families of a page, by their `# TYPE` lines.
fn families(page: &str) -> anyhow::Result<BTreeSet<&str>> {
    let named = |kind: &str| -> BTreeSet<_> { page.lines().filter_map(|line| line.strip_prefix(kind)?.split(' ').next()).collect() };
    let (typed, helped) = (named("# TYPE "), named("# HELP "));
    ensure!(typed == helped, "families without kind or help: {:?}", typed.symmetric_difference(&helped));
    Ok(typed)
}

/// Names of ours in a text; of a histogram the family.
fn asked(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')).filter(|word| word.starts_with("idr_"));
    let families = words.map(|word| ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word));
    families.map(str::to_owned).collect()
}

#[test]
fn pages_count_what_came_and_have_all_that_alerts_and_dashboard_ask_for() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(95), 3, 1).make();
        send_all(&world.site().modality(), &outgoing([&study]), 1).await?;
        let stranger = Modality { calling: "STRANGER".to_owned(), ..world.site().modality() };
        ensure!(send_all(&stranger, &outgoing([&study]), 1).await.is_err(), "without a row nobody sends");
        let (site, central) = (world.site().program.health()?, world.central.program.health()?);
        poll::until("the objects are at the centre", poll::DEADLINE, || async {
            page(central).await.ok().filter(|page| page.contains("idr_central_instances_total{result=\"stored\"} 3"))
        })
        .await?;

        let (of_site, of_central) = (page(site).await?, page(central).await?);
        for line in [
            "idr_site_ingest_objects_total{ae=\"MODALITY\",result=\"stored\"} 3",
            "idr_site_ingest_objects_total{ae=\"MODALITY\",result=\"refused\"} 0",
            "idr_site_associations_rejected_total{reason=\"D001\"} 1",
            "idr_site_associations_open 0",
            "idr_site_ingest_seconds_count 3",
            "idr_site_commit_seconds_count 3",
        ] {
            ensure!(of_site.lines().any(|one| one == line), "{line}: {of_site}");
        }
        ensure!(!of_site.contains("STRANGER"), "a label has what a caller chose");
        ensure!(!of_central.contains("idr_central_request_seconds_count 0"), "{of_central}");

        let (site, central) = (families(&of_site)?, families(&of_central)?);
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/monitoring");
        let mut read = 0;
        for file in std::fs::read_dir(&shipped)? {
            let file = file?.path();
            for name in asked(&std::fs::read_to_string(&file)?) {
                ensure!(site.contains(&*name) || central.contains(&*name), "{}: {name} is on neither page", file.display());
                read += 1;
            }
        }
        ensure!(read > 15, "{} asks for {read} metrics", shipped.display());
        let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md"))?;
        for name in site.union(&central) {
            ensure!(manual.contains(name), "docs/operations.md does not name {name}");
        }
        world.stop().await
    });
}
