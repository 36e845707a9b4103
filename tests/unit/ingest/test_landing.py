import gzip
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from assets.ingest import building, commit, known_rows, landing, parsing, receipts
from assets.ingest.contracts import DELIVERY_COLUMNS, KINDS, LOCATION_COLUMNS, column_names
from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from tests.declared_feed import declared_feed, declared_town

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

COLUMNS = {"source_id": "id", "category": "what", "requested_at": "at", "x": "lon", "y": "lat"}
HEADER = "id,what,at,lon,lat\n"


class Town:
    """One city with one feed over files in a folder, and its lake."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lake = Lake(folder / "home")
        self.parts = [{"id": "one", "source": str(folder / "one.csv")}]
        self.expect = {"max_quarantine_share": 0.5}
        self.columns = dict(COLUMNS)

    @property
    def feed(self) -> Feed:
        return declared_feed(
            columns=self.columns,
            parts=self.parts,
            expect=self.expect,
        )

    def city(self) -> City:
        return declared_town(self.folder, self.feed)

    def write(self, rows: range | str, name: str = "one.csv") -> None:
        lines = (
            rows
            if isinstance(rows, str)
            else "".join(f"{i},pothole,2026-01-02T03:04:05,-87.5,42.{i}\n" for i in rows)
        )
        (self.folder / name).write_text(HEADER + lines, newline="")

    def land(self, days: int = 0):
        return landing.land_feed(self.lake, self.city(), self.feed, now=NOW + timedelta(days=days))

    def replay(self, days: int = 0):
        return landing.replay_feed(self.lake, self.city(), self.feed, now=NOW + timedelta(days=days))

    def table(self, zone: str = "raw") -> list[tuple]:
        files = str(self.lake.home / "lake" / zone / "*" / "city=town" / "*" / "*.parquet")
        if not list(self.lake.home.glob(f"lake/{zone}/*/city=town/*/*.parquet")):
            return []
        order = "observed_at, source_id" if zone == "absences" else "delivered_at, part, source_row"
        return duckdb.execute(f"from read_parquet('{files}') order by {order}").fetchall()

    def fetches(self) -> list[Path]:
        return sorted(p for p in self.lake.landing("town", "calls").iterdir() if p.is_dir())


@pytest.fixture
def town(tmp_path) -> Town:
    return Town(tmp_path)


def test_a_delivery_lands_with_the_columns_of_the_contract(town):
    town.write(range(3))
    (delivery,) = town.land()
    assert (delivery.outcome, delivery.rows_in_file, delivery.rows_raw, delivery.distinct_keys) == (
        "landed",
        3,
        3,
        3,
    )
    raw = town.lake.raw("service_request", "town", "calls") / f"one-000001-{delivery.delivery_id}.parquet"
    types = {
        r[0]: r[1]
        for r in duckdb.execute(f"describe from read_parquet('{raw}', hive_partitioning = false)").fetchall()
    }
    assert (
        types
        == dict.fromkeys(column_names("service_request"), "VARCHAR") | DELIVERY_COLUMNS | LOCATION_COLUMNS
    )
    row = duckdb.execute(
        "select source_id, category, agency, source_row, delivery_sha, delivered_at, location_quality, lon,"
        f" lat from '{raw}'"
    ).fetchall()[1]
    assert row == ("1", "pothole", None, 2, delivery.sha, NOW.replace(tzinfo=None), "ok", -87.5, 42.1)


def test_the_content_hash_is_that_of_the_contract(town):
    import hashlib

    town.write(range(1))
    town.land()
    names = column_names("service_request")
    (row,) = town.table()
    texts = [chr(30) if value is None else value for value in row[: len(names)]]
    assert (
        row[len(names) + list(DELIVERY_COLUMNS).index("content_hash")]
        == hashlib.md5(chr(31).join(texts).encode()).hexdigest()
    )


def test_the_lake_holds_bytes_receipt_rows_and_nothing_else(town):
    town.write("1,a,2026-01-02,-87.5,42\n2,short\n")
    (delivery,) = town.land()
    (fetch,) = town.fetches()
    assert sorted(p.name for p in fetch.iterdir()) == ["one.csv.gz", "receipt.json"]
    assert gzip.decompress((fetch / "one.csv.gz").read_bytes()) == (town.folder / "one.csv").read_bytes()
    assert json.loads((fetch / "receipt.json").read_text())["rows_quarantined"] == 1
    assert delivery.quarantine_reasons == {"missing_columns": 1}
    ((part, source_row, reason, _, raw_record, sha, at, *_),) = town.table("quarantine")
    assert (part, source_row, reason, raw_record) == ("one", 2, "missing_columns", "2,short")
    assert (sha, at) == (delivery.sha, NOW.replace(tzinfo=None))


def test_the_same_bytes_repeat_how_they_were_judged(town):
    town.write(range(3))
    first, second = town.land()[0], town.land(days=1)[0]
    assert second.outcome == "unchanged"
    assert second.checks == first.checks != []
    receipts.write_receipts_table(town.lake)
    results = town.lake.derived / "check_results" / "deliveries.parquet"
    assert duckdb.execute(f"select distinct fetch_id from '{results}'").fetchall() == [(first.fetch_id,)]


def test_the_same_bytes_are_judged_again_when_more_is_expected_of_them(town):
    town.write(range(3))
    town.land()
    before = town.table()
    town.expect = {**town.expect, "min_rows": 4}
    # Neither what is stored nor the file that is there is what is expected now.
    assert [(d.action, d.outcome) for d in town.land(days=1)] == [("replay", "blocked"), ("fetch", "blocked")]
    assert town.table() == before
    town.expect = {**town.expect, "min_rows": 1}
    assert [(d.action, d.outcome) for d in town.land(days=2)] == [
        ("replay", "landed"),
        ("fetch", "unchanged"),
    ]


def test_the_same_bytes_are_unchanged(town):
    town.write(range(3))
    town.land()
    before = town.table()
    (delivery,) = town.land(days=1)
    assert (delivery.outcome, delivery.rows_raw, delivery.distinct_keys) == ("unchanged", 3, 3)
    assert town.table() == before
    assert [len(list(fetch.glob("*.gz"))) for fetch in town.fetches()] == [1, 0]


def test_the_counts_of_bytes_that_come_again_add_up(town):
    town.write(range(3))
    town.land()
    town.write(range(4))
    town.land(days=1)
    (again,) = town.land(days=2)
    assert (again.outcome, again.rows_in_file) == ("unchanged", 4)
    assert again.rows_raw + again.rows_quarantined + again.rows_unchanged == 4


def test_another_mapping_of_the_same_bytes_is_built_anew(town):
    town.write(range(3))
    town.land()
    town.columns["agency"] = "what"
    delivery, fetched = town.land(days=1)
    assert (delivery.action, delivery.outcome, fetched.outcome) == ("replay", "landed", "unchanged")
    position = column_names("service_request").index("agency")
    assert {row[position] for row in town.table()} == {"pothole"}
    # When the bytes were first seen does not change with what we make of them.
    assert delivery.delivered_at == NOW.replace(tzinfo=None)
    assert sum(len(list(fetch.glob("*.gz"))) for fetch in town.fetches()) == 1


def test_only_what_changed_becomes_rows_and_what_goes_back_is_the_newest(town):
    row = "{},{},2026-01-02T03:04:05,-87.5,42.1\n".format
    for day, what in enumerate("aba"):
        town.write(row(1, what) + "".join(row(i, "a") for i in range(2, 9)))
        (delivery,) = town.land(days=day)
        assert delivery.outcome == "landed"
        assert (delivery.rows_in_file, delivery.rows_raw + delivery.rows_unchanged) == (8, 8)
        assert (delivery.rows_new, delivery.rows_changed) == ((8, 0) if day == 0 else (0, 1))
    category = column_names("service_request").index("category")
    versions = [row[category] for row in town.table() if row[0] == "1"]
    assert versions == ["a", "b", "a"]
    assert len(town.table()) == 10


def test_other_bytes_with_the_same_rows_are_unchanged(town):
    rows = [f"{i},a,2026-01-02T03:04:05,-87.5,42.1\n" for i in range(4)]
    town.write("".join(rows))
    town.land()
    before = town.table()
    town.write("".join(reversed(rows)))
    (delivery,) = town.land(days=1)
    assert (delivery.outcome, delivery.rows_unchanged, delivery.rows_missing) == ("unchanged", 4, 0)
    assert town.table() == before


def test_records_that_share_a_key_do_not_flap(town):
    town.write("1,a,2026-01-02,-87.5,42\n1,b,2026-01-02,-87.5,42\n2,a,2026-01-02,-87.5,42\n")
    town.land()
    town.write(
        "3,a,2026-01-02,-87.5,42\n1,a,2026-01-02,-87.5,42\n1,b,2026-01-02,-87.5,42\n2,a,2026-01-02,-87.5,42\n"
    )
    (delivery,) = town.land(days=1)
    assert (delivery.rows_new, delivery.rows_changed, delivery.rows_unchanged) == (1, 0, 3)


def test_a_month_that_is_none_is_told_as_unknown(town):
    """Else a sweep asks the portal for it, which no portal can answer."""
    row = "{},a,{},-87.5,42\n".format
    town.write("".join(row(i, f"2026-0{1 + i % 3}-02") for i in range(9)) + row(9, "2025-13-45T99:00:00"))
    (delivery,) = town.land()
    assert delivery.months == {"": 1, "2026-01": 3, "2026-02": 3, "2026-03": 3}


def test_what_vanishes_is_missing_then_gone_and_may_come_back(town):
    def absences():
        return [row[:3] for row in town.table("absences")]

    town.write(range(100))
    town.land()
    town.write(range(2, 100))
    (delivery,) = town.land(days=1)
    assert (delivery.outcome, delivery.rows_missing, delivery.rows_known) == ("landed", 2, 98)
    town.land(days=2)
    town.write(range(3, 100))
    town.land(days=3)
    assert [(d, m) for _, d, m in absences()] == [("0", 1), ("1", 1), ("0", 2), ("1", 2), ("2", 1)]
    # Deleted rows are not told again, and one that comes back is a row again although nothing in it changed.
    town.write(range(1, 100))
    (delivery,) = town.land(days=4)
    assert (delivery.rows_new, delivery.rows_changed, delivery.rows_missing) == (0, 2, 0)
    assert delivery.rows_known == 99
    assert len(town.table()) == 102


def test_a_source_that_is_half_loaded_makes_nothing_missing(town):
    town.write(range(100))
    town.land()
    town.write(range(20, 100))
    (delivery,) = town.land(days=1)
    assert (delivery.outcome, delivery.rows_missing) == ("unchanged", 0)
    assert "half loaded" in delivery.notes[0]
    town.expect["min_volume_ratio"] = 0.4
    assert sum(d.rows_missing for d in town.land(days=2)) == 20


def test_rows_that_cannot_be_read_are_set_aside_once(town):
    town.write("1,a,2026-01-02,-87.5,42\n2,short\n")
    town.land()
    town.write("1,a,2026-01-02,-87.5,42\n2,short\n3,a,2026-01-02,-87.5,42\n")
    (delivery,) = town.land(days=1)
    assert (delivery.rows_raw, delivery.rows_quarantined, delivery.rows_unchanged) == (1, 0, 2)
    assert len(town.table("quarantine")) == 1


def test_a_declared_copy_date_is_when_it_was_delivered(town):
    town.parts[0]["as_of"] = "2026-02-03"
    town.write(range(1))
    assert town.land()[0].delivered_at == datetime.fromisoformat("2026-02-03")


def test_a_delivery_that_shrinks_is_blocked_and_raw_untouched(town):
    town.write(range(10))
    town.land()
    before = town.table()
    town.write(range(2))
    (delivery,) = town.land(days=1)
    assert (delivery.outcome, delivery.error_type) == ("blocked", "GateFailed")
    assert "min_volume_ratio" in delivery.message
    assert "town/calls, part one" in delivery.message
    assert "\n" not in delivery.message
    assert town.table() == before
    # The bytes stay, and once the declaration says that it is meant, a replay lands them.
    town.expect["min_volume_ratio"] = 0.0
    (replayed,) = town.replay(days=2)
    assert (replayed.outcome, replayed.rows_in_file, replayed.rows_missing) == ("landed", 12, 8)
    assert len(town.table()) == 10
    assert len(town.table("absences")) == 8


@pytest.mark.parametrize(
    ("content", "outcome", "error_type"),
    [
        (b"", "failed", "EmptyFile"),
        (gzip.compress(b"id,what\n" + os.urandom(999))[:-30], "failed", "TruncatedFile"),
        (b"<html>Sign in</html>", "failed", "HtmlInsteadOfData"),
        (b"stop,name\n1,Main St\n", "blocked", "MissingColumns"),
        (HEADER.encode(), "blocked", "GateFailed"),
        (HEADER.encode() + b"1,a\n" * 9, "blocked", "GateFailed"),
        (HEADER.encode() + b",a,2026-01-02,-87.5,42\n", "blocked", "GateFailed"),
    ],
    ids=["empty", "cut gzip", "web page", "another feed", "header only", "all ragged", "no key"],
)
def test_bad_files_leave_raw_untouched_and_say_what_to_do(town, content, outcome, error_type):
    town.write(range(3))
    town.land()
    before = town.table(), town.table("quarantine")
    (town.folder / "one.csv").write_bytes(content)
    (delivery,) = town.land(days=1)
    assert (delivery.outcome, delivery.error_type) == (outcome, error_type)
    assert delivery.message.startswith("town/calls, part one, ")
    assert ";" in delivery.message
    assert "\n" not in delivery.message
    assert (town.table(), town.table("quarantine")) == before


def test_one_bad_part_does_not_stop_the_others(town):
    town.parts.append({"id": "two", "source": str(town.folder / "two.csv")})
    town.write(range(3), "two.csv")
    assert [d.outcome for d in town.land()] == ["failed", "landed"]
    assert len(town.table()) == 3


class Killed(BaseException):
    pass


def killing(monkeypatch, at: int):
    """Let the process die before its n-th rename; return how many renames were made."""
    real, count = os.replace, [0]

    def replace(*args):
        count[0] += 1
        if count[0] == at:
            raise Killed
        return real(*args)

    monkeypatch.setattr(os, "replace", replace)
    return count


@pytest.mark.parametrize("has_earlier", [False, True])
def test_killed_before_any_rename_a_second_run_gives_the_same_rows(town, tmp_path, monkeypatch, has_earlier):
    def prepare(one: Town):
        one.folder.mkdir(exist_ok=True)
        if has_earlier:
            one.write(range(1, 3))
            one.land(days=-1)
        one.write("1,a,2026-01-02,-87.5,42\n2,short\n3,b,2026-01-02,-87.5,42\n")

    whole = Town(tmp_path / "whole")
    prepare(whole)
    with monkeypatch.context() as patch:
        count = killing(patch, at=0)
        whole.land()
    assert count[0] == 5  # pending receipt, quarantine, index, raw, receipt
    for at in range(1, count[0] + 1):
        broken = Town(tmp_path / f"broken{at}")
        prepare(broken)
        before = broken.table()
        with monkeypatch.context() as patch:
            killing(patch, at)
            with pytest.raises(Killed):
                broken.land()
        assert broken.table() in (before, whole.table())
        assert broken.land()[0].outcome == ("landed" if at == 1 else "unchanged")
        assert (broken.table(), broken.table("quarantine")) == (whole.table(), whole.table("quarantine"))
        for fetch in broken.fetches():
            assert {p.name for p in fetch.iterdir()} <= {"one.csv.gz", "receipt.json"}
        assert [r.outcome for r in receipts.read_receipts(broken.lake.landing("town", "calls"))].count(
            "landed"
        ) == (1 + has_earlier)


@pytest.mark.parametrize(
    "step",
    [
        (landing, "stage"),
        (building, "locate"),
        (building, "write_raw"),
        (building, "write_quarantine"),
        (building, "validate_delivery"),
        (known_rows, "write_known"),
        (commit, "write_receipt"),
    ],
    ids=lambda step: step[1],
)
def test_killed_while_it_works_a_second_run_sweeps_and_lands(town, monkeypatch, step):
    def die(*args, **kwargs):
        raise Killed

    town.write(range(3))
    with monkeypatch.context() as patch:
        patch.setattr(*step, die)
        with pytest.raises(Killed):
            town.land()
    assert len(town.fetches()) == 1
    (delivery,) = town.land()
    assert delivery.outcome == "landed"
    assert [fetch.name for fetch in town.fetches()] == [delivery.fetch_id]
    assert len(town.table()) == 3


def test_a_replay_gives_the_same_rows_without_the_source(town):
    town.write("1,a,2026-01-02,-87.5,42\n2,short\n3,b,2026-01-02,-87.5,42\n")
    town.land()
    before = town.table(), town.table("quarantine")
    for path in [*town.lake.home.glob("lake/raw/*/*/*/*"), *town.lake.home.glob("lake/quarantine/*/*/*/*")]:
        path.unlink()
    (town.folder / "one.csv").unlink()
    (delivery,) = town.replay(days=5)
    assert (delivery.outcome, delivery.action) == ("landed", "replay")
    assert (town.table(), town.table("quarantine")) == before


def test_a_lost_record_blocks(town, monkeypatch):
    real = parsing.csv_records.write_records

    def lossy(stream, part, folder):
        records = real(stream, part, folder)
        records.path.write_text(
            records.path.read_text("utf-8").replace("2,pothole", "3,pothole", 1).partition("\n1,")[0] + "\n",
            "utf-8",
        )
        return records

    monkeypatch.setattr(parsing.csv_records, "write_records", lossy)
    town.write(range(3))
    (delivery,) = town.land()
    assert delivery.outcome == "blocked"
    assert "raw + quarantined rows is 1, expected = 3" in delivery.message


def test_two_landings_of_a_feed_do_not_meet(town, monkeypatch):
    from filelock import FileLock

    town.write(range(1))
    town.land()
    monkeypatch.setattr(landing, "LOCK_SECONDS", 0.05)
    with (
        FileLock(town.lake.landing("town", "calls") / ".lock"),
        pytest.raises(landing.DeliveryError, match="wait for it"),
    ):
        town.land()


def test_an_empty_lake_has_every_table(town):
    landing.ensure_lake(town.lake)
    landing.ensure_lake(town.lake)
    for kind in KINDS:
        for zone in ("raw", "quarantine", "absences"):
            glob = town.lake.home / "lake" / zone / kind / "**" / "*.parquet"
            columns = {
                r[0]
                for r in duckdb.execute(
                    f"describe from read_parquet('{glob}', hive_partitioning = true)"
                ).fetchall()
            }
            assert {"city", "feed", "part"} <= columns
            assert duckdb.execute(f"select count(*) from read_parquet('{glob}')").fetchone() == (0,)
    assert (town.lake.derived / "fetches" / "receipts.parquet").is_file()
