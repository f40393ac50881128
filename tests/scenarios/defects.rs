//! Objects with one defect each are answered with their rule; what is refused leaves nothing behind.

use idr_dimse::association::negotiation::ContextResult;
use idr_tests::fixtures::defect::DEFECTS;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::modality::{Answer, Outgoing};
use idr_tests::story::outgoing;

use crate::story;

#[test]
fn each_defect_gets_the_status_and_the_rule_of_the_profile() {
    story(async {
        let mut world = World::prepare(Plan::default())?;
        world.site_mut().program.start().await?;
        let objects = DEFECTS.iter().zip(1..).map(|(defect, seed)| defect.make(seed)).collect();
        let transfer = world.site().modality().send(&objects, 1, |_| {}).await;
        let mut wrong = Vec::new();
        for (defect, answer) in DEFECTS.iter().zip(&transfer.answers) {
            let right = match answer {
                Answer::Status(outcome) if defect.status == 0 => outcome.status.is_done(),
                Answer::Status(outcome) => outcome.status.0 == defect.status && outcome.error_comment.starts_with(defect.rule),
                _ => false,
            };
            if !right {
                wrong.push(format!("{}: expected {:04X}H {}, got {answer:?}", defect.name, defect.status, defect.rule));
            }
        }
        anyhow::ensure!(wrong.is_empty(), "{}\n{:?}", wrong.join("\n"), transfer.failures);
        world.site_mut().program.stop().await
    });
}

#[test]
fn a_class_or_syntax_that_is_not_in_the_rules_is_refused_at_negotiation() {
    story(async {
        let mut world = World::prepare(Plan::default())?;
        world.site_mut().program.start().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(81), 1, 1).make();
        let object = &outgoing([&study])[0];
        let private_class = Outgoing { sop_class: "1.2.246.10.90000011.5.1".to_owned(), ..object.clone() };
        let private_syntax = Outgoing { transfer_syntax: "1.2.3.4.5.6".to_owned(), ..object.clone() };
        let objects = [private_class, private_syntax, object.clone()].into();
        let transfer = world.site().modality().send(&objects, 1, |_| {}).await;
        anyhow::ensure!(transfer.answers[0] == Answer::NotNegotiated(ContextResult::AbstractSyntaxNotSupported), "{:?}", transfer.answers);
        anyhow::ensure!(
            transfer.answers[1] == Answer::NotNegotiated(ContextResult::TransferSyntaxesNotSupported),
            "{:?}",
            transfer.answers
        );
        anyhow::ensure!(transfer.answers[2].is_acknowledged(), "{:?}", transfer.answers);
        world.site_mut().program.stop().await
    });
}

#[test]
fn a_site_without_room_refuses_before_it_takes_a_byte() {
    story(async {
        // More than any disk has free.
        let site = std::sync::Arc::new(|table: &mut toml::Table| edit(table, [("storage.reserve_bytes", i64::MAX.into())]));
        let mut world = World::prepare(Plan { site, ..Plan::default() })?;
        world.site_mut().program.start().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(82), 1, 1).make();
        let transfer = world.site().modality().send(&outgoing([&study]), 1, |_| {}).await;
        anyhow::ensure!(!transfer.answers[0].is_acknowledged(), "{:?} although there is no room", transfer.answers);
        world.site_mut().program.stop().await
    });
}
