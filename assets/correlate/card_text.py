"""What a method card says, as headings, sentences and tables; how pages look is `card_pages`'s.

Nothing here says that a signal causes or predicts anything: the design compares a place with itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from assets.correlate.card_plots import class_of, curve_is_known
from assets.correlate.card_rows import Answer, Contrast, Dossier, Part
from assets.correlate.figures import (
    correlation_text,
    interval_text,
    joined,
    number,
    p_text,
    plain,
    ratio_text,
)
from assets.correlate.inference import FALSE_ALARM_P, MATERIAL_RATIO
from assets.correlate.ratios import MIN_OUTCOMES
from assets.correlate.verdict_gates import what_would_change
from assets.correlate.wording import CLUSTER_DAYS

VERDICTS = {
    "supported": "Supported by the data",
    "not_supported": "Not supported by the data",
    "reversed_or_confounded": "Not a finding: reversed or confounded",
    "immaterial": "Not a finding: too small to matter, or no rise",
    "insufficient": "Not enough data to tell",
}
EXPECTED = {"+": "a rise", "-": "a fall", "0": "no change"}
CONTROL_AREAS = {
    "h3_7": "the rest of the H3-7 cell (about 5 km²)",
    "h3_6": "the rest of the H3-6 cell (about 36 km²)",
    "city": "the rest of the city",
}
PARTS = {
    "first": "First half of the period",
    "second": "Second half of the period",
    "day": "Outcomes by day (6 to 20 h)",
    "night": "Outcomes by night (20 to 6 h)",
    "slow": "Third of the city that reports slowly",
    "middle": "Third in the middle",
    "fast": "Third of the city that reports fast",
}
#: A correlation of counts that people would take for a link.
STRIKING_R = 0.3
RING_NAMES = {1: "disc", 2: "ring next to it", 3: "ring further out"}


@dataclass(frozen=True)
class Heading:
    """Starts a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Some sentences; `is_warning` where they say what must not be read as a finding."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; the first column names the row. `is_folded` where a plot shows the same."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_folded: bool = False


@dataclass(frozen=True)
class Plot:
    """The place of a plot: `curve` or `map`, with what it shows in words."""

    name: str
    alt: str


Block = Heading | Paragraph | Table | Plot


@dataclass(frozen=True)
class Card:
    """One page, verdict first.

    Attributes:
        title: The question and the city.
        verdict: The verdict's id.
        label: The verdict in words.
        sentence: The verdict in one sentence with its figures.
        notices: What must be known before anything is read, such as that the city is invented.
        blocks: The rest of the page in order.
        footer: Where the figures come from.
    """

    title: str
    verdict: str
    label: str
    sentence: str
    notices: tuple[str, ...]
    blocks: tuple[Block, ...]
    footer: str


def card(dossier: Dossier) -> Card:
    """Return the card of a question in a city."""
    disc = dossier.disc
    sections = (
        _change(disc),
        _question(disc),
        _evidence(disc),
        _rings(dossier),
        _lags(dossier),
        _places(dossier),
        _doubts(dossier),
        _reporting(dossier),
        _contrasts(dossier),
        _controls(disc),
    )
    return Card(
        title=f"{disc.title} – {city_label(disc.city_name, is_simulated=dossier.is_simulated)}",
        verdict=disc.verdict,
        label=VERDICTS[disc.verdict],
        sentence=disc.reason,
        notices=tuple(_notices(dossier)),
        blocks=tuple(block for section in sections for block in section),
        footer=(
            f"Generation {dossier.generation}. Each place is compared with itself, before and after, "
            "relative to the area around it; intervals leave out one H3-7 cell at a time. A ratio says how "
            "much more often the outcome was recorded. It does not say why."
        ),
    )


def city_label(name: str, *, is_simulated: bool) -> str:
    """Return a city's name; an invented one says so."""
    return f"{name} (simulated)" if is_simulated and "simulated" not in name.lower() else name


def _notices(dossier: Dossier) -> Iterator[str]:
    if dossier.is_simulated:
        yield "Simulated city: no event on this card is real."
    if dossier.disc.is_negative_control:
        yield (
            "Negative control: no relation can exist here. A verdict other than a finding is what a sound "
            "method gives."
            if dossier.disc.verdict != "supported"
            else "Negative control: no relation can exist here. This “finding” is a false alarm of the "
            "method."
        )


