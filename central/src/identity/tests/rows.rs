//! One message after the other.

use super::*;
use idr_profile::access::DenialTarget;

fn denial(emergency_allowed: bool) -> Act {
    Act::Denial { target: DenialTarget::All, emergency_allowed, data_from: None, data_to: None, valid_from: None }
}

fn denials(state: &PatientState) -> Vec<bool> {
    state.denials.iter().map(|denial| denial.emergency_allowed).collect()
}

#[tokio::test]
async fn messages_are_answered_as_the_rows_say() {
    let (h1, h2, t1, t2) = (hetu(H1), hetu(H2), temporary(1), temporary(2));
    let a28 = |id: &str| person("A28", id, &t1);
    // Each row on its own centre: messages, and the answer to each.
    let rows: Vec<(&str, Vec<(String, &str)>)> = vec![
        ("I03", vec![(merge("1", &t1, &h1), "AA W-10"), (person("A28", "2", &t1), "AA W-12")]),
        ("I04", vec![(a28("1"), "AA"), (a28("1"), "AA"), (a28("1").replace("20260120104000", "20260120105000"), "AA")]),
        ("I05", vec![(a28("1"), "AA"), (a28("1").replace("TAINA", "TEINA"), "AE IDR-H-11"), (a28("2"), "AA")]),
        ("I06", vec![(merge("1", &t1, &t2), "AA W-10"), (merge("2", &t2, &t1), "AE IDR-H-15")]),
        ("I08", vec![(merge("1", &h1, &t1), "AE IDR-H-15")]),
        ("I09 without", vec![(merge("1", &h1, &h2), "AE IDR-H-15")]),
        ("I09 with", vec![(merge_by("MPI", "1", &h1, &h2), "AA W-10")]),
        ("I19", vec![(a28("1").replace('\r', "\r\n"), "AA")]),
        ("I18", vec![(a28("1").replace('^', "$"), "AA")]),
        ("I21", vec![(a28("1").replace("A-SAIRAALA", "C-SAIRAALA"), "AR IDR-H-14")]),
        ("I22 version", vec![(a28("1").replace("2.5.1", "2.6"), "AR IDR-H-05")]),
        ("I22 event", vec![(a28("1").replace("A28", "A23"), "AR IDR-H-03")]),
        ("I22 type", vec![(a28("1").replace("ADT^A28", "ORM^O01"), "AR IDR-H-02")]),
        ("I22 production", vec![(a28("1").replace("|T|", "|P|"), "AR IDR-H-04")]),
        ("I23", vec![(told("HIS", "A02", "1", "", &[]), "AA")]),
        ("no right to merge", vec![(merge_by("RIS", "1", &t1, &h1), "AR IDR-H-14")]),
        ("A40 twice", vec![(merge("1", &t1, &h1), "AA W-10"), (merge("2", &t1, &h1), "AA")]),
        ("A40 to another hetu", vec![(merge("1", &t1, &h1), "AA W-10"), (merge("2", &t1, &h2), "AE IDR-H-15")]),
        ("A47 of nobody", vec![(rename("HIS", "1", &t1, &t2), "AE IDR-H-10")]),
        ("A47", vec![(a28("1"), "AA"), (rename("HIS", "2", &t1, &h1), "AA"), (rename("HIS", "3", &t1, &h1), "AA")]),
        ("A47 of a hetu without right", vec![(person("A28", "1", &h1), "AA"), (rename("HIS", "2", &h1, &h2), "AE IDR-H-15")]),
        ("A37 before A24", vec![(link("A37", "1", &t1, &h1), "AE IDR-H-10")]),
        ("A08 before A28", vec![(told("HIS", "A08", "1", "20260120103000", &[pid(&t1), "PV1|1|O".to_owned()]), "AA")]),
        (
            "a refused message may be sent again",
            vec![(rename("HIS", "1", &t1, &t2), "AE IDR-H-10"), (a28("2"), "AA"), (rename("HIS", "1", &t1, &t2), "AA")],
        ),
    ];
    for (row, messages) in rows {
        let world = World::new().await;
        for (at, (message, expected)) in messages.iter().enumerate() {
            assert_eq!(world.tell(message).await, *expected, "{row}, message {}", at + 1);
        }
    }
}

