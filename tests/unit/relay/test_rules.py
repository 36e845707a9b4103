"""Rules are strict: what is wrong in a file is said with the file, the key and a remedy."""

from pathlib import Path

import pytest
import yaml

from assets.ingest.declaration_text import DeclarationError
from assets.relay.context_items import ITEMS
from assets.relay.rules import BUILT_IN, load_rules

GOOD = """
title: Pothole
trigger: {event_types: [pothole]}
roll_up: {within_m: 40, within: 7d}
severity: Minor
radius_m: 40
expires_after: 14d
tells:
  - agency: transportation
    needs: [mains]
"""


def write(folder: Path, **changes: object) -> Path:
    path = folder / "hole.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(GOOD) | changes), encoding="utf-8")
    return path


def test_the_shipped_rules_are_in_order_and_use_every_item() -> None:
    rules = {rule.id: rule for rule in load_rules()}
    assert {
        "flooded_intersection",
        "pothole",
        "main_break",
        "traffic_signal_outage",
        "street_lights_out",
    } <= set(rules)
    used = {item for rule in rules.values() for recipient in rule.tells for item in recipient.items}
    assert used == set(ITEMS)
    assert {path.stem for path in BUILT_IN.glob("*.yaml")} == set(rules)


def test_a_good_rule_is_read(tmp_path: Path) -> None:
    write(tmp_path)
    (rule,) = load_rules(tmp_path)
    assert (rule.id, rule.roll_up.within.days, rule.trigger.cluster) == ("hole", 7, None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"titel": "Hole"}, "titel: unknown key; did you mean title?"),
        ({"id": "hole"}, "id: is given by the file's name; remove it"),
        (
            {"trigger": {"event_types": ["potholes"]}},
            "trigger.event_types[0]: 'potholes' is no event type; did you mean pothole?",
        ),
        (
            {"trigger": {"event_type": ["pothole"]}},
            "trigger.event_type: unknown key; did you mean event_types?",
        ),
        (
            {
                "trigger": {
                    "event_types": ["pothole"],
                    "cluster": {"reports": 1, "within_m": 5, "within": "1d"},
                }
            },
            "trigger.cluster.reports: 1 will not do",
        ),
        ({"roll_up": {"within_m": 40, "within": "7 weeks"}}, "roll_up.within: '7 weeks' is no span of time"),
        ({"roll_up": {"within_m": 40, "within": "15d"}}, "roll_up.within: is longer than the alert holds"),
        ({"severity": "Bad"}, "severity: "),
        (
            {"tells": [{"agency": "roads", "needs": ["mains"]}]},
            "tells[0].agency: 'roads' is no canonical agency",
        ),
        (
            {"tells": [{"agency": "water", "needs": ["maims"]}]},
            "tells[0].needs[0]: 'maims' is no item of context; did you mean mains?",
        ),
        (
            {"tells": [{"agency": "water", "needs": ["mains"], "only_if": ["pipes"]}]},
            "tells[0].only_if[0]: 'pipes' is no item",
        ),
        (
            {"tells": [{"agency": "water", "needs": ["mains"]}] * 2},
            "tells[1].agency: 'water' is told twice; keep one",
        ),
        (
            {
                "tells": [
                    {"agency": "water", "needs": ["mains"], "in_city": {"boston": "fire"}},
                    {"agency": "fire", "needs": ["schools"]},
                ]
            },
            "tells: fire is told twice in boston; keep one",
        ),
        ({"tells": []}, "tells: "),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(tmp_path: Path, changes: dict, said: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(DeclarationError) as error:
        load_rules(tmp_path)
    assert f"{path}: {said}" in str(error.value)


def test_rules_that_are_wrong_in_two_files_are_two_lines(tmp_path: Path) -> None:
    write(tmp_path, titel="Hole")
    (tmp_path / "other.yaml").write_text("title: [", encoding="utf-8")
    with pytest.raises(DeclarationError) as error:
        load_rules(tmp_path)
    assert len(error.value.problems) == 2
