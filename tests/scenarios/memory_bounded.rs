//! Large objects stream: memory does not grow with them. The full measure, 1 GiB on each of four associations, is
//! `make soak-memory`; here the objects are 64 MiB.

use idr_tests::soak::memory;

use crate::story;

#[test]
fn two_large_objects_at_once_leave_both_programs_small() {
    story(async {
        let peaks = memory(2, 64).await?;
        anyhow::ensure!(peaks.site_above_idle <= 64 << 20, "site: {peaks:?}");
        anyhow::ensure!(peaks.central_above_idle <= 64 << 20, "centre: {peaks:?}");
        Ok(())
    });
}
