"""`kill -9` of an incremental landing, at any moment: the next run loses nothing and doubles nothing.

The portal lives in the test, the landing in a child process that is killed: while pages come, while they are
worked on, and between the renames that put them into the lake. CITYSIGNAL_SOAK_KILLS says how often.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from assets.ingest import landing
from assets.ingest.lake import Lake
from assets.ingest.portals.pages_on_disk import read_pages
from assets.ingest.receipts import PENDING, read_receipts, write_receipt
from tests.portal_town import PortalTown

KILLS = int(os.environ.get("CITYSIGNAL_SOAK_KILLS", "0")) or 5
SEED = None if "CITYSIGNAL_SOAK_KILLS" in os.environ else 17
ROOT = Path(__file__).resolve().parents[2]
ROWS, CHANGED, NEW, GONE = 1000, 300, 120, 8
PAGE_ROWS = 40
#: How long the portal takes for a page, and the child for a rename: kills fall into these.
PAGE_SECONDS, RENAME_SECONDS = 0.04, 0.25
SYNC = {"overlap": "10m", "deletions": "by_month"}
#: What tells when it was that a row landed, and by which attempt.
OF_THE_ATTEMPT = "delivered_at, delivery_id"


class KilledTown(PortalTown):
    """A town with a day's change waiting at the portal, and lakes to land it in."""

    def __init__(self, folder: Path, **said: object) -> None:
        super().__init__("socrata", folder, **said)
        self.sync, self.request = SYNC, {"page_rows": PAGE_ROWS}

    def prepare(self) -> None:
        """Land the first rows, let the day pass, and land it undisturbed in a copy of the lake."""
        self.fill(ROWS)
        self.later(hours=1)
        assert self.land()[0].outcome == "landed"
        self.before = Path(shutil.copytree(self.lake.home, self.folder / "before"))
        self.later(days=1)
        self.fill(NEW, start=ROWS)
        self.dataset.update([f"k{number * 3:07d}" for number in range(CHANGED)], {"what": "done"})
        self.dataset.delete([f"k{number * 3 + 1:07d}" for number in range(GONE)])
        self.later(minutes=1)
        self.pages_of_a_run = self.asked(lambda: self.land())
        assert self.pages_of_a_run > (CHANGED + NEW) / PAGE_ROWS
        self.whole = self.content()
        # Another look at the portal finds gone for the second time what the first found gone.
        self.land()
        self.whole_looked_at_twice = self.content()

    def use(self, name: str) -> None:
        """Go on in a new copy of the lake as it was before the day."""
        self.lake = Lake(Path(shutil.copytree(self.before, self.folder / name)))

    def asked(self, do: Callable[[], object]) -> int:
        """Return how many pages the portal is asked for meanwhile."""
        before = self.pages_seen()
        do()
        return self.pages_seen() - before

    def pages_seen(self) -> int:
        return sum(request.kind == "page" for request in list(self.store.requests))

    def content(self) -> dict[str, list[tuple]]:
        """Return all rows of every zone without what tells when they landed."""
        found = {}
        for zone, left_out in (
            ("raw", OF_THE_ATTEMPT),
            ("quarantine", "delivered_at"),
            ("absences", "observed_at, delivery_id"),
        ):
            files = f"lake/{zone}/*/city=town/*/*.parquet"
            if list(self.lake.home.glob(files)):
                rows = duckdb.execute(f"select * exclude ({left_out}) from '{self.lake.home}/{files}'")
                found[zone] = sorted(rows.fetchall(), key=repr)
        return found

    def files(self, zone: str) -> int:
        return len(list(self.lake.home.glob(f"lake/{zone}/**/*.parquet")))

    @contextmanager
    def child(self, *flags: str) -> Iterator[subprocess.Popen]:
        """Land in a child process; it is dead when this is left."""
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.contracts.test_kill_wire"),
                *(str(self.folder), str(self.lake.home), self.base, self.store.now.isoformat(), *flags),
            ],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def await_(self, process: subprocess.Popen, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not is_so():
            assert process.poll() is None, "the landing ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def fetch_folder(self) -> Path:
        """Return the folder of the newest attempt."""
        return max(path for path in self.lake.landing("town", "calls").iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    with KilledTown(tmp_path_factory.mktemp("killed")) as town:
        town.prepare()
        town.store.faults.add("slow", times=None, seconds=PAGE_SECONDS)
        yield town


def moments() -> list[tuple[str, float]]:
    """Return when to kill: in which stage, and how far into it (0 to 1). Every stage has its turn."""
    chance = random.Random(SEED)
    stages = ["pages", "renames", "pages", "work", "pages", "renames", "pages"]
    return [(stages[number % len(stages)], chance.random()) for number in range(KILLS)]


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "share"), moments())
def test_a_killed_landing_goes_on_where_it_was(town, stage, share, request):
    town.use(f"killed-{request.node.callspec.id}-{share:.6f}")
    before = town.content()
    seen = town.pages_seen()
    with town.child("--slow-renames") as process:
        if stage == "pages":
            wanted = seen + 1 + int(share * (town.pages_of_a_run - 1))
            town.await_(process, lambda: town.pages_seen() >= wanted)
            time.sleep(PAGE_SECONDS * share)
        elif stage == "work":
            town.await_(process, lambda: town.pages_seen() >= seen + town.pages_of_a_run)
            # By then the last page lies on disk; reading, comparing and judging take longer.
            time.sleep(4 * PAGE_SECONDS + share)
        else:
            pending = f"*/{PENDING}"
            town.await_(process, lambda: any(town.lake.landing("town", "calls").glob(pending)))
            # Absences, index, raw and at last the receipt: the fourth rename is not reached.
            time.sleep(3.5 * RENAME_SECONDS * share)
    is_decided = (town.fetch_folder() / PENDING).is_file()
    assert is_decided == (stage == "renames")
    if not is_decided:
        assert town.content() == before
    on_disk = len([page for page in read_pages(town.fetch_folder()) if page.purpose == "rows"])

    asked = town.asked(town.land)
    if not is_decided:
        assert asked == town.pages_of_a_run - on_disk
        assert on_disk >= 1 or share < 0.2
    assert town.content() == (town.whole_looked_at_twice if is_decided else town.whole)
    assert town.state() == town.truth()
    receipts = read_receipts(town.lake.landing("town", "calls"))
    assert [receipt.outcome for receipt in receipts] == ["landed", "landed", *(["landed"] * is_decided)]