#[tokio::test]
async fn a_message_is_done_once() {
    let world = World::new().await;
    let message = person("A28", "1", &temporary(1));
    world.done(std::slice::from_ref(&message)).await;
    let records = world.sink.entries().len();
    assert_eq!(records, 2, "opening and closing");
    world.done(&[message]).await;
    assert_eq!(world.sink.entries().len(), records, "nothing happened the second time");
    assert_eq!(world.central.counters.feed.repeated.value(), 1);
}

#[tokio::test]
async fn i07_and_merges_of_a_chain_resolve_to_its_end() {
    let world = World::new().await;
    let (t, u, h) = (temporary(1), temporary(2), hetu(H1));
    world.done(&[person("A28", "1", &t), person("A28", "2", &u), person("A28", "3", &h), merge("4", &t, &u), merge("5", &u, &h)]).await;
    for id in [&t, &u, &h] {
        assert_eq!(world.head(id).await, H1);
    }
}

#[tokio::test]
async fn i10_i12_denials_go_with_the_patient_and_of_two_the_absolute_one_counts() {
    let world = World::new().await;
    let (t, h) = (temporary(1), hetu(H1));
    world.declare(&t, denial(false)).await;
    world.done(&[merge("1", &t, &h)]).await;
    assert_eq!(denials(&world.state(&h).await), [false], "I10");
    let world = World::new().await;
    world.declare(&h, denial(true)).await;
    world.declare(&t, denial(false)).await;
    world.done(&[merge("1", &t, &h)]).await;
    assert_eq!(denials(&world.state(&h).await), [false, false], "I12");
    world.split(&world.last_merge(&h).await).await;
    assert_eq!((denials(&world.state(&h).await), denials(&world.state(&t).await)), (vec![true], vec![false]), "as it was");
}

#[tokio::test]
async fn i11_consents_are_combined_and_separated_again() {
    for (survivor, old, both) in [
        ("none", "active", "active"),
        ("none", "withdrawn", "withdrawn"),
        ("active", "none", "active"),
        ("active", "active", "active"),
        ("active", "withdrawn", "withdrawn"),
        ("withdrawn", "none", "withdrawn"),
        ("withdrawn", "active", "withdrawn"),
        ("withdrawn", "withdrawn", "withdrawn"),
    ] {
        let world = World::new().await;
        let (t, h) = (temporary(1), hetu(H1));
        world.done(&[person("A28", "1", &t), person("A28", "2", &h)]).await;
        // The consent of the survivor is the later one: what was recorded last must not decide.
        for (id, has) in [(&t, old), (&h, survivor)] {
            if has != "none" {
                world.consent(id).await;
            }
            if has == "withdrawn" {
                world.declare(id, Act::Withdrawal { sector: Sector::Health }).await;
            }
        }
        let version = world.state(&h).await.store_version;
        world.done(&[merge("3", &t, &h)]).await;
        for id in [&t, &h] {
            assert_eq!(health(&world.state(id).await), both, "{survivor} with {old}");
        }
        assert!(world.state(&h).await.store_version > version, "every permit is decided anew");
        assert_eq!(world.reviews(&h).await.is_empty(), survivor == old || old == "none", "{survivor} with {old}");
        world.split(&world.last_merge(&h).await).await;
        assert_eq!((health(&world.state(&h).await), health(&world.state(&t).await)), (survivor, old), "taken back");
    }
}

#[tokio::test]
async fn i13_a_denial_of_after_the_merge_holds_for_both_when_it_is_taken_back() {
    let world = World::new().await;
    let (t, h) = (temporary(1), hetu(H1));
    world.consent(&t).await;
    world.done(&[person("A28", "1", &h), merge("2", &t, &h)]).await;
    world.declare(&h, denial(false)).await;
    world.declare(&t, denial(true)).await;
    world.declare(&h, Act::Withdrawal { sector: Sector::Health }).await;
    world.split(&world.last_merge(&h).await).await;
    let (survivor, old) = (world.state(&h).await, world.state(&t).await);
    assert_eq!((denials(&survivor).len(), denials(&old).len()), (2, 2));
    assert_eq!(health(&old), "withdrawn", "the withdrawal of after the merge");
    assert_eq!((world.head(&t).await, world.head(&h).await), (t.id.clone(), H1.to_owned()));
    let mut tx = world.central.store.read().await.expect("a store");
    let ids: Vec<String> = survivor.denials.iter().chain(&old.denials).map(|denial| denial.id.clone()).collect();
    for id in &ids {
        assert_eq!(ids.iter().filter(|other| *other == id).count(), 1, "each denial can be ended by itself");
        assert!(tx.declaration(id).await.expect("readable").is_some());
    }
}

