"""Run commands: their errors become one line and an exit code, their results become text or JSON."""

import json
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from featurestore.__main__ import INTERRUPTED
from featurestore.errors import FeatureStoreError
from featurestore.system.children import safely
from featurestore.system.files import is_full, why, write_error
from featurestore.system.printing import all_printable, prepare, printable, say, standard_output


class _InterruptedError(BaseException):
    """Ctrl-C was pressed. Typer would catch a KeyboardInterrupt, and end the command in its own way."""


def run(app: Callable[[], None]) -> None:
    """Run a command, and end the process in one line and an exit code if it raises an error."""
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
    """Return the text for an error that a user can do something about; raise any other error again."""
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


def show(result: Any, as_json: bool, quiet: bool, render: Callable[[Any], str]) -> None:
    """Print a result, or a list of results, as JSON, as text, or not at all.

    Args:
        result: see :class:`featurestore.system.results.Result`.
        as_json, quiet: the options of the command.
        render: one of :mod:`heads.console.text`, from plain JSON types whose texts are printable.
    """
    from featurestore.system.results import plain

    if as_json:
        say(json.dumps(plain(result), indent=2))
    elif not quiet:
        say(render(all_printable(plain(result))))


def note(text: str) -> None:
    """Print a remark on standard error."""
    say(f"note: {printable(text)}", sys.stderr)
