//! A bounded part of `make soak-kill`.

use idr_tests::soak::{MOMENTS_PER_BATCH, batch};

use crate::story;

#[test]
fn ten_kills_at_random_moments_lose_nothing() {
    story(async {
        let figures = batch(1, MOMENTS_PER_BATCH).await?;
        // A kill that meets nothing unfinished proves nothing.
        anyhow::ensure!(figures.struck >= MOMENTS_PER_BATCH / 2, "{figures:?}");
        Ok(())
    });
}
