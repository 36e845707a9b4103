"""The query of one request's whole story, as people are told to run it, over a request with a long life."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[3] / "README.md"
FIRST, SECOND, THIRD, FOURTH = map(
    datetime.fromisoformat, ("2025-03-10 12:00", "2025-03-20 12:00", "2025-04-01 12:00", "2025-04-10 12:00")
)


def told_query() -> str:
    """Return the query of the document, asking for the request of this test."""
    text = DOCUMENT.read_text(encoding="utf-8")
    (query,) = re.findall(
        r"<!-- request story -->\n```sql\n(.*?)```\n<!-- end of request story -->", text, re.S
    )
    asked = re.sub(
        r"city = '\w+' and feed = '\w+' and source_id = '[\w-]+'",
        "city = 'mid' and feed = 'requests' and source_id = 'R'",
        query,
    )
    assert asked != query
    return asked


def history(*steps: tuple[str, str, str]) -> str:
    return json.dumps([{"at": at, "status": status, "agency": agency} for at, status, agency in steps])


LOGGED = (
    ("2025-03-01T08:00:00", "Open", "Roads"),
    ("2025-03-03T09:00:00", "Assigned", "Water"),
    ("2025-03-05T10:00:00", "Done", "Water"),
    ("2025-03-21T11:00:00", "Reopened", "Roads"),
    ("2025-03-25T12:00:00", "Done - Dup", "Roads"),
)


@pytest.fixture(scope="module")
def home(tiny_lake: Callable, dbt: Callable[..., dict[str, str]]) -> Path:
    lake = tiny_lake("request_story")
    lake.city("mid", "America/Chicago")
    lake.feed("mid", "requests", "service_request", times="local")
    for source_status, status in (
        ("Open", "open"),
        ("Assigned", "in_progress"),
        ("Reopened", "open"),
        ("Done", "closed"),
        ("Done - Dup", "closed_duplicate"),
    ):
        lake.status("mid", "requests", source_status, status)
    lake.category("mid", "requests", category="Pothole", event_type="pothole")

    def row(source_id: str, opened: str, status: str, agency: str, **said: str) -> dict[str, str]:
        known = {"source_id": source_id, "requested_at": opened, "status": status, "agency": agency}
        return {"category": "Pothole"} | known | said

    def land(at: datetime, *rows: dict[str, str]) -> None:
        lake.land("mid", "requests", "service_request", at, rows)

    opened = {"Q": "2025-02-20T08:00:00", "P": "2025-02-25T08:00:00", "R": "2025-03-01T08:00:00"}
    land(
        FIRST,
        row("Q", opened["Q"], "Open", "Roads"),
        row("P", opened["P"], "Open", "Roads"),
        row("R", opened["R"], "Assigned", "Water", status_history=history(*LOGGED[:2])),
    )
    land(
        SECOND,
        row(
            "R",
            opened["R"],
            "Done",
            "Water",
            closed_at="2025-03-05T10:00:00",
            status_history=history(*LOGGED[:3]),
        ),
    )
    land(
        THIRD,
        row(
            "R",
            opened["R"],
            "Done - Dup",
            "Roads",
            parent_id="P",
            closed_at="2025-03-25T12:00:00",
            status_history=history(*LOGGED),
        ),
    )
    land(FOURTH, row("P", opened["P"], "Done - Dup", "Roads", parent_id="Q", closed_at="2025-04-08T09:00:00"))
    lake.write()
    built = dbt(
        lake.home,
        "build",
        "--select",
        "+bridge_event_link",
        "+fct_status_history",
        "+fct_event_versions",
        "--exclude-resource-type",
        "test",
    )
    assert {name: said for name, said in built.items() if said not in ("success", "no-op")} == {}
    return lake.home


def test_the_story_tells_every_step_in_order_with_its_origin(
    home: Path, rows: Callable[[Path, str], list[dict]]
) -> None:
    story = rows(home, told_query())

    assert [(row["source_id"], row["step"], row["agency"], row["origin"]) for row in story] == [
        ("Q", "open", None, "source_column"),
        ("P", "open", None, "source_column"),
        ("R", "open", None, "source_column"),
        ("R", "open", "Roads", "source_note"),
        # Changed owner, was closed,
        ("R", "in_progress", "Water", "source_note"),
        ("R", "closed", "Water", "source_note"),
        # which we saw between the first two deliveries,
        ("P", "open", "Roads", "observed"),
        ("R", "in_progress", "Water", "observed"),
        ("R", "changed: status,source_status,closed_at", "Water", "delivery"),
        ("R", "closed", "Water", "observed"),
        # was opened again and changed owner again, and was closed as a duplicate,
        ("R", "open", "Roads", "source_note"),
        ("R", "closed_duplicate", None, "source_column"),
        ("R", "closed_duplicate", "Roads", "source_note"),
        # of P, as the third delivery told; the case is Q by now.
        ("R", "changed: status,source_status,agency,closed_at", "Roads", "delivery"),
        ("R", "closed_duplicate", "Roads", "observed"),
        ("R", "child_of P", "Roads", "source"),
        ("R", "duplicate_of Q", "Roads", "source"),
        # P itself became a child.
        ("P", "closed_duplicate", None, "source_column"),
        ("P", "changed: status,source_status,closed_at", "Roads", "delivery"),
        ("P", "closed_duplicate", "Roads", "observed"),
        ("P", "child_of Q", "Roads", "source"),
        ("P", "duplicate_of Q", "Roads", "source"),
    ]


def test_the_story_tells_when_things_happened_and_when_we_learned_of_them(
    home: Path, rows: Callable[[Path, str], list[dict]]
) -> None:
    times = {(row["source_id"], row["step"], row["origin"]): row["at"] for row in rows(home, told_query())}

    # Chicago is six hours behind UTC until 9 March 2025, five after.
    assert times["R", "in_progress", "source_note"] == datetime.fromisoformat("2025-03-03 15:00")
    assert times["R", "closed_duplicate", "source_note"] == datetime.fromisoformat("2025-03-25 17:00")
    assert times["R", "closed", "observed"] == SECOND
    assert times["R", "child_of P", "source"] == THIRD
    assert times["P", "child_of Q", "source"] == FOURTH
