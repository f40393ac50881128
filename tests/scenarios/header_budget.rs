//! The memory of all data set headers on their way in has one budget: who has no room waits, nobody is refused, and who sends ordinary
//! headers does not notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use idr_dimse::status::Status;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::modality::{Association, DataSet, Modality, Outgoing};
use idr_tests::poll;
use toml::Table;

use crate::story;

/// The least that can be configured.
const BUDGET: i64 = 1 << 20;
/// Private elements that make a header of 4 MiB, all of it kept.
const VALUES: u16 = 70;
static VALUE: [u8; 60_000] = [7; 60_000];

/// A CT image with a large header behind its pixels; its last bytes come when `go`.
fn large(seed: u32, go: Arc<AtomicBool>) -> Outgoing {
    let small = Recipe::small(Kind::Ct, Person::numbered(71), 1, seed).make();
    let mut object = Outgoing::from(&small.instances[0]);
    let front = Bytes::from(small.instances[0].data_set.clone());
    let make = move || -> Box<dyn Iterator<Item = Bytes> + Send> {
        let creator = Bytes::from_static(b"\xE1\x7F\x10\0LO\x04\0TEST");
        let element = |number: u16| {
            let [low, high] = (0x1000 + number).to_le_bytes();
            Bytes::from([&[0xE1, 0x7F, low, high, b'O', b'B', 0, 0][..], &60_000_u32.to_le_bytes(), &VALUE].concat())
        };
        let go = go.clone();
        let last = std::iter::once_with(move || {
            while !go.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            element(VALUES)
        });
        Box::new([front.clone(), creator].into_iter().chain((0..VALUES).map(element)).chain(last))
    };
    object.data_set = DataSet::Made(Arc::new(make));
    object
}

/// Sends one object from a thread of its own: an object that waits blocks it.
fn send(modality: Modality, object: Outgoing) -> std::thread::JoinHandle<anyhow::Result<Option<Status>>> {
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let contexts = [(object.sop_class.clone(), vec![object.transfer_syntax.clone()])];
            let mut association = Association::open(&modality, &contexts).await?;
            let answer = association.store(&object).await?;
            association.release().await?;
            Ok(answer.status())
        })
    })
}

async fn metric(health: SocketAddr, name: &str) -> Option<u64> {
    let text = reqwest::get(format!("http://{health}/metrics")).await.ok()?.text().await.ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn senders_of_large_headers_wait_for_each_other_and_all_are_taken() {
    story(async {
        let site = Arc::new(|table: &mut Table| edit(table, [("reception.header_memory_bytes", BUDGET.into())]));
        let mut world = World::prepare(Plan { site, ..Plan::default() })?;
        world.site_mut().program.start().await?;
        let (modality, health) = (world.site().modality(), world.site().program.health()?);
        ensure!(metric(health, "idr_site_header_memory_limit_bytes").await == Some(BUDGET.unsigned_abs()), "the limit is in the metrics");

        // One takes all there is and more, and does not end; the others have no room.
        let (first, others) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
        let mut senders = vec![send(modality.clone(), large(1_000, first.clone()))];
        poll::until("the first large header takes the budget", poll::DEADLINE, || async {
            metric(health, "idr_site_header_memory_bytes").await.filter(|bytes| *bytes > BUDGET.unsigned_abs())
        })
        .await?;
        senders.extend((0..5).map(|number| send(modality.clone(), large(2_000 + number, others.clone()))));
        poll::until("the others wait", poll::DEADLINE, || async {
            metric(health, "idr_site_header_memory_waiting").await.filter(|waiting| *waiting == 5)
        })
        .await?;
        let status = world.site().program.command(&["status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        ensure!(status["header_memory"]["waiting"] == 5, "{status}");

        // Who sends ordinary objects does not wait.
        let ordinary = Recipe::small(Kind::Ct, Person::numbered(72), 20, 3_000).make();
        let sent = idr_tests::story::outgoing([&ordinary]);
        tokio::time::timeout(Duration::from_secs(60), idr_tests::story::send_all(&modality, &sent, 2))
            .await
            .context("ordinary objects wait")??;
        ensure!(metric(health, "idr_site_header_memory_waiting").await == Some(5), "the others still wait");
        ensure!(senders.iter().all(|sender| !sender.is_finished()), "an object that was not sent to its end is answered");

        first.store(true, Ordering::Relaxed);
        for (number, sender) in senders.into_iter().enumerate() {
            let status = tokio::task::spawn_blocking(move || sender.join()).await?.map_err(|_| anyhow::anyhow!("a sender failed"))??;
            ensure!(status.is_some_and(|status| status.is_done()), "sender {number}: {status:?}");
        }
        poll::until("all is given back", poll::DEADLINE, || async {
            metric(health, "idr_site_header_memory_bytes").await.filter(|bytes| *bytes == 0)
        })
        .await?;
        ensure!(metric(health, "idr_site_header_memory_waits_total").await.is_some_and(|waits| waits >= 5), "the waits are counted");
        ensure!(metric(health, "idr_site_ingest_objects_total{ae=\"MODALITY\",result=\"failed\"}").await == Some(0), "nothing failed");
        world.site_mut().program.stop().await
    });
}
