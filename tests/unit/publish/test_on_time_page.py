"""The page on the on-time figures says what the definitions say today."""

import shutil

import pytest
import yaml

from assets.publish.on_time_page import DEFINITIONS, PAGE, DefinitionError, read_definitions, render


def test_the_page_is_current():
    page = render(read_definitions())
    assert PAGE.read_text(encoding="utf-8") == page, "write it again: python -m assets.publish.on_time_page"


@pytest.fixture
def changed(tmp_path):
    """Return what changes a copy of the metrics and gives its folder."""
    for name in ("mart_metric_book.yml", "_metric_book__metrics.yml"):
        shutil.copy(DEFINITIONS / name, tmp_path)

    def change(alter):
        path = tmp_path / "_metric_book__metrics.yml"
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        alter({metric["name"]: metric for metric in said["metrics"]})
        path.write_text(yaml.safe_dump(said), encoding="utf-8")
        return tmp_path

    return change


def test_a_changed_definition_changes_the_page(changed):
    def reword(metrics):
        metrics["on_time_due_share"]["config"]["meta"]["question"] = "Another question?"

    page = render(read_definitions(changed(reword)))
    assert "Another question?" in page
    assert "Another question?" not in PAGE.read_text(encoding="utf-8")


def test_a_formula_that_is_not_the_marts_is_refused(changed):
    def count_otherwise(metrics):
        metrics["on_time_due_share"]["type_params"]["denominator"] = "n_closed_with_target"

    with pytest.raises(DefinitionError, match="on_time_due_share: the metric gives 2/5"):
        read_definitions(changed(count_otherwise))


def test_a_figure_that_does_not_say_what_it_hides_is_refused(changed):
    def forget(metrics):
        del metrics["on_time_due_share"]["config"]["meta"]["hides"]

    with pytest.raises(DefinitionError, match=r"on_time_due_share.*hides"):
        read_definitions(changed(forget))
