//! Stories over both real programs, one per module, each in a world of its own.

use std::future::Future;

mod adt;
mod backup;
mod bounds;
mod central_dimse;
mod central_down_then_resumes;
mod central_reload;
mod changed_index;
mod communities;
mod completeness;
mod correction;
mod decisions;
mod defects;
mod disk_faults;
mod drop_folder;
mod durable_before_answer;
mod enrolment;
mod forward_by_c_store;
mod header_budget;
mod hostile_xml;
mod image_reaches_central_and_comes_back;
mod kill_site_mid_transfer;
mod late_image;
mod memory_bounded;
mod metrics;
mod on_postgresql;
mod operator_tools;
mod quarantine;
mod queue;
mod read_routes;
mod reconcile;
mod reload;
mod requester_without_consent;
mod rules_preview;
mod scrub;
mod shared_dicom_files;
mod shared_ihe_cases;
mod slow_and_idle_connections;
mod soak_kill;
mod stow;
mod study_rules;
mod tutorial;
mod unknown_caller;
mod wrong_assertions;

/// Runs a story; the error says which step failed.
fn story(steps: impl Future<Output = anyhow::Result<()>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    if let Err(error) = runtime.block_on(steps) {
        panic!("{error:#}");
    }
}
