//! The tables against the profile, and the decisions they give.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Rows of a table of the profile, by column. `None` when the profile is not at hand.
fn profile_table(name: &str) -> Option<Vec<BTreeMap<String, String>>> {
    let text = crate::testing::profile_table(name)?;
    let mut lines = text.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    Some(lines.map(|cells| header.iter().cloned().zip(cells).collect()).collect())
}

fn decide(signal: Signal<'_>) -> Decided {
    base().decide(signal, &Context::default())
}

fn base() -> &'static Outcomes {
    static BASE: std::sync::OnceLock<Outcomes> = std::sync::OnceLock::new();
    BASE.get_or_init(Outcomes::base)
}

const TABLES: [(&str, &str); 15] = [
    ("03_4.1_1.tsv", "local"),
    ("03_4.2_1.tsv", "link"),
    ("03_4.3_1.tsv", "association"),
    ("03_4.4_1.tsv", "c_store"),
    ("03_4.5_1.tsv", "n_action"),
    ("03_4.6_1.tsv", "commitment"),
    ("03_4.6_2.tsv", "commitment_failure"),
    ("03_4.7_1.tsv", "n_event_report"),
    ("03_4.8_1.tsv", "http"),
    ("03_4.9_1.tsv", "stow"),
    ("03_4.9_1.tsv", "stow_warning"),
    ("03_4.9_1.tsv", "stow_failure"),
    ("03_4.10_1.tsv", "fault"),
    ("03_4.11_1.tsv", "response"),
    ("03_4.11_2.tsv", "registry_error"),
];

mod time;

#[test]
fn every_row_is_word_for_word_the_row_of_the_profile_and_the_reverse() {
    let mut of_profile = BTreeSet::new();
    for (file, table) in TABLES {
        let Some(rows) = profile_table(file) else { return };
        for cells in rows {
            of_profile.insert(cells["Row"].clone());
            let Some(row) = base().rows().iter().find(|row| *row.row == *cells["Row"]) else { panic!("{} is not shipped", cells["Row"]) };
            if row.table.name() != table && file == "03_4.9_1.tsv" {
                continue;
            }
            assert_eq!(row.table.name(), table, "{}", row.row);
            let outcome = cells.get("Outcome").or(cells.get("STOW-RS")).expect("an outcome column");
            assert_eq!(&row.outcome, outcome, "{}", row.row);
            assert_eq!(row.soap.as_ref(), cells.get("SOAP"), "{}", row.row);
            assert_eq!(row.breaker.as_ref(), cells.get("Breaker"), "{}", row.row);
            assert_eq!(row.effect, cells.get("Reason and effect").cloned().unwrap_or_default(), "{}", row.row);
            let names = ["Signal", "Result, source, reason", "Name", "Fault", "status", "errorCode"];
            let signal = names.iter().find_map(|name| cells.get(*name)).expect("a signal column");
            let statuses = cells.get("Status (hex)").or(cells.get("Status")).map(String::as_str).unwrap_or("–");
            if row.explain_status().is_some() || signal != "–" {
                assert_eq!(&row.signal, signal, "{}", row.row);
            }
            assert_eq!(
                row.explain_status(),
                statuses.starts_with(|c: char| c.is_ascii_hexdigit()).then(|| statuses.to_owned()),
                "{}",
                row.row
            );
        }
    }
    of_profile.insert("X-UNKNOWN".into());
    let shipped: BTreeSet<String> = base().rows().iter().map(|row| row.row.to_string()).collect();
    assert_eq!(shipped, of_profile);
}

impl Row {
    /// The status cell as the profile writes it.
    fn explain_status(&self) -> Option<String> {
        let [from, to] = self.status?;
        let write = |value| if self.table == table::Table::Http { format!("{value}") } else { format!("{value:04X}") };
        Some(if from == to { write(from) } else { format!("{}–{}", write(from), write(to)) })
    }
}

