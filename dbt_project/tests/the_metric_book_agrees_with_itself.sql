-- The on-time figures of one cohort differ by what they count against it, so they stand in one order; what is open
-- makes Kaplan-Meier longer than the closed cases alone; after 30 days each case is open or has ended in one way.
select city, event_type, month_on
from {{ ref('mart_metric_book') }}
where
    on_time_closed_only_share < on_time_overdue_open_share
    or on_time_overdue_open_share < on_time_all_opened_share
    or n_target_passed > n_closed_with_target + n_open_past_target
    or n_open_past_target > n_open_with_target
    or n_closed_with_target + n_open_with_target > n_with_target
    or overdue_at_end > open_at_end
    or km_median_days_to_close < closed_only_median_days_to_close
    or km_p90_days_to_close < closed_only_p90_days_to_close
    or abs(
        km_open_after_30_days_share + done_within_30_days_share + no_action_within_30_days_share
        + transferred_within_30_days_share + cancelled_within_30_days_share + untold_within_30_days_share - 1
    ) > 1e-8