#[tokio::test]
async fn i15_what_is_older_changes_nothing_and_the_first_source_counts() {
    let world = World::new().await;
    let h = hetu(H1);
    let of = |source: &str, id: &str, as_of: &str, birth: &str| {
        told(source, "A31", id, as_of, &[format!("PID|1||{}||TESTINEN^TAINA||{birth}", h.to_cx())])
    };
    let birth = async || world.known(&h).await.expect("known").birth_date.map(|date| date.to_string());
    assert_eq!(world.tell(of("HIS", "1", "20260120100000", "19900101")).await, "AA");
    assert_eq!(world.tell(of("HIS", "2", "20260120095959", "19900102")).await, "AA W-02 W-11");
    assert_eq!(birth().await.as_deref(), Some("1990-01-01"), "older");
    assert_eq!(world.tell(of("HIS", "3", "20260120100001", "19900103")).await, "AA W-02");
    assert_eq!(birth().await.as_deref(), Some("1990-01-03"), "newer");
    assert_eq!(world.tell(of("MPI", "1", "20260119000000", "19900104")).await, "AA W-02");
    assert_eq!(birth().await.as_deref(), Some("1990-01-04"), "older, of a source that counts before");
    assert_eq!(world.tell(of("HIS", "4", "20260120102000", "19900105")).await, "AA W-02");
    assert_eq!(birth().await.as_deref(), Some("1990-01-04"), "newer, of a source that counts after");
}

#[tokio::test]
async fn i16_i17_text_is_kept_in_its_character_set() {
    let (world, h) = (World::new().await, hetu(H1));
    let mut name = told("HIS", "A28", "1", "20260120103000", &[]).replace("2.5.1\r", "2.5.1||||||8859/15\r").into_bytes();
    name.extend(format!("\rPID|1||{}||", h.to_cx()).bytes());
    name.extend(b"\xa6EVEL^T");
    assert_eq!(world.tell(&name).await, "AA");
    let family = async || {
        let mut tx = world.central.store.read().await.expect("a store");
        let key = tx.patient_key(&h).await.expect("readable").expect("known");
        feed::shown(&world.central, &mut tx, &key).await.expect("readable").name.expect("a name").family
    };
    assert_eq!(family().await, "\u{160}EVEL", "I16");
    let utf8 = told("HIS", "A31", "2", "20260120103000", &[format!("PID|1||{}||ÄIJÄ^T", h.to_cx())]);
    assert_eq!(world.tell(&utf8).await, "AA", "I17: UTF-8 read as 8859/1");
    assert_eq!(family().await, "Ã\u{84}IJÃ\u{84}", "as read");
}

#[tokio::test]
async fn i20_a_message_above_the_bound_is_answered() {
    let world = World::new().await;
    let head = person("A28", "1", &temporary(1)).into_bytes();
    let answer = feed::receive(&world.central, &sender(), Frame::TooLarge(head)).await;
    assert_eq!((said(&answer.bytes).as_str(), answer.close), ("AR IDR-H-16", false));
    let answer = feed::receive(&world.central, &sender(), Frame::Message(b"GET / HTTP/1.1".to_vec())).await;
    assert_eq!((said(&answer.bytes).as_str(), answer.close), ("AR IDR-H-06", true), "no header");
    let elsewhere = Sender { organisation: Some("1.2.246.10.90000038".to_owned()), ..sender() };
    let answer = feed::receive(&world.central, &elsewhere, Frame::Message(person("A28", "1", &temporary(1)).into_bytes())).await;
    assert_eq!(said(&answer.bytes), "AR IDR-H-14", "the source of another organisation");
}

