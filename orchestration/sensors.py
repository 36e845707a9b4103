"""What starts a run or an alert besides the clock: changed files, failed runs, refused deliveries.

What looks at portals every few seconds is `fast_lane.py` and, for agency alerts, `alert_lane.py`.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from assets.ingest.feed import City, Feed
from assets.ingest.lake import Lake
from orchestration.alert_lane import alert_lane_sensors
from orchestration.alerts import send_alert
from orchestration.fast_lane import fast_lane_sensors
from orchestration.jobs import PIPELINE, ingest_keys
from orchestration.settings import Settings

FILES_EVERY_SECONDS = 60
Stamps = dict[str, list[int]]


def build_sensors(
    cities: Mapping[str, City], settings: Settings, shared: frozenset[dg.AssetKey]
) -> list[Any]:
    """Return the sensors.

    Args:
        cities: What is declared.
        settings: Where alerts go.
        shared: The assets that are built from feeds, whichever feeds changed.
    """
    return [
        changed_files_sensor(cities, shared, settings.lake),
        *fast_lane_sensors(cities, settings.lake, settings.clock),
        *alert_lane_sensors(cities, settings),
        run_failure_alert(settings),
        refused_delivery_alert(settings),
    ]


def changed_files_sensor(
    cities: Mapping[str, City], shared: frozenset[dg.AssetKey], lake: Lake
) -> dg.SensorDefinition:
    """Return the sensor that refreshes feeds of cities in use whose local files are new or changed.

    Its first tick notes what is there. A file counts once two ticks in a row see the same size and time, so
    that one still being copied is left alone. The simulated city's files do not change.
    """
    watched = {
        f"{feed.city}/{feed.id}/{part.id}": (feed, Path(part.source))
        for city in cities.values()
        if not city.is_simulated
        for feed in city.feeds.values()
        for part in feed.parts
        if not part.is_remote
    }

    @dg.sensor(
        name="changed_files",
        job_name=PIPELINE,
        minimum_interval_seconds=FILES_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Refreshes feeds whose local files are new or changed.",
    )
    def changed_files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        now = {name: stamp for name, (_, path) in watched.items() if (stamp := stamp_of(path))}
        if context.cursor is None:
            context.update_cursor(json.dumps({"known": now, "seen": now}, sort_keys=True))
            return dg.SkipReason(f"Noted {len(now)} files; a change from now on starts a run.")
        cursor = json.loads(context.cursor)
        settled = settled_changes(cursor["known"], cursor["seen"], now)
        known = {**{name: stamp for name, stamp in cursor["known"].items() if name in now}, **settled}
        context.update_cursor(json.dumps({"known": known, "seen": now}, sort_keys=True))
        changed = [watched[name][0] for name in settled if lake.is_in_use(watched[name][0].city)]
        if not changed:
            return dg.SkipReason("No file of a city in use is new or changed, or it is still being written.")
        feeds = list({(feed.city, feed.id): feed for feed in changed}.values())
        return dg.SensorResult(run_requests=[request(feeds, settled, shared)])

    return changed_files


def stamp_of(path: Path) -> list[int] | None:
    """Return a file's modification time in ns and its size in bytes, or None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_size]


def settled_changes(known: Stamps, seen: Stamps, now: Stamps) -> Stamps:
    """Return the files that differ from what is known and are as the tick before saw them."""
    return {
        name: stamp for name, stamp in now.items() if known.get(name) != stamp and seen.get(name) == stamp
    }


def request(feeds: list[Feed], settled: Stamps, shared: frozenset[dg.AssetKey]) -> dg.RunRequest:
    """Return the request to take some feeds to the extracts; the same files ask only once."""
    return dg.RunRequest(
        run_key=json.dumps(settled, sort_keys=True),
        asset_selection=sorted(shared | ingest_keys(feeds)),
        tags={"citysignal/changed": ",".join(sorted(f"{feed.city}/{feed.id}" for feed in feeds))},
    )


def run_failure_alert(settings: Settings) -> dg.SensorDefinition:
    """Return the sensor that alerts on every failed run, whoever started it."""

    @dg.run_failure_sensor(
        name="run_failure_alert",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Writes an alert for every failed run.",
    )
    def alert(context: dg.RunFailureSensorContext) -> None:
        send_alert(
            settings,
            {
                "alert": "run_failed",
                "run_id": context.dagster_run.run_id,
                "job": context.dagster_run.job_name,
                "message": context.failure_event.message or "",
                "steps": [
                    {"step": event.step_key, "error": first_lines(event)}
                    for event in context.get_step_failure_events()
                ],
            },
            context.log.warning,
        )

    return alert


def first_lines(event: dg.DagsterEvent) -> str:
    """Return what a failed step said, without its traceback."""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error else ""


def refused_delivery_alert(settings: Settings) -> dg.SensorDefinition:
    """Return the sensor that alerts on failed error checks of runs that went through.

    A refused delivery does not fail its run, because what landed before still builds; nobody would be told.
    """

    @dg.run_status_sensor(
        name="refused_delivery_alert",
        run_status=dg.DagsterRunStatus.SUCCESS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Writes an alert for every failed error check of a run that went through.",
    )
    def alert(context: dg.RunStatusSensorContext) -> None:
        failed = list(failed_checks(context.instance, context.dagster_run.run_id))
        if failed:
            send_alert(
                settings,
                {
                    "alert": "checks_failed",
                    "run_id": context.dagster_run.run_id,
                    "job": context.dagster_run.job_name,
                    "checks": failed,
                },
                context.log.warning,
            )

    return alert


def failed_checks(instance: dg.DagsterInstance, run_id: str) -> Iterator[dict[str, str]]:
    """Yield the error checks that failed in a run."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        check = entry.dagster_event.asset_check_evaluation_data
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            yield {
                "asset": check.asset_key.to_user_string(),
                "check": check.check_name,
                "message": check.description or "",
            }
