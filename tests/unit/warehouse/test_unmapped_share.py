"""What a feed may leave unmapped: above it the build stops and says where; a raised limit lets it through."""

import json
from datetime import UTC, datetime
from pathlib import Path

from assets.warehouse.dbt_assets import failure_line
from assets.warehouse.dbt_build import DbtBuild
from assets.warehouse.generation import Generation
from tests.unit.warehouse.conftest import dbt_at

PROJECT = Path(__file__).parents[3] / "dbt_project"
RULE = "no_feed_has_more_unmapped_events_than_it_declares"
TAKEN = datetime.fromisoformat("2025-03-01T12:00")


def broken_lines(home: Path) -> list[str]:
    """Build the rule and what it reads, as a run of the job does, and return what an operator is told."""
    build = DbtBuild(PROJECT, home / "dbt", home / "dbt", announce=lambda generation: None)
    arguments = ["--select", f"+{RULE}", "--indirect-selection", "empty"]
    with dbt_at(home):
        outcomes = list(build.run(arguments, Generation("g", "r", datetime.now(UTC))))
    nodes = json.loads((home / "dbt" / "manifest.json").read_text(encoding="utf-8"))["nodes"]
    assert any(outcome.unique_id.split(".")[2] == RULE for outcome in outcomes)
    return [failure_line(nodes[one.unique_id], one) for one in outcomes if not one.is_good]


def test_too_many_unmapped_events_stop_the_build_and_the_message_says_where(tiny_lake):
    lake = tiny_lake("unmapped_share")
    lake.city("mid", "UTC")
    lake.city("far", "UTC")
    lake.feed("mid", "calls", "service_request", max_unmapped_share=0.04)
    lake.feed("mid", "unjudged", "service_request")
    lake.feed("far", "calls", "service_request", max_unmapped_share=0.04)
    for city, feed in (("mid", "calls"), ("far", "calls")):
        lake.category(city, feed, category="Hole", event_type="pothole")
        lake.status(city, feed, "Open", "open")
    # 5 of 100 are above 4 %: of the categories in mid, of the statuses in far. The other of each is at the
    # limit, and what tells no category at all has none that could be mapped.
    odd = ["Fountain"] * 2 + ["Drone", 'Ro"bot', "Robots <b>"]
    lake.land("mid", "calls", "service_request", TAKEN, told(odd, ["Parked"] * 4))
    lake.land("far", "calls", "service_request", TAKEN, told(["Fountain"] * 4, ["Parked"] * 5, unsaid=30))
    lake.land("mid", "unjudged", "service_request", TAKEN, told(["Fountain"] * 50, ["Parked"] * 50))
    lake.write()
    [line] = broken_lines(lake.home)
    assert line.startswith(f"tests/{RULE}.sql: {RULE}: ")
    assert (
        "far.calls: the status of 5.0 % of its 100 events is mapped by no declaration, 4.0 % may be:"
        ' "Parked" 5; map them in `statuses:`, or raise `expect.max_unmapped_share`'
        " | mid.calls: the category of 5.0 % of its 100 events is mapped by no declaration, 4.0 % may be:"
        ' "Fountain" 2, "Drone" 1, "Ro"bot" 1; map them in calls.categories.csv,'
        " or raise `expect.max_unmapped_share`"
    ) in line
    # The twin: with the share that is there declared, the same home is in order.
    for feed in lake.declared["feeds"]:
        feed["max_unmapped_share"] = feed.get("max_unmapped_share") and 0.05
    lake.write()
    assert broken_lines(lake.home) == []


def told(odd_categories: list[str], odd_statuses: list[str], unsaid: int = 0) -> list[dict]:
    """Return a hundred records: first the odd categories and statuses, last those that tell no category."""
    categories = odd_categories + ["Hole"] * (100 - len(odd_categories) - unsaid) + [None] * unsaid
    statuses = odd_statuses + ["Open"] * (100 - len(odd_statuses))
    return [
        {"source_id": str(number), "requested_at": "2025-02-01", "category": category, "status": status}
        for number, (category, status) in enumerate(zip(categories, statuses, strict=True))
    ]