#[test]
fn parameters_are_those_of_the_profile() {
    let Some(rows) = profile_table("03_2.1_1.tsv") else { return };
    assert_eq!(rows.len(), base().classes.len());
    for cells in rows {
        let number = |column: &str| cells[column].replace(' ', "").parse::<u64>().expect("seconds");
        let (_, class) = base().classes.iter().find(|(class, _)| class.to_string() == cells["Class"]).expect("the class");
        assert_eq!((class.base_s, class.cap_s, class.floor_s), (number("base (s)"), number("cap (s)"), number("floor (s)")));
    }
}

#[test]
fn each_of_65_536_statuses_gives_the_row_of_the_profile() {
    type OfStatus = fn(u16) -> Signal<'static>;
    let tables: [(&str, OfStatus); 4] = [
        ("03_4.4_1.tsv", Signal::CStore),
        ("03_4.5_1.tsv", Signal::NAction),
        ("03_4.6_2.tsv", Signal::CommitmentFailure),
        ("03_4.7_1.tsv", Signal::NEventReport),
    ];
    for (file, signal) in tables {
        let Some(rows) = profile_table(file) else { return };
        let mut covered = 0_u32;
        for cells in rows {
            let hex = |text: &str| u16::from_str_radix(text, 16).ok();
            let (first, last) = cells["Status (hex)"].split_once('–').unwrap_or((&cells["Status (hex)"], &cells["Status (hex)"]));
            let (Some(first), Some(last)) = (hex(first), hex(last)) else { continue };
            for status in first..=last {
                let decided = decide(signal(status));
                assert_eq!(
                    (&*decided.row, decided.outcome.to_string()),
                    (cells["Row"].as_str(), cells["Outcome"].clone()),
                    "{status:04X}H"
                );
                covered += 1;
            }
        }
        assert_eq!(covered, 65_536, "{file}");
    }
}

#[test]
fn each_http_status_gives_the_row_of_the_profile_for_both_services() {
    let Some(rows) = profile_table("03_4.8_1.tsv") else { return };
    let mut covered = 0;
    for cells in rows {
        let (first, last) = cells["Status"].split_once('–').unwrap_or((&cells["Status"], &cells["Status"]));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { continue };
        for status in first..=last {
            covered += 1;
            let soap = decide(Signal::Soap(Soap::Status { status, other_type: false }));
            let stow = base().stow(status, StowBody::None, 2, &Context::default());
            let single = base().stow(status, StowBody::None, 1, &Context::default());
            let (Stow::All(stow) | Stow::Split(stow)) = stow else { panic!("{status}: results without a body") };
            let Stow::All(single) = single else { panic!("{status}: one instance is never split") };
            assert_eq!([&*soap.row, &*stow.row, &*single.row], [cells["Row"].as_str(); 3], "{status}");
            if let Some(outcome) = Outcome::parse(&cells["SOAP"]) {
                assert_eq!(soap.outcome, outcome, "{status}");
            }
            if let Some(outcome) = Outcome::parse(&cells["STOW-RS"]) {
                assert_eq!([stow.outcome, single.outcome], [outcome; 2], "{status}");
            }
            assert_ne!(soap.outcome, Outcome::Done, "{status}: no success from silence");
            assert_ne!(single.outcome, Outcome::Done, "{status}: no success from silence");
        }
    }
    assert_eq!(covered, 900);
}

#[test]
fn the_named_cases_of_the_profile() {
    use Class::{Busy, Net, Slow};
    use Decider::{Operator, Study};
    for (status, row, outcome) in [
        (0x0000, "CS-0000", Outcome::Done),
        (0x0110, "CS-0110", Outcome::Retry(Slow)),
        (0x0111, "CS-0111", Outcome::DoneDuplicate),
        (0x0122, "CS-0122", Outcome::Hold(Operator)),
        (0x0124, "CS-0124", Outcome::Hold(Operator)),
        (0xA700, "CS-A700", Outcome::Retry(Busy)),
        (0xA900, "CS-A900", Outcome::Quarantine),
        (0xB000, "CS-B000", Outcome::Done),
        (0xB006, "CS-B006", Outcome::Hold(Study)),
        (0xB007, "CS-B007", Outcome::Done),
        (0xC000, "CS-C000", Outcome::Quarantine),
        (0xC122, "CS-C000", Outcome::Quarantine),
        (0xFE00, "CS-FE00", Outcome::Retry(Net)),
        (0xFF00, "CS-FF00", Outcome::Retry(Net)),
    ] {
        let decided = decide(Signal::CStore(status));
        assert_eq!((&*decided.row, decided.outcome), (row, outcome), "{status:04X}H");
    }
}

