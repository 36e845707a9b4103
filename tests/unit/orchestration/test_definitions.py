"""What Dagster loads for a declared city: it is whole, it is joined up, and it loads fast."""

import csv
import subprocess
import sys

import dagster as dg
import pytest

from assets.correlate.catalogue import CATALOGUE
from assets.correlate.correlation_marts import ANSWER_CHECK, build_correlation_assets
from assets.ingest.feed import load_cities
from assets.ingest.raw_tables import DELIVERY_CHECK, GATE_CHECKS
from assets.publish.open_data_extracts import build_publish_assets
from assets.warehouse.dbt_assets import PASSES, WRITE_POOL, CityTranslator
from orchestration.definitions import declared_definitions
from orchestration.run_command import full_refresh_config
from orchestration.settings import REPOSITORY, load_settings


@pytest.fixture
def definitions(declare, parsed_home, tmp_path):
    declare("tinyville")
    declare("tinyville", feed="hydrants", kind="asset", cadence="yearly")
    settings = load_settings(
        {"CITYSIGNAL_HOME": str(parsed_home), "CITYSIGNAL_CITIES": str(tmp_path / "cities")}
    )
    return declared_definitions(settings)


@pytest.fixture
def graph(definitions):
    return definitions.resolve_asset_graph()


def key(*path: str) -> dg.AssetKey:
    return dg.AssetKey(list(path))


def test_definitions_are_loadable(definitions):
    dg.Definitions.validate_loadable(definitions)


def test_path_is_joined_up_from_raw_to_release(graph):
    raw, release = key("raw", "tinyville", "requests"), key("open_data", "release")
    reached, frontier = {raw}, {raw}
    while frontier:
        frontier = {child for one in frontier for child in graph.get(one).child_keys} - reached
        reached |= frontier
    assert {
        key("lake", "declared"),
        key("core", "fct_events"),
        key("correlation", "estimates"),
        key("correlation", "method_card", "lights_theft"),
        key("correlation", "site_excess"),
        key("correlation", "mart_permit_noise_candidates"),
        release,
    } <= reached


def test_each_question_is_a_method_card_with_a_check_before_the_release(graph):
    with CATALOGUE.open(encoding="utf-8", newline="") as file:
        questions = [row["question_id"] for row in csv.DictReader(file)]
    cards = {one for one in graph.get_all_asset_keys() if one.path[:2] == ["correlation", "method_card"]}
    assert cards == {key("correlation", "method_card", question) for question in questions}
    assert {one.asset_key for one in graph.asset_check_keys if one.name == ANSWER_CHECK} == cards
    assert cards < graph.get(key("open_data", "release")).parent_keys
    assert all(key("correlation", "mart_lag_curves") in graph.get(card).parent_keys for card in cards)


def test_a_row_more_in_the_catalogue_is_a_card_a_check_and_part_of_the_release(tmp_path):
    catalogue = tmp_path / "questions.csv"
    with CATALOGUE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with catalogue.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows([*rows, {**rows[0], "question_id": "brand_new"}])
    added = key("correlation", "method_card", "brand_new")
    before, after = build_correlation_assets()[-1], build_correlation_assets(catalogue)[-1]
    assert after.keys - before.keys == {added}
    assert {one.asset_key for one in after.check_keys - before.check_keys} == {added}
    release = build_publish_assets([], tmp_path / "manifest.json", catalogue)[-1]
    assert added in release.asset_deps[key("open_data", "release")]


def test_no_asset_reads_from_something_nobody_writes(graph):
    declared = {one for one in graph.get_all_asset_keys() if graph.get(one).is_materializable}
    assert declared == set(graph.get_all_asset_keys())


def test_a_kinds_source_is_every_feed_of_that_kind(declare):
    declare("tinyville")
    folder = declare("portlet", feed="calls")
    translator = CityTranslator(load_cities([folder], {}))
    expected = [key("raw", "portlet", "calls"), key("raw", "tinyville", "requests"), key("lake", "declared")]
    assert sorted(translator.writers("raw", "service_request")) == sorted(expected)
    assert sorted(translator.writers("quarantine", "quarantined_service_request")) == sorted(expected)
    assert sorted(translator.writers("absences", "absent_service_request")) == sorted(expected)
    assert translator.writers("raw", "crime") == [key("lake", "declared")]
    assert translator.writers("correlations", "estimates") == [key("correlation", "estimates")]
    assert translator.writers("after_hours", "site_excess") == [key("correlation", "site_excess")]


def test_places_come_from_the_feeds_that_have_them(graph):
    node = graph.get(key("places", "tinyville", "hydrants"))
    assert node.parent_keys == {key("raw", "tinyville", "hydrants")}
    assert key("places", "tinyville", "requests") not in graph.get_all_asset_keys()
    assert key("places", "tinyville", "hydrants") in graph.get(key("core", "dim_asset")).parent_keys


def test_raw_asset_tells_owner_cadence_kind_and_when_it_is_late(graph):
    node = graph.get(key("raw", "tinyville", "requests"))
    assert node.owners == ["team:streets-san"]
    assert node.group_name == "ingest_tinyville"
    assert node.tags["cadence"] == "daily"
    assert node.kinds == {"csv", "parquet"}
    assert node.description == "Requests of tinyville. tinyville Clerk."
    assert node.freshness_policy_or_from_metadata.fail_window.to_timedelta().days == 2


