//! A route that asks the store where the bytes of instances are.

use idr_central::store::Tx;

async fn route(tx: &mut Tx) {
    let _ = tx.held_objects(None, 1).await;
}

fn main() {}
