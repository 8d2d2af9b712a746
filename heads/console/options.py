"""Describe arguments and options of the command line: commands annotate their parameters with them.

Names to choose by are ``Literal`` types of :mod:`featurestore.spec` and :mod:`heads.choices`, so that a wrong one is
wrong usage.
"""

import inspect
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore import spec

if TYPE_CHECKING:
    from featurestore.sources.base import Source

SOURCE, NETWORK, VIEWS, COMPUTING = "Source", "Network", "Views", "Computing"
JUDGING, SEARCH, TRAINING, CACHE = "Judging", "Search", "Training", "Cache of the frozen layers"
MODES = "Of one mode or two"
"""Groups under which the help of a command lists its options. Those of no group stand first, under ``Options``."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "mb": 10**6, "gb": 10**9}


def option(help: str, *names: str, group: str | None = None, **settings: Any) -> Any:
    """Describe an option: its help, its names unless the parameter's, its group, and settings of ``typer.Option``."""
    return typer.Option(*names, help=help, rich_help_panel=group, **settings)


def seconds(value: str) -> float:
    """Read ``60s``, ``5m`` or ``1h`` as seconds.

    Example:
        >>> seconds("5m")
        300.0
    """
    return _quantity(value, ("s", "m", "h"), "60s, 5m or 1h")


def size(value: str) -> int:
    """Read ``500MB`` or ``4GB`` as bytes.

    Example:
        >>> size("4GB")
        4000000000
    """
    return int(_quantity(value, ("mb", "gb"), "500MB or 4GB"))


def counts(value: str) -> list[int]:
    """Read ``1,2,4`` as whole numbers above 0.

    Example:
        >>> counts("1,2,4")
        [1, 2, 4]
    """
    parts = value.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise typer.BadParameter(f"{value!r}: write whole numbers above 0, such as 1,2,4")
    return [int(part) for part in parts]


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
    """Give each backbone its weights: one for all, or one each."""
    if len(weights) not in (1, len(backbones)):
        raise typer.BadParameter(
            f"{len(weights)} weights for {len(backbones)} backbones: give one for all, or one each"
        )
    return dict(zip(backbones, weights * len(backbones) if len(weights) == 1 else weights, strict=True))


def rules(chosen: list[Any] | None) -> list[spec.Resize] | None:
    """Return the resize rules of an option, members of :data:`ResizeRule`, as the texts that they are elsewhere."""
    return [each.value for each in chosen] if chosen else None


# ---------------------------------------------------------------------------------------- of several commands

# Typer takes a list of an Enum, and of no Literal.
ResizeRule = StrEnum("ResizeRule", [(rule, rule) for rule in spec.RESIZES])  # type: ignore[misc]

