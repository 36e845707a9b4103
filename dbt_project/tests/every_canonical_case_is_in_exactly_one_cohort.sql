-- opened = timed closings + still open + closed without a date + closed before opened, in each cell of the book.
select *
from {{ ref('mart_metric_book') }}
where opened <> n_timed_closings + n_censored + n_closed_without_date + n_closed_before_opened