#[test]
fn a_class_stands_if_and_only_if_the_outcome_is_retry() {
    for row in base().rows() {
        for cell in std::iter::once(&row.outcome).chain(&row.soap) {
            assert!(!cell.starts_with("retry") || cell.starts_with("retry("), "{}: {cell}", row.row);
        }
    }
}

#[test]
fn every_event_alert_triple_and_context_result_is_decided() {
    for event in Event::ALL {
        let decided = decide(Signal::Event(*event));
        let success = matches!(decided.outcome, Outcome::Done | Outcome::DoneDuplicate);
        assert_eq!(success, matches!(event, Event::Committed | Event::Stored), "{event:?}");
    }
    for (alert, row) in [
        (0, "TLS-A-0"),
        (90, "TLS-A-90"),
        (40, "TLS-A-40"),
        (46, "TLS-A-46"),
        (116, "TLS-A-116"),
        (255, "TLS-A-other"),
        (41, "TLS-A-other"),
    ] {
        assert_eq!(&*decide(Signal::TlsAlert(alert)).row, row);
    }
    for result in 0..=255 {
        for source in 0..=255 {
            for reason in [0, 1, 2, 3, 7, 255] {
                let row = decide(Signal::Reject { result, source, reason }).row;
                let listed = matches!((result, source, reason), (1 | 2, 1, 1 | 2 | 3 | 7) | (1 | 2, 2, 1 | 2) | (1 | 2, 3, 1 | 2));
                assert_eq!(&*row, if listed { format!("A-RJ-1{source}{reason}") } else { "A-RJ-other".into() });
            }
        }
    }
    assert_eq!(decide(Signal::Reject { result: 1, source: 1, reason: 1 }).outcome, Outcome::Retry(Class::Config));
    assert_eq!(decide(Signal::Reject { result: 2, source: 1, reason: 1 }).outcome, Outcome::Retry(Class::Busy));
    for (source, reason, row) in [(0, 9, "A-AB-0"), (2, 6, "A-AB-2"), (2, 3, "A-AB-other"), (1, 0, "A-AB-other")] {
        assert_eq!(&*decide(Signal::Abort { source, reason }).row, row);
    }
    for (result, row) in [(0, "PC-0"), (1, "PC-1"), (4, "PC-4"), (5, "PC-other"), (255, "PC-other")] {
        assert_eq!(&*decide(Signal::PresentationContext(result)).row, row);
    }
}

#[test]
fn the_dialect_of_a_peer_replaces_the_outcome_of_the_row() {
    let context = Context { dialect: Some("dcm4chee"), ..Context::default() };
    let decided = base().decide(Signal::CStore(0xA770), &context);
    assert_eq!((decided.outcome, decided.breaker), (Outcome::DoneDuplicate, Mark::Success));
    assert_eq!(base().decide(Signal::CStore(0xA771), &context).outcome, Outcome::Hold(Decider::Study));
    assert_eq!(base().decide(Signal::CStore(0xA77B), &context).outcome, Outcome::Quarantine);
    assert_eq!(base().decide(Signal::CStore(0xA700), &context).outcome, Outcome::Retry(Class::Busy));
}

