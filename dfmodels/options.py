"""Checks of options: one error for each kind of value, that names the option, what it must be, and what arrived."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn


def refuse(name: str, what: str, value: Any) -> NoReturn:
    """Raise ValueError: the option `name` must be `what`, and `value` is not."""
    raise ValueError(f"{name} must be {what}, got {value!r}")


def check_option(name: str, value: Any, fits: bool, what: str) -> None:
    """Raise ValueError unless the value of an option `fits`, as `what` says."""
    if not fits:
        refuse(name, what, value)


def check_choice(name: str, value: Any, choices: Collection[str | None]) -> None:
    """One of several words."""
    fits = (value is None or isinstance(value, str)) and value in choices
    check_option(name, value, fits, f"one of {', '.join(map(repr, choices))}")


def check_switch(name: str, value: Any) -> None:
    """True or False."""
    check_option(name, value, isinstance(value, bool), "True or False")


def check_count(name: str, value: Any, least: int = 1) -> None:
    """A whole number of at least `least`."""
    check_option(name, value, is_count(value, least), f"a whole number of at least {least}")


def check_number(name: str, value: Any, fits: Callable[[float], bool] = lambda x: True, what: str = "") -> None:
    """A finite number that `fits`, as `what` says."""
    what = f"a number {what}".strip()
    check_option(name, value, is_number(value) and fits(value), what)


def is_count(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def listed(
    name: str,
    value: Any,
    fits: Callable[[Any], bool] = is_count,
    what: str = "whole numbers of at least 1",
    least: int = 1,
) -> list[Any]:
    """A list of an option that holds `least` values or more, each of which `fits`, as `what` says."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        refuse(name, "several values, as in (1, 2)", value)
    values = list(value)
    check_option(name, value, len(values) >= least and all(map(fits, values)), what)
    return values


def sides(name: str, value: Any) -> list[int]:
    """[height, width] of an option that gives one side or both."""
    both = [value, value] if isinstance(value, int) else value
    fits = isinstance(both, Sequence) and len(both) == 2 and all(map(is_count, both))
    check_option(name, value, fits, "a side or (height, width), whole numbers of at least 1")
    return list(both)
