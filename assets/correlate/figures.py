"""How figures are written for people on cards; what they mean is said where they are used."""

from collections.abc import Sequence


def number(value: int) -> str:
    """Return a count with thousands set apart."""
    return f"{value:,}"


def amount(value: int) -> str:
    """Return a planned count in two figures, so that it does not look more exact than it is."""
    if value < 100:
        return f"about {value}"
    step = 10 ** (len(str(value)) - 2)
    return f"about {-(-value // step) * step:,}"


def ratio_text(value: float | None) -> str:
    """Return a ratio, or a dash where none is published."""
    return "–" if value is None else f"{value:.2f}"


def interval_text(rr: float | None, low: float | None, high: float | None) -> str:
    """Return a ratio with its 95 % interval, or a dash where none is published."""
    return "–" if rr is None or low is None or high is None else f"{rr:.2f} [{low:.2f}, {high:.2f}]"


def p_text(value: float | None) -> str:
    """Return a p value so that rounding does not move it over a gate."""
    if value is None:
        return "p not known"
    if value < 0.001:
        return "p<0.001"
    return f"p={value:.3f}" if value < 0.1 else f"p={value:.2f}"


def correlation_text(value: float | None) -> str:
    """Return a correlation coefficient, or that there is none."""
    return "not known" if value is None else f"{value:.2f}"


def plain(name: str) -> str:
    """Return an id of the vocabulary as people read it: infra_main_break is a main break."""
    kind, _, rest = name.replace("_", " ").partition(" ")
    match kind:
        case "infra" | "utility":
            return rest
        case "permit":
            return f"{rest} permit"
    return name.replace("_", " ")


def joined(items: Sequence[str]) -> str:
    """Return items as an enumeration."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