#[test]
fn each_instance_of_a_stow_request_gets_its_own_row() {
    use InstanceResult::{Both, Failed, FailedWithoutReason, Missing, OtherIdentity, Stored, Warned};
    let cases = [
        (Stored, "S-OK", Outcome::Done),
        (Warned(0xB000), "S-W-B000", Outcome::Done),
        (Warned(0xB007), "S-W-B007", Outcome::Done),
        (Warned(0xB006), "S-W-B006", Outcome::Hold(Decider::Study)),
        (Warned(1), "S-W-other", Outcome::Done),
        (Failed(0xC122), "S-F-C122", Outcome::Hold(Decider::Operator)),
        (Failed(0x0122), "S-F-0122", Outcome::Hold(Decider::Operator)),
        (Failed(0x0110), "S-F-0110", Outcome::Retry(Class::Slow)),
        (Failed(0xA700), "CS-A700", Outcome::Retry(Class::Busy)),
        (Failed(0xC304), "CS-C000", Outcome::Quarantine),
        (Failed(0x0000), "S-F-x", Outcome::Retry(Class::Slow)),
        (Failed(0xB000), "S-F-x", Outcome::Retry(Class::Slow)),
        (FailedWithoutReason, "S-F-none", Outcome::Retry(Class::Slow)),
        (Both, "S-BOTH", Outcome::Retry(Class::Slow)),
        (Missing, "S-MISS", Outcome::Retry(Class::Net)),
        (OtherIdentity, "S-CLASS", Outcome::Hold(Decider::Study)),
    ];
    let results: Vec<_> = cases.iter().map(|(result, _, _)| *result).collect();
    for status in [200, 202, 409] {
        let sent = results.len() + 1;
        let Stow::Each { request, instances } = base().stow(status, StowBody::Results(&results), sent, &Context::default()) else {
            panic!("{status} has results")
        };
        assert_eq!((&*request.row, request.breaker), (format!("H-{status}").as_str(), Mark::Success));
        for ((_, row, outcome), decided) in cases.iter().zip(&instances) {
            assert_eq!((&*decided.row, decided.outcome), (*row, *outcome));
        }
        assert_eq!(&*instances[sent - 1].row, "S-MISS", "an instance without a result");
    }
    for reason in 0..=u16::MAX {
        let Stow::Each { instances, .. } = base().stow(200, StowBody::Results(&[Failed(reason)]), 1, &Context::default()) else {
            panic!("200 has results")
        };
        assert_ne!(instances[0].outcome, Outcome::Done, "{reason:04X}H: a failed instance is never done");
    }
}

#[test]
fn a_refused_batch_is_split_and_a_single_instance_is_judged() {
    let stow = |status, body, sent| base().stow(status, body, sent, &Context::default());
    for status in [400, 409, 413, 422] {
        assert!(matches!(stow(status, StowBody::None, 2), Stow::Split(_)), "{status}");
    }
    let single = |status| match stow(status, StowBody::None, 1) {
        Stow::All(decided) => decided.outcome,
        other => panic!("{other:?}"),
    };
    assert_eq!(single(400), Outcome::Hold(Decider::Study));
    assert_eq!(single(409), Outcome::Hold(Decider::Study));
    assert_eq!(single(413), Outcome::Hold(Decider::Operator));
    assert_eq!(single(422), Outcome::Hold(Decider::Study));
    assert_eq!(single(100), Outcome::Wait);
    assert_eq!(single(101), Outcome::Retry(Class::Slow));
    let Stow::All(page) = stow(200, StowBody::OtherType, 3) else { panic!("a proxy page has no results") };
    assert_eq!((&*page.row, page.outcome, page.breaker), ("H-TYPE", Outcome::Retry(Class::Slow), Mark::Failure));
}

fn response(status: &str, errors: &[(&str, Severity)], context: &Context<'_>) -> Decided {
    base().decide(Signal::Soap(Soap::Response { status: 200, response: Response { status, errors } }), context)
}

