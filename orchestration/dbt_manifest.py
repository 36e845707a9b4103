"""The parsed dbt project, renewed when its files or its home changed; building it is `assets.warehouse`.

`python -m orchestration.dbt_manifest` parses and prints the path.
"""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from filelock import FileLock

from orchestration.settings import DBT_PROJECT, Settings, SettingsError, load_settings, tell_dbt


class DbtProjectError(Exception):
    """The dbt project does not parse; the message is dbt's."""


def target_folder(settings: Settings) -> Path:
    """Return where dbt writes when it builds; beside the state, so that a checkout stays clean."""
    return settings.home / "dbt" / "target"


def ensure_manifest(settings: Settings) -> Path:
    """Return the path of a manifest.json that matches the project's files, parsing them only where needed.

    Takes 2 to 4 s when something changed, else a few milliseconds. Dagster's own preparation starts dbt as a
    program in every process and does nothing outside `dagster dev`, so a fresh checkout would not load.

    Raises:
        DbtProjectError: dbt rejects the project.
    """
    folder = settings.home / "dbt" / "parsed"
    manifest = folder / "manifest.json"
    stamp = folder / "stamp.json"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder.parent / "parse.lock")):
        current = project_stamp(settings)
        if not (manifest.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == current):
            stamp.unlink(missing_ok=True)
            parse(settings, folder)
            temporary = folder / f"stamp.{os.getpid()}"
            temporary.write_text(current, encoding="utf-8")
            temporary.replace(stamp)
    return manifest


def project_stamp(settings: Settings) -> str:
    """Return a text that changes whenever the parsed project could."""
    digest = hashlib.sha256()
    for path in sorted(path for path in DBT_PROJECT.rglob("*") if is_source(path)):
        status = path.stat()
        digest.update(f"{path.relative_to(DBT_PROJECT)}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return json.dumps({"home": str(settings.home), "files": digest.hexdigest()})


def is_source(path: Path) -> bool:
    """Return whether dbt reads the file when it parses."""
    return path.is_file() and path.suffix in {".sql", ".yml", ".yaml", ".md", ".csv", ".py"}


def parse(settings: Settings, folder: Path) -> None:
    """Run `dbt parse` in this process, then put the manifest in place by rename."""
    from dbt.cli.main import dbtRunner

    tell_dbt(settings, None)
    working = folder / "working"
    outcome = dbtRunner().invoke(
        [
            "parse",
            "--project-dir", str(DBT_PROJECT),
            "--profiles-dir", str(DBT_PROJECT),
            "--target-path", str(working),
            "--log-path", str(settings.home / "dbt" / "logs"),
            "--log-level", "none",
            "--no-use-colors",
        ]
    )  # fmt: skip
    if not outcome.success:
        raise DbtProjectError(f"dbt_project does not parse: {outcome.exception}")
    target = target_folder(settings)
    target.mkdir(parents=True, exist_ok=True)
    # The build's first partial parse then starts from this one instead of from nothing.
    shutil.copyfile(working / "partial_parse.msgpack", target / "partial_parse.msgpack")
    (working / "manifest.json").replace(folder / "manifest.json")


def main() -> int:
    """Parse the project and print where the manifest lies."""
    try:
        sys.stdout.write(f"{ensure_manifest(load_settings())}\n")
    except (DbtProjectError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
