"""The store behind the simulated portals: edits, the clock, reloads, and what shows of them."""

import threading
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from assets.simulate.serving.store import START, Column, Dataset, Store

HOUR = timedelta(hours=1)
COLUMNS = [
    Column("id"),
    Column("opened", "floating_timestamp"),
    Column("fee", "number"),
    Column("is_open", "flag"),
    Column("place", "point"),
    Column("detail", "json"),
]
ROWS = [
    {"id": "a", "opened": "2026-01-05T08:00:00", "fee": 10, "is_open": True, "place": (-87.5, 41.25)},
    {"id": "b", "opened": "2026-02-05", "detail": {"note": "x"}},
    {"id": "c", "fee": 7},
]


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def dataset(store):
    made = store.add(Dataset("socrata", "abcd-1234", "Requests", COLUMNS, "id", "opened"))
    made.insert(ROWS)
    return made


def _system(dataset):
    rows = dataset.query("id, _row, _rid, _created_at, _updated_at").to_pylist()
    return {row.pop("id"): row for row in rows}


def test_rows_come_back_as_they_were_put_in(dataset):
    truth = dataset.truth()
    assert truth["a"] == {
        "id": "a",
        "opened": datetime.fromisoformat("2026-01-05T08:00:00"),
        "fee": 10,
        "is_open": True,
        "place": {"lon": -87.5, "lat": 41.25},
        "detail": None,
    }
    assert truth["b"]["detail"] == '{"note": "x"}'
    assert truth["c"]["place"] is None


def test_a_row_with_an_unknown_column_is_refused(dataset):
    with pytest.raises(ValueError, match="unknown columns feee"):
        dataset.insert([{"id": "d", "feee": 1}])


def test_whole_numbers_stay_whole_until_a_fraction_comes(dataset):
    assert dataset.is_whole("fee")
    dataset.update(["a"], {"fee": 10.5})
    assert not dataset.is_whole("fee")
    assert dataset.truth()["a"]["fee"] == 10.5
    assert dataset.truth()["c"]["fee"] == 7


def test_an_edit_moves_the_change_time_and_nothing_else(store, dataset):
    before = _system(dataset)
    store.advance(HOUR)
    dataset.update(["a"], {"is_open": False, "place": None})
    after = _system(dataset)
    assert after["b"] == before["b"]
    assert after["a"] == before["a"] | {"_updated_at": START + HOUR}
    assert dataset.truth()["a"]["place"] is None
    assert dataset.changed_at == START + HOUR


def test_a_removed_row_leaves_no_trace_but_the_change_time(store, dataset):
    store.advance(HOUR)
    dataset.delete(["b", "no such row"])
    assert set(dataset.truth()) == {"a", "c"}
    assert dataset.changed_at == START + HOUR


def test_a_reload_gives_new_numbers_ids_and_times_to_the_same_content(store, dataset):
    content, before = dataset.truth(), _system(dataset)
    store.advance(HOUR)
    dataset.reload()
    after = _system(dataset)
    assert dataset.truth() == content
    assert {row["_row"] for row in after.values()} == {1, 2, 3}
    assert not {row["_rid"] for row in after.values()} & {row["_rid"] for row in before.values()}
    assert {(row["_created_at"], row["_updated_at"]) for row in after.values()} == {(START + HOUR,) * 2}


def test_row_ids_are_unique_and_follow_no_order_of_the_rows():
    dataset = Dataset("socrata", "abcd-1234", "", [Column("id")], "id")
    dataset.insert(pa.table({"id": [str(number) for number in range(5000)]}))
    ids = dataset.query("_rid", order="_row").column("_rid").to_pylist()
    assert len(set(ids)) == 5000
    assert ids != sorted(ids)
    assert all(len(rid) == 18 and rid.startswith("row-") for rid in ids)


