"""Under which state of the dbt project the warehouse was last built whole; which rows it held, dbt notes."""

import hashlib
from pathlib import Path

import duckdb

#: Files that decide what the tables hold; descriptions do not.
_SUFFIXES = {".sql", ".csv", ".yml", ".yaml"}


def project_state(project: Path) -> str:
    """Return a text that changes whenever models, macros, seeds or settings of the project do."""
    digest = hashlib.sha256()
    for folder in ("models", "macros", "seeds"):
        for path in sorted((project / folder).rglob("*")):
            if path.is_file() and path.suffix in _SUFFIXES:
                digest.update(f"{path.relative_to(project)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update((project / "dbt_project.yml").read_bytes())
    digest.update(duckdb.__version__.encode())
    return digest.hexdigest()


def is_built_with(build: Path, state: str) -> bool:
    """Return whether the last whole build went through under this state of the project.

    Args:
        build: The build file; nobody else may have it open for writing.
        state: What `project_state` said.
    """
    if not build.exists():
        return False
    with duckdb.connect(str(build), read_only=True) as con:
        try:
            found = con.execute("select project from intermediate.loaded_project").fetchall()
        except duckdb.CatalogException:
            return False
    return found == [(state,)]
