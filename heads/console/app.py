"""The application of the command ``featurestore``, which commands register with."""

from functools import partial

import typer

from heads.console import help, terminal

app = typer.Typer(
    callback=terminal.options,
    no_args_is_help=True,
    rich_markup_mode=help.markup(),
    pretty_exceptions_enable=False,
    epilog=help.EXIT_CODES,
)
command = partial(app.command, cls=help.Command)

FAILURES_LISTED = 3
"""Exit code of a run that finished, and lists inputs that gave no row."""
