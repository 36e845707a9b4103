"""What a decided delivery puts where, by renames that a kill cannot tear apart; what is decided is landing's.

The pending receipt names every rename and every file that they replace. Whoever finds one does what is left.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from assets.ingest import building
from assets.ingest.feed import Feed
from assets.ingest.fetching import ASKED
from assets.ingest.lake import Lake
from assets.ingest.part import Part
from assets.ingest.portals.pages_on_disk import NOTES, read_pages
from assets.ingest.raw_files import file_name, parts_files
from assets.ingest.receipts import PENDING, RECEIPT, Delivery, read_receipt, write_receipt

Rename = tuple[Path, Path]


def lake_folders(lake: Lake, feed: Feed) -> dict[str, Path]:
    """Return the folders of the lake that hold a feed's files."""
    return {
        "raw": lake.raw(feed.kind, feed.city, feed.id),
        "quarantine": lake.quarantine(feed.kind, feed.city, feed.id),
        "absences": lake.absences(feed.kind, feed.city, feed.id),
        "known": lake.known(feed.city, feed.id),
    }


def planned(lake: Lake, delivery: Delivery, folder: Path) -> list[Rename]:
    """Return where each file of a delivery goes that lies in its folder; raw last."""
    name, kind, city, feed = file_name(delivery), delivery.kind, delivery.city, delivery.feed
    targets = [
        (folder / building.QUARANTINE, lake.quarantine(kind, city, feed) / name),
        (folder / building.ABSENCES, lake.absences(kind, city, feed) / name),
        (folder / building.KNOWN, lake.known(city, feed) / name),
        (folder / building.RAW, lake.raw(kind, city, feed) / name),
    ]
    return [(source, target) for source, target in targets if source.is_file()]


def commit(
    lake: Lake, delivery: Delivery, folder: Path, renames: Iterable[Rename], removals: Sequence[Path]
) -> None:
    """Write the pending receipt, which decides, and do what it says."""
    home = lake.home
    delivery.renames = [(str(a.relative_to(home)), str(b.relative_to(home))) for a, b in renames]
    delivery.removals = [str(path.relative_to(home)) for path in removals]
    write_receipt(delivery, folder, PENDING)
    _complete(lake, folder)


def commit_rebuilt(
    lake: Lake,
    feed: Feed,
    part: Part,
    delivery: Delivery,
    folder: Path,
    built: Sequence[tuple[Delivery, Path]],
) -> None:
    """Replace all files of a part by those of its rebuilt deliveries."""
    renames = [pair for one, place in built for pair in planned(lake, one, place)]
    targets = {target for _, target in renames}
    there = [path for place in lake_folders(lake, feed).values() for path in parts_files(place, part.id)]
    commit(lake, delivery, folder, renames, [path for path in there if path not in targets])


def settle(lake: Lake, folder: Path) -> None:
    """Finish a fetch folder that a kill left: complete it, keep its pages for the next one, or sweep it."""
    if (folder / PENDING).is_file():
        _complete(lake, folder)
    elif not (folder / RECEIPT).is_file() and not (read_pages(folder) and (folder / ASKED).is_file()):
        shutil.rmtree(folder)
        return
    tidy(folder)


def _complete(lake: Lake, folder: Path) -> None:
    """Do what a pending receipt says and is not done yet; the receipt takes effect last."""
    delivery = read_receipt(folder / PENDING)
    for source, target in ((lake.home / a, lake.home / b) for a, b in delivery.renames):
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)  # noqa: PTH105  the one call that tests make fail
    for path in delivery.removals:
        (lake.home / path).unlink(missing_ok=True)
    os.replace(folder / PENDING, folder / RECEIPT)  # noqa: PTH105


def tidy(folder: Path) -> None:
    """Leave the verbatim bytes and the receipt; of an attempt that was cut off, what the next one needs."""
    if not folder.is_dir():
        return
    kept = {RECEIPT}
    receipt = read_receipt(folder / RECEIPT) if (folder / RECEIPT).is_file() else None
    is_cut_off = receipt is None or receipt.outcome == "failed"
    if is_cut_off and (folder / ASKED).is_file():
        kept |= {ASKED, NOTES, *(page.file for page in read_pages(folder))}
    elif receipt is not None and receipt.outcome != "unchanged" and receipt.stored_in == folder.name:
        kept |= {receipt.stored_file}
        if receipt.stored_file == NOTES:
            kept |= {page.file for page in read_pages(folder)}
    elif receipt is not None and receipt.stored_in == folder.name and receipt.stored_file != NOTES:
        kept |= {receipt.stored_file}
    for each in folder.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        elif each.name not in kept:
            each.unlink()
