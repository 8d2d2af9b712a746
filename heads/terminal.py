"""Around the command line: quantities as people write them, results as text or JSON, bars of progress."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

_UNITS = {"s": 1, "m": 60, "h": 3600, "mb": 10**6, "gb": 10**9}


def seconds(value: str | None) -> float | None:
    """``60s``, ``5m`` or ``1h`` in seconds."""
    return None if value is None else _quantity(value, ("s", "m", "h"), "60s, 5m or 1h")


def size(value: str | None) -> int | None:
    """``500MB`` or ``4GB`` in bytes."""
    return None if value is None else int(_quantity(value, ("mb", "gb"), "500MB or 4GB"))


def _quantity(value: str, units: tuple[str, ...], examples: str) -> float:
    number = value.strip().lower()
    unit = next((unit for unit in units if number.endswith(unit)), None)
    try:
        found = float(number.removesuffix(unit or "")) * _UNITS[unit or units[0]]
        if not 0 < found < float("inf"):
            raise ValueError
    except ValueError:
        raise typer.BadParameter(f"{value!r}: write {examples}") from None
    return found


def networks(backbones: list[str], weights: list[str]) -> dict[str, str]:
    """Backbones with their weights: one for all, or one each."""
    if len(weights) not in (1, len(backbones)):
        raise typer.BadParameter(
            f"{len(weights)} weights for {len(backbones)} backbones: give one for all, or one each"
        )
    return dict(zip(backbones, weights * len(backbones) if len(weights) == 1 else weights, strict=True))


def show(result: Any, as_json: bool, quiet: bool, render: Callable[[Any], str]) -> None:
    """Print a result as JSON, as `render` puts it, or not at all."""
    if as_json:
        print(json.dumps(result, indent=2))
    elif not quiet:
        print(render(result))


def note(text: str) -> None:
    """A remark beside the result."""
    print(f"note: {text}", file=sys.stderr)


@contextmanager
def progress(silent: bool) -> Iterator[Callable[..., None] | None]:
    """A bar per stage, with rate and time left, on a terminal; nothing when the output goes elsewhere."""
    if silent or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rate]}")
    columns = TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int, note: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, completed=done, rate="")
            speed = bars.tasks[tasks[stage]].speed
            bars.update(tasks[stage], completed=done, rate=note or (f"{speed:,.0f}/s" if speed else ""))

        yield update
