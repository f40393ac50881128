//! A route that puts what a look-up found into its answer.

use axum::body::Body;
use axum::response::Response;
use idr_central::store::Tx;
use idr_central::store::instances::Which;

async fn route(tx: &mut Tx, study: &str) -> Response {
    let found = tx.instances(study, Which::Study, 100).await.expect("a store");
    let uids: Vec<String> = found.iter().map(|instance| instance.payload().sop_instance_uid.clone()).collect();
    Response::new(Body::from(uids.join("\n")))
}

fn main() {}
