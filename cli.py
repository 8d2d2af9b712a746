"""The command ``featurestore``: parse, call one function, print. Nothing heavy is imported before it is needed."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from featurestore.errors import FeatureStoreError

if TYPE_CHECKING:
    from featurestore.dataset import Source

FAILURES_LISTED = 3
"""Exit code of a run that finished, and lists inputs that gave no row."""
INTERRUPTED = 130

app = typer.Typer(
    help="Run each frozen image backbone once, keep its features in HDF5, fit heads on them in seconds.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
Labels = Annotated[Path | None, typer.Option(help="CSV manifest; SOURCE is then its folder of images.")]
PathColumn = Annotated[str | None, typer.Option(help="Manifest column of image paths or ids.")]
LabelColumn = Annotated[str | None, typer.Option(help="Manifest column of class names.")]
SplitColumn = Annotated[str | None, typer.Option(help="Manifest column of splits.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Class or folder to leave out; repeatable.")]
Name = Annotated[str | None, typer.Option(help="Name of the data set; by default the folder's.")]
SourceArgument = Annotated[
    Path, typer.Argument(help="Class folders, or train/ validation/ test/ of them; a CSV; an .npz.")
]
FileOrDir = Annotated[Path, typer.Argument(metavar="FILE_OR_DIR", help="A feature file, or a folder that holds it.")]
HeadDir = Annotated[Path, typer.Argument(help="Folder of a saved head.")]


def main() -> None:
    """Entry point: errors become one line and an exit code."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except FeatureStoreError as error:
        _fail(f"error: {error}", 1)
    except _InterruptedError:
        _fail("interrupted: what is finished is kept; run the same command again to go on", INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone, and so is everybody who could read a complaint
        sys.exit(1)


class _InterruptedError(BaseException):
    """Ctrl-C. Typer would swallow a KeyboardInterrupt and say 'Aborted'."""


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise _InterruptedError


def _fail(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(code)


# ------------------------------------------------------------------------------------------------- stage 1


@app.command()
def extract(
    source: SourceArgument,
    store: Annotated[Path, typer.Option(help="Folder for the feature file.")],
    backbone: Annotated[str, typer.Option(help="See `featurestore backbones`.")] = "efficientnet_lite0",
    weights: Annotated[str, typer.Option(help="imagenet, random, or a weights file.")] = "imagenet",
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels; the backbone's own by default.")] = None,
    pool: Annotated[str, typer.Option(help="avg, max, flatten or none.")] = "avg",
    resize: Annotated[str, typer.Option(help="squash, crop or pad.")] = "squash",
    dtype: Annotated[str, typer.Option(help="Stored type: float32 or float16.")] = "float32",
    batch_size: Annotated[int, typer.Option(help="Images per forward pass.")] = 32,
    labels: Labels = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    exclude: Exclude = None,
    name: Name = None,
    prune: Annotated[bool, typer.Option("--prune", help="Drop rows of images that SOURCE no longer holds.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a frozen backbone once over SOURCE and keep its features in a file in the store."""
    from featurestore.extraction import extract as run

    opened = _open(source, labels, path_column, label_column, split_column, exclude, name)
    with _progress(quiet or as_json) as progress:
        result = run(
            opened, store, backbone=backbone, weights=weights, size=size, pool=pool, resize=resize,  # type: ignore[arg-type]
            dtype=dtype, batch_size=batch_size, prune=prune, progress=progress,  # type: ignore[arg-type]
        )  # fmt: skip
    _show(result.to_dict(), as_json, quiet, _extraction_text)
    if result.failures:
        raise typer.Exit(FAILURES_LISTED)


@app.command()
def inspect(
    source: SourceArgument,
    labels: Labels = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    exclude: Exclude = None,
    name: Name = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what SOURCE holds: classes, splits, image sizes, duplicates, files that cannot be read."""
    from featurestore.inspection import inspect_source

    opened = _open(source, labels, path_column, label_column, split_column, exclude, name)
    with _progress(quiet or as_json) as progress:
        found = inspect_source(opened, progress)
    _show(found, as_json, quiet, _inspection_text)
    if found["failures"]:
        raise typer.Exit(FAILURES_LISTED)


@app.command()
def info(path: FileOrDir, as_json: Json = False) -> None:
    """Show what a feature file holds, or each one in a folder."""
    from featurestore.store import FeatureStore, find_files

    _show([FeatureStore(file).summary() for file in find_files(path)], as_json, False, _info_text)


@app.command()
def verify(path: FileOrDir, quiet: Quiet = False, as_json: Json = False) -> None:
    """Read a feature file, or each one in a folder, and compare its content digest."""
    from featurestore.store import verify_files

    _show(verify_files(path), as_json, quiet, lambda found: "\n".join(f"{file}: intact" for file in found["intact"]))


@app.command()
def backbones(as_json: Json = False) -> None:
    """List the backbones."""
    from featurestore.backbones import table

    def text(rows: list[dict[str, Any]]) -> str:
        return _table(["backbone", "input", "at least", "width", "weights"], [list(row.values()) for row in rows])

    _show(table(), as_json, False, text)


# ------------------------------------------------------------------------------------------------- stage 2


@app.command()
def fit_head(
    path: FileOrDir,
    out: Annotated[Path, typer.Option(help="Folder for the fitted head.")],
    head: Annotated[str, typer.Option(help="logreg, linear-svm, svm, knn or dense.")] = "logreg",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random in the fit.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit one head on the training rows of a feature file, in seconds."""
    from heads.fit import fit_head as run

    _show(run(path, head, params=settings or [], out=out, seed=seed).to_dict(), as_json, quiet, _fit_text)


@app.command()
def evaluate(
    head_dir: HeadDir,
    path: FileOrDir,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    as_json: Json = False,
) -> None:
    """Measure a saved head on one split of a feature file, with 95 % bootstrap intervals."""
    from heads.evaluation import evaluate as run

    _show(run(head_dir, path, split).to_dict(), as_json, False, _evaluation_text)


@app.command()
def predict(
    head_dir: HeadDir,
    inputs: Annotated[list[Path], typer.Argument(metavar="IMAGE_OR_FOLDER...", help="Images, or folders of images.")],
    weights: Annotated[str | None, typer.Option(help="Weights of the backbone, if they are not where they were.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: path, class, a probability per class.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document per image and line.")] = False,
) -> None:
    """Classify new images with a saved head and the backbone that it was fitted on."""
    from heads.deploy import CsvFormat, JsonFormat, TextFormat, predict_images

    shape = CsvFormat() if as_csv else JsonFormat() if as_json else TextFormat()
    failed = False
    for prediction in predict_images(head_dir, inputs, weights=weights):
        print(shape.line(prediction), flush=True)
        failed |= prediction.error is not None
    if failed:
        raise typer.Exit(FAILURES_LISTED)
