"""Around the command line: quantities as people write them, results as text or JSON, bars of progress."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from featurestore.__main__ import INTERRUPTED
from featurestore.errors import FeatureStoreError
from featurestore.system.children import safely
from featurestore.system.files import is_full, why, write_error
from featurestore.system.printing import all_printable, prepare, printable, say, standard_output

if TYPE_CHECKING:
    from featurestore.sources.base import Source

_UNITS = {"s": 1, "m": 60, "h": 3600, "mb": 10**6, "gb": 10**9}


# Arguments and options of several commands.
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
Labels = Annotated[Path | None, typer.Option(help="CSV manifest; SOURCE is then its folder of images.")]
PathColumn = Annotated[str | None, typer.Option(help="Manifest column of image paths or ids.")]
LabelColumn = Annotated[str | None, typer.Option(help="Manifest column of class names.")]
SplitColumn = Annotated[str | None, typer.Option(help="Manifest column of splits.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Class or folder to leave out; repeatable.")]
Name = Annotated[str | None, typer.Option(help="Name of the data set; by default the folder's.")]
Contained = Annotated[bool, typer.Option("--contained", help="Refuse files to which paths or links lead elsewhere.")]
SourceArgument = Annotated[
    Path, typer.Argument(help="Class folders, or train/ validation/ test/ of them; a CSV; an .npz.")
]
FileOrDir = Annotated[
    str, typer.Argument(metavar="FILE_OR_DIR", help="A feature file, its https:// or s3:// address, or its folder.")
]
HeadDir = Annotated[Path, typer.Argument(help="Folder of a saved head.")]
BackboneWeights = Annotated[str | None, typer.Option("--weights", help="Of the backbone, if not where they were.")]


class _InterruptedError(BaseException):
    """Ctrl-C. Typer would swallow a KeyboardInterrupt and say 'Aborted'."""


def run(app: Callable[[], None]) -> None:
    """Run a command: errors become one line and an exit code."""
    prepare(sys.stdout, sys.stderr)
    interrupted = False

    def interrupt(signum: int, frame: object) -> NoReturn:
        nonlocal interrupted
        interrupted = True
        raise _InterruptedError

    signal.signal(signal.SIGINT, interrupt)
    try:
        with safely():  # whatever libraries start
            try:
                app()
            finally:
                with standard_output() as out:  # what is left in its buffer would be an error of Python's at the end
                    out.flush()
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone, and so is everybody who could read a complaint
        sys.exit(1)
    except (Exception, _InterruptedError) as error:
        # A library that calls our code from its own makes another error of the interruption.
        if interrupted:
            _fail("interrupted: what is finished is kept; run the same command again to go on", INTERRUPTED)
        _fail(f"error: {_in_one_line(error)}", 1)


def _in_one_line(error: BaseException) -> str:
    """The text for an error that a user can do something about; any other goes on its way."""
    if isinstance(error, FeatureStoreError):
        return printable(str(error))
    if isinstance(error, OSError):
        where = error.filename or "this command"
        return printable(str(write_error(where, error)) if is_full(error) else f"{where}: {why(error)}")
    if isinstance(error, MemoryError):
        return f"not enough memory ({printable(str(error)) or 'none is left'}): use a machine with more"
    raise error


def _print_version(asked: bool) -> None:
    from featurestore.system.machine import version_of

    if asked:
        say(f"featurestore {version_of('featurestore') or '(not installed)'}")
        raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run each frozen image backbone once, keep its features in HDF5, fit heads on them in seconds."""


def _fail(message: str, code: int) -> NoReturn:
    say(message, sys.stderr)
    sys.exit(code)


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


def source(
    path: Path,
    labels: Path | None,
    columns: tuple[str | None, str | None, str | None],
    exclude: list[str] | None,
    name: str | None = None,
    contained: bool = False,
) -> "Source":
    """The source that a command's options describe; the columns are those of paths, labels and splits."""
    from featurestore.sources.opener import open_source

    path_column, label_column, split_column = columns
    return open_source(
        path, labels=labels, path_column=path_column, label_column=label_column, split_column=split_column,
        exclude=exclude or (), name=name, contained=contained,
    )  # fmt: skip


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
        say(json.dumps(result, indent=2))
    elif not quiet:
        say(render(all_printable(result)))


def note(text: str) -> None:
    """A remark beside the result."""
    say(f"note: {printable(text)}", sys.stderr)


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
