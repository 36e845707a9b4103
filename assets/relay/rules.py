"""What is declared of alerts: which reports trigger one, who is told, what each needs; finding is elsewhere.

One rule is one file `rules/<rule>.yaml`. Rules that are wrong in five places are reported in five lines.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from assets.ingest.consistency import canonical_agencies, event_types
from assets.ingest.declaration_text import DeclarationError, Problem, one_of, problems_of, read_yaml
from assets.ingest.declared_values import Id, Positive, Text
from assets.ingest.part import Declaration, Span
from assets.relay.alert import Severity
from assets.relay.context_items import ITEMS

BUILT_IN = Path(__file__).parent / "rules"

_SomeTexts = Annotated[tuple[Text, ...], Field(min_length=1)]


class Cluster(Declaration):
    """So many reports so near and so soon that they are more than single ones.

    Attributes:
        reports: How many, the one that completes it among them.
        within_m: How far from that one, metres.
        within: How long before that one.
    """

    reports: Annotated[int, Field(ge=2)]
    within_m: Positive
    within: Span


class Trigger(Declaration):
    """Which reports trigger an alert.

    Attributes:
        event_types: Of these types.
        except_subtypes: But not of these subtypes.
        cluster: Only where so many come together; none: each one does.
    """

    event_types: _SomeTexts
    except_subtypes: tuple[Text, ...] = ()
    cluster: Cluster | None = None


class RollUp(Declaration):
    """Which further reports are taken to be of the same happening.

    Attributes:
        within_m: How far from its first report, metres.
        within: How long after its first report.
    """

    within_m: Positive
    within: Span


class Recipient(Declaration):
    """One agency that is told.

    Attributes:
        agency: A key of dim_agency.
        in_city: Who is told in its stead in some cities.
        only_if: Items of context; unless one of them holds something, this agency is not concerned.
        needs: Items of context that go with the alert.
    """

    agency: Text
    in_city: dict[Id, Text] = Field(default_factory=dict)
    only_if: tuple[Text, ...] = ()
    needs: _SomeTexts

    def of(self, city: str) -> str:
        """Return who is told in a city."""
        return self.in_city.get(city, self.agency)

    @property
    def items(self) -> tuple[str, ...]:
        """Items that must be known: those that it needs, and those that decide whether it is concerned."""
        return tuple(dict.fromkeys([*self.needs, *self.only_if]))


class AlertRule(Declaration):
    """One rule.

    Attributes:
        id: The name of its file.
        title: What happens, as the headline begins; at most 100 characters.
        radius_m: How far around the trigger the alert holds, metres.
        expires_after: How long after the newest report the alert ends if nothing else ends it.
    """

    id: Id
    title: Annotated[str, Field(min_length=1, max_length=100)]
    trigger: Trigger
    roll_up: RollUp
    severity: Severity
    radius_m: Positive
    expires_after: Span
    tells: Annotated[tuple[Recipient, ...], Field(min_length=1)]


def load_rules(folder: Path = BUILT_IN) -> tuple[AlertRule, ...]:
    """Load every rule of a folder, in the order of their names.

    Raises:
        DeclarationError: With all problems of all rules, each naming file and key.
    """
    rules, problems = [], []
    for path in sorted(folder.glob("*.yaml")):
        said, found = read_yaml(path)
        if not found and "id" in said:
            found = [Problem(str(path), "id", "is given by the file's name; remove it")]
        if not found:
            try:
                rule = AlertRule(**said, id=path.stem)
            except ValidationError as error:
                found = problems_of(path, error, _KEYS)
            else:
                found = [Problem(str(path), *finding) for finding in _findings(rule)]
                rules.append(rule)
        problems += found
    if problems:
        raise DeclarationError(problems)
    return tuple(rules)


_KEYS = {
    "": [name for name in AlertRule.model_fields if name != "id"],
    "trigger": Trigger.model_fields,
    "cluster": Cluster.model_fields,
    "roll_up": RollUp.model_fields,
    "tells": Recipient.model_fields,
}


def _findings(rule: AlertRule) -> Iterator[tuple[str, str]]:
    """Yield what does not fit in a rule whose single values are all in order: the key, what, and remedy."""
    for index, event_type in enumerate(rule.trigger.event_types):
        yield from _unknown(f"trigger.event_types[{index}]", event_type, "event type", list(event_types()))
    told = set()
    for index, recipient in enumerate(rule.tells):
        key = f"tells[{index}]"
        yield from _unknown(f"{key}.agency", recipient.agency, "canonical agency", canonical_agencies())
        for city, agency in recipient.in_city.items():
            yield from _unknown(f"{key}.in_city.{city}", agency, "canonical agency", canonical_agencies())
        for name in ("needs", "only_if"):
            for number, item in enumerate(getattr(recipient, name)):
                yield from _unknown(f"{key}.{name}[{number}]", item, "item of context", list(ITEMS))
        if recipient.agency in told:
            yield f"{key}.agency", f"{recipient.agency!r} is told twice; keep one"
        told.add(recipient.agency)
    for city in sorted({city for recipient in rule.tells for city in recipient.in_city}):
        names = [recipient.of(city) for recipient in rule.tells]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            yield "tells", f"{', '.join(twice)} is told twice in {city}; keep one"
    if rule.roll_up.within > rule.expires_after:
        yield "roll_up.within", "is longer than the alert holds; shorten it, or lengthen expires_after"


def _unknown(key: str, said: str, what: str, known: Sequence[str]) -> Iterator[tuple[str, str]]:
    if said not in known:
        yield key, f"{said!r} is no {what}; {one_of(said, known)}"