def test_every_gate_check_is_an_asset_check_that_blocks_nothing(graph):
    raw = key("raw", "tinyville", "requests")
    checks = [graph.get(one) for one in graph.asset_check_keys if one.asset_key == raw]
    assert {one.key.name for one in checks} == {*GATE_CHECKS, DELIVERY_CHECK}
    assert not any(one.blocking for one in checks)


def test_dbt_tests_are_checks_and_errors_block(graph):
    checks = [graph.get(one) for one in graph.asset_check_keys if one.asset_key == key("core", "fct_events")]
    assert len(checks) >= 5
    assert any(one.blocking for one in checks)


def test_whatever_opens_the_build_file_takes_the_pool(graph):
    pools = {asset.op.name: asset.op.pool for asset in graph.assets_defs if asset.is_executable}
    pooled = {name for name, pool in pools.items() if pool == WRITE_POOL}
    assert pooled == {
        *PASSES,
        "correlation__estimates",
        "correlation__site_excess",
        "correlation__outlooks",
        "method_cards",
        "publish__bi_snapshot",
        "publish__bi_snapshot_same_as_build",
        "open_data__release",
    }


def test_full_rebuild_is_asked_of_the_passes_that_run(definitions, graph):
    everything = set(graph.get_all_asset_keys())
    asked = {"config": {"full_refresh": True}}
    assert full_refresh_config(definitions, everything) == {"ops": {"warehouse": asked, "verdicts": asked}}
    assert full_refresh_config(definitions, {key("core", "fct_events")}) == {"ops": {"warehouse": asked}}
    assert full_refresh_config(definitions, {key("raw", "tinyville", "requests")}) == {"ops": {}}


def test_jobs_take_a_city_or_everything(definitions, graph):
    ingest = definitions.resolve_job_def("ingest_tinyville").asset_layer.selected_asset_keys
    assert ingest == {
        key("raw", "tinyville", "requests"),
        key("raw", "tinyville", "hydrants"),
        key("places", "tinyville", "hydrants"),
    }
    everything = definitions.resolve_job_def("city_pipeline").asset_layer.selected_asset_keys
    assert everything == set(graph.get_all_asset_keys())


def test_fast_lane_and_backfill_have_jobs_where_a_portal_can_be_asked(declare, parsed_home, tmp_path):
    source = "https://data.example.org/open311/v2"
    declare("tinyville", cadence="hourly", portal="open311", source=source)
    declare("tinyville", feed="hydrants", kind="asset", cadence="yearly")
    settings = load_settings(
        {"CITYSIGNAL_HOME": str(parsed_home), "CITYSIGNAL_CITIES": str(tmp_path / "cities")}
    )
    definitions = declared_definitions(settings)
    dg.Definitions.validate_loadable(definitions)
    fast = definitions.resolve_job_def("fast_lane")
    assert key("raw", "tinyville", "requests") in fast.asset_layer.selected_asset_keys
    assert all(one.path[0] == "raw" for one in fast.asset_layer.selected_asset_keys)
    assert fast.tags["dagster/priority"] == "1"
    assert definitions.resolve_sensor_def("fast_lane").job_name == "fast_lane"
    assert definitions.resolve_job_def("backfill_tinyville__requests").partitions_def is not None
    with pytest.raises(dg.DagsterInvariantViolationError):
        definitions.resolve_job_def("backfill_tinyville__hydrants")
    pools = {
        one.op.name: one.op.pool for one in definitions.resolve_asset_graph().assets_defs if one.is_executable
    }
    assert pools["raw__tinyville__requests"] == "portal_data.example.org"
    assert pools["raw__tinyville__hydrants"] is None


def test_schedule_leaves_the_feeds_of_other_rhythms_alone(definitions):
    keys = definitions.resolve_job_def("refresh_daily_tinyville").asset_layer.selected_asset_keys
    assert key("raw", "tinyville", "requests") in keys
    assert key("open_data", "release") in keys
    assert key("raw", "tinyville", "hydrants") not in keys
    assert key("places", "tinyville", "hydrants") not in keys


def test_wrong_city_is_left_out_and_named_and_takes_nothing_else_away(declare, parsed_home, tmp_path, caplog):
    folder = declare("tinyville")
    declare("portlet", feed="calls")
    feed = folder / "tinyville" / "requests.yaml"
    feed.write_text(feed.read_text() + "cadense: daily\n")
    settings = load_settings(
        {"CITYSIGNAL_HOME": str(parsed_home), "CITYSIGNAL_CITIES": str(tmp_path / "cities")}
    )
    found = declared_definitions(settings).resolve_asset_graph().get_all_asset_keys()
    assert {key("raw", "portlet", "calls"), key("raw", "simulated", "crimes")} <= found
    assert key("raw", "tinyville", "requests") not in found
    [said] = caplog.messages
    assert said.startswith("city tinyville is left out: ")
    assert "requests.yaml: cadense: unknown key; did you mean cadence?" in said


def test_importing_definitions_loads_nothing_heavy():
    code = (
        "import sys, orchestration.definitions; "
        "heavy = ('great_expectations', 'geopandas', 'matplotlib', 'scipy'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
