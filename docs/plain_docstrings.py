"""Show the docstrings of this project, which have the roles and tables of reStructuredText, as Markdown.

An extension of Griffe, which reads them for the site.
"""

import re
from itertools import pairwise
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`~?\.?([^`]+)`")
_RULE = re.compile(r"=+(?: +=+)+")


class PlainDocstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Return a docstring with names as code, its examples as a section, and its tables in Markdown.

    Example:
        >>> as_markdown("See :func:`heads.fit_head`, in ``fit.py``.")
        'See `heads.fit_head`, in ``fit.py``.'
    """
    text = re.sub(r"^( +)([\w, ]+),\n\1(?=[\w, ]+:)", r"\1\2, ", text, flags=re.MULTILINE)  # names on two lines
    text = re.sub(r"^( *)Example:$", r"\1Examples:", _ROLE.sub(r"`\1`", text), flags=re.MULTILINE)
    lines, found = text.splitlines(), list[str]()
    while lines:
        rules = [i for i, line in enumerate(lines) if _RULE.fullmatch(line.strip())]
        if len(rules) < 2 or rules[0] != 0:
            found.append(lines.pop(0))
            continue
        last = next((i for i in rules[1:] if not lines[i + 1 : i + 2] or not lines[i + 1].strip()), rules[-1])
        found += _table(lines[: last + 1])
        del lines[: last + 1]
    return "\n".join(found)


def _table(lines: list[str]) -> list[str]:
    """Return a simple table, whose columns begin where its rules do, in Markdown. A row without a name goes on."""
    starts = [match.start() for match in re.finditer("=+", lines[0])]
    ends = list(pairwise([*starts, None]))  # type: ignore[list-item]
    rows, rules = list[list[str]](), 0
    for line in lines:
        if _RULE.fullmatch(line.strip()):
            rules += 1
            continue
        cells = [line[start:end].strip().replace("|", "\\|") for start, end in ends]
        if rows and not cells[0]:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
        else:
            rows.append(cells)
    heading = rows.pop(0) if rules > 2 else [""] * len(starts)
    return ["", *(f"| {' | '.join(cells)} |" for cells in (heading, ["---"] * len(starts), *rows)), ""]
