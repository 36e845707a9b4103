"""Method cards from hand-made marts: what they say, that they are safe to open and stay the same."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import h3
import pytest

from assets.correlate.card_pages import STYLE, card_html, card_markdown, mark, paragraph
from assets.correlate.card_plots import card_png, cell_outlines, curve_svg, map_svg
from assets.correlate.card_rows import Cell, read_dossiers
from assets.correlate.card_text import Heading, card
from assets.correlate.cards import cards_folder, plots, shown_card, write_cards
from assets.correlate.figures import plain
from assets.ingest.lake import Lake
from assets.warehouse.reader import connect
from tests import card_warehouse as hand
from tests.card_warehouse import GENERATION, NO_RATIO, marts, rings, write_warehouse

EVIL = '<script>alert("x")</script> [a](javascript:alert(1)) `b` | *c* & "d\''
TRAP = {
    "question_id": "sanitation_burglary",
    "title": "Sanitation complaint and burglary",
    "signal_type": "sanitation_violation",
    "outcome_type": "burglary",
    "verdict": "not_supported",
    "reason": "Burglary ran 1.03x [0.97, 1.09]. Not supported.",
    "rr": 1.03,
    "ci_low": 0.97,
    "ci_high": 1.09,
    "p_adjusted": 1.0,
    "naive_ratio": 2.9,
}
FEW = {**NO_RATIO, "question_id": "lamps_arson", "title": "Lamps out and arson", "verdict": "insufficient"}


def answers():
    """Three questions in one city, one of them in a second."""
    return [
        *rings(),
        *rings(**TRAP),
        *rings(**FEW, d0=10, d1=12, n_anchor=300),
        *rings(city="bville", city_name="Bville", verdict="immaterial", ci_low=1.01),
    ]


class Page(HTMLParser):
    """What a page is made of; fails on a tag that closes another one."""

    VOID = frozenset({"meta", "path", "use", "rect", "line", "br"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts, self.headings = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append((self.open[-1], data))

    def attributes(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("cards")


def written(home, tables, *, questions=None, simulated=()):
    lake = Lake(home)
    write_warehouse(lake.build_warehouse, tables, simulated=simulated)
    connection = connect(lake.build_warehouse)
    try:
        return write_cards(connection, lake, questions)
    finally:
        connection.close()


@pytest.fixture(scope="module")
def cards(home):
    return written(home, marts(answers()), simulated=["bville"])


def dossier(cards, question="lamps_theft", city="aville"):
    return next(one for one in cards.dossiers if (one.disc.city, one.disc.question_id) == (city, question))


def page(cards, name):
    return (cards.folder / name).read_text(encoding="utf-8")


def test_one_card_per_question_and_city_and_an_index(cards, home):
    assert cards.folder == cards_folder(Lake(home), GENERATION)
    found = {path.relative_to(cards.folder).as_posix() for path in cards.folder.rglob("*.*")}
    names = ("aville/lamps_theft", "aville/sanitation_burglary", "aville/lamps_arson", "bville/lamps_theft")
    assert found == {f"{name}.{kind}" for name in (*names, "index") for kind in ("html", "md")}
    assert cards.bytes == sum(path.stat().st_size for path in cards.folder.rglob("*.*"))


@pytest.mark.parametrize("kind", ["html", "md"])
def test_verdict_comes_first_then_its_sentence_and_what_would_change_it(cards, kind):
    told = page(cards, f"aville/lamps_theft.{kind}")
    places = [
        told.index(said)
        for said in (
            "Supported by the data",
            "theft ran 1.23x",
            "What would change the verdict",
            "The question",
            "The evidence",
        )
    ]
    assert places == sorted(places)


def test_a_card_tells_everything_that_is_known(cards):
    told = page(cards, "aville/lamps_theft.md").replace("\\", "")
    for said in (
        "12,000",  # first reports
        "2,100 / 2,600",  # before and after
        "1.23 [1.19, 1.27]",
        "0–100 m (disc)",
        "200–300 m (ring further out)",
        "1.00 (p=0.81)",  # placebo
        "1.25 [1.20, 1.30]",  # guarded
        "1.22",  # isolated
        "First half of the period | 1.21 [1.15, 1.27]",
        "by night (20 to 6 h) | 1.41 [1.35, 1.47]",
        "Third of the city that reports slowly",
        "The intervals of the parts overlap",
        "2.27",  # naive
        "Of 16 negative-control tests in this city 1 had p &lt; 0.05",
        "0.8 are expected by chance",
        "Theft rises where lamps are out.",
        "Darkness hides the approach",
        "Hand-made, 2026",
        "| Expected | a rise |",
        "| +1 | 1,000 | 1.20 [1.14, 1.26] | [1.10, 1.30] |",
        "weeks +1 and +2 lie above 1 as a whole",
        "19 H3-7 cells",
        GENERATION,
    ):
        assert said in told, said


def test_the_trap_is_explained_by_its_own_figures(cards):
    told = page(cards, "aville/sanitation_burglary.md").replace("\\", "")
    assert (
        "Areas with much sanitation violation have much burglary, too (correlation 0.90). But months with "
        "much sanitation violation are not months with much burglary (0.07)"
    ) in told
    assert "| Do they change together? Correlation of the changes | 0.27 |" in told
    assert "Compared with itself, a place shows 1.03 [0.97, 1.09]." in told
    assert "That is why the map is no finding: the two share places, not times." in told
    finding = page(cards, "aville/lamps_theft.md")
    assert "That is why the map is no finding" not in finding


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"across_cells_r": 0.1}, "do not stand out for burglary (correlation 0.10); months: 0.07"),
        ({"across_months_r": 0.6}, "Months go together as well (0.60): what has the same season does"),
        ({"across_months_r": None}, "no finding: the two share places."),
        ({"across_cells_r": None}, "gather in the same busy places"),
    ],
)
def test_contrasts_are_explained_as_they_are(cards, changes, said):
    one = dossier(cards, "sanitation_burglary")
    told = card_markdown(card(replace(one, contrast=replace(one.contrast, **changes))))
    assert said in told


def test_an_insufficient_card_publishes_no_ratio(home):
    tables = marts(rings(**FEW, d0=10, d1=12, n_anchor=300))
    tables["mart_lag_curves"] = [row | dict.fromkeys(CURVE) for row in tables["mart_lag_curves"]]
    tables["mart_correlation_splits"] = [
        row | dict.fromkeys(("rr", "ci_low", "ci_high", "p_value"))
        for row in tables["mart_correlation_splits"]
    ]
    tables["mart_correlations"] = [row | NO_RATIO for row in tables["mart_correlations"]]
    told = page(written(home / "few", tables), "aville/lamps_arson.md")
    for section in ("The evidence", "By distance", "Does it hold up?", "Who reports"):
        said = told.split(f"## {section}")[1].split("\n## ")[0]
        assert not re.search(r"\d\.\d\d \\?\[", said), section
    assert "No lag curve is published" in told
    assert "No part of the city has cases and areas enough" in told
    assert "none; counted as one of 120 tests" in told
    assert "There are too few cases to compare places with themselves." in told


CURVE = ("rr", "ci_low", "ci_high", "band_low", "band_high")


def test_simulated_cities_and_negative_controls_say_so(cards, home):
    assert "Bville (simulated)" in page(cards, "bville/lamps_theft.html")
    assert "no event on this card is real" in page(cards, "bville/lamps_theft.md")
    assert "imulated" not in page(cards, "aville/lamps_theft.html")
    control = written(
        home / "control",
        marts(
            [
                *rings(is_negative_control=True, expected_sign="0"),
                *rings(question_id="quiet", is_negative_control=True, verdict="not_supported"),
            ]
        ),
    )
    assert "is a false alarm of the method" in page(control, "aville/lamps_theft.md")
    assert "what a sound method gives" in page(control, "aville/quiet.md")


def test_reporting_strata_that_differ_or_lack_data_are_named(cards):
    one = dossier(cards)
    far = [
        replace(part, rr=2.0, ci_low=1.9, ci_high=2.1) if part.part == "fast" else part for part in one.parts
    ]
    told = card_markdown(card(replace(one, parts=tuple(far))))
    assert "The ratio differs by reporting: 2.00 where it is fast, 1.20 where it is slow" in told
    few = [replace(part, rr=None) if part.part == "slow" else part for part in one.parts]
    assert "Too few cases or areas for a ratio where reporting is slow" in card_markdown(
        card(replace(one, parts=tuple(few)))
    )
    none = tuple(part for part in one.parts if part.split != "reporting_speed")
    assert "cannot be told apart by it" in card_markdown(card(replace(one, parts=none)))


def test_a_cluster_is_told_as_one(cards):
    one = dossier(cards)
    cluster = replace(one, disc=replace(one.disc, signal_cluster_size=3))
    said = "the last of 3 first reports of lamp outage within 100 m and 28 days"
    assert said in card_markdown(card(cluster))
    assert "| Signal | first reports of lamp outage |" in card_markdown(card(one))


def test_darkness_is_shown_only_where_nights_differ_from_days(cards):
    one = dossier(cards)
    assert "as it would be if darkness mattered" in card_markdown(card(one))
    alike = tuple(replace(part, ci_low=0.9) if part.part == "night" else part for part in one.parts)
    assert "do not show that darkness is what matters" in card_markdown(card(replace(one, parts=alike)))
    unasked = tuple(part for part in one.parts if part.split != "time_of_day")
    assert "darkness is what" not in card_markdown(card(replace(one, parts=unasked)))


def test_displacement_is_pointed_out(cards):
    one = dossier(cards)
    moved = [
        replace(ring, rr=0.9, ci_low=0.85, ci_high=0.95) if ring.band == 2 else ring for ring in one.rings
    ]
    assert "cases may have moved" in card_markdown(card(replace(one, rings=tuple(moved))))
    assert "cases may have moved" not in card_markdown(card(one))


def test_nothing_from_a_feed_or_a_declaration_becomes_markup(home):
    evil = rings(**dict.fromkeys(("title", "hypothesis", "mechanism", "source", "city_name", "reason"), EVIL))
    found = written(
        home / "evil",
        marts([row | {"signal_type": EVIL, "signal_subtype": EVIL, "outcome_type": EVIL} for row in evil]),
    )
    for name in ("aville/lamps_theft.html", "index.html"):
        text = page(found, name)
        parsed = Page(text)
        assert not [tag for tag, _ in parsed.tags if tag in ("script", "b", "i", "img", "iframe", "object")]
        assert {attrs["href"] for attrs in parsed.attributes("a")} <= {
            "../index.html",
            "aville/lamps_theft.html",
        }
        assert 'alert("x")' in "".join(parsed.texts)
        names = {name for _, attrs in parsed.tags for name in attrs}
        assert not [name for name in names if name.startswith("on") or not re.fullmatch("[a-z:-]+", name)]
    for name in ("aville/lamps_theft.md", "index.md"):
        text = page(found, name)
        assert "<" not in text
        assert not re.search(r"(?<!\\)\]\((?!aville/)", text)
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {3, 4, 5, 6}
    shown = shown_card(found.dossiers)
    assert "<" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("- a", "\\- a"),
        ("1. a", "1\\. a"),
        ("+3 more", "\\+3 more"),
        ("a\n# b", "a \\# b"),
        ("1.23 [1.1]", "1.23 \\[1.1\\]"),
    ],
)
def test_text_stays_text_in_markdown(text, shown):
    assert paragraph(text) == shown
    assert "\n" not in mark(text)


def test_a_page_can_be_read_by_machine_and_by_ear(cards):
    parsed = Page(page(cards, "aville/lamps_theft.html"))
    assert parsed.attributes("html") == [{"lang": "en"}]
    assert [heading for heading, _ in parsed.headings].count("h1") == 1
    assert parsed.headings[0] == ("h1", "Lamps out and theft – Aville")
    expected = [block.text for block in card(dossier(cards)).blocks if isinstance(block, Heading)]
    assert [text for level, text in parsed.headings if level == "h2"] == expected
    pictures = [attrs for attrs in parsed.attributes("svg") if attrs.get("role") == "img"]
    assert len(pictures) == 2
    assert all(len(attrs["aria-label"]) > 40 for attrs in pictures)
    tables = len(parsed.attributes("table"))
    assert tables == len(parsed.attributes("caption"))
    assert all(attrs.get("scope") in ("row", "col") for attrs in parsed.attributes("th"))
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_a_page_needs_nothing_else(cards):
    for path in cards.folder.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        addresses = re.findall(r'(?:href|src)="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
        assert all(one.startswith("#") or one.endswith(".html") for one in addresses)
        assert not re.findall(r"https?://(?!www\.w3\.org/)", text)
        assert "default-src &#x27;none&#x27;" in text


def luminance(colour):
    digits = colour.lstrip("#")
    digits = "".join(2 * one for one in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_stands_out_from_every_ground():
    inks = set(re.findall(r"(?<![-a-z])color:(#\w+)", STYLE))
    grounds = set(re.findall(r"background:(#\w+)", STYLE))
    assert (len(inks), len(grounds)) == (3, 5)
    for ink in inks:
        for ground in grounds:
            low, high = sorted((luminance(ink), luminance(ground)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def test_the_same_marts_give_the_same_bytes(cards, home):
    tables = {name: rows[::-1] for name, rows in marts(answers()).items()}
    again = written(home / "again", tables, simulated=["bville"])
    for path in sorted(cards.folder.rglob("*.*")):
        assert path.read_bytes() == (again.folder / path.relative_to(cards.folder)).read_bytes(), path.name
    one, other = dossier(cards), dossier(again)
    assert card_png(one.weeks, one.days, one.cells) == card_png(other.weeks, other.days, other.cells)


def test_cards_of_a_large_city_stay_small(cards):
    one = dossier(cards)
    centre = h3.latlng_to_cell(40.7, -73.95, 7)
    cells = [
        Cell(city="aville", question_id="lamps_theft", h3_7=h3.str_to_int(name), n_anchor=number % 1500 + 1)
        for number, name in enumerate(h3.grid_disk(centre, 12))
    ]
    assert len(cells) == 469
    large = replace(one, cells=tuple(cells))
    assert len(card_html(card(large), plots(large), index="../index.html").encode()) < 300_000
    assert len(shown_card([large]).encode()) < 150_000


def test_map_shows_every_cell_once_by_class_and_nothing_where_there_are_no_cells(cards):
    cells = dossier(cards).cells
    # 19 cells with 2, 4, 6 ... 38 first reports: four below ten.
    assert [cell.n_anchor for cell in cells] == [2 * n for n in range(1, 20)]
    text = map_svg(cells)
    assert text.count("M ") - len(re.findall(r'fill="none"', text)) >= 19
    assert "#eff3ff" in text
    outlines = cell_outlines(cells)
    assert len(outlines) == 19
    assert all(len(outline) == 7 for outline in outlines)
    assert cell_outlines([replace(cells[0], h3_7=12)]) == []
    assert plots(replace(dossier(cards), cells=())).keys() == {"curve"}


def test_wild_intervals_are_cut_off_and_missing_lags_left_out(cards):
    weeks = [
        replace(lag, band_high=1e300, ci_high=1e200) if lag.lag == 3 else replace(lag, rr=None, ci_low=None)
        if lag.lag == -2 else lag
        for lag in dossier(cards).weeks
    ]  # fmt: skip
    text = curve_svg(weeks, dossier(cards).days)
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", text)]
    assert max(map(abs, numbers)) < 5_000
    assert "nan" not in text


def test_asked_for_some_questions_only_theirs_are_written_and_other_generations_go(home):
    place = home / "some"
    stale = cards_folder(Lake(place), "20250101T000000Z-old") / "aville"
    stale.mkdir(parents=True)
    some = written(place, marts(answers()), questions=["lamps_theft"])
    assert {path.stem for path in some.folder.rglob("*.md")} == {"lamps_theft", "index"}
    assert not stale.exists()
    index = page(some, "index.md")
    assert "[Lamps out and theft](aville/lamps_theft.md)" in index
    assert "| Lamps out and arson |" in index


def test_index_puts_findings_first_and_counts_verdicts(cards):
    index = page(cards, "index.md")
    assert index.index("## Aville") < index.index("## Bville (simulated)")
    aville = index.split("## Aville")[1].split("## Bville")[0]
    order = [
        aville.index(title)
        for title in ("Lamps out and theft", "Sanitation complaint", "Lamps out and arson")
    ]
    assert order == sorted(order)
    assert (
        "3 questions: supported by the data 1, not supported by the data 1, not enough data to tell 1."
        in aville
    )


def test_the_ui_shows_the_clearest_city_in_full_and_all_in_short(cards, home):
    shown = shown_card([one for one in cards.dossiers if one.disc.question_id == "lamps_theft"])
    assert shown.index("| Aville |") < shown.index("| Bville (simulated) |")
    assert "## Lamps out and theft – Aville" in shown
    assert shown.count("data:image/png;base64,") == 1
    assert "The curve by week" not in shown
    assert shown_card([]) == "No city has both the signal and the outcome in its records."


def test_a_warehouse_without_verdicts_has_an_empty_index(home):
    found = written(home / "empty", marts([]))
    assert found.dossiers == ()
    assert (found.folder / "index.html").exists()


def test_first_reports_on_the_map_are_those_of_the_estimator(home):
    tables = marts(rings(estimator="isolated_episodes"))
    for row in tables["mart_correlation_blocks"]:
        row["n_anchor"] *= 10 if row["variant"] == "isolated" else 1
    lake = Lake(home / "isolated")
    write_warehouse(lake.build_warehouse, tables)
    connection = connect(lake.build_warehouse)
    (one,) = read_dossiers(connection)
    connection.close()
    assert sum(cell.n_anchor for cell in one.cells) == 10 * sum(2 * n for n in range(1, len(hand.CELLS) + 1))


@pytest.mark.parametrize(
    ("event_type", "said"),
    [
        ("infra_main_break", "main break"),
        ("utility_power_outage", "power outage"),
        ("permit_demolition", "demolition permit"),
        ("theft_from_vehicle", "theft from vehicle"),
    ],
)
def test_cards_say_a_type_and_not_its_id(event_type, said):
    assert plain(event_type) == said
