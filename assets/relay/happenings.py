"""Reports of one rule become happenings: which of them begin one and which only tell of it again.

The outcome is a function of the reports alone, in whatever order they came: in the order of their times the
first report of a place begins a happening, and each within its reach joins it; a report that joins begins
none. Reach is measured from the first report, so that a happening cannot creep through the city.
"""

import duckdb

from assets.relay.rules import AlertRule

_TRIGGERS = """
    create or replace temp table triggers as
    select
        report_key, city, reported_at, x_m, y_m,
        cast(floor(x_m / $cell_m) as bigint) as cell_x,
        cast(floor(y_m / $cell_m) as bigint) as cell_y,
        cast(floor(epoch(reported_at) / $cell_s) as bigint) as cell_t
    from reports
    where
        list_contains($event_types, event_type)
        and not coalesce(list_contains($except_subtypes, event_subtype), false)
        and reported_at >= $since
"""

# A cell is as wide as the farthest pair, so that pairs lie in one or in neighbouring cells.
_PAIRS = """
    create or replace temp table pairs as
    select
        later.report_key as later_key,
        earlier.report_key as earlier_key,
        sqrt((later.x_m - earlier.x_m) ** 2 + (later.y_m - earlier.y_m) ** 2) as distance_m,
        epoch(later.reported_at) - epoch(earlier.reported_at) as lag_s
    from (
        select
            triggers.*,
            cell_x + step_x.step as at_x,
            cell_y + step_y.step as at_y,
            cell_t - step_t.step as at_t
        from triggers
        cross join (values (-1), (0), (1)) as step_x (step)
        cross join (values (-1), (0), (1)) as step_y (step)
        cross join (values (0), (1)) as step_t (step)
    ) as later
    inner join triggers as earlier
        on later.city = earlier.city
        and later.at_x = earlier.cell_x
        and later.at_y = earlier.cell_y
        and later.at_t = earlier.cell_t
    where (earlier.reported_at, earlier.report_key) < (later.reported_at, later.report_key)
"""

_CANDIDATES = """
    create or replace temp table candidates as
    select report_key, false as begins
    from triggers
    where $reports <= 1 + (
        select count(*) from pairs
        where later_key = triggers.report_key and distance_m <= $within_m and lag_s <= $within_s
    )
"""

# Who has no one before it within reach, among those undecided and those that begin one, begins one.
_BEGIN = """
    create or replace temp table begun as
    select report_key from candidates
    where report_key not in (select report_key from decided)
        and report_key not in (
            select near.later_key from near
            left join decided on near.earlier_key = decided.report_key
            where near.earlier_key in (select report_key from candidates)
                and coalesce(decided.begins, true)
        )
"""

_HAPPENINGS = """
    create or replace temp table happenings as
    with joined as (
        select near.later_key as report_key, near.earlier_key as first_key
        from near
        inner join decided on near.earlier_key = decided.report_key and decided.begins
        inner join triggers as firsts on near.earlier_key = firsts.report_key
        left join decided as own on near.later_key = own.report_key
        where not coalesce(own.begins, false)
        qualify row_number() over (
            partition by near.later_key order by firsts.reported_at, firsts.report_key
        ) = 1
    ),

    members as (
        select report_key as first_key, report_key from decided where begins
        union
        select first_key, report_key from joined
        union
        select pairs.later_key, pairs.earlier_key
        from pairs
        inner join decided on pairs.later_key = decided.report_key and decided.begins
        where $reports > 1 and pairs.distance_m <= $within_m and pairs.lag_s <= $within_s
    )

    select
        members.first_key,
        list(members.report_key order by members.report_key) as report_keys,
        max(reports.reported_at) as last_reported_at,
        bool_or(reports.is_open) as is_open
    from members
    inner join reports on members.report_key = reports.report_key
    group by members.first_key
"""


def find_happenings(con: duckdb.DuckDBPyConnection, rule: AlertRule, since: object) -> None:
    """Create the temporary table `happenings` of a rule from the table `reports`.

    Its columns are first_key (the report that begins it), report_keys (all of it, in order of their keys),
    last_reported_at, and is_open (whether one of them is).

    Args:
        con: Where `reports` is.
        rule: The rule.
        since: Reports from then on, UTC without a zone.
    """
    trigger, roll_up, cluster = rule.trigger, rule.roll_up, rule.trigger.cluster
    reach_m = max(roll_up.within_m, cluster.within_m if cluster else 0)
    reach_s = max(roll_up.within, cluster.within if cluster else roll_up.within).total_seconds()
    counted = {
        "reports": cluster.reports if cluster else 1,
        "within_m": cluster.within_m if cluster else 0.0,
        "within_s": cluster.within.total_seconds() if cluster else 0.0,
    }
    con.execute(
        _TRIGGERS,
        {
            "cell_m": reach_m,
            "cell_s": reach_s,
            "event_types": list(trigger.event_types),
            "except_subtypes": list(trigger.except_subtypes),
            "since": since,
        },
    )
    con.execute(_PAIRS)
    con.execute(_CANDIDATES, counted)
    con.execute(
        "create or replace temp table near as select later_key, earlier_key from pairs "
        "where distance_m <= $within_m and lag_s <= $within_s",
        {"within_m": roll_up.within_m, "within_s": roll_up.within.total_seconds()},
    )
    con.execute("create or replace temp table decided (report_key varchar, begins boolean)")
    # Each turn decides at least the earliest that is undecided; in practice a handful of turns decide all.
    while con.execute(
        "select 1 from candidates where report_key not in (select report_key from decided) limit 1"
    ).fetchall():
        con.execute(_BEGIN)
        con.execute("insert into decided select report_key, true from begun")
        con.execute("""
            insert into decided
            select distinct near.later_key, false
            from near
            inner join begun on near.earlier_key = begun.report_key
            where near.later_key in (select report_key from candidates)
                and near.later_key not in (select report_key from decided)
        """)
    con.execute(_HAPPENINGS, counted)