def _question(a: Answer) -> Iterator[Block]:
    yield Heading("The question")
    signal = plain(a.signal_type) + (f" ({plain(a.signal_subtype)})" if a.signal_subtype else "")
    size = a.signal_cluster_size or 1
    first = (
        f"first reports of {signal}"
        if size == 1
        else f"the last of {size} first reports of {signal} within {a.to_m:.0f} m and {CLUSTER_DAYS} days"
    )
    asked = [
        ("Signal", first),
        ("Outcome", plain(a.outcome_type)),
        (
            "Compared",
            f"{a.window_days} days after with {a.window_days} days before, within {a.to_m:.0f} m; not the "
            "day itself",
        ),
        ("Hypothesis", a.hypothesis),
        ("Mechanism", a.mechanism),
        ("Expected", EXPECTED.get(a.expected_sign or "", a.expected_sign)),
        ("Source", a.source),
    ]
    rows = tuple((name, said) for name, said in asked if said)
    yield Table("Declared before the data were looked at", ("", ""), rows)


def _change(a: Answer) -> Iterator[Block]:
    yield Heading("What would change the verdict")
    yield Paragraph(" ".join(what_would_change(a)))


def _evidence(a: Answer) -> Iterator[Block]:
    yield Heading("The evidence")
    rows = [
        ("Ratio after ÷ before [95 % interval]", interval_text(a.rr, a.ci_low, a.ci_high)),
        ("First reports", number(a.n_anchor)),
        ("Cases before / after, in all discs", f"{number(a.d0)} / {number(a.d1)}"),
        ("H3-7 cells with first reports", number(a.n_block)),
        ("Compared relative to", CONTROL_AREAS.get(a.control_level, a.control_level)),
        (
            "p adjusted for all tests tried",
            f"none; counted as one of {number(a.n_tests)} tests"
            if a.p_adjusted is None
            else f"{p_text(a.p_adjusted)} ({number(a.n_tests)} tests)",
        ),
        (
            "More cases per 100 first reports",
            "–" if a.extra_per_100_signals is None else f"{a.extra_per_100_signals:+.1f}",
        ),
        (
            "Before-window already exposed by an earlier report",
            "–" if a.mean_c0 is None else f"{a.mean_c0:.1%}".replace("%", " %"),
        ),
        (
            "First reports that count",
            "only those without an earlier one near"
            if a.estimator == "isolated_episodes"
            else "all, corrected for earlier ones near",
        ),
        ("Smallest ratio found four times out of five", ratio_text(a.minimal_detectable_rr)),
    ]
    yield Table("Counts and ratio", ("", ""), tuple(rows))


def _rings(dossier: Dossier) -> Iterator[Block]:
    yield Heading("By distance")
    rows = tuple(
        (
            f"{ring.from_m:.0f}–{ring.to_m:.0f} m ({RING_NAMES.get(ring.band, 'ring')})",
            number(ring.d0),
            number(ring.d1),
            interval_text(ring.rr, ring.ci_low, ring.ci_high),
            VERDICTS[ring.verdict],
        )
        for ring in dossier.rings
    )
    yield Table("Distance from the signal", ("Ring", "Before", "After", "Ratio [95 %]", "Verdict"), rows)
    disc, outer = dossier.disc, [ring for ring in dossier.rings if ring.band > 1]
    if (
        disc.ci_low is not None
        and disc.ci_low > 1
        and any(ring.ci_high is not None and ring.ci_high < 1 for ring in outer)
    ):
        yield Paragraph(
            "The level rose near the signal and fell in a ring around it: cases may have moved rather than "
            "become more."
        )
    elif (
        disc.ci_high is not None
        and disc.ci_high < 1
        and any(ring.ci_low and ring.ci_low > 1 for ring in outer)
    ):
        yield Paragraph(
            "The level fell near the signal and rose in a ring around it: cases may have moved rather than "
            "become fewer."
        )


def _lags(dossier: Dossier) -> Iterator[Block]:
    yield Heading("By time")
    if not curve_is_known(dossier.weeks):
        yield Paragraph("No lag curve is published: too few cases, or too few areas of the city.")
        return
    known = [lag for lag in dossier.weeks if lag.rr is not None]
    above = [lag.lag for lag in known if lag.band_low is not None and lag.band_low > 1]
    below = [lag.lag for lag in known if lag.band_high is not None and lag.band_high < 1]
    clear = [
        f"weeks {joined([f'{week:+d}' for week in weeks])} lie {side} 1 as a whole"
        for weeks, side in ((above, "above"), (below, "below"))
        if weeks
    ]
    said = "; ".join(clear) if clear else "no week lies clear of 1"
    yield Plot(
        "curve",
        f"Lag curve: the level of {plain(dossier.disc.outcome_type)} in each of eight weeks before and "
        "after the first report, 1 being the mean of the weeks before. With the band for all weeks at "
        f"once, {said}. A smaller curve shows the same by day.",
    )
    yield Paragraph(
        "Dots: level by week, 1 being the mean of the eight weeks before. Lines hold each week by itself, "
        f"the band all weeks at once (95 %); {said}. The curve decides nothing: its reference is further "
        "away than the verdict's."
    )
    rows = tuple(
        (
            f"{lag.lag:+d}",
            number(lag.d),
            interval_text(lag.rr, lag.ci_low, lag.ci_high),
            "–"
            if lag.band_low is None or lag.band_high is None
            else f"[{lag.band_low:.2f}, {lag.band_high:.2f}]",
        )
        for lag in dossier.weeks
    )
    yield Table(
        "The curve by week",
        ("Week", "Cases in the discs", "Level [95 %]", "Band for all weeks"),
        rows,
        is_folded=True,
    )


