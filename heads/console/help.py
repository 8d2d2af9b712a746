"""Draw the help of commands: in colour on a terminal, as plain text elsewhere, in groups of options in both."""

import os
import sys
from typing import Any, Literal

from typer.core import TyperCommand

EXIT_CODES = """Exit codes:

\b
  0    done
  1    an error, which one line on standard error tells
  2    wrong usage
  3    done, but some inputs gave no row or no prediction, and are listed
  130  interrupted; what is finished is kept
"""


def markup() -> Literal["rich"] | None:
    """Return "rich" where a terminal shows colours. Only there, and only once help is shown, rich is imported."""
    return "rich" if sys.stdout.isatty() and sys.stderr.isatty() and not os.environ.get("NO_COLOR") else None


class Command(TyperCommand):
    """A command whose plain help is in groups of options too; typer itself groups them in colour only."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the options of no group, and each group of options."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for each in self.get_params(ctx):
            record = each.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if each.param_type_name == "argument" else "Options"
                groups.setdefault(getattr(each, "rich_help_panel", None) or usual, []).append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
