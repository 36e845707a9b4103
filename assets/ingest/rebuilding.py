"""The raw rows of a part made anew from its stored bytes; when they take effect is commit's."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from assets.ingest import building
from assets.ingest.building import Basis, build
from assets.ingest.commit import lake_folders
from assets.ingest.feed import City, Feed
from assets.ingest.fetching import stage_stored
from assets.ingest.lake import Lake
from assets.ingest.parsing import connect, stage
from assets.ingest.part import Part
from assets.ingest.raw_files import file_name
from assets.ingest.receipts import Delivery, DeliveryError, delivery_id, stored_bytes

#: What a delivery keeps of itself however often it is built.
_KEPT = (
    "city",
    "feed",
    "part",
    "kind",
    "fetch_id",
    "source",
    "attempted_at",
    "mode",
    "sha",
    "size_bytes",
    "etag",
    "last_modified",
    "stored_in",
    "stored_file",
    "source_types",
    "cursor_to",
    "until",
)
_COUNTS = (
    "rows_in_file",
    "rows_raw",
    "rows_quarantined",
    "rows_new",
    "rows_changed",
    "rows_unchanged",
    "rows_missing",
)
_OF_THE_LAST = (
    *("sha", "size_bytes", "etag", "last_modified", "stored_in", "stored_file", "source_columns"),
    *("source_types", "distinct_keys", "checks", "delivered_at", "delivery_id", "sequence", "cursor_to"),
    *("until", "rows_known", "months", "suspects"),
)
_PLACES = {
    building.RAW: "raw",
    building.QUARANTINE: "quarantine",
    building.KNOWN: "known",
    building.ABSENCES: "absences",
}


@dataclass
class _Rebuilt:
    built: list[tuple[Delivery, Path]] = field(default_factory=list)
    refused: list[Delivery] = field(default_factory=list)
    basis: Basis = field(default_factory=Basis)


def rebuild_part(
    lake: Lake,
    city: City,
    feed: Feed,
    part: Part,
    receipts: Sequence[Delivery],
    delivery: Delivery,
    folder: Path,
) -> tuple[list[tuple[Delivery, Path]], list[Delivery]]:
    """Build every stored delivery of a part on those before it.

    A delivery that today's declaration does not fit keeps the rows it has, if it has any. Where that is the
    newest one that landed, nothing is rebuilt: the declaration is wrong for what is there.

    Args:
        lake: Where the bytes lie.
        city: The feed's city.
        feed: The feed.
        part: The part.
        receipts: Of the deliveries whose bytes are stored, oldest first.
        delivery: The replay itself; gets the sums of what was built, and the outcome.
        folder: Its fetch folder.

    Returns:
        The deliveries that were built, each with the folder of its files (none: nothing takes effect); and
        those that do not fit.
    """
    found = _Rebuilt()
    landed = [receipt.fetch_id for receipt in receipts if receipt.outcome == "landed"]
    for number, receipt in enumerate(receipts, start=1):
        place = folder / f"{number:06d}"
        place.mkdir()
        _build_again(lake, city, feed, part, receipt, delivery.fingerprint, place, found)
    refused = {one.fetch_id: one for one in found.refused}
    if landed and landed[-1] in refused:
        return [], [refused[landed[-1]]]
    if found.built:
        _sum_up(delivery, found)
    return found.built, found.refused


def _build_again(
    lake: Lake,
    city: City,
    feed: Feed,
    part: Part,
    receipt: Delivery,
    fingerprint: str,
    place: Path,
    found: _Rebuilt,
) -> None:
    again = Delivery(
        **{name: getattr(receipt, name) for name in _KEPT},
        outcome="failed",
        action="fetch",
        fingerprint=fingerprint,
        sequence=len(found.built) + 1,
    )
    again.delivered_at = part.as_of or receipt.delivered_at or receipt.attempted_at
    again.delivery_id = delivery_id(again)
    stored = stored_bytes(lake, receipt)
    try:
        with connect(place) as con:
            if feed.portal_of(part) == "files":
                staged, sweep = stage(con, stored, feed, part, place), None
            else:
                staged, sweep = stage_stored(con, receipt, stored.parent, feed, part, place)
            build(con, staged, city, feed, part, again, place, found.basis, lambda found: sweep)
    except (DeliveryError, duckdb.Error) as error:
        again.outcome, again.message = "blocked", str(error).splitlines()[0]
        again.error_type = getattr(error, "error_type", type(error).__name__)
    if again.outcome == "blocked":
        found.refused.append(again)
        if receipt.outcome == "landed" and _keep(lake, feed, receipt, again, place):
            _note(again, place, found)
    elif again.outcome == "landed":
        _note(again, place, found)


def _keep(lake: Lake, feed: Feed, receipt: Delivery, again: Delivery, place: Path) -> bool:
    """Take over what an earlier build made of a delivery that no longer fits; False where that is gone."""
    folders = lake_folders(lake, feed)
    earlier = {name: folders[where] / file_name(receipt) for name, where in _PLACES.items()}
    if not earlier[building.RAW].is_file():
        return False
    for name, path in earlier.items():
        if path.is_file():
            shutil.copyfile(path, place / name)
    for name in (*_COUNTS, "delivery_id", "delivered_at", "rows_known", "months", "suspects", "checks"):
        setattr(again, name, getattr(receipt, name))
    again.quarantine_reasons = receipt.quarantine_reasons
    again.outcome = "landed"
    return True


def _note(again: Delivery, place: Path, found: _Rebuilt) -> None:
    found.built.append((again, place))
    if (place / building.KNOWN).is_file():
        if len(found.basis.known) >= building.INDEX_FILES:
            # The newest one holds them all.
            for path in found.basis.known:
                path.unlink()
            found.basis.known = []
        found.basis.known.append(place / building.KNOWN)
    if (place / building.RAW).is_file():
        found.basis.raw.append(place / building.RAW)
    if (place / building.QUARANTINE).is_file():
        found.basis.quarantine.append(place / building.QUARANTINE)
    found.basis.months, found.basis.suspects = again.months, again.suspects
    found.basis.rows_known = again.rows_known


def _sum_up(delivery: Delivery, found: _Rebuilt) -> None:
    deliveries = [one for one, _ in found.built]
    delivery.outcome, delivery.mode = "landed", "full"
    for name in _OF_THE_LAST:
        setattr(delivery, name, getattr(deliveries[-1], name))
    for name in _COUNTS:
        setattr(delivery, name, sum(getattr(one, name) for one in deliveries))
    reasons: dict[str, int] = {}
    for one in deliveries:
        for reason, count in one.quarantine_reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    delivery.quarantine_reasons = reasons
    said = [deliveries[-1].message] if deliveries[-1].message else []
    if len(deliveries) > 1:
        said.append(f"{len(deliveries)} deliveries rebuilt from their bytes")
    said += [f"{one.fetch_id} no longer fits, its rows stay ({one.message})" for one in found.refused]
    delivery.message = "; ".join(said)