#[tokio::test]
async fn i24_of_groups_all_or_none_are_done() {
    let world = World::new().await;
    let (t1, t2, h1, h2) = (temporary(1), temporary(2), hetu(H1), hetu(H2));
    let groups = |second: &PatientId| {
        let of = |old: &PatientId, survivor: &PatientId| [pid(survivor), format!("MRG|{}", old.to_cx())];
        told("HIS", "A40", "1", "20260120103000", &[of(&t1, &h1), of(&t2, second)].concat())
    };
    // t1 is h1's by the first group, so that the second one is of two hetus.
    let bad =
        told("HIS", "A40", "1", "20260120103000", &[pid(&h1), format!("MRG|{}", t1.to_cx()), pid(&h2), format!("MRG|{}", t1.to_cx())]);
    assert_eq!(world.tell(&bad).await, "AE IDR-H-15");
    for id in [&t1, &h1, &h2] {
        assert_eq!(world.head(id).await, "nobody", "none of it");
    }
    assert_eq!(world.tell(groups(&h2)).await, "AA W-10 W-10");
    assert_eq!((world.head(&t1).await, world.head(&t2).await), (H1.to_owned(), H2.to_owned()));
}

#[tokio::test]
async fn i25_a_local_time_that_exists_twice_is_the_first() {
    let world = World::new().await;
    let h = hetu(H1);
    assert_eq!(world.tell(told("HIS", "A28", "1", "20251026033000", &[pid(&h)])).await, "AA W-08");
    let mut tx = world.central.store.read().await.expect("a store");
    let key = tx.patient_key(&h).await.expect("readable").expect("known");
    assert_eq!(tx.told(&key).await.expect("readable")[0].as_of, "2025-10-26T00:30:00Z".parse().expect("an instant"));
}

#[tokio::test]
async fn i26_linked_patients_share_denials_and_nothing_else() {
    let world = World::new().await;
    let (a, b, c) = (hetu(H1), hetu(H2), temporary(3));
    world.consent(&b).await;
    let denied = world.declare(&a, denial(false)).await;
    world.done(&[link("A24", "1", &a, &b), link("A24", "2", &b, &c)]).await;
    for id in [&a, &b, &c] {
        assert_eq!(denials(&world.state(id).await), [false], "the union");
    }
    assert_eq!((world.state(&a).await.linked_denials.len(), world.state(&b).await.linked_denials), (0, [denied.id.clone()].into()));
    assert_eq!((health(&world.state(&a).await), health(&world.state(&b).await)), ("none", "active"), "consents are not shared");
    let own = world.declare(&b, denial(false)).await;
    assert!(!own.repeated && own.id != denied.id, "the same denial of a linked patient is not this patient's");
    assert_eq!(world.head(&a).await, H1, "no merge");
    // A merge and its reversal leave the link where it was.
    let t = temporary(4);
    world.done(&[person("A28", "3", &t), merge("4", &c, &t)]).await;
    assert_eq!(world.state(&t).await.denials.len(), 2);
    world.split(&world.last_merge(&t).await).await;
    assert_eq!((world.state(&t).await.denials.len(), world.state(&c).await.denials.len()), (0, 2));
    world.done(&[link("A37", "5", &a, &b)]).await;
    assert_eq!((denials(&world.state(&a).await).len(), denials(&world.state(&b).await).len()), (1, 1));
    assert_eq!(world.tell(link("A37", "6", &a, &b)).await, "AE IDR-H-10", "they are not linked any more");
}

#[tokio::test]
async fn i27_without_its_record_nothing_is_done() {
    let world = World::new().await;
    let t = temporary(1);
    world.sink.fail_at_opening("disk full");
    assert_eq!(world.tell(person("A28", "1", &t)).await, "AR IDR-H-13");
    assert_eq!(world.head(&t).await, "nobody");
    assert_eq!(world.tell(person("A28", "1", &t)).await, "AR IDR-H-13", "nor the next time");
}

