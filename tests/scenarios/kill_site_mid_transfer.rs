//! The site dies while images come in: what was acknowledged is there, what was not is sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World};
use idr_tests::modality::Answer;
use idr_tests::poll;
use idr_tests::story::{fetch_and_compare, outgoing, send_until_answered, study_registered};

use crate::story;

#[test]
fn what_was_acknowledged_before_the_kill_is_at_the_centre_though_never_sent_again() {
    story(async {
        let mut world = World::start(Plan { study_quiet_seconds: 3, ..Plan::default() }).await?;
        let study = Recipe { matrix: 256, ..Recipe::small(Kind::Ct, Person::numbered(51), 60, 1) }.make();
        let objects = outgoing([&study]);
        let modality = world.site().modality_tls();
        let answered = Arc::new(AtomicUsize::new(0));
        let sending = tokio::spawn({
            let (objects, modality, answered) = (objects.clone(), modality.clone(), answered.clone());
            async move { modality.send(&objects, 3, move |_| _ = answered.fetch_add(1, Ordering::Relaxed)).await }
        });
        poll::holds("20 answers", poll::DEADLINE, || answered.load(Ordering::Relaxed) >= 20).await?;
        world.site_mut().program.kill().await?;
        let first = sending.await?;
        world.site_mut().program.start().await?;
        let left: Arc<[_]> = first.unanswered().into_iter().map(|index| objects[index].clone()).collect();
        anyhow::ensure!(!left.is_empty(), "the kill came after the last answer");
        let (second, _) = send_until_answered(&modality, &left, 3, poll::DEADLINE, |_| {}).await?;
        let refused: Vec<&Answer> =
            first.answers.iter().chain(&second).filter(|a| **a != Answer::Unanswered && !a.is_acknowledged()).collect();
        anyhow::ensure!(refused.is_empty(), "refused: {refused:?}");
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &study).await?;
        fetch_and_compare(&viewer, &study, &registered).await?;
        world.check_stored_once([&study]).await?;
        world.stop().await
    });
}
