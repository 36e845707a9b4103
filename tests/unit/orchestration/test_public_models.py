"""What people may build on is contracted, described and tested; layers are read in one direction only."""

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

PUBLIC = ("core", "correlation", "operations", "quality", "open_data")
MODELS = Path(__file__).parents[3] / "dbt_project" / "models"


@pytest.fixture(scope="module")
def manifest(parsed_home: Path) -> dict:
    return json.loads((parsed_home / "dbt" / "parsed" / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def public(manifest) -> dict[str, dict]:
    models = {
        node["name"]: node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["schema"] in PUBLIC
    }
    assert len(models) >= 25
    return models


def test_every_public_model_has_an_enforced_contract_and_says_what_a_row_is(public):
    assert [name for name, model in public.items() if not model["config"]["contract"]["enforced"]] == []
    assert [name for name, model in public.items() if not model["description"].strip()] == []


def test_every_public_column_is_described(public):
    silent = [
        f"{name}.{column}"
        for name, model in public.items()
        for column, said in model["columns"].items()
        if not said["description"].strip()
    ]
    assert silent == []


def test_every_public_model_is_tested(manifest, public):
    tests = defaultdict(int)
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test":
            for tested in node["depends_on"]["nodes"]:
                tests[tested] += 1
    assert [name for name, model in public.items() if not tests[model["unique_id"]]] == []


def test_marts_do_not_reach_past_core(manifest):
    """A mart that reads staging decides for itself what core has decided."""
    reaching = [
        f"{node['name']} reads {upstream}"
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["schema"] in ("correlation", "operations", "open_data")
        for upstream in node["depends_on"]["nodes"]
        if upstream.startswith("model.") and manifest["nodes"][upstream]["schema"] == "staging"
    ]
    assert reaching == []


def test_no_model_names_a_city_or_an_event_type(manifest):
    vocabulary = (MODELS.parent / "seeds" / "event_types.csv").read_text(encoding="utf-8").splitlines()[1:]
    # Words that are types and ordinary English besides are told apart by the quotes of a literal.
    words = {line.split(",")[0] for line in vocabulary} - {"other"} | {"chicago", "syracuse", "simulated"}
    literal = re.compile("'(" + "|".join(sorted(words)) + ")'")
    named = [
        f"{path.relative_to(MODELS)}: {found.group()}"
        for path in MODELS.rglob("*.sql")
        for found in literal.finditer(path.read_text(encoding="utf-8"))
    ]
    assert named == []
