"""The name of what one run builds and publishes; carrying it into the warehouse belongs to dbt."""

from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from assets.ingest.clock import Clock


@dataclass(frozen=True)
class Generation:
    """What a build is called, the run that builds it, and when; `built_at` is aware."""

    name: str
    run_id: str
    built_at: datetime


def generation_of(context: dg.AssetExecutionContext, clock: Clock) -> str:
    """Return the generation id of the step's run: UTC second of its creation and the head of its run id.

    Every step of a run asks for itself, so the id comes from the run history and not from the step's clock.
    """
    created = clock.fixed
    if created is None:
        record = context.instance.get_run_record_by_id(context.run.run_id)
        created = record.create_timestamp if record else datetime.now(UTC)
    return f"{created:%Y%m%dT%H%M%SZ}-{context.run.run_id[:8]}"
