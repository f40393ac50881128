//! A route that hands undecided instances to the retrieval.

use std::sync::Arc;

use idr_central::archive::retrieve::Retrieval;
use idr_central::assertion::Authenticated;
use idr_central::central::Central;
use idr_central::store::Tx;
use idr_central::store::instances::Which;

async fn route(central: Arc<Central>, who: Authenticated, tx: &mut Tx, study: &str) {
    let found = tx.instances(study, Which::Study, 100).await.expect("a store");
    let _ = Retrieval::begin(central, who, found).await;
}

fn main() {}
