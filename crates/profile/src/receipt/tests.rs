use super::*;
use crate::digest::Digester;
use aws_lc_rs::signature::Ed25519KeyPair;

fn signer() -> Signer {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).expect("randomness");
    Signer::from_pkcs8(pkcs8.as_ref()).expect("a fresh key")
}

fn site() -> Holder {
    Holder::new("1.2.246.10.12345671.10.0", "site-1").expect("valid")
}

fn centre() -> Holder {
    Holder::new("1.2.246.10.12345671.12.100", "central-1").expect("valid")
}

fn object(n: u8) -> Object {
    let mut digester = Digester::new("1.2.840.10008.1.2.1");
    digester.update(&[n]);
    Object {
        sop_instance_uid: format!("1.2.246.10.12345671.77.20260115.1.3.{n}"),
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".into(),
        study_uid: "1.2.246.10.12345671.77.20260115.1".into(),
        transfer_syntax_uid: "1.2.840.10008.1.2.1".into(),
        digest: digester.finish(),
        size_bytes: 1,
    }
}

fn source() -> Source {
    Source { calling_ae_title: Some("CT1".into()), certificate_sha256: Some([0xAB; 32]) }
}

/// A holder that chains as the committer does.
struct Chain {
    signer: Signer,
    holder: Holder,
    ids: Ids,
    last: Option<ReceiptHash>,
}

impl Chain {
    fn new(holder: Holder) -> Self {
        Self { signer: signer(), holder, ids: Ids::default(), last: None }
    }

    fn say(&mut self, statement: Statement) -> Carried {
        let at: Timestamp = "2026-01-15T08:27:41.1239Z".parse().expect("valid");
        let receipt = Receipt { id: self.ids.next(at, [7; 10]), at, holder: self.holder.clone(), log_prev: self.last, statement };
        let carried = self.signer.sign(receipt);
        self.last = Some(carried.hash());
        carried
    }

    fn accept(&mut self, n: u8) -> Carried {
        self.say(Statement::Acceptance { object: object(n), source: source() })
    }

    fn verifier(&self) -> Verifier {
        Verifier::new([&self.signer.to_receipt_key(&self.holder)]).expect("own key")
    }

    fn walk(&self, log: &[&Carried]) -> Vec<LogFault> {
        let mut walk = LogWalk::new(self.verifier(), None);
        log.iter().for_each(|carried| walk.push(carried));
        walk.finish(None)
    }
}

/// One receipt of each type, as the life of one object makes them.
fn life() -> (Chain, Chain, Vec<Carried>) {
    let (mut site, mut centre) = (Chain::new(site()), Chain::new(centre()));
    let r1 = site.accept(1);
    let r2 = site.say(Statement::HandOver {
        object: object(1),
        source: source(),
        acceptance: r1.hash(),
        attempt: "0199c0de-0000-7000-8000-000000000001".into(),
        overrides: vec!["D421".into()],
        sent_digest: None,
    });
    let r3 = centre.say(Statement::Commit { object: object(1), source: source(), acceptance: Some(r1.hash()) });
    let r4 = centre.say(Statement::Registration {
        study_uid: object(1).study_uid,
        source: Source { calling_ae_title: None, certificate_sha256: Some([1; 32]) },
        document_uid: "2.25.174944059483789521284782653158387731653".into(),
        commits: Commits::of(vec![r3.hash()]),
    });
    let ground = Ground::Receipts { commit: r3.hash(), registration: r4.hash() };
    let r5 = site.say(Statement::Release { object: object(1), source: source(), ground });
    let recovery = site.say(Statement::Recovery { missing: vec![ReceiptHash::of(b"never durable")] });
    let key = site.say(Statement::Key { new_key: signer().public_key() });
    (site, centre, vec![r1, r2, r3, r4, r5, recovery, key])
}

#[test]
fn what_is_written_is_the_canonical_form_and_is_read_back_equal() {
    let (_, _, receipts) = life();
    for carried in &receipts {
        let value: serde_json::Value = serde_json::from_str(carried.canonical()).expect("JSON");
        assert_eq!(canonical(&value).expect("integers"), carried.canonical());
        assert_eq!(Carried::parse(&carried.to_json()).as_ref(), Ok(carried));
        let value: serde_json::Value = serde_json::from_str(&carried.to_json()).expect("JSON");
        assert_eq!(Carried::from_value(&value).as_ref(), Ok(carried));
    }
}

#[test]
fn an_acceptance_has_the_fields_of_the_profile_and_no_others() {
    let carried = Chain::new(site()).accept(1);
    let value: serde_json::Value = serde_json::from_str(carried.canonical()).expect("JSON");
    let names: Vec<_> = value.as_object().expect("object").keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "alg",
            "at",
            "digest",
            "holder",
            "id",
            "kid",
            "log_prev",
            "prev",
            "size_bytes",
            "sop_class_uid",
            "sop_instance_uid",
            "source",
            "study_uid",
            "transfer_syntax_uid",
            "type",
            "v"
        ]
    );
    assert_eq!(value["type"], "R1");
    assert_eq!(value["at"], "2026-01-15T08:27:41.123Z");
    assert_eq!(value["prev"], serde_json::Value::Null);
}

