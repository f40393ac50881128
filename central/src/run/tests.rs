//! A centre on disk: what a start makes, what a stop leaves, what a crash leaves.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, StatusCode};
use tower::ServiceExt as _;

use super::*;
use crate::audit::{BodyKey, Kind, Object, Record, tail, verify};
use crate::control::Operator;
use crate::control::fsck;
use crate::testing::{Instance, PKI, STUDY, config, patient, t0, trust};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("trust.toml"), trust()).expect("written");
        Self { folder }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn config(&self) -> Arc<Config> {
        let rules = concat!("rules = \"", env!("CARGO_MANIFEST_DIR"), "/../configs/rules\"");
        let changes = [
            ("path = \"/var/lib/idr-central\"", "path = \"state\""),
            ("rules = \"rules\"", rules),
            ("reserve_bytes = 10737418240", "reserve_bytes = 0"),
        ];
        Arc::new(config(&self.folder.path().join("idr-central.toml"), &changes))
    }

    async fn open(&self) -> anyhow::Result<Open> {
        Open::open(self.config(), t0).await
    }

    fn log(&self, stream: Stream) -> PathBuf {
        self.state().join(format!("audit/central-1.{}", stream.name()))
    }

    fn body_key(&self) -> BodyKey {
        Keys::new(self.state().join("keys")).body(false).expect("made at the start")
    }
}

async fn store(open: &Open, instance: &Instance) -> StatusCode {
    let file = instance.file();
    let body = [b"--b\r\nContent-Type: application/dicom\r\n\r\n".as_slice(), &file, b"\r\n--b--"].concat();
    let mut request = Request::post("/dicomweb/studies")
        .header(AUTHORIZATION, PKI.hospital.bearer(&PKI.hospital.site(&patient()), "idr.store"))
        .header(CONTENT_TYPE, "multipart/related; type=\"application/dicom\"; boundary=b")
        .body(Body::from(body))
        .expect("a request");
    request.extensions_mut().insert(PKI.hospital.client());
    https::router(open.central.clone()).oneshot(request).await.expect("an answer").status()
}

#[tokio::test]
async fn keys_are_made_at_the_first_start_and_stay_and_one_process_has_the_state() {
    let place = Place::new();
    let open = place.open().await.expect("a new state");
    assert!(place.open().await.is_err(), "the audit logs are locked");
    assert_eq!(store(&open, &Instance::ct(1)).await, StatusCode::OK);
    open.close().await;
    for name in ["receipt.ed25519.pk8", "audit-checkpoint.ed25519.pk8", "audit-body.key"] {
        let mode = std::fs::metadata(place.state().join("keys").join(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let open = place.open().await.expect("the same state");
    assert_eq!(store(&open, &Instance::ct(2)).await, StatusCode::OK);
    let holder = open.central.custody.holder().clone();
    let log =
        open.central.store.read().await.expect("readable").receipt_log(&Operator::of_tests(), &holder, None, 10).await.expect("readable");
    assert_eq!((log.len(), log[0].kid()), (2, log[1].kid()));
    open.close().await;
    std::fs::remove_file(place.state().join("keys/receipt.ed25519.pk8")).expect("there");
    assert!(place.open().await.is_err(), "a lost key is not replaced by itself");
}

#[tokio::test]
async fn records_that_a_crash_left_open_are_closed_by_what_became_of_their_commit() {
    let place = Place::new();
    let open = place.open().await.expect("a new state");
    assert_eq!(store(&open, &Instance::ct(1)).await, StatusCode::OK);
    for study in [STUDY, "1.2.246.10.90000011.77.404"] {
        let mut record = Record::new(open.central.new_id(), t0(), Kind::U, "central-1", "test", "STOW-RS", "store", Outcome::Permit, study);
        record.object = Some(Object { study: Some(study.to_owned()), ..Object::default() });
        let opening = open.central.audit.open(vec![record]).await.expect("kept");
        assert_eq!(opening.ids().count(), 1, "its closing never comes");
    }
    open.close().await;
    place.open().await.expect("recovered").close().await;
    let records = tail(&place.log(Stream::Use), 2, Some(&place.body_key())).expect("readable");
    let extent = |record: &crate::audit::Tailed| record.body.as_ref().expect("our key")["closing"]["delivered"]["extent"].clone();
    let extents: Vec<_> = records.iter().map(extent).collect();
    assert_eq!(extents, ["none", "unknown"], "nothing of one was committed; of the other it cannot be told");
    let keys = [Keys::new(place.state().join("keys")).checkpoint(false).expect("there").public_key()];
    for stream in Stream::ALL {
        verify(&place.log(stream), &keys).unwrap_or_else(|error| panic!("{stream:?}: {error}"));
    }
}

#[tokio::test]
async fn fsck_finds_bytes_that_changed_or_are_gone() {
    let place = Place::new();
    let open = place.open().await.expect("a new state");
    for n in 1..=3 {
        assert_eq!(store(&open, &Instance::ct(n)).await, StatusCode::OK);
    }
    let held = open.central.store.read().await.expect("readable").held_objects(&Operator::of_tests(), None, 10).await.expect("readable");
    open.close().await;
    let config = place.config();
    assert_eq!(fsck(&config, false).await.expect("readable"), [""; 0]);
    let path = |n: usize| place.state().join("objects").join(held[n].object_key.to_string());
    let mut bytes = std::fs::read(path(0)).expect("there");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(path(0), bytes).expect("writable");
    std::fs::remove_file(path(1)).expect("there");
    let found = fsck(&config, false).await.expect("readable");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().zip(&held).all(|(line, held)| line.contains(&held.sop_instance_uid)), "{found:?}");
    assert_eq!(fsck(&config, true).await.expect("readable").len(), 1, "a changed byte is seen by its digest only");
}

#[tokio::test]
async fn a_configuration_is_checked_before_anything_is_opened() {
    let place = Place::new();
    let error = check(&place.config()).expect_err("there is no certificate").to_string();
    assert!(error.contains("server.pem"), "{error}");
    assert!(!place.state().exists());
}

#[test]
fn a_stop_ends_by_itself_before_systemd_ends_it() {
    let phases = STOP_REQUESTS + STOP_BEHIND + STOP_STORES + process::STOP_BLOCKING;
    let timeout = process::stop_timeout(include_str!("../../../systemd/idr-central.service"));
    assert!(phases + Duration::from_secs(5) <= timeout, "{phases:?} of {timeout:?}");
}
