"""From the text of a declaration to plain values, and from what is wrong with it to lines for people."""

import csv
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a declaration; `message` is `<what is wrong>; <remedy>`."""

    file: str
    key: str
    message: str

    def __str__(self) -> str:
        """Return the one line a person reads, whatever line breaks a key may hold."""
        return " ".join(f"{self.file}: {self.key}: {self.message}".splitlines())


class DeclarationError(ValueError):
    """Everything that is wrong in the declarations that were asked for, one line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML as safe_load reads it, but a key said twice is an error: the first would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = (key_node.tag, key_node.value)
            if isinstance(key_node, yaml.ScalarNode) and key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key_node.value!r} is said twice; keep one",
                    problem_mark=key_node.start_mark,
                )
            seen.add((key_node.tag, str(key_node.value)))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Return the keys and values of a YAML file, or no keys and why they cannot be read."""
    try:
        said = yaml.load(path.read_bytes(), _UniqueKeyLoader)  # noqa: S506 (a subclass of SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else "the file"
        remedy = "" if ";" in (error.problem or "") else "; correct the YAML"
        return {}, [Problem(str(path), line, f"{error.problem}{remedy}")]
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        return {}, [Problem(str(path), "the file", f"cannot be read ({reason}); correct the YAML")]
    if not isinstance(said, dict):
        return {}, [Problem(str(path), "the file", "holds no keys; write `key: value` lines")]
    if odd := [key for key in said if not isinstance(key, str)]:
        return {}, [Problem(str(path), str(odd[0]), "is not a text key; put it in quotes or remove it")]
    return said, []


def read_table(path: Path, columns: Sequence[str]) -> tuple[list[dict[str, str]], list[Problem]]:
    """Return the rows of a CSV file without their empty cells, checking its header against `columns`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            lines = [(reader.line_num, line) for line in reader if line]
    except (csv.Error, UnicodeDecodeError) as error:
        return [], [Problem(str(path), "the file", f"is no UTF-8 CSV ({error}); save it as one")]
    problems = [
        Problem(str(path), name, f"unknown column; {one_of(name, columns)}")
        for name in header
        if name not in columns
    ]
    if len(set(header)) < len(header):
        problems.append(Problem(str(path), "the header", "names a column twice; keep one"))
    problems += [
        Problem(
            str(path), f"line {number}", f"has {len(line)} cells for {len(header)} columns; correct the line"
        )
        for number, line in lines
        if len(line) != len(header)
    ]
    if problems:
        return [], problems
    return [{k: v for k, v in zip(header, line, strict=True) if v.strip()} for _, line in lines], []


def one_of(said: object, known: Iterable[str]) -> str:
    """Return the remedy for a name that is not among the known ones: the closest, or all of them."""
    known = list(known)
    if close := difflib.get_close_matches(str(said), known, n=1):
        return f"did you mean {close[0]}?"
    return f"use one of {', '.join(known)}"


def problems_of(file: Path, error: ValidationError, known_keys: dict[str, Iterable[str]]) -> list[Problem]:
    """Return what a model refused, in people's words.

    Args:
        file: The file the values come from.
        error: What the model said.
        known_keys: The keys of each nested model by the key it lies under; "" for the outermost.
    """
    errors = error.errors()
    # A list loses the items that are wrong and is then called too short besides.
    consequences = {said["loc"][:depth] for said in errors for depth in range(1, len(said["loc"]))}
    return [
        Problem(str(file), key_of(said["loc"]), _message(said, known_keys))
        for said in errors
        if said["loc"] not in consequences
    ]


def key_of(location: Sequence[str | int]) -> str:
    """Return a place in nested values as people write it: parts[0].crs."""
    # Pydantic adds "[key]" where a key itself is wrong; people see that from its name.
    steps = [step for step in location if step != "[key]"]
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".") or "the file"


def _message(said: dict, known_keys: dict[str, Iterable[str]]) -> str:
    location, value = said["loc"], said["input"]
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
    match said["type"]:
        case "extra_forbidden":
            parents = [step for step in location[:-1] if isinstance(step, str)]
            return f"unknown key; {one_of(location[-1], known_keys[parents[-1] if parents else ''])}"
        case "missing" if location[-1] == "format":
            return "the name does not tell the format; add `format:`"
        case "missing":
            return "is missing; add it"
        case "literal_error":
            choices = [
                choice.strip(" '") for choice in said["ctx"]["expected"].replace(" or ", ",").split(",")
            ]
            return f"{shown} is unknown; {one_of(value, choices)}"
        case "value_error":
            return str(said["ctx"]["error"])
        case "string_type":
            return f"{shown} is not text; put it in quotes"
        case _:
            return f"{shown} will not do ({said['msg'][0].lower()}{said['msg'][1:]}); correct it"
