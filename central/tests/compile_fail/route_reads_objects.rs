//! A route that opens the bytes of a key without a permit.

use idr_central::central::Central;
use idr_central::objects::ObjectKey;

async fn route(central: &Central, key: &ObjectKey) {
    let _ = central.objects.open(key, None).await;
    let _ = central.objects.read(key, 1 << 20).await;
}

fn main() {}
