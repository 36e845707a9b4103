"""Pages of a portal as they lie in a fetch folder, and the note of each that lets a killed fetch go on.

What is in them belongs to page_records; who asks for them to the connectors.
"""

import gzip
import hashlib
import json
import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from assets.ingest.portals.page import Cursor, Page
from assets.ingest.receipts import DeliveryError

NOTES = "pages.jsonl"
#: Level 2 is three times as fast as 6 and a tenth larger.
GZIP_LEVEL = 2
#: Pages that wait on disk to be read while the next ones are fetched.
PAGES_AHEAD = 2


@dataclass(frozen=True)
class StoredPage:
    """One page on disk.

    Attributes:
        file: Name in the fetch folder.
        sha: sha256 hex of the body.
        purpose: `rows` to land; `ids` of rows that the portal still has.
        month: Of ids: the month they are of; nothing for ids of all rows.
    """

    file: str
    rows: int
    next: str | None
    records: str
    content: Literal["json", "geojson", "xml"]
    cursor: Cursor | None
    columns: tuple[str, ...]
    sha: str
    size_bytes: int
    purpose: Literal["rows", "ids"] = "rows"
    month: str | None = None


class PageFolder:
    """The pages of one fetch; what is noted lies whole on disk."""

    def __init__(self, folder: Path) -> None:
        """Open a fetch folder, with the pages that an earlier, killed fetch noted in it."""
        self.folder = folder
        self.pages = read_pages(folder)

    def keep(
        self, page: Page, purpose: Literal["rows", "ids"] = "rows", month: str | None = None
    ) -> StoredPage:
        """Write the bytes of a page, then its note."""
        suffix = "xml" if page.content == "xml" else "json"
        stored = StoredPage(
            f"{'page' if purpose == 'rows' else 'ids'}-{len(self.pages) + 1:05d}.{suffix}.gz",
            page.rows,
            page.next,
            page.records,
            page.content,
            page.cursor,
            page.columns,
            hashlib.sha256(page.body).hexdigest(),
            len(page.body),
            purpose,
            month,
        )
        with (
            (self.folder / stored.file).open("wb") as file,
            gzip.GzipFile("", "wb", GZIP_LEVEL, file, 0) as sink,
        ):
            sink.write(page.body)
        with (self.folder / NOTES).open("a", encoding="utf-8") as notes:
            notes.write(json.dumps(asdict(stored), ensure_ascii=False) + "\n")
            notes.flush()
            os.fsync(notes.fileno())
        self.pages.append(stored)
        return stored


def read_pages(folder: Path) -> list[StoredPage]:
    """Return the pages noted in a fetch folder, in order; a note that was cut off by a kill is no note."""
    notes = folder / NOTES
    if not notes.is_file():
        return []
    pages = []
    for line in notes.read_text("utf-8").splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            break
        said["cursor"] = said["cursor"] and Cursor(**said["cursor"])
        said["columns"] = tuple(said["columns"])
        pages.append(StoredPage(**said))
    # A line that was cut would join the next one.
    whole = "".join(json.dumps(asdict(page), ensure_ascii=False) + "\n" for page in pages)
    if whole != notes.read_text("utf-8"):
        notes.write_text(whole, encoding="utf-8")
    return pages


def keep_all(pages: Iterator[Page], folder: PageFolder) -> Iterator[StoredPage]:
    """Keep each page and yield it while the next ones are fetched by another thread.

    Raises:
        DeliveryError: What the connector raised, after the pages before it were yielded; or the portal
            sends the same page for ever.
    """
    ready: queue.Queue[StoredPage | BaseException | None] = queue.Queue(PAGES_AHEAD)
    is_over = threading.Event()

    def fetch() -> None:
        told: BaseException | None = None
        seen: set[str] = set()
        try:
            for page in pages:
                if page.next is not None and page.next in seen:
                    raise DeliveryError(
                        "PagingLoop", "the portal leads back to a page it has given before; tell its operator"
                    )
                seen.add(page.next or "")
                _put(ready, folder.keep(page), is_over)
                if is_over.is_set():
                    return
        except BaseException as error:
            told = error
        _put(ready, told, is_over)

    thread = threading.Thread(target=fetch, name="pages", daemon=True)
    thread.start()
    try:
        while True:
            said = ready.get()
            if said is None:
                return
            if isinstance(said, BaseException):
                raise said
            yield said
    finally:
        is_over.set()
        thread.join(timeout=300)


def _put(
    ready: "queue.Queue[StoredPage | BaseException | None]",
    item: StoredPage | BaseException | None,
    is_over: threading.Event,
) -> None:
    while not is_over.is_set():
        try:
            ready.put(item, timeout=0.2)
        except queue.Full:
            continue
        return
