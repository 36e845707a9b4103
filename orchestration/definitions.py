"""What Dagster loads: assets, jobs, schedules, sensors and checks put together; none is defined here."""

import logging
from collections.abc import Mapping

import dagster as dg

from assets.correlate.correlation_marts import build_correlation_assets
from assets.correlate.outlook_marts import outlooks
from assets.ingest.feed import City
from assets.ingest.raw_tables import build_ingest_assets
from assets.publish.open_data_extracts import build_publish_assets
from assets.warehouse.dbt_assets import build_dbt_assets
from orchestration.checks import build_checks
from orchestration.dbt_manifest import ensure_manifest
from orchestration.declared_cities import load_declared
from orchestration.fast_lane import fast_lane_jobs
from orchestration.jobs import build_jobs, ingest_keys
from orchestration.resources import build_resources
from orchestration.schedules import build_schedules
from orchestration.sensors import build_sensors
from orchestration.settings import Settings, load_settings


def build_definitions(settings: Settings, cities: Mapping[str, City]) -> dg.Definitions:
    """Return everything Dagster knows of a deployment with some cities.

    Raises:
        DbtProjectError: The dbt project does not parse.
    """
    dbt = build_dbt_assets(ensure_manifest(settings), cities)
    built = [key for asset in dbt for key in asset.keys]
    assets = [
        *build_ingest_assets(cities),
        *dbt,
        *build_correlation_assets(),
        outlooks,
        *build_publish_assets(built, ensure_manifest(settings)),
    ]
    feeds = [feed for city in cities.values() for feed in city.feeds.values()]
    shared = frozenset(key for asset in assets for key in asset.keys) - ingest_keys(feeds)
    return dg.Definitions(
        assets=assets,
        asset_checks=build_checks(),
        jobs=[*build_jobs(cities), *fast_lane_jobs(cities)],
        schedules=list(build_schedules(cities, settings.lake)),
        sensors=build_sensors(cities, settings, shared),
        resources=build_resources(settings),
        executor=dg.in_process_executor,
    )


def declared_definitions(settings: Settings) -> dg.Definitions:
    """Return the definitions with every city that is in order; one that is not takes nothing else away."""
    declared = load_declared(settings)
    for line in declared.warnings():
        logging.getLogger("citysignal").warning(line)
    return build_definitions(settings, declared.cities)


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions of the deployment that the environment names."""
    return declared_definitions(load_settings())
