"""The plain objects that assets take, made from the settings; what they do belongs to `assets`."""

from typing import Any

from assets.warehouse.dbt_build import DbtBuild
from orchestration.dbt_manifest import target_folder
from orchestration.settings import DBT_PROJECT, Settings, tell_dbt


def build_resources(settings: Settings) -> dict[str, Any]:
    """Return Dagster's resources by the name that assets ask for."""
    return {"lake": settings.lake, "clock": settings.clock, "dbt": dbt_build(settings)}


def dbt_build(settings: Settings) -> DbtBuild:
    """Return how to build dbt_project for a deployment."""
    return DbtBuild(
        project=DBT_PROJECT,
        target=target_folder(settings),
        logs=settings.home / "dbt" / "logs",
        announce=lambda generation: tell_dbt(settings, generation),
    )
