//! What every [`Store`] must pass: one suite, each check a small function named after the fact it proves.
//!
//! A store's author implements [`Subject`] and calls [`run_all`], or makes a test of each check with
//! [`for_each_store_check!`](crate::for_each_store_check), so that a failure names what failed. A check
//! sees nothing but the trait: no row number, lane number, epoch or order that [`super::store`] leaves
//! open is relied on. Must never sleep or ask the time.

#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

mod bell;
mod due;
mod insert;
mod lanes;
mod lease;
mod owners;
mod place;
mod scene;
mod settle;
mod shares;
mod upkeep;
mod views;
mod yields;

use super::store::{Owner, Store};

pub use bell::*;
pub use due::*;
pub use insert::*;
pub use lanes::*;
pub use lease::*;
pub use owners::*;
pub use place::*;
pub use settle::*;
pub use shares::*;
pub use upkeep::*;
pub use views::*;
pub use yields::*;

/// One store, empty at first, and the processes that use it.
pub trait Subject {
    /// A handle on the store as another process would open it: it shares nothing with other handles
    /// but the store itself.
    fn open(&mut self) -> Box<dyn Store>;

    /// The process that registered `owner` through `store` is gone, without a word.
    fn kill(&mut self, owner: &Owner, store: Box<dyn Store>);
}

/// One check: panics when the store, which must be empty, does not do what it must.
pub type Check = fn(&mut dyn Subject);

