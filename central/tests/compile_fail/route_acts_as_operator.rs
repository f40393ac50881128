//! A route that makes an operator of itself.

use idr_central::central::Central;
use idr_central::control::Operator;

async fn route(central: &Central) {
    let operator = Operator { uid: 0 };
    let held = central.store.read().await.expect("a store").held_objects(&operator, None, 1).await.expect("a store");
    let _ = central.objects.checked_by(&operator).read(&held[0].object_key, 1 << 20).await;
}

fn main() {}
