//! Requests for storage commitment.

use super::super::CentralStore;
use super::super::commitments::{Commitment, NotKept, Report};
use crate::testing::t0;
use std::sync::Arc;
use uuid::Uuid;

fn request(n: u128, peer: &str, transaction: &str) -> Commitment {
    Commitment {
        id: Uuid::from_u128(n),
        peer: peer.into(),
        calling_ae: "PACS".into(),
        called_ae: "IDRCENTRAL".into(),
        transaction_uid: transaction.into(),
        digest: "d1".into(),
        received_at: t0(),
        report: Report { committed: vec![("1.2".into(), "1.2.3".into())], failed: vec![("1.2".into(), "1.2.4".into(), 0x0112)] },
    }
}

async fn keep(store: &dyn CentralStore, request: &Commitment) -> Result<Uuid, NotKept> {
    let mut tx = store.begin().await.unwrap();
    let kept = tx.keep_commitment(request, 2).await.unwrap();
    tx.commit().await.unwrap();
    kept
}

pub(super) async fn a_commitment_is_kept_once_until_its_report_was_taken(store: Arc<dyn CentralStore>) {
    let first = request(1, "a", "1.2.3.1");
    assert_eq!(keep(&*store, &first).await, Ok(first.id));
    // Asked for again: what is decided now, under the id of the first time.
    let again = Commitment { id: Uuid::from_u128(9), report: Report::default(), ..first.clone() };
    assert_eq!(keep(&*store, &again).await, Ok(first.id));
    assert_eq!(keep(&*store, &Commitment { digest: "d2".into(), ..again.clone() }).await, Err(NotKept::OtherList));
    let kept = store.read().await.unwrap().commitment(first.id).await.unwrap();
    assert_eq!(kept, Some(Commitment { report: Report::default(), ..first.clone() }));

    // The bound is of one peer, whose transactions are its own.
    assert_eq!(keep(&*store, &request(2, "a", "1.2.3.2")).await, Ok(Uuid::from_u128(2)));
    assert_eq!(keep(&*store, &request(3, "a", "1.2.3.3")).await, Err(NotKept::TooMany));
    assert_eq!(keep(&*store, &request(4, "b", "1.2.3.1")).await, Ok(Uuid::from_u128(4)));

    let mut tx = store.begin().await.unwrap();
    tx.forget_commitment(first.id).await.unwrap();
    tx.commit().await.unwrap();
    let left = store.read().await.unwrap().commitments().await.unwrap();
    assert_eq!(left, [(Uuid::from_u128(2), "a".to_owned()), (Uuid::from_u128(4), "b".to_owned())]);
}