#[test]
fn the_signature_is_a_detached_jws_over_the_canonical_form() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    let chain = Chain::new(site());
    let carried = Chain { signer: signer(), ..chain }.accept(1);
    let (header, signature) = carried.jws().split_once("..").expect("detached");
    let header_json: serde_json::Value = serde_json::from_slice(&B64.decode(header).expect("base64url")).expect("JSON");
    assert_eq!(header_json, serde_json::json!({"alg": "EdDSA", "kid": carried.kid()}));
    assert_eq!(B64.decode(signature).expect("base64url").len(), 64);
}

#[test]
fn changing_any_byte_of_a_receipt_is_detected() {
    let (site, centre, receipts) = life();
    let mut verifier =
        Verifier::new([&site.signer.to_receipt_key(&site.holder), &centre.signer.to_receipt_key(&centre.holder)]).expect("keys");
    for carried in &receipts {
        verifier.learn(carried).expect("holds");
        let text = carried.to_json().into_bytes();
        for position in 0..text.len() {
            for change in [1, 2, 0x20] {
                let mut changed = text.clone();
                changed[position] ^= change;
                let Ok(changed) = String::from_utf8(changed) else { continue };
                let read = Carried::parse(&changed);
                assert!(read.is_err() || read.is_ok_and(|read| verifier.verify(&read).is_err()), "{position}: {changed}");
            }
        }
    }
}

#[test]
fn a_key_of_another_holder_signs_nothing() {
    let (site, centre, receipts) = life();
    let stolen = ReceiptKey { holder: centre.holder.to_string(), ..site.signer.to_receipt_key(&site.holder) };
    let verifier = Verifier::new([&stolen]).expect("well formed");
    assert_eq!(verifier.verify(&receipts[0]), Err(SignatureFault::Holder { named: site.holder.clone(), owner: centre.holder }));
    assert!(matches!(Verifier::default().verify(&receipts[0]), Err(SignatureFault::UnknownKey { .. })));
    let swapped = ReceiptKey { kid: "0".repeat(64), ..stolen };
    assert_eq!(Verifier::new([&swapped]).err(), Some(KeyError::Kid));
}

#[test]
fn receipts_keep_their_sizes() {
    let mut chain = Chain::new(Holder::new(&format!("1.2.246.10.{}", "1".repeat(53)), &"n".repeat(32)).expect("64 characters"));
    chain.last = Some(ReceiptHash::of(b"before"));
    let uid = format!("1.2.{}", "3".repeat(60));
    let longest = Object {
        sop_instance_uid: uid.clone(),
        sop_class_uid: uid.clone(),
        study_uid: uid.clone(),
        transfer_syntax_uid: uid.clone(),
        digest: object(1).digest,
        size_bytes: (1 << 53) - 1,
    };
    let source = Source { calling_ae_title: Some("A".repeat(16)), certificate_sha256: Some([0; 32]) };
    let r1 = chain.say(Statement::Acceptance { object: longest, source: source.clone() });
    assert!(r1.canonical().len() <= 1_024, "{}", r1.canonical().len());
    let commits = Commits::of((0..64).map(|n| ReceiptHash::from_bytes([n; 32])).collect());
    let r4 = chain.say(Statement::Registration { study_uid: uid.clone(), source, document_uid: uid, commits });
    assert!(r4.to_json().len() <= 6_144, "{}", r4.to_json().len());
}

#[test]
fn more_than_64_commits_are_named_by_their_root() {
    let hashes: Vec<_> = (0..65).map(|n| ReceiptHash::from_bytes([n; 32])).collect();
    assert!(matches!(Commits::of(hashes[..64].to_vec()), Commits::Listed(listed) if listed.len() == 64));
    let root = Commits::of(hashes.clone());
    assert_eq!(root, Commits::Root(merkle_root(hashes.iter().map(|hash| *hash.as_bytes()))));
    assert!(root.are(&hashes) && !root.are(&hashes[1..]));
}

#[test]
fn a_field_of_another_type_is_refused() {
    let (_, _, receipts) = life();
    for (index, name, value) in [
        (0, "attempt", serde_json::json!("x")),
        (1, "commitment", serde_json::json!("1.2")),
        (2, "r3", serde_json::json!([])),
        (0, "name", serde_json::json!("x")),
    ] {
        let mut json: serde_json::Value = serde_json::from_str(&receipts[index].to_json()).expect("JSON");
        json["receipt"][name] = value;
        assert!(Carried::from_value(&json).is_err(), "{name}");
    }
}

#[test]
fn an_unbroken_log_holds_also_over_a_key_rotation() {
    let mut chain = Chain::new(site());
    let first = chain.verifier();
    let mut log = vec![chain.accept(1), chain.accept(2)];
    let next = signer();
    log.push(chain.say(Statement::Key { new_key: next.public_key() }));
    chain.signer = next;
    log.push(chain.accept(3));
    let mut walk = LogWalk::new(first, None);
    log.iter().for_each(|carried| walk.push(carried));
    assert_eq!(walk.count(), 4);
    assert_eq!(walk.finish(chain.last), []);
}

