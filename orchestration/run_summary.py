"""What a run leaves on the screen: rows per feed, checks, findings and where the outputs are."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from assets.ingest.contracts import EVENT_KINDS
from assets.ingest.feed import City
from assets.ingest.raw_tables import DELIVERY_CHECK, GATE_CHECKS
from assets.ingest.trouble import ARRIVED
from assets.warehouse.summary import Finding, WarehouseSummary, summarise
from orchestration.console import named_table
from orchestration.recorded import FeedRecord, feed_records
from orchestration.run_job import RunReport
from orchestration.run_progress import said
from orchestration.settings import Settings

#: Questions that found nothing are shown up to so many lines of the table.
SHOWN = 20


def show_summary(settings: Settings, cities: Sequence[City], report: RunReport, console: Console) -> None:
    """Print the summary of a run over some cities."""
    published = settings.lake.published_warehouse
    records = feed_records(settings.lake, cities)
    summary = summarise(published, [city.id for city in cities]) if published.exists() else None
    console.print(feed_table(records, summary))
    if summary and summary.findings:
        show_findings(summary.findings, console)
    for line in [*check_lines(report), *never_landed_lines(records, report)]:
        console.print(line, soft_wrap=True)
    for step, message in report.failures:
        console.print(f"[red]{escape(said(step))} failed:[/] {escape(message)}", soft_wrap=True)
    for name, path in outputs(settings):
        console.print(f"  {name:<10} {escape(str(path))}", soft_wrap=True)
    outcome = "[green]done[/]" if report.succeeded else "[red]failed; what was published before stays[/]"
    console.print(f"run {report.run_id} {outcome} in {report.seconds:.0f} s")


def feed_table(records: Sequence[FeedRecord], summary: WarehouseSummary | None) -> Table:
    """Return the table of feeds: rows in the files = raw rows + rows unchanged + rows quarantined at ingest.

    Where the warehouse is built, keys are distinct over all parts and the reasons of staging are told too.
    """
    rows_of = {(one.city, one.feed): one for one in summary.feeds} if summary else {}
    staged: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in summary.quarantine if summary else ():
        if one.stage != "ingest":
            staged[one.city, one.feed].append(f"{one.reason} {one.n_rows:,}")
    table = named_table("feed", "kind", title="Feeds")
    for column in ("rows in file", "raw", "unchanged", "quarantined", "in staging", "keys", "events"):
        table.add_column(column, justify="right")
    table.add_column("quarantined because")
    for record in records:
        name = (record.feed.city, record.feed.id)
        rows = rows_of.get(name) if record.feed.kind in EVENT_KINDS else None
        reasons = [f"{reason} {count:,}" for reason, count in record.quarantined.most_common()]
        table.add_row(
            "/".join(name),
            record.feed.kind,
            f"{record.rows_in_file:,}",
            f"{record.rows_raw:,}",
            f"{record.rows_unchanged:,}",
            f"{record.quarantined.total():,}",
            f"{rows.rows_quarantined_by_staging:,}" if rows else "",
            f"{rows.distinct_keys if rows else record.distinct_keys:,}",
            f"{rows.events:,}" if rows else "",
            escape(", ".join(reasons + staged[name])),
        )
    return table


def show_findings(found: Sequence[Finding], console: Console) -> None:
    """Print the findings close to the signal, those that passed a gate first; the rest is counted."""
    told = [finding for finding in found if finding.from_m == 0 and finding.verdict != "insufficient"]
    scarce = sum(finding.verdict == "insufficient" for finding in found)
    others = f"{len(found) - len(told) - scarce} rings further out and {scarce} with too little data"
    told = sorted(told, key=lambda finding: finding.verdict == "not_supported")
    unshown = sum(finding.verdict == "not_supported" for finding in told[SHOWN:])
    if unshown:
        others = f"{unshown} more that are not supported, {others}"
        told = [*told[:SHOWN], *(one for one in told[SHOWN:] if one.verdict != "not_supported")]
    if not told:
        console.print(f"Findings: none to show; {others}", soft_wrap=True)
        return
    caption = f"{others} not shown. Naive: how often the two occur together; it is never a finding."
    table = Table("city", "question", "within", title="Findings", title_justify="left", caption=caption)
    for column in ("signals", "before", "after", "ratio (interval)", "naive"):
        table.add_column(column, justify="right")
    table.add_column("verdict", no_wrap=True)
    for finding in told:
        table.add_row(
            finding.city,
            escape(finding.title),
            f"{finding.to_m:.0f} m, {finding.window_days} d",
            f"{finding.n_anchor:,}",
            f"{finding.d0:,}",
            f"{finding.d1:,}",
            interval(finding),
            "" if finding.naive_ratio is None else f"{finding.naive_ratio:.2f}",
            finding.verdict,
            style="bold green" if finding.verdict == "supported" else None,
        )
    console.print(table)


def interval(finding: Finding) -> str:
    """Return a finding's ratio with its interval, empty where it has none."""
    if finding.rr is None or finding.ci_low is None or finding.ci_high is None:
        return ""
    return f"{finding.rr:.2f} ({finding.ci_low:.2f} to {finding.ci_high:.2f})"


def check_lines(report: RunReport) -> list[str]:
    """Return the line that counts checks, and one for each that did not pass.

    A delivery's line repeats the gate checks that blocked it, so these have none of their own.
    """
    refused = {check.asset for check in report.failed_checks if check.check == DELIVERY_CHECK}
    count = Counter("failed" if check.is_error else "warned" for check in report.failed_checks)
    passed = report.checks - count.total()
    lines = [f"checks: {passed} passed, {count['warned']} warned, {count['failed']} failed"]
    for check in report.failed_checks:
        if check.is_error and check.check in GATE_CHECKS and check.asset in refused:
            continue
        style, word = ("red", "failed") if check.is_error else ("yellow", "warned")
        about = f"{'/'.join(check.asset)} {check.check}: {check.message}"
        lines.append(f"  [{style}]{word}[/] {escape(about)}")
    return lines


def never_landed_lines(records: Sequence[FeedRecord], report: RunReport) -> list[str]:
    """Return one line for each part that has never landed and of which no failed check of the run speaks."""
    told = {check.asset for check in report.failed_checks}
    return [
        f"  [red]never landed[/] {escape(attempt.message)}"
        for record in records
        if record.last_success is None and ("raw", record.feed.city, record.feed.id) not in told
        for attempt in record.latest.values()
        if attempt.outcome not in ARRIVED
    ]


def outputs(settings: Settings) -> list[tuple[str, Path]]:
    """Return what a run leaves and where."""
    lake = settings.lake
    places = [
        ("warehouse", lake.published_warehouse),
        ("extracts", lake.releases / "latest"),
        ("cards", lake.releases / "latest" / "method_cards" / "index.html"),
        ("lake", settings.home / "lake"),
        ("history", settings.home / "dagster"),
    ]
    return [(name, path) for name, path in places if path.exists()]
