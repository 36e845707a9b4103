"""The lines under a run's tables: one per thing that needs attention."""

import io

from rich.console import Console

from assets.warehouse.summary import Finding
from orchestration.run_job import FailedCheck, RunReport
from orchestration.run_summary import check_lines, show_findings

FEED = ("raw", "tinyville", "requests")


def test_a_refused_delivery_is_one_line_and_every_failed_check_is_counted():
    report = RunReport("id", checks=10)
    report.failed_checks = [
        FailedCheck(FEED, "volume", True, "all: rows is 0"),
        FailedCheck(FEED, "schema", False, "all: mapped columns without any value"),
        FailedCheck(FEED, "delivery", True, "all blocked: rows is 0"),
        FailedCheck(("core", "fct_events"), "unique_key", True, "2 rows"),
    ]
    count, *lines = check_lines(report)
    assert count == "checks: 6 passed, 1 warned, 3 failed"
    assert [line.strip() for line in lines] == [
        "[yellow]warned[/] raw/tinyville/requests schema: all: mapped columns without any value",
        "[red]failed[/] raw/tinyville/requests delivery: all blocked: rows is 0",
        "[red]failed[/] core/fct_events unique_key: 2 rows",
    ]


def test_no_finding_to_show_is_a_line_not_an_empty_table():
    out = io.StringIO()
    scarce = Finding(**dict.fromkeys(Finding.__dataclass_fields__) | {"from_m": 0, "verdict": "insufficient"})
    show_findings([scarce], Console(file=out, width=80))
    assert out.getvalue() == "Findings: none to show; 0 rings further out and 1 with too little data\n"
