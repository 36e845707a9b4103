"""Reports to alerts: new revisions of what each agency is told; rules, context and the store are elsewhere.

What is told is a function of all reports up to now and of the revisions that were stored: whoever is killed
before storing raises the same again. An alert keeps its id as long as the report it was raised for is part of
a happening, even where an earlier report of the same arrives late.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from assets.ingest.lake import Lake
from assets.relay.alert import Alert, Message
from assets.relay.alert_store import Told, read_told, store_alerts
from assets.relay.context import gather_context, holds
from assets.relay.happenings import find_happenings
from assets.relay.reports import gather_reports
from assets.relay.rules import AlertRule, Recipient, load_rules
from assets.warehouse import reader

__all__ = ["load_rules", "raise_alerts", "store_alerts"]

Context = dict[str, list[dict[str, Any]]]

_OPENED = """
    select
        happenings.first_key, happenings.report_keys, happenings.last_reported_at, happenings.is_open,
        reports.city, reports.event_type, reports.reported_at, reports.available_at, reports.lon, reports.lat,
        reports.is_simulated
    from happenings
    inner join reports on happenings.first_key = reports.report_key
    order by reports.reported_at, happenings.first_key
"""


@dataclass(frozen=True)
class Happening:
    """One happening as a rule sees it; times with a zone.

    Attributes:
        first_key: The report that begins it.
        report_keys: All reports of it, in order of their keys.
        is_open: Whether one of them is.
        expires_at: When its alerts end if nothing else ends them.
    """

    first_key: str
    report_keys: tuple[str, ...]
    is_open: bool
    city: str
    event_type: str
    reported_at: datetime
    available_at: datetime
    expires_at: datetime
    lon: float
    lat: float
    is_simulated: bool


def raise_alerts(lake: Lake, rules: Sequence[AlertRule], *, now: datetime) -> list[Alert]:
    """Return the revisions that are to be told now and are not in the store; nothing is stored.

    Args:
        lake: The published snapshot, what landed since, and the stored revisions.
        rules: What to raise; alerts of other rules stay as they are.
        now: The time of this attempt, with a zone.

    Returns:
        New alerts, updates where a report joined or left, and cancellations where every report is closed,
        where the report of an alert is no more, and where two alerts turn out to be of one happening. In
        order of rule, time of the report and agency.

    Raises:
        assets.warehouse.reader.WarehouseError: There is no published snapshot, or it cannot be read.
    """
    if not rules:
        return []
    now = now.astimezone(UTC)
    starts = {rule.id: _first_day(rule, now) for rule in rules}
    since = min(starts.values())
    told = _by_recipient(read_told(lake, since=since.replace(tzinfo=UTC)))
    types = sorted({event_type for rule in rules for event_type in rule.trigger.event_types})
    con = reader.connect(lake.published_warehouse)
    try:
        gather_reports(con, lake, event_types=types, since=since, now=now.replace(tzinfo=None))
        raised: list[Alert] = []
        for rule in rules:
            find_happenings(con, rule, starts[rule.id])
            raised += _Raising(con, lake, rule, now, told).revisions()
        return raised
    finally:
        con.close()


def _first_day(rule: AlertRule, now: datetime) -> datetime:
    """Return from when on reports count, UTC without a zone.

    What began a happening of which a report may join one that is not over lies after it, with a day and two
    windows to spare; of whole days, so that two attempts of a day see the same reports.
    """
    before = rule.trigger.cluster.within if rule.trigger.cluster else timedelta()
    first = now - rule.expires_after - 3 * rule.roll_up.within - before - timedelta(days=1)
    return first.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)


def _by_recipient(alerts: Sequence[Told]) -> dict[tuple[str, str, str], list[Told]]:
    """Return alerts by rule, city and agency, oldest first."""
    told: dict[tuple[str, str, str], list[Told]] = defaultdict(list)
    for one in alerts:
        told[one.row["rule"], one.row["city"], one.row["agency"]].append(one)
    return told


class _Raising:
    """One rule at one time."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        lake: Lake,
        rule: AlertRule,
        now: datetime,
        told: dict[tuple[str, str, str], list[Told]],
    ) -> None:
        self.con, self.lake, self.rule, self.now, self.told = con, lake, rule, now, told
        self.happenings = _happenings(con, rule)
        self.place_of = {key: one for one in reversed(self.happenings) for key in one.report_keys}
        self.place_of |= {one.first_key: one for one in self.happenings}

    def revisions(self) -> list[Alert]:
        """Return the new revisions of the rule."""
        lost = [one for key, mine in self.told.items() if key[0] == self.rule.id for one in mine]
        lost = [one for one in lost if one.raised_for not in self.place_of and self._is_live(one)]
        made = [self._cancelled(one, "its report no longer tells of this") for one in lost]
        due = []
        for happening in self.happenings:
            for recipient in self.rule.tells:
                mine, others = self._alerts_of(happening, recipient)
                made += [
                    self._cancelled(one, "joined to an earlier alert", joined=mine.alert_id)
                    for one in others
                    if self._is_live(one)
                ]
                if self.now >= happening.expires_at:
                    continue
                if not happening.is_open:
                    if mine is not None and self._is_live(mine):
                        made.append(self._cancelled(mine, "every report is closed", happening))
                elif (
                    mine is None
                    or mine.is_cancelled
                    or not mine.tells_of(happening.first_key, happening.report_keys)
                ):
                    due.append((happening, recipient, mine))
        items = {item for _, recipient, _ in due for item in recipient.items}
        context = gather_context(self.con, self.lake, {one.first_key for one, _, _ in due}, items)
        for happening, recipient, mine in due:
            about = {item: context[item][happening.first_key] for item in recipient.items}
            is_concerned = not recipient.only_if or any(holds(about[item]) for item in recipient.only_if)
            # Whoever was told once is told what becomes of it.
            if is_concerned or mine is not None:
                needed = {item: about[item] for item in recipient.needs}
                made.append(self._revised(happening, recipient, mine, needed))
        return sorted(made, key=lambda one: (one.reported_at, one.event_key, one.agency, one.alert_id))

    def _alerts_of(self, happening: Happening, recipient: Recipient) -> tuple[Told | None, list[Told]]:
        """Return the alert that stands for a happening, and others that were raised for parts of it."""
        key = (self.rule.id, happening.city, recipient.of(happening.city))
        mine = [one for one in self.told.get(key, []) if self.place_of.get(one.raised_for) is happening]
        # The oldest that is not over stands for it; where all are over, the oldest is taken up again.
        mine.sort(key=lambda one: not self._is_live(one))
        return (mine[0], mine[1:]) if mine else (None, [])

    def _is_live(self, one: Told) -> bool:
        return not one.is_over(self.now)

    def _revised(
        self, happening: Happening, recipient: Recipient, told: Told | None, context: Context
    ) -> Alert:
        agency = recipient.of(happening.city)
        count = len(happening.report_keys)
        return Alert(
            alert_id=told.alert_id if told else alert_id(self.rule.id, agency, happening),
            revision=told.revision + 1 if told else 1,
            message=Message.UPDATE if told else Message.ALERT,
            city=happening.city,
            rule=self.rule.id,
            agency=agency,
            event_key=happening.first_key,
            event_keys=happening.report_keys,
            event_type=happening.event_type,
            severity=self.rule.severity,
            headline=f"{self.rule.title}: {count} {'report' if count == 1 else 'reports'}",
            context=context,
            lon=happening.lon,
            lat=happening.lat,
            radius_m=self.rule.radius_m,
            reported_at=happening.reported_at,
            available_at=happening.available_at,
            alerted_at=self.now,
            expires_at=happening.expires_at,
            is_simulated=happening.is_simulated,
        )

    def _cancelled(self, told: Told, why: str, happening: Happening | None = None, **more: str) -> Alert:
        reports = {"event_key": happening.first_key, "event_keys": happening.report_keys} if happening else {}
        return told.alert(
            revision=told.revision + 1,
            message=Message.CANCEL,
            context={"ended": [{"why": why, **more}]},
            alerted_at=self.now,
            **reports,
        )


def alert_id(rule: str, agency: str, happening: Happening) -> str:
    """Return the name of an alert: of rule, agency, and key, place and time of the first report."""
    place = (f"{happening.lon:.7f}", f"{happening.lat:.7f}", happening.reported_at.isoformat())
    said = chr(31).join((happening.city, rule, agency, happening.first_key, *place))
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _happenings(con: duckdb.DuckDBPyConnection, rule: AlertRule) -> list[Happening]:
    rows = con.execute(_OPENED).to_arrow_table().to_pylist()
    return [
        Happening(
            first_key=row["first_key"],
            report_keys=tuple(row["report_keys"]),
            is_open=row["is_open"],
            city=row["city"],
            event_type=row["event_type"],
            reported_at=row["reported_at"].replace(tzinfo=UTC),
            available_at=row["available_at"].replace(tzinfo=UTC),
            expires_at=row["last_reported_at"].replace(tzinfo=UTC) + rule.expires_after,
            lon=row["lon"],
            lat=row["lat"],
            is_simulated=row["is_simulated"],
        )
        for row in rows
    ]
