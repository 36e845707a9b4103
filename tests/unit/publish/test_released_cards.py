"""Method cards as part of a release: complete, checked, scanned and immutable."""

import subprocess
from datetime import UTC, datetime

import pytest

from assets.publish.extract import publish_release, read_release
from assets.publish.privacy import PersonalDataError, refuse_personal_text
from assets.publish.released_cards import MissingCardsError, readable

NOW = datetime(2026, 1, 2, tzinfo=UTC)
VERDICTS = """
    create table correlation.mart_correlations as
    select * from (
        values ('aville', 'lamps_theft', 1), ('aville', 'lamps_theft', 2), ('bville', 'lamps_theft', 1)
    ) as told (city, question_id, band)
"""
CARDS = [f"{city}/lamps_theft.{kind}" for city in ("aville", "bville") for kind in ("html", "md")]


@pytest.fixture
def cards(workshop):
    """The cards of a generation as they lie in the lake, with one more than is published."""
    folder = workshop.lake.derived / "method_cards" / "g1"
    for name in [*CARDS, "index.html", "index.md", "aville/.lamps_theft.html.77", "aville/other.html"]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<h1>{name}</h1>\n", encoding="utf-8")
    workshop.build("g1", extra=VERDICTS)
    return folder


def release(workshop, cards):
    return publish_release(workshop.lake, workshop.write_manifest(), "g1", now=NOW, cards=cards)


def test_cards_of_all_verdicts_are_released_with_their_sums(workshop, cards):
    summary = release(workshop, cards)
    folder = summary.folder / "method_cards"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {*CARDS, "index.html", "index.md", "SHA256SUMS"}
    subprocess.run(["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == 6
    assert summary.n_cards == 2
    assert [one.dataset for one in summary.datasets] == ["requests"]
    assert read_release((workshop.lake.releases / "latest").resolve()) == summary


def test_a_changed_card_is_caught_by_its_sum(workshop, cards):
    folder = release(workshop, cards).folder / "method_cards"
    (folder / CARDS[0]).write_text("something else", encoding="utf-8")
    done = subprocess.run(
        ["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=False, capture_output=True
    )
    assert done.returncode == 1


def test_cards_in_the_lake_may_change_without_changing_a_release(workshop, cards):
    folder = release(workshop, cards).folder / "method_cards"
    before = (folder / CARDS[0]).read_bytes()
    (cards / CARDS[0]).write_text("of the next generation", encoding="utf-8")
    assert (folder / CARDS[0]).read_bytes() == before


@pytest.mark.parametrize("name", [CARDS[3], "index.html"])
def test_a_release_without_the_card_of_a_verdict_does_not_appear(workshop, cards, name):
    (cards / name).unlink()
    with pytest.raises(MissingCardsError, match=f"1 files of method cards are missing, first {name}"):
        release(workshop, cards)
    assert not (workshop.lake.releases / "latest").exists()
    assert list(workshop.lake.releases.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("aville/lamps_theft.html", "<p>\nask ann@example.org</p>", 2),
        ("aville/lamps_theft.html", "<p>312&#45;555&#45;0100</p>", 1),
        ("bville/lamps_theft.md", "one\n\ncall (312) 555-0100", 3),
        ("index.html", "<td>312-555-0100</td>", 1),
    ],
)
def test_personal_data_on_a_card_stop_the_release_without_being_repeated(workshop, cards, name, text, line):
    (cards / name).write_text(text, encoding="utf-8")
    with pytest.raises(
        PersonalDataError, match=rf"method_cards/{name}: what looks like .* in line {line};"
    ) as caught:
        release(workshop, cards)
    assert "555" not in str(caught.value)
    assert not (workshop.lake.releases / "latest").exists()


def test_coordinates_and_figures_are_no_phone_numbers(workshop, cards):
    plot = '<svg><path d="M 312 555.0100 L 312 555 0100 z"/><text>312</text><text>555</text></svg>'
    (cards / CARDS[0]).write_text(f"{plot}<td>312</td><td>555</td><td>0100</td>", encoding="utf-8")
    assert release(workshop, cards).n_cards == 2
    with pytest.raises(PersonalDataError):
        refuse_personal_text("plot", plot)
    refuse_personal_text("plot", readable(plot))
    refuse_personal_text(
        "card", "about 230,000 first reports; 1.23 [1.19, 1.27] | 2,100 | 2,600 | d0=2100, d1=2600"
    )
