"""The states of rows follow from their own times, and where those are dirt from their neighbours'."""

from datetime import datetime, timedelta

import pyarrow as pa

from assets.simulate.serving.lives import LAST, Life, State, versions, zoned

LIFE = Life(
    "id", f"coalesce({zoned('ended')}, {zoned('began')})", (State(zoned("began"), {"ended": "null"}),)
)


def states(*rows: tuple[str | None, str | None, str | None], seed: str | None = None) -> list[dict]:
    names = ("id", "began", "ended")
    columns = zip(*rows, strict=True)
    table = pa.table({n: pa.array(values, pa.string()) for n, values in zip(names, columns, strict=True)})
    return versions(table, LIFE, seed).to_pylist()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_row_shows_as_open_until_it_ends():
    first, last = states(("a", "2025-01-01T10:00:00Z", "2025-01-03T10:00:00Z"))
    assert (first["ended"], last["ended"]) == (None, "2025-01-03T10:00:00Z")
    assert (first["_updated_at"], first["_until"]) == (at("2025-01-01T10:00"), at("2025-01-03T10:00"))
    assert (last["_updated_at"], last["_until"]) == (at("2025-01-03T10:00"), None)
    assert first["_row"] == last["_row"] == 1
    assert first["_created_at"] == last["_created_at"] == at("2025-01-01T10:00")


def test_an_end_before_the_beginning_is_shown_at_the_beginning():
    [only] = states(("a", "2025-01-05T10:00:00Z", "2025-01-03T10:00:00Z"))
    assert (only["ended"], only["_updated_at"]) == ("2025-01-03T10:00:00Z", at("2025-01-05T10:00"))


def test_times_that_cannot_be_are_those_of_the_row_before():
    rows = states(
        ("a", "2025-01-01T10:00:00Z", None), ("b", "soon", None), ("c", "2115-01-01T00:00:00Z", None)
    )
    assert [row["_updated_at"] for row in rows] == [at("2025-01-01T10:00")] * 3
    assert [row["began"] for row in rows] == ["2025-01-01T10:00:00Z", "soon", "2115-01-01T00:00:00Z"]


def test_a_repeat_comes_when_it_is_done_and_after_what_it_repeats():
    when = ("2025-01-01T10:00:00Z", "2025-01-02T10:00:00Z")
    rows = states(("a", *when), ("a", *when), (None, *when), (None, *when))
    assert [(row["id"], row["_row"]) for row in rows] == [
        ("a", 1), ("a", 1), (None, 2), (None, 2), (None, 3), (None, 3), ("a", 4)
    ]  # fmt: skip
    assert rows[-1]["_created_at"] == rows[1]["_updated_at"] + timedelta(minutes=1)


def test_nothing_shows_after_the_end_of_what_was_simulated():
    end = LAST.isoformat() + "Z"
    rows = states(("a", end, None), ("a", end, None))
    assert [row["_updated_at"] for row in rows] == [LAST, LAST]


def test_vanishing_is_a_matter_of_the_seed_and_leaves_rows_without_a_key():
    told = [(f"k{n}", "2025-01-01T10:00:00Z", None) for n in range(3_000)] + [
        (None, "2025-01-01T10:00:00Z", None)
    ]
    gone = {row["id"]: row["_until"] for row in states(*told, seed="one") if row["_until"] is not None}
    assert 2 <= len(gone) <= 30
    assert None not in gone
    assert all(
        timedelta(days=3) <= until - at("2025-01-01T10:00") < timedelta(days=48) for until in gone.values()
    )
    assert gone == {
        row["id"]: row["_until"] for row in states(*told, seed="one") if row["_until"] is not None
    }
    assert gone.keys() != {row["id"] for row in states(*told, seed="two") if row["_until"] is not None}
    assert [row for row in states(*told) if row["_until"] is not None] == []
