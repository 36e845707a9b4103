"""What goes wrong in one feed's step is that feed's affair: the other feeds and the warehouse go on."""

from datetime import datetime
from types import SimpleNamespace

import dagster as dg
import pytest

from assets.ingest import cover, landing
from assets.ingest.clock import Clock
from assets.ingest.feed import load_cities
from assets.ingest.raw_tables import (
    DELIVERY_CHECK,
    PLACES_CHECK,
    delivery_metadata,
    places_asset,
    pool_of,
    raw_asset,
    raw_key,
)
from assets.ingest.receipts import Delivery

DECLARED = dg.AssetKey(["lake", "declared"])
OTHER = dg.AssetKey(["raw", "tinyville", "calls"])
REQUESTS = raw_key("tinyville", "requests")


@pytest.fixture
def feed_step(declare, settings, instance, monkeypatch):
    """Run the step of a feed beside that of another, and what is built from both."""
    city = load_cities([declare("tinyville")], {})["tinyville"]

    def run(raise_on_landing: Exception | None = None, raw=None):
        def land_feed(lake, city, feed, *, now, progress=None):
            if raise_on_landing:
                raise raise_on_landing
            return []

        monkeypatch.setattr(landing, "land_feed", land_feed)

        @dg.asset(key=OTHER)
        def other() -> dg.MaterializeResult:
            return dg.MaterializeResult()

        @dg.asset(key=DECLARED, deps=[REQUESTS, OTHER])
        def warehouse() -> dg.MaterializeResult:
            return dg.MaterializeResult()

        return dg.materialize(
            [raw or raw_asset(city, city.feeds["requests"]), other, warehouse],
            instance=instance,
            resources={"lake": settings.lake, "clock": Clock(settings.fixed_now)},
            raise_on_error=False,
        )

    return run


def materialized(result) -> set[dg.AssetKey]:
    return {event.asset_key for event in result.get_asset_materialization_events()}


def test_an_error_in_a_raw_step_stops_neither_other_feeds_nor_the_warehouse(feed_step):
    result = feed_step(raise_on_landing=RuntimeError("the disk is full"))
    assert result.success
    assert {OTHER, DECLARED} <= materialized(result)
    [check] = [one for one in result.get_asset_check_evaluations() if one.check_name == DELIVERY_CHECK]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check.description.startswith("tinyville/requests failing (RuntimeError): the disk is full -> ")


def test_left_to_dagster_it_would_stop_the_warehouse(feed_step):
    @dg.asset(key=REQUESTS)
    def raw() -> dg.MaterializeResult:
        raise RuntimeError("the disk is full")

    result = feed_step(raw=raw)
    assert not result.success
    assert materialized(result) == {OTHER}


def test_being_told_to_stop_is_no_error_of_the_feed(feed_step):
    result = feed_step(raise_on_landing=KeyboardInterrupt())
    assert not result.success
    assert DECLARED not in materialized(result)


def test_a_failed_delivery_is_the_same_line_in_check_and_metadata(feed_step, receipt):
    receipt(1)
    receipt(2, "failed", error_type="Unauthorised", message="example.org answered HTTP 403; renew the token")
    result = feed_step()
    line = (
        "tinyville/requests failing since 2025-12-02 (Unauthorised): example.org answered HTTP 403 "
        "-> renew the token"
    )
    [event] = [one for one in result.get_asset_materialization_events() if one.asset_key == REQUESTS]
    assert event.materialization.metadata["state"].value == line
    [check] = [one for one in result.get_asset_check_evaluations() if one.check_name == DELIVERY_CHECK]
    assert check.description == line


def test_a_part_that_was_rebuilt_and_fetched_is_counted_once():
    def delivery(action: str, outcome: str) -> Delivery:
        counts = {"rows_in_file": 40, "rows_raw": 40, "rows_known": 40}
        said = {"city": "tinyville", "feed": "requests", "part": "all", "kind": "service_request"}
        return Delivery(**said, **counts, fetch_id="f", action=action, outcome=outcome, source="one.csv",
                        attempted_at=datetime(2026, 1, 2), fingerprint="", sequence=1)  # fmt: skip  # noqa: DTZ001

    metadata = delivery_metadata([delivery("replay", "landed"), delivery("fetch", "unchanged")], "")
    assert (metadata["dagster/row_count"], metadata["new_or_changed"]) == (40, 40)


def test_an_error_in_writing_places_is_a_failed_check_too(declare, settings, monkeypatch):
    city = load_cities([declare("tinyville", feed="hydrants", kind="asset")], {})["tinyville"]
    monkeypatch.setattr(cover, "write_places", lambda *given: 1 / 0)
    result = dg.materialize(
        [places_asset(city, city.feeds["hydrants"])], resources={"lake": settings.lake}, raise_on_error=False
    )
    assert result.success
    [check] = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == (PLACES_CHECK, False)


def test_a_pool_is_a_host_and_files_have_none():
    def feed(*sources: str):
        parts = [SimpleNamespace(source=source, is_remote=source.startswith("http")) for source in sources]
        return SimpleNamespace(parts=parts)

    assert pool_of(feed("https://data.example.org/a?x=1", "b.csv")) == "portal_data.example.org"
    assert pool_of(feed("b.csv")) is None
    # The simulated portals listen on another port in every run; their host stays.
    assert pool_of(feed("http://127.0.0.1:8311/socrata")) == pool_of(feed("http://127.0.0.1:9000/ckan"))


def test_raw_steps_are_not_retried_by_dagster(declare):
    city = load_cities([declare("tinyville")], {})["tinyville"]
    assert raw_asset(city, city.feeds["requests"]).op.retry_policy is None
