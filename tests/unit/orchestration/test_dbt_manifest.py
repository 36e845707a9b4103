"""The dbt project is parsed when its files changed and not otherwise."""

import pytest

from orchestration import dbt_manifest
from orchestration.dbt_manifest import ensure_manifest, project_stamp, target_folder


@pytest.fixture
def parses(monkeypatch):
    """Count parses instead of doing them; the definitions tests parse for real."""
    done = []

    def parse(settings, folder):
        done.append(settings.home)
        (folder / "manifest.json").write_text("{}")

    monkeypatch.setattr(dbt_manifest, "parse", parse)
    return done


@pytest.fixture
def project(monkeypatch, tmp_path):
    folder = tmp_path / "dbt_project"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "a.sql").write_text("select 1")
    monkeypatch.setattr(dbt_manifest, "DBT_PROJECT", folder)
    return folder


def test_parsed_once_while_nothing_changes(settings, project, parses):
    first = ensure_manifest(settings)
    assert ensure_manifest(settings) == first
    assert first.exists()
    assert len(parses) == 1


@pytest.mark.parametrize("change", ["edit", "add", "remove", "delete_manifest"])
def test_parsed_again_when_something_changed(settings, project, parses, change):
    manifest = ensure_manifest(settings)
    if change == "edit":
        (project / "models" / "a.sql").write_text("select 22")
    elif change == "add":
        (project / "models" / "b.yml").write_text("version: 2")
    elif change == "remove":
        (project / "models" / "a.sql").unlink()
    else:
        manifest.unlink()
    ensure_manifest(settings)
    assert len(parses) == 2


def test_what_dbt_does_not_read_does_not_matter(settings, project, parses):
    ensure_manifest(settings)
    (project / "notes.txt").write_text("x")
    ensure_manifest(settings)
    assert len(parses) == 1


def test_failed_parse_is_not_taken_for_done(settings, project, monkeypatch):
    def fail(settings, folder):
        (folder / "manifest.json").write_text("{}")
        raise dbt_manifest.DbtProjectError("no")

    monkeypatch.setattr(dbt_manifest, "parse", fail)
    for _ in range(2):
        with pytest.raises(dbt_manifest.DbtProjectError):
            ensure_manifest(settings)


def test_stamp_tells_homes_apart(settings, project, tmp_path):
    from dataclasses import replace

    assert project_stamp(settings) != project_stamp(replace(settings, home=tmp_path / "another"))


def test_dbt_writes_under_the_home(settings):
    assert target_folder(settings).is_relative_to(settings.home)