#[test]
fn the_worst_error_code_of_a_response_decides() {
    use Severity::{Error, Warning};
    const SUCCESS: &str = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success";
    const FAILURE: &str = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure";
    const PARTIAL: &str = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess";
    let plain = Context::default();
    let replace = Context { replace: true, ..plain };
    let query = Context { query: true, ..plain };
    let accept = Context { accept_extra_metadata_loss: true, ..plain };
    type Case<'a> = (&'a str, &'a [(&'a str, Severity)], &'a Context<'a>, &'a str, &'a str);
    let table: &[Case<'_>] = &[
        (SUCCESS, &[], &plain, "R-OK", "done"),
        (SUCCESS, &[("XDSExtraMetadataNotSaved", Warning)], &plain, "E-EXTRA", "hold(study)"),
        (SUCCESS, &[("XDSExtraMetadataNotSaved", Warning)], &accept, "E-EXTRA", "done"),
        (SUCCESS, &[("SomethingNew", Warning)], &plain, "R-OK-W", "done"),
        (SUCCESS, &[("XDSRegistryBusy", Error)], &plain, "X-UNKNOWN", "retry(slow)"),
        (PARTIAL, &[], &plain, "R-PART", "hold(study)"),
        (PARTIAL, &[("XDSRegistryBusy", Error)], &query, "E-BUSY", "retry(busy)"),
        (PARTIAL, &[], &query, "X-UNKNOWN", "retry(slow)"),
        (FAILURE, &[], &plain, "R-FAIL", "retry(slow)"),
        (FAILURE, &[("XDSRegistryBusy", Error), ("XDSUnknownRepositoryId", Error)], &plain, "E-COMM", "hold(operator)"),
        (FAILURE, &[("XDSNonIdenticalHash", Error), ("XDSUnknownRepositoryId", Error)], &plain, "E-HASH", "hold(study)"),
        (FAILURE, &[(" x:XDSDuplicateUniqueIdInRegistry ", Error)], &plain, "E-DUP", "done-duplicate"),
        (FAILURE, &[("XDSPatientIdDoesNotMatch", Error)], &plain, "E-PIDM", "hold(study)"),
        (FAILURE, &[("XDSPatientIdDoesNotMatch", Error)], &replace, "E-PIDM", "retry(slow)"),
        (FAILURE, &[("SomethingNew", Error)], &plain, "E-other", "retry(slow)"),
        ("Unavailable", &[], &plain, "R-OTHER", "retry(slow)"),
        ("", &[], &plain, "R-OTHER", "retry(slow)"),
    ];
    for (status, errors, context, row, outcome) in table {
        let decided = response(status, errors, context);
        assert_eq!((&*decided.row, decided.outcome.to_string().as_str()), (*row, *outcome), "{status} {errors:?}");
    }
    assert_eq!(response(SUCCESS, &[], &plain).breaker, Mark::Success);
    assert_eq!(response(FAILURE, &[("UnresolvedReferenceException", Error)], &plain).effects, [Effect::ReDerive]);
}

#[test]
fn an_envelope_wins_over_every_status_except_429_and_503() {
    for status in 100..=999 {
        let fault = Fault { code: Some("soap:Sender"), ..Fault::default() };
        let row = decide(Signal::Soap(Soap::Fault { status, fault })).row;
        let expected = if matches!(status, 429 | 503) { format!("H-{status}") } else { "F-SENDER".into() };
        assert_eq!(*row, *expected, "{status}");
    }
}