#[tokio::test]
async fn ids_of_a_list_name_the_patient_and_one_of_another_is_looked_at() {
    let world = World::new().await;
    let (h, t1, t2) = (hetu(H1), temporary(1), temporary(2));
    let both = |a: &PatientId, b: &PatientId| format!("PID|1||{}~{}||T^T", a.to_cx(), b.to_cx());
    world.done(&[told("HIS", "A28", "1", "20260120103000", &[both(&t1, &h)]), person("A28", "2", &t2)]).await;
    assert_eq!((world.head(&t1).await, world.head(&t2).await), (H1.to_owned(), t2.id.clone()));
    assert_eq!(world.tell(told("HIS", "A31", "3", "20260120103000", &[both(&h, &t2)])).await, "AA");
    assert_eq!(world.head(&t2).await, t2.id, "an update is no merge");
    world.done(&[told("HIS", "A31", "3-again", "20260120103000", &[both(&h, &t2)])]).await;
    assert_eq!(world.reviews(&h).await, ["a message gives the patient an id of another patient"], "one task");
    // Of several temporary ids the one that is known is the patient's.
    let t3 = temporary(3);
    world.done(&[told("HIS", "A31", "4", "20260120103000", &[both(&t3, &t2)])]).await;
    assert_eq!(world.head(&t3).await, t2.id);
}

#[tokio::test]
async fn a_visit_makes_its_service_event_known_and_no_message_takes_it_away() {
    let world = World::new().await;
    let visit = |id: &str, patient: &PatientId, event: &str| {
        told(
            "HIS",
            "A04",
            id,
            "20260120103000",
            &[pid(patient), format!("PV1|1|O|{}{event}{}20260110080000", "|".repeat(16), "|".repeat(25))],
        )
    };
    let event = "1.2.246.10.90000011.14.2026.7";
    world.done(&[visit("1", &hetu(H1), event)]).await;
    let events = world.state(&hetu(H1)).await.service_events;
    assert_eq!(events[event].controller, format!("{HOSPITAL}.19.0"));
    assert_eq!((events[event].start, events[event].end), (Some(date(2026, 1, 10)), None));
    assert_eq!(world.tell(visit("2", &hetu(H2), event)).await, "AE IDR-H-11");
    assert_eq!(world.head(&hetu(H2)).await, "nobody", "nothing of it");
    assert_eq!(world.tell(visit("3", &hetu(H2), "1.2.246.10.90000038.14.2026.7")).await, "AR IDR-H-14", "another organisation's");
}

#[tokio::test]
async fn every_change_has_its_records_and_a_refused_merge_one() {
    let world = World::new().await;
    let (t, h) = (temporary(1), hetu(H1));
    world.done(&[person("A28", "1", &t), person("A28", "2", &h), merge("3", &t, &h)]).await;
    world.tell(merge("4", &h, &t)).await;
    let of = |field: &str| -> Vec<String> {
        let text = |value: &serde_json::Value| value[field].as_str().map(str::to_owned);
        world.sink.entries().iter().filter_map(|(_, entry)| text(&entry["opening"]).or_else(|| text(&entry["record"]))).collect()
    };
    assert_eq!(of("status"), ["A28 created", "A28 created", "A40 merged into", "A40 merged away", "AE"]);
    assert_eq!(of("kind"), ["U", "U", "U", "U", "R"]);
    assert_eq!(of("transaction").last().map(String::as_str), Some("ITI-30"));
}

#[tokio::test]
async fn messages_that_commute_end_in_the_same_state_in_every_order() {
    let (t1, t2, h, h2) = (temporary(1), temporary(2), hetu(H1), hetu(H2));
    let late = [person("A31", "late-1", &t1), person("A31", "late-2", &t2), person("A31", "late-3", &h)];
    let messages = [merge("m-1", &t1, &h), merge("m-2", &t2, &h), rename("MPI", "m-3", &h, &h2), late[0].clone(), late[2].clone()];
    let mut orders = vec![Vec::new()];
    for n in 0..messages.len() {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, n);
                    order
                })
            })
            .collect();
    }
    assert_eq!(orders.len(), 120);
    for order in orders {
        let world = World::new().await;
        world.declare(&t1, denial(false)).await;
        world.consent(&t2).await;
        world.done(&[person("A28", "first", &h)]).await;
        for n in &order {
            let said = world.tell(&messages[*n]).await;
            assert!(said.starts_with("AA"), "{order:?}: {said}");
        }
        world.tell(&late[1]).await;
        for id in [&t1, &t2, &h, &h2] {
            assert_eq!(world.head(id).await, H2, "{order:?}");
        }
        let state = world.state(&t1).await;
        assert_eq!((denials(&state), health(&state), state.ids.len()), (vec![false], "active", 4), "{order:?}");
    }
}
