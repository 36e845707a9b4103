"""The catalogue is written from a build, and says what to do where there is none."""

import pytest

from orchestration import dbt_docs
from orchestration.dbt_docs import DbtDocsError, write_catalogue


def test_without_a_build_it_says_what_to_do(settings):
    with pytest.raises(DbtDocsError, match="run `make run` first"):
        write_catalogue(settings)
    assert not (settings.home / "docs").exists()


def test_a_problem_is_one_line_and_no_traceback(settings, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(dbt_docs, "load_settings", lambda: settings)
    monkeypatch.setattr(dbt_docs.on_time_page, "PAGE", tmp_path / "docs" / "page.md")
    assert dbt_docs.main() == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "make run" in said