#[test]
fn the_deepest_known_name_of_a_fault_decides_and_a_refusal_before_all() {
    type Case<'a> = (Option<&'a str>, &'a [&'a str], Option<&'a str>, &'a str, &'a str);
    let table: &[Case<'_>] = &[
        (Some("s:Receiver"), &[], None, "F-RECEIVER", "retry(slow)"),
        (Some("s:Sender"), &["x:Unheard"], None, "F-SENDER", "hold(study)"),
        (Some("s:Sender"), &["wsa:InvalidAddressingHeader", "wsa:DuplicateMessageID"], None, "F-WSA-HDR", "done-duplicate"),
        (Some("s:Sender"), &["wsa:InvalidAddressingHeader"], None, "F-WSA-HDR", "hold(operator)"),
        (Some("s:Sender"), &["wsse:FailedAuthentication"], None, "F-WSS-AUTH", "retry(auth)"),
        (Some("s:Sender"), &["wst:RequestFailed"], None, "F-WST", "retry(slow)"),
        (Some("s:Sender"), &["wst:BadRequest"], None, "F-WST", "hold(operator)"),
        (Some("s:Sender"), &["wsse:InvalidSecurity"], Some("IDR-X-15"), "F-IDR", "retry(auth)"),
        (Some("s:Sender"), &[], Some("IDR-X-32"), "F-IDR", "retry(busy)"),
        (Some("s:Sender"), &[], Some("IDR-X-27"), "F-IDR", "hold(study)"),
        (Some("s:Sender"), &[], Some("IDR-X-01"), "F-IDR", "hold(operator)"),
        (None, &[], None, "F-OTHER", "retry(slow)"),
        (Some("Client"), &[], None, "F-OTHER", "retry(slow)"),
    ];
    for (code, subcodes, refusal, row, outcome) in table {
        let fault = Fault { code: *code, subcodes, refusal: *refusal };
        let decided = decide(Signal::Soap(Soap::Fault { status: 500, fault }));
        assert_eq!((&*decided.row, decided.outcome.to_string().as_str()), (*row, *outcome));
    }
    let mark =
        |refusal| decide(Signal::Soap(Soap::Fault { status: 500, fault: Fault { refusal: Some(refusal), ..Fault::default() } })).breaker;
    assert_eq!([mark("IDR-X-26"), mark("IDR-X-27"), mark("IDR-X-15")], [Mark::Success, Mark::Success, Mark::Failure]);
}

#[test]
fn commitment_by_receipt_and_by_dicomweb() {
    let table = [
        (Signal::Receipt(ReceiptAnswer::Commits), "EV-RECEIPT", "done"),
        (Signal::Receipt(ReceiptAnswer::Absent), "EV-RECEIPT", "retry(commit)"),
        (Signal::Receipt(ReceiptAnswer::Status(404)), "EV-RECEIPT", "retry(commit)"),
        (Signal::Receipt(ReceiptAnswer::Contradicts), "EV-RECEIPT", "hold(study)"),
        (Signal::Receipt(ReceiptAnswer::Status(503)), "H-503", "retry(busy)"),
        (Signal::Receipt(ReceiptAnswer::Status(200)), "H-200", "retry(slow)"),
        (Signal::CommitmentWeb(200), "EV-WEB", "continue"),
        (Signal::CommitmentWeb(202), "EV-WEB", "retry(commit)"),
        (Signal::CommitmentWeb(409), "EV-WEB", "retry(net)"),
        (Signal::CommitmentWeb(404), "EV-WEB", "retry(net)"),
        (Signal::CommitmentWeb(500), "H-500", "retry(slow)"),
        (Signal::Event(Event::NoReport), "EV-NONE", "retry(commit)"),
        (Signal::Event(Event::EventTypeUnknown), "EV-TYPE", "retry(commit)"),
    ];
    for (signal, row, outcome) in table {
        let decided = decide(signal);
        assert_eq!((&*decided.row, decided.outcome.to_string().as_str()), (row, outcome));
    }
    assert_eq!(decide(Signal::Receipt(ReceiptAnswer::Contradicts)).effects, [Effect::Page]);
    assert_eq!(decide(Signal::CommitmentWeb(409)).effects, [Effect::NewTransaction]);
    assert_eq!(decide(Signal::Event(Event::EventTypeUnknown)).answer, Some(0x0113));
    assert_eq!(decide(Signal::Event(Event::TransactionUnknown)).answer, Some(0));
}

#[test]
fn a_second_fault_within_a_day_holds_the_study() {
    let decided =
        |faults_within_day| base().decide(Signal::Event(Event::TaskFault), &Context { faults_within_day, ..Context::default() }).outcome;
    assert_eq!(decided(1), Outcome::Retry(Class::Slow));
    assert_eq!(decided(2), Outcome::Hold(Decider::Study));
}

