"""A small lake: a warehouse as dbt leaves it, and a manifest as dbt writes it."""

import json
from pathlib import Path

import duckdb
import pytest

from assets.ingest.lake import Lake

VIEW_COLUMNS = """
    r.event_key, r.city, r.source_id, r.notes, r.is_open, r.days, r.share,
    r.opened_on, r.requested_at, r.requested_local, r.is_simulated
"""


def _column(name: str, publish: object, *, place: str = "config") -> dict:
    meta = {"publish": publish}
    placed = {"config": {"meta": meta}} if place == "config" else {"meta": meta, "config": {}}
    return {"name": name, "description": f"What {name}\nmeans.", "data_type": None, **placed}


class Workshop:
    """Builds warehouses and manifests for a lake; tests change what they are about."""

    def __init__(self, home: Path) -> None:
        self.lake = Lake(home)
        self.manifest_path = home / "manifest.json"
        self.terms = {
            "dataset": "requests",
            "title": "Requests",
            "description": "Requests for service.",
            "licence": "CC0-1.0",
            "cadence": "daily",
            "primary_key": ["event_key"],
        }
        self.columns = [
            _column("event_key", True),
            _column("source_id", True, place="meta"),
            _column("city", True),
            _column("notes", True),
            _column("is_open", True),
            _column("days", True),
            _column("share", True),
            _column("opened_on", True),
            _column("requested_at", True),
            _column("requested_local", True),
            _column("hidden", "true"),
            _column("is_simulated", False),
        ]

    def column(self, name: str) -> dict:
        return next(column for column in self.columns if column["name"] == name)

    def write_manifest(self) -> Path:
        node = {
            "name": "requests",
            "alias": "requests",
            "schema": "open_data",
            "columns": {column["name"]: column for column in self.columns},
        }
        exposure = {
            "name": "requests_extract",
            "depends_on": {"nodes": ["model.citysignal.requests"]},
            "meta": {},
            "config": {"meta": {"extract": self.terms}},
        }
        dashboard = {"name": "board", "depends_on": {"nodes": []}, "meta": {}, "config": {"meta": {}}}
        manifest = {
            "nodes": {"model.citysignal.requests": node},
            "exposures": {
                "exposure.citysignal.requests_extract": exposure,
                "exposure.citysignal.board": dashboard,
            },
        }
        self.manifest_path.write_text(json.dumps(manifest), encoding="utf-8")
        return self.manifest_path

    def build(self, generation: str, *, rows: int = 50, simulated: bool = False, extra: str = "") -> Path:
        path = self.lake.build_warehouse
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        connection = duckdb.connect(str(path))
        for schema in (
            "staging",
            "intermediate",
            "core",
            "correlation",
            "operations",
            "quality",
            "open_data",
        ):
            connection.execute(f"create schema {schema}")
        connection.execute(
            f"""
            create table staging.records as select range as i from range({rows});
            create view intermediate.keyed as select * from warehouse.staging.records;
            create table core.fct_requests as
            select
                md5(i::varchar) as event_key, 'springfield' as city, 'SR-' || i as source_id,
                case i % 4 when 0 then 'plain' when 1 then 'a "quoted", one' when 2 then E'two\\nlines é'
                    else '=1+1' end as notes,
                case when i % 3 = 0 then null else i % 2 = 0 end as is_open, i::bigint as days,
                i / 7.0::double as share, date '2026-01-01' + i::integer as opened_on,
                timestamp '2026-01-01 12:00:00' + i * interval 1 hour as requested_at,
                timestamp '2026-01-01 06:00:00.5' + i * interval 1 hour as requested_local,
                {simulated} as is_simulated, '{generation}' as generation, 'secret' as hidden
            from warehouse.staging.records;
            comment on table core.fct_requests is 'One row per request.';
            comment on column core.fct_requests.city is 'The city.';
            create table quality.generation as select '{generation}' as generation;
            create view open_data.requests as select {VIEW_COLUMNS}, r.hidden
            from warehouse.core.fct_requests as r;
            comment on view open_data.requests is 'Requests, public.';
            create table main.scratch as select 1 as a;
            create view main.scratch_view as select * from warehouse.main.scratch;
            {extra}
            """
        )
        connection.close()
        return path


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)
