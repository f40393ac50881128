//! The promise of [`CentralStore`], run over every implementation: what one `Tx` does appears whole or not at all, and
//! what must count once counts once, however many ask at the same time.

mod commitments;
mod custody;
mod declared;
mod fixtures;
mod gathered;
mod merged;
mod on_a_server;
mod once;
mod planned;
mod registered;
mod removed;
mod searched;
mod transferred;
mod versioned;
mod whole;

use super::*;
use std::sync::Arc;

/// Each test of `$module`, over every implementation.
macro_rules! over_every_store {
    ($($module:ident: $($test:ident)+;)+) => {
        mod memory {
            $($(#[tokio::test]
            async fn $test() {
                super::$module::$test(super::memory_store().await).await;
            })+)+
        }
        mod file {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let folder = tempfile::tempdir().unwrap();
                super::$module::$test(super::file_store(folder.path()).await).await;
            })+)+
        }
        mod postgresql {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let Some(database) = crate::testing::postgres::shared().unwrap() else { return };
                super::$module::$test(super::postgres_store(&database).await).await;
            })+)+
        }
    };
}

over_every_store! {
    commitments:
        a_commitment_is_kept_once_until_its_report_was_taken;
    custody:
        an_instance_is_stored_once_and_its_r3_is_given_again
        another_digest_is_a_conflict_and_changes_nothing
        an_instance_that_contradicts_its_study_or_series_is_not_stored
        a_rejected_instance_does_not_come_back_and_its_unit_says_so
        a_registration_names_every_r3_and_again_when_one_comes_late
        an_instance_of_another_register_is_in_no_r4_of_the_manifest
        the_receipts_are_one_verifiable_chain_with_rising_ids
        receipts_of_a_study_stand_under_their_units
        the_pages_of_a_study_s_receipts_are_all_of_them_once_and_in_order
        references_without_instance_are_found
        bytes_that_no_row_names_are_found;
    declared:
        every_declaration_raises_the_store_version_and_counts_at_once
        a_later_version_of_a_declaration_takes_the_place_of_the_earlier
        an_unreadable_declaration_closes_everything_but_own_use
        an_authorisation_of_everybody_is_in_every_state
        an_old_identifier_names_the_same_patient
        the_first_object_makes_the_patient_and_later_ones_find_it;
    gathered:
        instances_are_gathered_by_series_class_unit_and_rejection
        a_search_finds_what_it_names_within_its_limit;
    merged:
        a_merge_that_is_taken_back_leaves_everything_as_it_was
        what_came_late_under_the_old_id_goes_back_with_it
        a_version_goes_with_the_one_before_when_a_merge_is_taken_back
        ten_thousand_units_move_with_one_merge;
    once:
        of_64_presentations_of_an_assertion_one_is_first
        of_64_equal_submissions_one_registers
        of_64_equal_instances_one_is_new
        instances_of_many_senders_share_commits_and_keep_their_own_outcomes
        an_instance_that_cannot_be_committed_fails_alone
        an_assertion_is_bound_to_the_certificate_of_its_first_use
        a_full_replay_store_takes_nothing_new_and_still_knows_the_old
        a_message_is_done_once_and_its_answer_is_kept_for_its_time
        a_failed_message_can_be_sent_again
        a_message_that_a_dead_process_held_can_be_sent_again_at_once
        a_lease_that_is_over_is_taken_over_and_its_first_owner_cannot_finish
        purging_takes_what_is_over_and_no_patient_data;
    registered:
        an_entry_is_given_back_as_it_was_registered
        replacing_deprecates_the_entry_and_what_hangs_on_it
        an_id_that_is_used_already_is_taken
        the_rules_see_the_state_of_stored_objects
        an_image_takes_its_units_attributes_from_its_manifest
        a_delayed_release_holds_for_images_stored_without_a_service_event
        a_document_is_found_under_each_entry_that_has_it
        an_entry_of_another_repository_gives_no_document_of_ours
        a_manifest_of_another_repository_is_known_and_has_no_receipt
        a_document_sent_twice_keeps_its_first_bytes;
    removed:
        what_is_removed_is_seen_by_nothing_and_its_rows_stay
        images_of_a_removed_manifest_are_erased_until_another_comes
        a_removed_document_is_not_given_until_it_is_provided_again;
    searched:
        each_filter_finds_what_it_names_and_nothing_else
        documents_are_found_by_uuid_unique_id_and_logical_id
        related_documents_come_with_the_associations_that_reach_them
        more_than_the_limit_is_an_error_and_never_a_part
        instances_are_found_by_study_series_and_uid;
    versioned:
        a_new_version_takes_the_place_of_the_one_before_and_keeps_its_manifest
        associations_are_repeated_once_with_the_new_versions_as_ends
        a_status_is_changed_of_entries_folders_and_associations
        two_versions_of_one_number_are_not_registered
        a_withdrawn_manifest_takes_those_that_it_followed_with_it
        an_older_version_shows_nothing_that_the_newest_hides
        images_follow_a_version_that_names_another_service_event
        associations_are_repeated_up_to_a_limit_and_never_to_what_is_deprecated;
    whole:
        a_transaction_that_is_dropped_leaves_nothing
        a_registration_that_fails_leaves_nothing
        a_reader_sees_what_was_committed_before_it_began;
}

async fn memory_store() -> Arc<dyn CentralStore> {
    Arc::new(SqliteStore::memory().await.unwrap())
}

async fn file_store(folder: &std::path::Path) -> Arc<dyn CentralStore> {
    Arc::new(SqliteStore::open(&folder.join("central.db"), SqliteOptions::default()).await.unwrap())
}

async fn postgres_store(database: &crate::testing::postgres::Database) -> Arc<dyn CentralStore> {
    Arc::new(PostgresStore::open(postgres_options(&database.host, &database.name)).await.unwrap())
}

/// Of a database of the tests' own server. Its waits are long: it is shared by everything that runs at the same time.
fn postgres_options(host: &std::path::Path, name: &str) -> PostgresOptions {
    PostgresOptions {
        host: host.to_str().unwrap().to_owned(),
        port: crate::testing::postgres::PORT,
        database: name.to_owned(),
        user: crate::testing::postgres::USER.to_owned(),
        password: None,
        tls: Tls::Off,
        readers: 4,
        writers: 4,
        lock_wait: std::time::Duration::from_secs(120),
        statement: std::time::Duration::from_secs(120),
        idle: std::time::Duration::from_secs(120),
        durability: Durability::NotAsked,
        alone: true,
    }
}