@pytest.mark.slow
def test_without_the_pending_receipt_a_kill_loses_rows(town):
    town.use("unprotected")
    known, raw = town.files("known"), town.files("raw")
    with town.child("--slow-renames", "--unprotected") as process:
        town.await_(process, lambda: town.files("known") > known)
    assert town.files("raw") == raw
    town.land()
    assert town.content() != town.whole
    assert town.state() != town.truth()


def land_as_child(arguments: list[str]) -> None:
    """Land, so slowly that a kill falls where it is wanted."""
    parser = argparse.ArgumentParser()
    for name in ("folder", "home", "base", "now"):
        parser.add_argument(name)
    parser.add_argument("--slow-renames", action="store_true")
    parser.add_argument("--unprotected", action="store_true")
    said = parser.parse_args(arguments)
    town = KilledTown(Path(said.folder), now=datetime.fromisoformat(said.now))
    town.lake, town.base = Lake(Path(said.home)), said.base
    real = os.replace

    def replace(source: object, target: object) -> None:
        if said.slow_renames and (str(target).endswith(".parquet") or Path(source).name == PENDING):
            time.sleep(RENAME_SECONDS)
        real(source, target)

    def commit_unprotected(lake, delivery, folder, renames, removals):
        for source, target in renames:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        write_receipt(delivery, folder)

    os.replace = replace
    if said.unprotected:
        landing.commit = commit_unprotected
    town.land()


if __name__ == "__main__":
    land_as_child(sys.argv[1:])