def _places(dossier: Dossier) -> Iterator[Block]:
    yield Heading("By place")
    cells = dossier.cells
    if not cells:
        yield Paragraph("No cell has a first report.")
        return
    most = max(cells, key=lambda cell: cell.n_anchor)
    yield Plot(
        "map",
        f"Map of the {number(len(cells))} H3-7 cells with first reports, shaded by how many they have; the "
        f"most in one cell: {class_of(most.n_anchor)}. North is up.",
    )
    yield Paragraph(
        f"{number(len(cells))} H3-7 cells (about 5 km² each) have first reports, the busiest "
        f"{class_of(most.n_anchor)}. Shades are classes. No ratio of a single cell is published: fewer than "
        f"{MIN_OUTCOMES} cases would be noise that looks like a pattern."
    )


def _doubts(dossier: Dossier) -> Iterator[Block]:
    yield Heading("Does it hold up?")
    a = dossier.disc
    checks = [
        (
            "Placebo: the window before against the one before that",
            f"{ratio_text(a.placebo_rr)} ({p_text(a.placebo_p)})" if a.placebo_rr is not None else "–",
            "1; a rise before the report means that the order is reversed or something else moves both",
        ),
        (
            "Guarded: reference ends 8 days before the report",
            interval_text(a.guarded_rr, a.guarded_ci_low, a.guarded_ci_high),
            "larger than the ratio where signals are reported late",
        ),
        ("Isolated: no earlier report near", ratio_text(a.isolated_rr), "much the same as the ratio"),
        (
            "Cross-check: exposed against other days of one place",
            ratio_text(a.case_crossover_rr),
            "the same side of 1; only its direction counts",
        ),
    ]
    halves = [part for part in dossier.parts if part.split == "period"]
    checks += (
        [(PARTS[part.part], _part_ratio(part), "the same side of 1 in both") for part in halves]
        if halves
        else [
            (PARTS["first"], ratio_text(a.first_half_rr), "the same side of 1 in both"),
            (PARTS["second"], ratio_text(a.second_half_rr), "the same side of 1 in both"),
        ]
    )
    checks += [
        (PARTS[part.part], _part_ratio(part), "more by night than by day where darkness is the mechanism")
        for part in dossier.parts
        if part.split == "time_of_day"
    ]
    yield Table("Checks of the ratio", ("Check", "Ratio [95 %]", "A sound finding gives"), tuple(checks))
    by_hour = {
        part.part: part for part in dossier.parts if part.split == "time_of_day" and part.rr is not None
    }
    if len(by_hour) == 2:
        yield Paragraph(_darkness_note(by_hour["night"], by_hour["day"]))


def _darkness_note(night: Part, day: Part) -> str:
    if night.ci_low > day.ci_high:
        return "The ratio is larger by night than by day, as it would be if darkness mattered."
    return (
        "The ratio is not clearly larger by night than by day: these data do not show that darkness is what "
        "matters."
    )


def _part_ratio(part: Part) -> str:
    cases = f"{number(part.d0)} / {number(part.d1)} cases"
    return (
        f"{interval_text(part.rr, part.ci_low, part.ci_high)} ({cases})"
        if part.rr is not None
        else f"– ({cases})"
    )


def _reporting(dossier: Dossier) -> Iterator[Block]:
    yield Heading("Who reports")
    strata = [part for part in dossier.parts if part.split == "reporting_speed"]
    if not strata:
        yield Paragraph(
            "How fast the neighbourhoods of this city report is not known, so the ratio cannot be told "
            "apart by it."
        )
        return
    yield Table(
        "The ratio by how fast cells report the same kind of condition again",
        ("Part of the city", "First reports", "Before", "After", "Ratio [95 %]"),
        tuple(
            (
                PARTS[part.part],
                number(part.n_anchor),
                number(part.d0),
                number(part.d1),
                interval_text(part.rr, part.ci_low, part.ci_high),
            )
            for part in strata
        ),
    )
    yield Paragraph(_reporting_note(strata))