#[test]
fn removing_swapping_repeating_or_cutting_is_detected() {
    let mut chain = Chain::new(site());
    let log: Vec<_> = (0..6).map(|n| chain.accept(n)).collect();
    let all: Vec<_> = log.iter().collect();
    assert_eq!(chain.walk(&all), []);
    for at in 0..5 {
        let mut removed = all.clone();
        removed.remove(at);
        assert!(!chain.walk(&removed).is_empty(), "removed {at}");
        let mut swapped = all.clone();
        swapped.swap(at, at + 1);
        assert!(!chain.walk(&swapped).is_empty(), "swapped {at}");
        let mut repeated = all.clone();
        repeated.insert(at, all[at]);
        assert!(!chain.walk(&repeated).is_empty(), "repeated {at}");
    }
    let mut cut = LogWalk::new(chain.verifier(), None);
    all[..5].iter().for_each(|carried| cut.push(carried));
    assert_eq!(cut.finish(chain.last), [LogFault::Head { head: all[5].hash() }]);
}

#[test]
fn a_break_is_accepted_only_when_a_later_recovery_record_names_it() {
    let mut chain = Chain::new(site());
    let log: Vec<_> = (0..5).map(|n| chain.accept(n)).collect();
    let durable = [&log[0], &log[2], &log[4]];
    let missing = gaps(None, durable.iter().map(|carried| (carried.receipt(), carried.hash())));
    assert_eq!(missing, [log[1].hash(), log[3].hash()]);
    let recovery = chain.say(Statement::Recovery { missing: missing.clone() });
    let after = chain.accept(5);
    assert_eq!(chain.walk(&[durable[0], durable[1], durable[2], &recovery, &after]), []);
    // One hash fewer, or the record before the break: not accepted.
    assert_eq!(
        chain.walk(&[durable[0], durable[1], durable[2]]),
        [
            LogFault::Break { id: log[2].receipt().id, missing: missing[0] },
            LogFault::Break { id: log[4].receipt().id, missing: missing[1] }
        ]
    );
    let later = chain.accept(6);
    assert!(!chain.walk(&[durable[0], durable[1], durable[2], &recovery, &later]).is_empty());
    // The next recovery names only what is new.
    assert_eq!(gaps(None, [durable[0], durable[1], durable[2], &recovery, &later].iter().map(|c| (c.receipt(), c.hash()))), [after.hash()]);
}

#[test]
fn receipts_that_name_each_other_speak_of_one_object() {
    let (mut site, mut centre, receipts) = life();
    assert_eq!(check_references(&receipts), []);
    let other = site.accept(2);
    let wrong = centre.say(Statement::Commit { object: object(1), source: source(), acceptance: Some(other.hash()) });
    let id = wrong.receipt().id;
    assert_eq!(check_references([&other, &wrong]), [ReferenceFault::Object { id, kind: Kind::Acceptance, field: "sop_instance_uid" }]);
    let absent = check_references([&wrong]);
    assert!(matches!(absent.as_slice(), [fault @ ReferenceFault::Absent { .. }] if !fault.is_proof()));
    let twice = site.accept(1);
    assert!(matches!(check_references([&receipts[0], &twice]).as_slice(), [ReferenceFault::SecondAcceptance { .. }]));
    let unlisted = site.say(Statement::Release {
        object: object(1),
        source: source(),
        ground: Ground::Receipts { commit: wrong.hash(), registration: receipts[3].hash() },
    });
    let faults = check_references([&other, &wrong, &receipts[2], &receipts[3], &unlisted]);
    assert!(faults.contains(&ReferenceFault::Unlisted { id: unlisted.receipt().id }), "{faults:?}");
}

#[test]
fn a_commit_after_transcoding_is_compared_with_what_was_sent() {
    let (mut site, mut centre) = (Chain::new(site()), Chain::new(centre()));
    let r1 = site.accept(1);
    let sent = Object { transfer_syntax_uid: "1.2.840.10008.1.2.4.80".into(), digest: object(9).digest, size_bytes: 7, ..object(1) };
    let r3 = centre.say(Statement::Commit { object: sent.clone(), source: source(), acceptance: Some(r1.hash()) });
    assert!(matches!(check_references([&r1, &r3]).as_slice(), [ReferenceFault::Object { field: "transfer_syntax_uid", .. }]));
    let r2 = site.say(Statement::HandOver {
        object: object(1),
        source: source(),
        acceptance: r1.hash(),
        attempt: "1".into(),
        overrides: Vec::new(),
        sent_digest: Some(sent.digest),
    });
    assert_eq!(check_references([&r1, &r2, &r3]), []);
}

#[test]
fn an_object_is_compared_by_digest_and_length() {
    let carried = Chain::new(site()).accept(1);
    assert_eq!(check_object(carried.receipt(), object(1).digest, 1), Ok(()));
    assert_eq!(check_object(carried.receipt(), object(1).digest, 2), Err("size_bytes"));
    assert_eq!(check_object(carried.receipt(), object(2).digest, 1), Err("digest"));
}
