"""The catalogue of the warehouse as one static page, and the page in `docs` that definitions are shown on.

`python -m orchestration.dbt_docs` writes both and prints where they lie.
"""

import sys
from pathlib import Path

from assets.publish import on_time_page
from orchestration.run_job import BusyError, alone
from orchestration.settings import DBT_PROJECT, Settings, SettingsError, load_settings, tell_dbt


class DbtDocsError(Exception):
    """The catalogue cannot be written; the message says what to do."""


def write_catalogue(settings: Settings) -> Path:
    """Write every model with its columns, tests and lineage as one HTML file that needs no server.

    dbt reads the types and comments from the build's own file, so nothing else may be at work on the home.

    Returns:
        The file, `docs/index.html` under the home.

    Raises:
        BusyError: Another process is at work on the home.
        DbtDocsError: Nothing is built yet, or dbt failed.
        SettingsError: Nothing can be written in the home.
    """
    from dbt.cli.main import dbtRunner

    from assets.warehouse.dbt_build import release_warehouse

    if not settings.lake.build_warehouse.exists():
        raise DbtDocsError(f"nothing is built under {settings.home} yet; run `make run` first")
    working = settings.home / "dbt" / "docs"
    with alone(settings):
        tell_dbt(settings, None)
        try:
            outcome = dbtRunner().invoke(
                [
                    "docs", "generate", "--static",
                    "--project-dir", str(DBT_PROJECT),
                    "--profiles-dir", str(DBT_PROJECT),
                    "--target-path", str(working),
                    "--log-path", str(settings.home / "dbt" / "logs"),
                    "--log-level", "none",
                    "--log-level-file", "info",
                    "--no-use-colors",
                ]
            )  # fmt: skip
        finally:
            release_warehouse()
    if not outcome.success:
        raise DbtDocsError(f"dbt wrote no catalogue: {outcome.exception or 'see dbt/logs under the home'}")
    page = settings.home / "docs" / "index.html"
    page.parent.mkdir(exist_ok=True)
    return (working / "static_index.html").replace(page)


def main() -> int:
    """Write both and print where they lie."""
    try:
        on_time_page.main()
        sys.stdout.write(f"{on_time_page.PAGE}\n{write_catalogue(load_settings())}\n")
    except (BusyError, DbtDocsError, SettingsError, on_time_page.DefinitionError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