#[test]
fn an_override_makes_nothing_done_and_releases_no_refused_object() {
    let refused = |row, to| Overrides::new(base(), [(row, to)]).is_err();
    assert!(refused("CS-0110", "done") && refused("CS-0110", "done-duplicate") && refused("H-500", "continue"));
    assert!(refused("CS-A900", "retry(slow)") && refused("CS-C000", "retry(net)") && refused("CS-B006", "retry(net)"));
    assert!(refused("S-W-B006", "retry(net)") && refused("FR-C000", "retry(slow)") && refused("S-F-C122", "retry(slow)"));
    assert!(refused("CS-NOPE", "hold(operator)"));
    assert!(!refused("CS-A900", "hold(study)") && !refused("CS-0110", "hold(operator)") && !refused("TLS-A-42", "retry(slow)"));
    let overrides = Overrides::new(base(), [("CS-0110", "hold(operator)")]).expect("allowed");
    let context = Context { overrides: Some(&overrides), ..Context::default() };
    assert_eq!(base().decide(Signal::CStore(0x0110), &context).outcome, Outcome::Hold(Decider::Operator));
}

#[test]
fn explain_finds_every_row_and_the_rows_of_a_status() {
    for row in base().rows() {
        for id in row.ids.iter().chain([&row.row]) {
            assert!(matches!(base().explain(id).as_slice(), [found] if found.row == row.row), "{id}");
        }
    }
    let rows = |what| base().explain(what).iter().map(|row| row.row.to_string()).collect::<Vec<_>>();
    assert_eq!(rows("A700H"), ["CS-A700", "NA-A700", "FR-A700", "NE-0214"]);
    assert_eq!(rows("503"), ["H-503"]);
    assert_eq!(rows("no such"), Vec::<String>::new());
}

#[test]
fn a_set_that_extends_the_base_replaces_keys_and_keeps_the_rest() {
    let outcomes =
        Outcomes::load(&["[classes.net]\ncap_s = 600\n[[c_store]]\nrow = \"CS-0110\"\noutcome = \"hold(operator)\"\n"]).expect("loads");
    assert_eq!(outcomes.cap(Class::Net), Duration::from_secs(600));
    assert_eq!(outcomes.decide(Signal::CStore(0x0110), &Context::default()).outcome, Outcome::Hold(Decider::Operator));
    assert_eq!(outcomes.decide(Signal::CStore(0x0111), &Context::default()).outcome, Outcome::DoneDuplicate);
}

#[test]
fn a_file_that_leaves_a_signal_without_a_row_is_refused() {
    for (text, part) in [
        ("[[c_store]]\nrow = \"CS-0110\"\nstatus = [0x0109, 0x0110]\n", "0109H has 2 rows"),
        ("[[c_store]]\nrow = \"CS-0002\"\nstatus = [0x0002, 0x0103]\n", "0104H has 0 rows"),
        ("[[c_store]]\nrow = \"CS-0110\"\noutcome = \"retry\"\n", "outcome cannot be read"),
        ("[[local]]\nrow = \"L-OPEN\"\non = []\n", "BreakerOpen has 0 rows"),
        ("[[nonsense]]\nrow = \"X\"\n", "unknown variant"),
        ("[[c_store]]\nrow = \"CS-0110\"\ncolour = 1\n", "unknown field"),
    ] {
        let error = Outcomes::load(&[text]).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn socket_errors_have_their_rows() {
    use std::io::ErrorKind;
    for (kind, number, row) in [
        (ErrorKind::ConnectionRefused, Some(111), "T-REFUSED"),
        (ErrorKind::TimedOut, Some(110), "T-TIMEOUT"),
        (ErrorKind::HostUnreachable, Some(113), "T-UNREACH"),
        (ErrorKind::Other, Some(112), "T-UNREACH"),
        (ErrorKind::UnexpectedEof, None, "T-RESET"),
        (ErrorKind::PermissionDenied, Some(13), "T-PERM"),
        (ErrorKind::Other, Some(24), "L-FD"),
        (ErrorKind::AddrNotAvailable, Some(99), "L-FD"),
        (ErrorKind::InvalidInput, Some(22), "T-OTHER"),
    ] {
        assert_eq!(&*decide(Signal::Event(Event::from_socket_error(kind, number))).row, row);
    }
}
