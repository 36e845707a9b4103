"""JSON becomes one record a line, so that DuckDB streams it; what the records mean belongs to parsing.

Arrays, `{rows: [...]}` and GeoJSON's `{features: [...]}` are cut record by record; the text of a record stays
as the source wrote it (DuckDB later writes 1.10 as 1.1, and whole numbers of any length as they were). As one
object the whole file would have to fit into memory.
"""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from assets.ingest.part import Part
from assets.ingest.receipts import DeliveryError

BLOCK_BYTES = 1 << 20
LARGEST_RECORD = 64 << 20
#: Under which keys an object keeps its records.
RECORD_KEYS = ("features", "rows", "results", "data", "records")

_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass
class JsonRecords:
    """JSON lines: record n of the source is line n.

    Attributes:
        longest: Characters of the longest record.
    """

    path: Path
    count: int = 0
    longest: int = 0


def write_records(stream: BinaryIO, part: Part, folder: Path) -> JsonRecords:
    """Read a JSON or JSON-lines stream once and write its records as lines.

    Raises:
        DeliveryError: It ends early, is not JSON, or holds no list of records.
    """
    records = JsonRecords(folder / "records.jsonl")
    try:
        found = _lines(stream, part) if part.format == "jsonl" else _elements(_Text(stream, part))
        with records.path.open("w", encoding="utf-8", newline="\n") as plain:
            # DuckDB drops one byte order mark; without ours it would be one of the source.
            plain.write("\ufeff")
            for text in found:
                # Raw line ends are allowed between the tokens of a record, never inside its strings.
                plain.write(text.replace("\n", " ").replace("\r", " ") + "\n")
                records.count += 1
                records.longest = max(records.longest, len(text))
    except UnicodeDecodeError as error:
        raise DeliveryError(
            "WrongEncoding",
            f"the file is not {part.encoding or 'UTF-8'} throughout ({error.reason}); declare its `encoding`",
        ) from None
    except RecursionError:
        raise DeliveryError("BrokenJson", "the JSON is nested too deeply; ask the publisher") from None
    return records


def _lines(stream: BinaryIO, part: Part) -> Iterator[str]:
    reader = codecs.getreader(part.encoding or "utf-8-sig")(stream)
    while line := reader.readline(LARGEST_RECORD):
        if line.strip():
            yield line.strip()


class _Text:
    """A window that moves over a JSON text."""

    def __init__(self, stream: BinaryIO, part: Part) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder(part.encoding or "utf-8-sig")().decode
        self._scan = json.JSONDecoder().raw_decode
        self._is_ended = False
        self.window = ""
        self.at = 0

    def _more(self) -> bool:
        if self._is_ended:
            return False
        self.window, self.at = self.window[self.at :], 0
        # Twice as much each time, so that a record of many blocks is not scanned once per block.
        block = self._stream.read(max(BLOCK_BYTES, len(self.window)))
        self._is_ended = not block
        self.window += self._decode(block, self._is_ended)
        return True

    def next_character(self) -> str:
        """Move to the next character that is not white space, and return it; nothing at the end."""
        while True:
            self.at = _SPACE.match(self.window, self.at).end()
            if self.at < len(self.window):
                return self.window[self.at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> bool:
        """Step over a character if it comes next."""
        found = self.next_character() == wanted
        self.at += found
        return found

    def value(self) -> tuple[object, str]:
        """Read the next value; return it and its text."""
        self.next_character()
        while True:
            try:
                value, end = self._scan(self.window, self.at)
            except json.JSONDecodeError as error:
                if len(self.window) - self.at > LARGEST_RECORD or not self._more():
                    raise DeliveryError(
                        "BrokenJson",
                        f"the JSON ends early or is broken ({error.msg}); fetch again or ask the publisher",
                    ) from None
                continue
            # At the window's edge a number may go on.
            if end == len(self.window) and self._more():
                continue
            text = self.window[self.at : end]
            self.at = end
            return value, text


def _elements(text: _Text) -> Iterator[str]:
    if text.take("["):
        yield from _array(text)
    elif text.take("{"):
        yield from _object(text)
    else:
        raise DeliveryError(
            "WrongFormat",
            f"the file is no JSON (it begins {text.window[:40]!r}); correct `source` or `format`",
        )
    if text.next_character():
        raise DeliveryError(
            "BrokenJson", "more text follows the end of the JSON; declare JSON lines as `jsonl`"
        )


def _object(text: _Text) -> Iterator[str]:
    said: list[str] = []
    has_records = False
    while not text.take("}"):
        if said and not text.take(","):
            raise _ended_early()
        key, _ = text.value()
        if not isinstance(key, str) or not text.take(":"):
            raise _ended_early()
        said.append(key)
        if not has_records and key in RECORD_KEYS and text.take("["):
            has_records = True
            yield from _array(text)
        else:
            text.value()
    if not has_records:
        raise DeliveryError(
            "NoRecords",
            f"the JSON has none of {', '.join(RECORD_KEYS)} (it has {', '.join(said[:8]) or 'no keys'}); "
            "the portal probably answered with an error message",
        )


def _array(text: _Text) -> Iterator[str]:
    if text.take("]"):
        return
    while True:
        _, said = text.value()
        yield said
        if text.take("]"):
            return
        if not text.take(","):
            raise _ended_early()


def _ended_early() -> DeliveryError:
    return DeliveryError(
        "BrokenJson",
        "the JSON ends early or is broken; fetch it again, or ask the publisher for a whole copy",
    )
