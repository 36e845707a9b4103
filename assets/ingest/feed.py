"""The declarations of cities and feeds, strict; reading the bytes they speak of belongs to landing.

A declaration that is wrong in five places is reported in five lines, each naming file, key and remedy.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from assets.ingest.consistency import category_findings, city_findings, findings
from assets.ingest.contracts import EVENT_KINDS, EVENT_TIME, Kind, column_names
from assets.ingest.declaration_text import DeclarationError, Problem, problems_of, read_table, read_yaml
from assets.ingest.declared_values import Box, Crs, Id, MetreCrs, Point, Positive, Text, TimeZone
from assets.ingest.part import (
    GEOMETRY_FORMATS,
    CategoryRule,
    Declaration,
    DeclaredSource,
    Exclusion,
    Expectations,
    Mode,
    Part,
    Portal,
    Request,
    Source,
    Sync,
)
from assets.ingest.sql_expression import literal
from assets.ingest.work_hours import WorkHours

BUILT_IN = Path(__file__).parent / "cities"

#: Raise it when landing reads the same bytes into other rows: every raw table is then rebuilt once.
PARSER_VERSION = 2

#: What each protocol does where a declaration does not say: its mode, and how an incremental part finds what
#: vanished.
SYNC_OF_PORTAL: dict[Portal, tuple[Mode, str]] = {
    "files": ("full", "never"),
    "socrata": ("incremental", "by_month"),
    "arcgis": ("full", "by_id"),
    "ckan": ("full", "by_id"),
    "carto": ("full", "by_month"),
    "opendatasoft": ("full", "by_month"),
    "open311": ("tail", "never"),
    "outages": ("snapshot", "never"),
}

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


class Feed(Declaration):
    """One feed of a city: what it is, whose it is, where its parts lie and what their columns mean.

    Attributes:
        verified: Whether ids and columns were seen in a real answer of the portal.
        exclude: Ranges that the publisher's steward says not to use.
        live_tail_of: The feed of the city that tells the same cases, by the same ids, in bulk and later.
        one_case_in_parts: The same case may stand in two parts under two ids (two systems side by side).
    """

    city: Id
    id: Id
    file: Path
    city_crs: str
    city_bbox: Box
    city_default_points: tuple[Point, ...] = ()
    categories: tuple[CategoryRule, ...] = ()

    title: Text
    kind: Kind
    publisher: Text
    landing_page: Annotated[str, Field(pattern=r"^https?://\S+$")]
    licence: Text
    owner_agency: Text
    cadence: Literal["hourly", "daily", "weekly", "monthly", "quarterly", "yearly", "once"]
    portal: Portal
    request: Request = Request()
    sync: Sync = Sync()
    verified: bool = True
    exclude: tuple[Exclusion, ...] = ()
    one_case_in_parts: bool = False
    live_tail_of: Id | None = None
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]
    columns: dict[str, DeclaredSource] = Field(default_factory=dict)
    crs: Crs = "EPSG:4326"
    times: Literal["offset", "local", "utc"] = "offset"
    time_precision: Literal["second", "minute", "day"] | None = None
    event_type: str | None = None
    event_subtype: str | None = None
    statuses: dict[str, str] = Field(default_factory=dict)
    target_days: Positive | None = None
    default_points: tuple[Point, ...] = ()
    asset_type: str | None = None
    reach_m: Positive = 50.0
    area_type: Id | None = None
    expect: Expectations = Expectations()

    @cached_property
    def event_time_columns(self) -> tuple[str, ...]:
        """The event-time columns of the kind that some part maps, in order of preference."""
        mapped = {name for part in self.parts for name in self.sources(part)}
        return tuple(name for name in EVENT_TIME.get(self.kind, ()) if name in mapped)

    @property
    def known_default_points(self) -> tuple[Point, ...]:
        """Where the city's and the feed's geocoders put what they cannot place, lon and lat."""
        return (*self.city_default_points, *self.default_points)

    def part(self, part_id: str) -> Part:
        """Return the part of this id.

        Raises:
            KeyError: The feed has no such part.
        """
        return {part.id: part for part in self.parts}[part_id]

    def sources(self, part: Part) -> dict[str, Source]:
        """Return where each mapped canonical column of a part comes from, in contract order."""
        given: dict[str, Source | None] = {}
        if part.format in GEOMETRY_FORMATS:
            given |= {"x": Source(column="geometry_x"), "y": Source(column="geometry_y")}
        if self.kind == "boundary":
            limits = {"valid_from": part.valid_from, "valid_to": part.valid_to}
            given |= {name: Source(sql=literal(day.isoformat())) for name, day in limits.items() if day}
        given |= self.columns | part.columns
        return {name: given[name] for name in column_names(self.kind) if given.get(name) is not None}

    def mapping(self, part: Part) -> dict[str, str]:
        """Return, for each mapped canonical column of a part, the DuckDB expression that gives it as text.

        A plain source column comes back as a quoted name, so that what a source calls its columns never
        becomes SQL. Columns that are not mapped are left out: they are null.
        """
        return {name: source.expression() for name, source in self.sources(part).items()}

    def verified_of(self, part: Part) -> bool:
        """Return whether a part's id and columns were seen in a real answer."""
        return self.verified if part.verified is None else part.verified

    def portal_of(self, part: Part) -> Portal:
        """Return the protocol a part is fetched by."""
        return part.portal or self.portal

    def request_of(self, part: Part) -> Request:
        """Return how a part's portal is asked."""
        return part.request or self.request

    def sync_of(self, part: Part) -> Sync:
        """Return how a part is kept up to date, with what its protocol makes of what is not said."""
        said = part.sync or self.sync
        mode, deletions = SYNC_OF_PORTAL[self.portal_of(part)]
        if self.kind not in EVENT_KINDS:
            mode = "full"
        mode = said.mode or mode
        return said.model_copy(
            update={
                "mode": mode,
                "deletions": said.deletions or (deletions if mode == "incremental" else "never"),
                "created": said.created or self.event_source_column(part),
            }
        )

    def event_source_column(self, part: Part) -> str | None:
        """Return the plain source column that gives a part's event time, if there is one."""
        sources = self.sources(part)
        mapped = [sources[name] for name in EVENT_TIME.get(self.kind, ()) if name in sources]
        return mapped[0].column if mapped else None

    def crs_of(self, part: Part) -> str:
        """Return the coordinate reference system of a part's x and y."""
        return part.crs or self.crs

    def fingerprint(self, part: Part) -> str:
        """Return the sha256 hex of everything that decides which raw rows a part's bytes become.

        What is expected of them is part of it: bytes that passed under other expectations are judged again.
        """
        said = {
            "parser": PARSER_VERSION,
            "contract": column_names(self.kind),
            "mapping": self.mapping(part),
            "crs": self.crs_of(part),
            "city": [self.city_crs, self.city_bbox],
            "default_points": self.known_default_points,
            # Landing does not judge by max_unmapped_share, and a new mapping must not make it read again.
            "expect": self.expect.model_dump(mode="json", exclude={"max_unmapped_share"}),
            "exclude": [one.model_dump(mode="json") for one in self.exclude],
            "part": part.model_dump(
                mode="json", include={"id", "format", "encoding", "delimiter", "skip_rows", "header", "as_of"}
            ),
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class City(Declaration):
    """One city: its clock, its plane and its feeds.

    Attributes:
        crs: Projected, in metres.
        bbox: West, south, east, north in degrees; a point outside is not in the city.
        default_points: Where geocoders put what they cannot place, lon and lat.
        agencies: The canonical owner that each name of an agency stands for, whichever feed tells it.
        work_hours: When construction may be heard. None: not declared, and no site is judged by its hours.
        folder: Where the declaration lies.
    """

    id: Id
    folder: Path
    feeds: dict[str, Feed] = Field(default_factory=dict)

    name: Text
    country: Text
    state: Text
    time_zone: TimeZone
    crs: MetreCrs
    bbox: Box
    is_simulated: bool = False
    default_points: tuple[Point, ...] = ()
    agencies: dict[Text, Text] = Field(default_factory=dict)
    work_hours: WorkHours | None = None


def load_cities(folders: Sequence[Path], variables: Mapping[str, str]) -> dict[str, City]:
    """Load every city of some folders; a city in a later folder replaces an earlier one whole.

    Args:
        folders: Folders that hold `<city>/_city.yaml`.
        variables: What `${NAME}` in a part's source stands for.

    Raises:
        DeclarationError: With all problems of all cities.
    """
    cities, problems = read_cities(folders, variables)
    if problems:
        raise DeclarationError(problems)
    return cities


def read_cities(
    folders: Sequence[Path], variables: Mapping[str, str]
) -> tuple[dict[str, City], list[Problem]]:
    """Return the cities that are in order, and every problem of those that are not."""
    places: dict[str, Path] = {}
    problems: list[Problem] = []
    for folder in folders:
        if not folder.is_dir():
            problems.append(Problem(str(folder), "the folder", "is not there; correct CITYSIGNAL_CITIES"))
            continue
        if (folder / "_city.yaml").is_file():
            said = "lies in a folder of cities itself; name the folder above it in CITYSIGNAL_CITIES"
            problems.append(Problem(str(folder / "_city.yaml"), "the file", said))
        places |= {place.name: place for place in sorted(folder.iterdir()) if any(place.glob("*.yaml"))}
    cities: dict[str, City] = {}
    for place in places.values():
        city, found = _read_city(place, variables)
        problems += found
        if city is not None and not found:
            cities[city.id] = city
    return cities, problems


def _read_city(folder: Path, variables: Mapping[str, str]) -> tuple[City | None, list[Problem]]:
    file = folder / "_city.yaml"
    if not file.is_file():
        return None, [
            Problem(str(file), "the file", "is not there; describe the city in it, or move the feeds")
        ]
    said, problems = read_yaml(file)
    # Where the city itself is wrong its feeds are still looked at, in a frame that none of them can break.
    frame = {"city_crs": "EPSG:3857", "city_bbox": (-180, -90, 180, 90), "city_default_points": ()}
    city = None
    if not problems:
        city, problems = _validated(
            City, file, said, {"id": folder.name, "folder": folder}, hidden=("feeds",)
        )
    if city is not None:
        problems += [Problem(str(file), *finding) for finding in city_findings(city)]
        frame = {"city_crs": city.crs, "city_bbox": city.bbox, "city_default_points": city.default_points}
    feeds: dict[str, Feed] = {}
    for path in sorted(folder.glob("*.yaml")):
        if path != file:
            given = {"city": folder.name, "id": path.stem, "file": path, **frame}
            feed, found = _read_feed(path, given, variables)
            problems += found
            if feed is not None:
                feeds[feed.id] = feed
    problems += [
        Problem(
            str(feed.file),
            "live_tail_of",
            f"{feed.live_tail_of!r} is no feed of {folder.name}; name one, or remove it",
        )
        for feed in feeds.values()
        if feed.live_tail_of is not None and feed.live_tail_of not in feeds
    ]
    problems += _strays(folder)
    return (city.model_copy(update={"feeds": feeds}) if city is not None else None), problems


def _read_feed(
    path: Path, given: dict[str, Any], variables: Mapping[str, str]
) -> tuple[Feed | None, list[Problem]]:
    said, problems = read_yaml(path)
    table = path.with_name(f"{path.stem}.categories.csv")
    rules: list[dict[str, str]] = []
    table_problems: list[Problem] = []
    if table.is_file():
        rules, table_problems = read_table(table, tuple(CategoryRule.model_fields))
    if problems:
        return None, problems + table_problems
    problems = _resolve_sources(said, path, variables)
    categories = []
    for number, rule in enumerate(rules, start=2):
        try:
            categories.append(CategoryRule(**rule))
        except ValidationError as error:
            found = problems_of(table, error, {"": CategoryRule.model_fields})
            table_problems += [Problem(p.file, f"row {number}", f"{p.key} {p.message}") for p in found]
    given |= {"categories": tuple(categories)}
    feed, found = _validated(Feed, path, said, given)
    problems += found
    if feed is None:
        return None, problems + table_problems
    known = {problem.key for problem in problems} | ({"event_type"} if table_problems else set())
    said_twice = dict.fromkeys(finding for finding in findings(feed) if finding[0] not in known)
    problems += [Problem(str(path), *finding) for finding in said_twice]
    if not table_problems:
        problems += [Problem(str(table), *finding) for finding in category_findings(feed)]
    return feed, problems + table_problems


def _strays(folder: Path) -> list[Problem]:
    """Return the files that look like declarations but that nothing reads."""
    feeds = {path.stem for path in folder.glob("*.yaml")}
    return [
        Problem(str(path), "the file", f"belongs to no feed; rename it after one of {folder.name}'s feeds")
        for path in sorted(folder.glob("*.categories.csv"))
        if path.name.removesuffix(".categories.csv") not in feeds
    ] + [
        Problem(str(path), "the file", "is not read; let its name end in .yaml")
        for path in sorted(folder.glob("*.yml"))
    ]


def _resolve_sources(said: dict[str, Any], file: Path, variables: Mapping[str, str]) -> list[Problem]:
    """Put variables and the city's folder into the parts' sources, in place; return the undefined ones."""
    problems = []
    parts = said.get("parts")
    for index, part in enumerate(parts if isinstance(parts, list) else []):
        source = part.get("source") if isinstance(part, dict) else None
        if not isinstance(source, str):
            continue
        if (part.get("portal") or said.get("portal")) not in (None, "files"):
            part.setdefault("format", "json")
        undefined = [name for name in _VARIABLE.findall(source) if name not in variables]
        problems += [
            Problem(str(file), f"parts[{index}].source", f"${{{name}}} is not defined; set {name}")
            for name in undefined
        ]
        if not undefined:
            source = _VARIABLE.sub(lambda match: str(variables[match[1]]), source)
        if source and not undefined and not source.startswith(("http://", "https://")):
            source = str((file.parent / source).absolute())
        part["source"] = source
    return problems


_Model = TypeVar("_Model", City, Feed)

#: Stand-ins for what is missing, so that the rest of a declaration can still be looked at.
_ANYTHING = {
    "title": "?",
    "publisher": "?",
    "landing_page": "https://?",
    "licence": "?",
    "owner_agency": "?",
    "cadence": "once",
    "portal": "files",
    "name": "?",
    "country": "?",
    "state": "?",
}


def _validated(
    model: type[_Model], file: Path, said: dict[str, Any], given: dict[str, Any], hidden: tuple[str, ...] = ()
) -> tuple[_Model | None, list[Problem]]:
    """Return the model and what it refuses; what it refuses is left out to see whether the rest holds.

    Args:
        model: What the file declares.
        file: Where it is declared.
        said: The keys and values of the file.
        given: Fields that are not the file's to say.
        hidden: Further fields that are not the file's to say.
    """
    not_said = {*given, *hidden}
    keys = [key for key in model.model_fields if key not in not_said]
    known = {
        "": keys,
        "parts": Part.model_fields,
        "expect": Expectations.model_fields,
        "work_hours": WorkHours.model_fields,
    }
    # A file that says `city:` must be told so, not overwrite what its folder says.
    problems = [
        Problem(str(file), key, "is given by the file's place; remove it") for key in said if key in not_said
    ]
    said = {key: value for key, value in said.items() if key not in not_said}
    try:
        return model(**said, **given), problems
    except ValidationError as error:
        problems += problems_of(file, error, known)
        rest = _without(said, [line["loc"] for line in error.errors()])
    try:
        return model(**{**_stand_ins(model), **rest}, **given), problems
    except ValidationError:
        return None, problems


def _stand_ins(model: type[BaseModel]) -> dict[str, str]:
    return {key: value for key, value in _ANYTHING.items() if key in model.model_fields}


def _without(said: dict[str, Any], locations: Sequence[tuple[str | int, ...]]) -> dict[str, Any]:
    rest = deepcopy(said)
    for location in locations:
        holder: Any = rest
        for step in location[:-1]:
            is_there = step in holder if isinstance(holder, dict) else isinstance(holder, list)
            holder = holder[step] if is_there else None
            if holder is None:
                break
        if isinstance(holder, dict):
            holder.pop(location[-1], None)
    return rest