def test_what_lies_ahead_shows_when_the_clock_has_come_there(store, dataset):
    dataset.insert([{"id": "d"}], at=store.now + HOUR)
    dataset.update(["a"], {"fee": 99}, at=store.now + HOUR)
    dataset.delete(["b"], at=store.now + 2 * HOUR)
    assert set(dataset.truth()) == {"a", "b", "c"}
    assert dataset.truth()["a"]["fee"] == 10
    assert dataset.changed_at == START
    was = _system(dataset)["a"]
    store.advance(HOUR)
    assert set(dataset.truth()) == {"a", "b", "c", "d"}
    assert dataset.truth()["a"]["fee"] == 99
    assert _system(dataset)["a"] == was | {"_updated_at": START + HOUR}
    store.advance(HOUR)
    assert set(dataset.truth()) == {"a", "c", "d"}
    assert dataset.changed_at == START + 2 * HOUR


def test_versions_of_a_row_show_one_after_the_other(store):
    dataset = store.add(Dataset("arcgis", "0", "", [Column("id"), Column("state")], "id"))
    later = START + HOUR
    dataset.insert(
        [
            {"id": "a", "state": "open", "_updated_at": START, "_until": later},
            {"id": "a", "state": "closed", "_created_at": START, "_updated_at": later},
        ]
    )
    assert dataset.truth()["a"]["state"] == "open"
    before = _system(dataset)["a"]
    store.advance(HOUR)
    assert dataset.truth()["a"]["state"] == "closed"
    assert _system(dataset)["a"] == before | {"_updated_at": later}
    assert dataset.count() == 1


def test_rows_put_in_before_the_data_set_is_served_take_the_clock_of_the_store():
    dataset = Dataset("ckan", "r", "", [Column("id")], "id")
    dataset.insert([{"id": "a"}])
    assert set(dataset.truth()) == {"a"}
    earlier = Store(now=datetime(2020, 1, 1, tzinfo=UTC))
    earlier.add(dataset)
    assert _system(dataset)["a"]["_updated_at"] == datetime.fromisoformat("2020-01-01")


def test_columns_are_added_renamed_retyped_and_dropped(dataset):
    dataset.add_column(Column("ward", "number"), 4)
    dataset.rename_column("id", "case_id")
    dataset.retype_column("fee", "text")
    dataset.drop_column("detail")
    assert dataset.truth()["a"] == {
        "case_id": "a",
        "opened": datetime.fromisoformat("2026-01-05T08:00:00"),
        "fee": "10",
        "is_open": True,
        "place": {"lon": -87.5, "lat": 41.25},
        "ward": 4,
    }
    dataset.update(["a"], {"fee": "none"})
    dataset.retype_column("fee", "number")
    assert [row["fee"] for row in dataset.truth().values()] == [None, None, 7]


def test_every_change_is_seen_in_the_version(store, dataset):
    seen = [store.version]
    for change in (
        lambda: dataset.update(["a"], {"fee": 1}),
        lambda: dataset.delete(["a"]),
        dataset.reload,
        lambda: store.advance(HOUR),
        lambda: store.add_file("x.csv", b"a"),
    ):
        change()
        seen.append(store.version)
    assert seen == sorted(set(seen))


def test_rendered_rows_are_joined_without_a_tail(dataset):
    text, rows = dataset.render("id", order="_row", limit=2)
    assert (text, rows) == (b"a,\nb", 2)
    assert dataset.render("id", "id = ?", parameters=["none"]) == (b"", 0)


def test_readers_see_all_of_an_edit_or_none(store, dataset):
    dataset.insert([{"id": str(number), "fee": 0} for number in range(2000)])
    seen, is_over = [], threading.Event()

    def read():
        while not is_over.is_set():
            seen.append(
                dataset.query("count(*) as rows, count(distinct _created_at) as times").to_pylist()[0]
            )

    reader = threading.Thread(target=read)
    store.advance(HOUR)
    dataset.reload()
    reader.start()
    for _ in range(5):
        store.advance(HOUR)
        dataset.reload()
    is_over.set()
    reader.join()
    assert {(row["rows"], row["times"]) for row in seen} == {(2003, 1)}
