//! Patients and declarations.

use super::super::CentralStore;
use super::super::declarations::{Declaration, NewDeclaration};
use super::super::patients::Origin;
use super::super::query::DocumentFilter;
use super::super::sql::sql;
use super::fixtures::*;
use idr_ihe::metadata::PatientId;
use idr_profile::access::{
    Authorisation, AuthorisationType, Consent, DateRange, Denial, DenialStatus, DenialTarget, Freshness, Informed, KnownEvent,
    PatientState, RegisterEntry, Sector,
};
use jiff::civil::{Date, date};
use std::sync::Arc;

async fn declare(store: &dyn CentralStore, id: &str, patient: Option<&PatientId>, declaration: &Declaration) -> u64 {
    let mut tx = store.begin().await.unwrap();
    let new = NewDeclaration { id, patient, declaration, detail: "{}", recorded_at: at(0) };
    let version = tx.record_declaration(&new).await.unwrap();
    tx.commit().await.unwrap();
    version
}

async fn state(store: &dyn CentralStore, patient: &PatientId) -> PatientState {
    store.read().await.unwrap().patient_state(patient, Freshness::Store { confirmed: at(0) }).await.unwrap()
}

fn denial(id: &str, status: DenialStatus) -> Declaration {
    Declaration::Denial(Denial {
        id: id.into(),
        target: DenialTarget::Provider { controller: COUNTY.into() },
        emergency_allowed: false,
        data_from: None,
        data_to: None,
        valid_from: SINCE,
        set_on: SINCE,
        status,
    })
}

fn authorisation(id: &str, scope: AuthorisationType) -> Declaration {
    Declaration::Authorisation(Authorisation {
        id: id.into(),
        scope,
        producer: "1.2.246.10.90000046.19.0".into(),
        organiser: COUNTY.into(),
        search: vec![RegisterEntry { register: "2".into(), specifier: None }],
        storage: Vec::new(),
        valid: DateRange { from: SINCE, to: SINCE },
        all_documents: true,
        dates: None,
        service_events: Vec::new(),
    })
}

const SINCE: Date = date(2026, 1, 1);

pub async fn every_declaration_raises_the_store_version_and_counts_at_once(store: Arc<dyn CentralStore>) {
    let before = state(&*store, &patient()).await;
    assert_eq!((before.store_version, before.informed, before.ids), (0, Informed::None, vec![patient()]), "an unknown patient");
    let steps = [
        Declaration::Withdrawal { sector: Sector::Health, since: SINCE },
        Declaration::Informing { since: SINCE },
        Declaration::Consent { sector: Sector::Health, since: SINCE },
        denial("d1", DenialStatus::Active),
        Declaration::Withdrawal { sector: Sector::Health, since: SINCE },
    ];
    for (n, step) in steps.iter().enumerate() {
        let version = n as u64 + 1;
        assert_eq!(declare(&*store, &format!("id{n}"), Some(&patient()), step).await, version);
        let state = state(&*store, &patient()).await;
        assert_eq!(state.store_version, version);
        let expected = match n {
            0 | 1 => Consent::None,
            2 | 3 => Consent::Active { since: SINCE },
            _ => Consent::Withdrawn { since: SINCE },
        };
        assert_eq!(state.consent(Sector::Health), expected, "step {n}");
        assert_eq!(state.informed == Informed::Given { since: SINCE }, n >= 1, "step {n}");
        assert_eq!(state.denials.len(), usize::from(n >= 3), "step {n}");
    }
    let other = state(&*store, &other_patient()).await;
    assert_eq!((other.store_version, other.denials.len(), other.consent(Sector::Health)), (5, 0, Consent::None), "nobody else's");
}

pub async fn a_later_version_of_a_declaration_takes_the_place_of_the_earlier(store: Arc<dyn CentralStore>) {
    declare(&*store, "d1", Some(&patient()), &denial("d1", DenialStatus::Active)).await;
    declare(&*store, "d2", Some(&patient()), &denial("d2", DenialStatus::Active)).await;
    declare(&*store, "d1", Some(&patient()), &denial("d1", DenialStatus::Ended)).await;
    let denials = state(&*store, &patient()).await.denials;
    let denials: Vec<_> = denials.iter().map(|denial| (denial.id.as_str(), denial.status)).collect();
    assert_eq!(denials, [("d2", DenialStatus::Active), ("d1", DenialStatus::Ended)]);
    let mut tx = store.begin().await.unwrap();
    let versions = tx.rows(sql("SELECT body FROM declarations")).await.unwrap().len();
    assert_eq!(versions, 3, "versions are never overwritten");
}

