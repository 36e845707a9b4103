"""The `dossier` subcommand: one place as a page in the terminal; its rows are read in assets/warehouse."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape

from assets.warehouse.dossier import Dossier, Entry, read_dossier
from orchestration.console import make_console, named_table
from orchestration.settings import load_settings

#: Sections of what happened, in the order in which someone who arrives asks for them.
HAPPENINGS = {
    "request": "Reports to the city",
    "work": "Repairs and failures",
    "permit": "Permits",
    "outage": "Outages",
}
ITEMS = {
    "item": "What lies here",
    "route": "Routes that pass",
    "site": "Schools and other sensitive sites within 200 m",
}
SCOPES = {"address": "at the address", "segment": "on the segment", "cell": "in the cell (~130 m)"}


def show_dossier(city: str, at: str) -> None:
    """Print the dossier of a place from the published warehouse.

    Raises:
        UnknownPlaceError: No place of the city is called so.
        WarehouseError: There is no published warehouse.
    """
    from assets.warehouse.reader import connect

    connection = connect(load_settings().lake.published_warehouse)
    try:
        dossier = read_dossier(connection, city, at)
    finally:
        connection.close()
    print_dossier(dossier, make_console())


def print_dossier(dossier: Dossier, console: Console) -> None:
    """Print all sections that have rows; where a section has none, say so."""
    called = ", ".join(f"{scope} {escape(name)}" for scope, name in dossier.names.items())
    console.print(f"[bold]{dossier.city}[/]: {called}")
    console.print("duplicates are left out; where nothing is told, there may be something all the same")
    scopes = [scope for scope in SCOPES if scope in dossier.names]
    for section, title in HAPPENINGS.items():
        of_section = [one for one in dossier.entries if one.section == section]
        if not of_section:
            console.print(f"\n{title}: none told")
            continue
        table = named_table(title, *(SCOPES[scope] for scope in scopes), "told until")
        for label in dict.fromkeys(one.label for one in of_section):
            told = {one.place_type: one for one in of_section if one.label == label}
            until = max(str(one.told_until_on) for one in told.values())
            table.add_row(escape(label), *(happened(told.get(scope)) for scope in scopes), until)
        console.print()
        console.print(table)
    for section, title in ITEMS.items():
        show_items(console, title, [one for one in dossier.entries if one.section == section])
    show_readings(console, [one for one in dossier.entries if one.section == "reading"])
    show_crimes(console, [one for one in dossier.entries if one.section == "crime"])


def happened(entry: Entry | None) -> str:
    """Return count, open ones and newest day of a row in one line."""
    if entry is None:
        return ""
    said = [f"{entry.n}"]
    if entry.n_open:
        since = f" since {entry.oldest_open_on}" if entry.oldest_open_on else ""
        said.append(f"{entry.n_open} open{since}")
    if entry.n_open is None:
        said.append("open or not is not told")
    if entry.n_expired:
        said.append(f"{entry.n_expired} expired")
    if entry.n_in_inspection:
        said.append(f"{entry.n_in_inspection} in inspection")
    said.append(f"newest {entry.newest_on}")
    return ", ".join(said)


def nearest(entries: Iterable[Entry]) -> list[Entry]:
    """Return each item once, as near as any of the places has it."""
    found: dict[tuple[str, str | None], Entry] = {}
    for one in sorted(entries, key=lambda entry: entry.distance_m or 0.0):
        found.setdefault((one.label, one.asset_id), one)
    return sorted(
        found.values(), key=lambda entry: (entry.label, entry.distance_m or 0.0, entry.asset_id or "")
    )


def show_items(console: Console, title: str, entries: Sequence[Entry]) -> None:
    """Print the inventory items of one section."""
    if not entries:
        console.print(f"\n{title}: none told")
        return
    table = named_table(title, "id", "name", "metres", "material", "age, years", "failures", "work")
    for one in nearest(entries):
        table.add_row(
            one.label,
            escape(one.asset_id or ""),
            escape(one.asset_name or ""),
            number(one.distance_m),
            escape(one.material or ""),
            number(one.age_years),
            counted(one.n_failure, one.last_failure_on),
            counted(one.n_work, one.last_work_on),
        )
    console.print()
    console.print(table)


def show_readings(console: Console, entries: Sequence[Entry]) -> None:
    """Print the sensors around a place with their trends."""
    title = "Sensors within 500 m"
    if not entries:
        console.print(f"\n{title}: none told")
        return
    table = named_table(title, "id", "metres", "readings", "newest", "change in 90 days [95 % interval]")
    for one in nearest(entries):
        unit = escape(f" {one.unit}" if one.unit else "")
        trend = f"{one.trend_verdict} ({one.n_reading_day} days)".replace("_", " ")
        if one.trend is not None:
            trend = f"{one.trend:+.3g}{unit} \\[{one.trend_low:+.3g}, {one.trend_high:+.3g}]: {trend}"
        newest = f"{one.newest_quantity:.3g}{unit} on {one.newest_on}"
        table.add_row(
            one.label, escape(one.asset_id or ""), number(one.distance_m), str(one.n), newest, trend
        )
    console.print()
    console.print(table)


def show_crimes(console: Console, entries: Sequence[Entry]) -> None:
    """Print what may be told of crimes: types that reach the floor, by cell."""
    if not entries:
        console.print("\nCrimes: none told")
        return
    told = [f"{escape(one.label)}: {one.n}" for one in entries if one.withheld_reason is None]
    said = "; ".join(told) if told else "no type reaches it"
    console.print(
        f"\nCrimes in the cell, of types with at least 50 (others are withheld, none or some): {said}"
    )


def counted(n: int | None, last: object) -> str:
    """Return a count with its last day; what nobody records is not told."""
    if n is None:
        return "not told"
    return f"{n}, last {last}" if n and last else str(n)


def number(value: float | None) -> str:
    """Return a number to the unit, blank where it is not told."""
    return "" if value is None else f"{value:.0f}"