Json = Annotated[bool, option("Print one JSON document instead of text.", "--json")]
Quiet = Annotated[bool, option("No progress, no summary.", "--quiet", "-q")]
Plain = Annotated[bool, option("Leave out the file's augmented views.", "--plain")]
Preprocessing = Annotated[
    str | None,
    option(
        "What a file's network wants its pixels to be: caffe, clip, lite, none, tf, torch, or 'mean=R,G,B std=R,G,B'.",
        metavar="NAME",
        group=NETWORK,
    ),
]
Resize = Annotated[
    list[ResizeRule] | None,
    option(
        "How an image becomes a square; the backbone's way by default. Repeatable: a file each.",
        metavar=f"<{'|'.join(spec.RESIZES)}>",
        group=NETWORK,
    ),
]
Interpolation = Annotated[spec.Interpolation | None, option("Of the resizing.", group=NETWORK)]
Dtype = Annotated[spec.Dtype, option("Type of the stored features.", group=COMPUTING)]
Precision = Annotated[spec.Precision, option("Type to compute in.", group=COMPUTING)]
Engine = Annotated[spec.Engine, option("What runs the network; auto: the faster one.", group=COMPUTING)]
BatchSize = Annotated[
    int | None, option("Images per forward pass; what suits the machine by default.", group=COMPUTING)
]
Cluster = Annotated[
    str | None, option("Processes to use, or a Dask scheduler: tcp://host:8786.", metavar="N|ADDRESS", group=COMPUTING)
]
ShardRows = Annotated[
    int | None, option("Images of one file; more become a folder of files. A million by default.", group=COMPUTING)
]
Shard = Annotated[
    str | None,
    option("Only the files of part I of N, as in a Slurm array; the store is shared.", metavar="I/N", group=COMPUTING),
]
Decoder = Annotated[
    spec.Decoder, option("turbo: faster; draft: large JPEGs at less than their resolution.", group=COMPUTING)
]
CropShare = Annotated[
    float | None,
    option(
        "For --resize shortest and shortest-floor: the share of that side to keep; of several crops: their side.",
        metavar="0..1",
        group=NETWORK,
    ),
]
Crops = Annotated[
    list[int] | None,
    option(
        "Average the features of 5 crops (corners, centre), or 10 (mirrored too). Repeatable: a file each.",
        metavar="1|5|10",
        group=NETWORK,
    ),
]
BackboneWeights = Annotated[str | None, option("Of the backbone, if not where they were.", "--weights")]
MaxMemory = Annotated[
    int | None,
    option("Memory to use; half of the machine's by default: 500MB, 4GB.", "--max-memory", metavar="SIZE", parser=size),
]
GroupNearDuplicates = Annotated[
    float | None,
    option(
        "Keep rows together whose features are so alike, such as 0.8.",
        "--group-near-duplicates",
        metavar="0..1",
    ),
]
Settings = Annotated[list[str] | None, option("Hyperparameter; repeatable.", "--set", metavar="NAME=VALUE")]
Page = Annotated[Path | None, option("Write a page that opens from disk.", metavar="FILE.html")]
Threshold = Annotated[
    str | None,
    option(
        "Of two classes: say the second from this probability on, or choose it on held-out rows.",
        metavar="accuracy|balanced_accuracy|f1|P",
    ),
]
Level = Annotated[
    float | None,
    option("Sets of classes that hold the true one so often, such as 0.95; of numbers, intervals.", metavar="0..1"),
]
Novelty = Annotated[
    bool, option("Carry some training rows, so that predictions say how unlike these an image is.", "--novelty")
]
HeadDir = Annotated[Path, typer.Argument(metavar="HEAD_DIR", help="Folder of a saved head.")]
FileOrDir = Annotated[
    str, typer.Argument(metavar="FILE_OR_DIR", help="A feature file, its https:// or s3:// address, or its folder.")
]


def _open(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Class folders, or train/ … of them; .csv, .npz, .tar, .parquet; tfds:NAME; keras:NAME; an address.",
        ),
    ],
    labels: Annotated[Path | None, option("CSV manifest; SOURCE is then its folder of images.", group=SOURCE)] = None,
    path_column: Annotated[str | None, option("Manifest column of image paths or ids.", group=SOURCE)] = None,
    label_column: Annotated[
        list[str] | None,
        option(
            "Manifest column of class names; several, or 'has_*': labels, as columns of 0 and 1.",
            metavar="NAME",
            group=SOURCE,
        ),
    ] = None,
    label_separator: Annotated[
        str | None, option("What stands between labels, if images have several: '|'.", metavar="TEXT", group=SOURCE)
    ] = None,
    target_column: Annotated[
        str | None, option("Manifest column of a number to predict, not classes.", metavar="NAME", group=SOURCE)
    ] = None,
    split_column: Annotated[str | None, option("Manifest column of splits.", group=SOURCE)] = None,
    group_column: Annotated[str | None, option("Manifest column of groups, kept together.", group=SOURCE)] = None,
    group_pattern: Annotated[
        str | None, option("Finds groups in paths, such as 'person\\d+'.", metavar="REGEX", group=SOURCE)
    ] = None,
    column: Annotated[
        list[str] | None,
        option("Manifest column of numbers, for the tap `tabular`; repeatable.", metavar="NAME", group=SOURCE),
    ] = None,
    exclude: Annotated[list[str] | None, option("Class or folder to leave out; repeatable.", group=SOURCE)] = None,
    contained: Annotated[
        bool, option("Refuse files to which paths or links lead elsewhere.", "--contained", group=SOURCE)
    ] = False,
    name: Annotated[str | None, option("Name of the data set; by default the folder's.", group=SOURCE)] = None,
) -> "Source":
    """Open SOURCE; these are the argument and the options of all commands that read images."""
    from featurestore.sources.opener import open_source

    return open_source(
        source, labels=labels, path_column=path_column, label_column=label_column, label_separator=label_separator,
        target_column=target_column, split_column=split_column, group_column=group_column, group_pattern=group_pattern,
        columns=column or (), exclude=exclude or (), contained=contained, name=name,
    )  # fmt: skip


def opens_source(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that describe a source, and for its parameter `source` the opened source."""
    described = inspect.signature(_open).parameters

    @wraps(command)
    def run(**values: Any) -> None:
        command(source=_open(**{name: values.pop(name) for name in described}), **values)

    listed: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        listed += described.values() if name == "source" else [parameter]
    ordered = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in listed]
    run.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    return run