pub async fn an_unreadable_declaration_closes_everything_but_own_use(store: Arc<dyn CentralStore>) {
    declare(&*store, "d1", Some(&patient()), &denial("d1", DenialStatus::Active)).await;
    for body in ["{", "{\"denial\":{}}", "{\"never_heard_of\":{}}", "{\"consent\":{\"sector\":\"astral\",\"since\":\"2026-01-01\"}}"] {
        let mut tx = store.begin().await.unwrap();
        tx.execute(sql("UPDATE declarations SET body = $1").bind(body)).await.unwrap();
        tx.commit().await.unwrap();
        assert!(state(&*store, &patient()).await.unreadable, "{body}");
        assert!(!state(&*store, &other_patient()).await.unreadable, "{body}");
    }
}

pub async fn an_authorisation_of_everybody_is_in_every_state(store: Arc<dyn CentralStore>) {
    declare(&*store, "a1", None, &authorisation("a1", AuthorisationType::Population)).await;
    let own = AuthorisationType::Patient { recorded_under: patient() };
    declare(&*store, "a2", Some(&patient()), &authorisation("a2", own)).await;
    let ids = |state: PatientState| state.authorisations.into_iter().map(|authorisation| authorisation.id).collect::<Vec<_>>();
    assert_eq!(ids(state(&*store, &patient()).await), ["a1", "a2"]);
    assert_eq!(ids(state(&*store, &other_patient()).await), ["a1"]);
    let mut tx = store.read().await.unwrap();
    assert_eq!(ids(tx.common_state(Freshness::Store { confirmed: at(0) }).await.unwrap()), ["a1"]);
}

pub async fn an_old_identifier_names_the_same_patient(store: Arc<dyn CentralStore>) {
    let temporary = PatientId { id: "T1".into(), authority: "1.2.246.10.12345671.22.2026".into() };
    Case::new(1).commit(&*store).await;
    let mut tx = store.begin().await.unwrap();
    let key = tx.patient_key(&patient()).await.unwrap().unwrap();
    assert!(tx.add_alias(&temporary, &key, at(1)).await.unwrap());
    assert!(!tx.add_alias(&temporary, &key, at(2)).await.unwrap(), "it names somebody");
    tx.describe_patient(&key, Some(date(1990, 1, 1)), &["TURVAKIELTO".into()]).await.unwrap();
    let event = KnownEvent { controller: COUNTY.into(), start: Some(SINCE), end: None };
    assert!(tx.record_service_event("1.2.246.10.90000011.14.2026.1", &key, &patient(), &event, None).await.unwrap());
    tx.commit().await.unwrap();
    Case::new(2).change(|entry, _| entry.patient_id = temporary.clone()).commit(&*store).await;

    let state = state(&*store, &temporary).await;
    assert_eq!(state.ids, [patient(), temporary.clone()], "the surviving id first");
    assert_eq!((state.birth_date, &state.labels[..]), (Some(date(1990, 1, 1)), &["TURVAKIELTO".to_owned()][..]));
    assert_eq!(state.service_events["1.2.246.10.90000011.14.2026.1"], event);
    let mut tx = store.read().await.unwrap();
    for id in [patient(), temporary.clone()] {
        let found = tx.documents_found(&id, &DocumentFilter::default(), 10).await.unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|(unit, entry)| unit.patient == patient() && entry.patient_id == patient()), "answers show the survivor");
        assert_eq!(found[0].0.recorded_under, None);
        assert_eq!(found[1].0.recorded_under, Some(temporary.clone()));
    }
    assert_eq!(tx.patient_keys(&[temporary.clone(), other_patient()]).await.unwrap(), [(temporary, key)]);
}

pub async fn the_first_object_makes_the_patient_and_later_ones_find_it(store: Arc<dyn CentralStore>) {
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.patient(&patient()).await.unwrap(), None);
    let key = tx.ensure_patient(&patient(), Origin::Feed, at(0)).await.unwrap();
    assert_eq!(tx.ensure_patient(&patient(), Origin::Registration, at(1)).await.unwrap(), key);
    tx.lock_patient(&key).await.unwrap();
    tx.commit().await.unwrap();
    store_instances(&*store, [instance(1)]).await;
    let mut tx = store.read().await.unwrap();
    assert_eq!(tx.patient(&patient()).await.unwrap().unwrap().key, key);
    assert_eq!(tx.rows(sql("SELECT patient_key FROM patients")).await.unwrap().len(), 1);
}