def _reporting_note(strata: list[Part]) -> str:
    constant = (
        "A place is compared with itself, so that some neighbourhoods always report less cancels out; a "
        "change in how much is reported does not. "
    )
    known = [part for part in strata if part.rr is not None]
    if not known:
        return f"{constant}No part of the city has cases and areas enough for a ratio of its own."
    if len(known) < len(strata):
        lacking = joined([part.part for part in strata if part.rr is None])
        return (
            f"{constant}Too few cases or areas for a ratio where reporting is {lacking}: what this card "
            "says rests on the rest of the city."
        )
    lowest, highest = (pick(known, key=lambda part: part.rr) for pick in (min, max))
    if lowest.ci_high < highest.ci_low:
        return (
            f"{constant}The ratio differs by reporting: {ratio_text(highest.rr)} where it is "
            f"{highest.part}, {ratio_text(lowest.rr)} where it is {lowest.part}, and the intervals do not "
            "meet. The ratio of the city is an average of unlike parts."
        )
    overlap = "The intervals of the parts overlap: nothing here says that the ratio depends on who reports."
    return constant + overlap


def _contrasts(dossier: Dossier) -> Iterator[Block]:
    yield Heading("What counting alone would say: not a finding")
    a, c = dossier.disc, dossier.contrast
    rows = []
    if c is not None:
        rows += [
            (
                f"Do areas go together? Correlation over {number(c.n_cell)} H3-7 cells",
                correlation_text(c.across_cells_r),
            ),
            (
                f"Do months go together? Correlation over {number(c.n_month)} months",
                correlation_text(c.across_months_r),
            ),
            ("Do they change together? Correlation of the changes", correlation_text(c.month_to_month_r)),
        ]
    rows += [
        ("Naive: cases near signals against cases spread evenly", ratio_text(a.naive_ratio)),
        ("Raw: after ÷ before, no area around, no correction", ratio_text(a.raw_after_before_ratio)),
        ("For comparison, the place against itself", interval_text(a.rr, a.ci_low, a.ci_high)),
    ]
    yield Table("Not findings", ("", ""), tuple(rows))
    yield Paragraph(_contrast_note(a, c), is_warning=True)


def _contrast_note(a: Answer, c: Contrast | None) -> str:
    """Say in the question's own figures why what counting shows is no evidence."""
    signal, outcome = plain(a.signal_type), plain(a.outcome_type)
    if c is None or c.across_cells_r is None:
        return (
            "Signals and outcomes gather in the same busy places, so they are found near each other without "
            "any link."
        )
    areas, months = correlation_text(c.across_cells_r), correlation_text(c.across_months_r)
    if c.across_cells_r < STRIKING_R:
        return (
            f"Areas with much {signal} do not stand out for {outcome} (correlation {areas}); months: "
            f"{months}. Neither figure compares a place with itself."
        )
    shared = f"Areas with much {signal} have much {outcome}, too (correlation {areas})"
    if c.across_months_r is None:
        said = f"{shared}: busy places have much of everything, linked or not."
        why = "the two share places"
    elif c.across_months_r < STRIKING_R:
        said = (
            f"{shared}. But months with much {signal} are not months with much {outcome} ({months}): where "
            "one is common the other is, whether or not anything happens in between."
        )
        why = "the two share places, not times"
    else:
        said = (
            f"{shared}: busy places have much of everything. Months go together as well ({months}): what has "
            "the same season does, linked or not."
        )
        why = "the two share places and seasons"
    compared = (
        f"Compared with itself, a place shows {interval_text(a.rr, a.ci_low, a.ci_high)}."
        if a.rr is not None
        else "There are too few cases to compare places with themselves."
    )
    close = (
        "Counting would have said so without any link; the verdict rests on the days before and after alone."
        if a.verdict == "supported"
        else f"That is why the map is no finding: {why}."
    )
    return f"{said} {compared} {close}"


def _controls(a: Answer) -> Iterator[Block]:
    yield Heading("How often this method raises a false alarm here")
    n, k = a.n_negative_controls, a.n_negative_controls_positive
    if not n:
        yield Paragraph(
            "This city has no negative-control test with enough data, so its rate of false alarms is not "
            "known."
        )
        return
    yield Paragraph(
        f"Of {number(n)} negative-control tests in this city {number(k)} had p < {FALSE_ALARM_P} before "
        f"adjustment; {FALSE_ALARM_P * n:.1f} are expected by chance. These are questions for which no "
        "relation can exist. A finding needs more: p adjusted for all tests, an interval above "
        f"{MATERIAL_RATIO:.2f}, and the checks above."
    )