/// Calls the macro named with the names of all checks, separated by commas: every one is a function of
/// [`conformance`](crate::queue::conformance).
///
/// ```
/// macro_rules! tests {
///     ($($check:ident,)*) => {
///         const NAMES: &[&str] = &[$(stringify!($check)),*];
///     };
/// }
/// orch::for_each_store_check!(tests);
/// assert!(NAMES.contains(&"a_stale_token_changes_nothing"));
/// ```
#[macro_export]
macro_rules! for_each_store_check {
    ($callback:ident) => {
        $callback! {
            new_jobs_are_queued_as_they_came,
            a_duplicate_changes_nothing,
            one_id_twice_in_a_batch_is_as_two_calls,
            an_update_replaces_all_of_a_job_that_has_not_started,
            an_update_sets_a_new_time,
            an_update_leaves_a_started_job_as_it_is,
            an_update_drops_what_was_learned_about_the_old_payload,
            a_requeue_runs_a_finished_job_again,
            a_requeue_leaves_a_started_job_as_it_is,
            a_job_keeps_its_place_when_it_is_updated_or_requeued,

            leases_are_first_in_first_out_within_priority_and_lane,
            only_wanted_lanes_and_priorities_are_leased,
            wants_are_served_in_order_and_dry_says_what_is_left,
            leasing_stops_at_the_payload_bound_after_at_least_one,
            jobs_held_in_a_death_are_skipped_where_unwanted,
            a_lease_carries_all_its_handler_needs,
            a_leased_job_is_nobody_elses,
            a_leased_job_is_shown_with_the_attempt_being_made,
            ready_lanes_come_by_priority_and_lane_in_pages,
            ready_lanes_are_of_the_kinds_asked_for,

            a_job_is_not_leased_before_its_time,
            delayed_jobs_become_due_as_their_times_come,
            many_due_jobs_become_ready_in_bounded_turns,
            next_due_is_the_earliest_that_still_waits,
            lanes_settled_back_at_once_are_reported_ready,
            a_clock_that_steps_back_takes_nothing_back,

            done_skipped_and_error_end_a_job,
            a_retry_counts_its_attempt_and_waits,
            a_deferral_changes_the_lane_and_keeps_the_place_in_line,
            a_hand_back_leaves_the_job_as_it_was,
            settlements_are_answered_one_by_one_in_order,
            a_job_settled_back_may_be_leased_in_the_same_turn,
            a_stale_token_changes_nothing,
            a_token_is_good_for_one_settlement,
            another_owners_token_changes_nothing,
            a_token_from_before_a_requeue_changes_nothing,
            the_epoch_only_grows,
            a_checkpoint_is_kept_until_replaced_or_finished_well,
            the_last_particulars_of_done_come_back_after_a_requeue,
            a_checkpoint_too_large_leaves_nothing_half_done,

            a_dead_owners_jobs_are_free_at_once,
            a_death_gives_the_attempt_back_and_counts_a_loss,
            too_many_deaths_end_a_job,
            a_retired_owners_leases_are_handed_back_uncounted,
            a_retired_owner_without_leases_is_gone,
            other_owners_keep_what_they_hold,
            the_one_who_looks_is_never_judged,
            a_silent_owner_is_dead_by_the_observers_monotonic_clock,
            a_wall_clock_step_frees_nothing,
            a_fork_has_seen_nothing_yet,
            an_owner_is_not_taken_for_an_earlier_one,
            an_owner_that_was_buried_learns_it,

            counts_follow_every_change,
            counts_by_each_dimension_add_up,
            a_list_holds_what_its_filter_says,
            a_list_comes_in_pages_by_row,
            an_unknown_id_has_no_story,
            the_story_tells_every_attempt_worth_telling,
            the_story_keeps_the_last_attempts,
            stories_are_told_as_each_job_tells_its_own,
            remaining_tells_what_is_left,

            retry_failed_puts_back_errors_with_a_fresh_allowance,
            retry_failed_takes_what_its_filter_says,
            retry_failed_takes_skipped_jobs_by_their_reason,
            retry_failed_takes_the_lowest_rows_up_to_its_limit,
            a_dry_run_counts_and_changes_nothing,
            prune_deletes_only_old_finished_jobs,
            prune_keeps_ids_out_unless_told_to_forget,
            prune_takes_the_lowest_rows_up_to_its_limit,
            a_pruned_jobs_token_fits_no_later_job,

            what_accepted_attempts_observed_is_counted_once,
            a_stale_settlement_yields_nothing,
            a_turn_that_fails_yields_nothing,
            prefixes_beyond_the_bound_are_counted_together,
            full_counts_stay_full,

            the_first_tag_is_part_of_the_lane,
            tags_beyond_the_bound_make_no_lanes,
            a_job_keeps_the_tag_of_its_lane_until_it_is_replaced,
            ready_lanes_tell_the_age_of_their_heads,
            a_place_counts_who_goes_before,
            a_place_tells_who_runs_a_job,
            a_place_far_behind_is_estimated,
            a_backlog_counts_lane_by_lane,
            a_pace_is_that_of_all_settled_attempts,

            the_bell_rings_for_work_from_elsewhere,

            the_only_owner_may_become_the_sole_one,
            nothing_is_granted_while_another_is_sole,
            a_sole_owner_that_opens_up_keeps_what_runs,
            two_owners_divide_a_cap,
            a_dead_owners_share_comes_back,
            a_retired_owners_share_comes_back,
            an_owner_that_was_buried_has_no_share,
            a_changed_record_reaches_everybody_once,
            many_changes_are_told_in_pages,
            an_own_change_hides_no_others,
            what_a_person_sets_reaches_everybody,
            the_strictest_declared_limit_holds,
            a_stricter_declaration_reaches_who_has_a_share,
            buckets_are_empty_after_the_sole_owner_died,
            a_dead_owners_tokens_are_spent,
            tokens_in_a_hand_are_asked_for,
            keys_are_listed_in_pages,
            records_at_rest_are_forgotten,
            the_bell_rings_for_shares,
        }
    };
}

macro_rules! list_checks {
    ($($check:ident,)*) => {
        /// All checks by name.
        pub const ALL: &[(&str, Check)] = &[$((stringify!($check), $check)),*];
    };
}
for_each_store_check!(list_checks);

/// Runs every check, each on a fresh subject, after telling `starts` its name.
///
/// # Panics
/// With what is wrong, at the first check that fails.
pub fn run_all<S: Subject>(mut fresh: impl FnMut() -> S, mut starts: impl FnMut(&str)) {
    for (name, check) in ALL {
        starts(name);
        check(&mut fresh());
    }
}
