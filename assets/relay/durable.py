"""Files that are there whole or not at all, whatever ends the process or the machine."""

import os
from pathlib import Path


def put(path: Path, body: bytes) -> None:
    """Write a file: on disk before it takes its name, and its name on disk before this returns."""
    work = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with work.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)
    sync_folder(path.parent)


def move(path: Path, folder: Path) -> None:
    """Move a file into another folder, for good once this returns."""
    path.replace(folder / path.name)
    sync_folder(folder)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
