"""Write predictions one by one as they come: as text for a terminal, CSV, or one JSON list."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from featurestore.errors import SourceError
from featurestore.system.files import replacing
from featurestore.system.printing import ERRORS, printable, standard_output
from featurestore.system.progress import Progress, reporting
from heads.prediction.predictor import Predictor
from heads.tasks.predictions import Predicted


class Layout(NamedTuple):
    """What is written of each image.

    Attributes:
        columns: headings of a CSV behind the path.
        extras: those of :data:`heads.tasks.predictions.EXTRAS` that stand behind these.
        top: so many classes are named, the likeliest first; None for all.
    """

    columns: list[str]
    extras: list[str]
    top: int | None


Writer = Callable[[TextIO, Layout, Iterable[Predicted]], None]


def form_of(form: str | None, out: str | os.PathLike[str] | None) -> str:
    """Return the form of what is written: the one asked for, or what the suffix of the file says, or text.

    Raises:
        SourceError: the file is called neither ``.csv`` nor ``.json``.
    """
    form = form or ("text" if out is None else Path(out).suffix.removeprefix("."))
    if form not in _WRITERS:
        raise SourceError(f"{out}: predictions are written as CSV or JSON: call the file *.csv or *.json")
    return form


def write_predictions(
    predictor: Predictor,
    inputs: Iterable[str | os.PathLike[str]],
    *,
    form: str | None = None,
    out: str | os.PathLike[str] | None = None,
    top: int | None = None,
    path_column: str | None = None,
    progress: bool | Progress = True,
) -> int:
    """Classify images, and write what is found while the rest is still being read.

    Args:
        predictor: classifies.
        inputs, path_column: see :meth:`heads.prediction.predictor.Predictor.predict`.
        progress: see :func:`featurestore.system.progress.reporting`.
        form: ``text``, ``csv`` or ``json``; by default see :func:`form_of`.
        out: file to write; until it is complete, ``.part`` follows its name. By default, standard output.
        top: name only so many classes of each image, the likeliest first.

    Returns:
        How many images could not be read: each has its line, with the reason.

    Raises:
        SourceError: a folder without images; or `out` is called neither ``.csv`` nor ``.json``.
        WriteError: `out` cannot be written.
        FeatureStoreError: see :meth:`heads.prediction.predictor.Predictor.predict`.
    """
    write, failures = _WRITERS[form_of(form, out)], 0

    def counted(report: Progress | None) -> Iterator[Predicted]:
        nonlocal failures
        for prediction in predictor.predict(inputs, top=top, path_column=path_column, progress=report):
            failures += prediction.failure is not None
            yield prediction

    with _opened(out) as stream, reporting(progress) as report:
        write(stream, Layout(predictor.columns(top), predictor.extras, top), counted(report))
    return failures


@contextmanager
def _opened(out: str | os.PathLike[str] | None) -> Iterator[TextIO]:
    if out is None:
        with standard_output() as stream:
            yield stream
        return
    # What was found before an interruption is of use, so the draft stays.
    with replacing(out, keep=True) as part, part.open("w", newline="", errors=ERRORS) as stream:
        yield stream


def _text(stream: TextIO, layout: Layout, predictions: Iterable[Predicted]) -> None:
    for found in predictions:  # for people, who would have to guess where a name with a line break ends
        if found.failure:
            words = [f"error: {found.failure}"]
        elif found.abstained:
            words = [f"no answer: {found.abstained}", *found.remarks()]
        else:
            words = [word for pair in found.words(layout.top) for word in pair] + found.remarks()
        print(printable(found.path), *map(printable, words), sep="\t", file=stream, flush=True)


def _csv(stream: TextIO, layout: Layout, predictions: Iterable[Predicted]) -> None:
    writer, shown = csv.writer(stream), printable if stream.isatty() else str
    writer.writerow(["path", *map(shown, layout.columns), *(name.replace("_", " ") for name in layout.extras)])
    for found in predictions:
        writer.writerow(map(shown, [found.path, *found.cells(len(layout.columns)), *found.extras(layout.extras)]))
        stream.flush()


def _json(stream: TextIO, layout: Layout, predictions: Iterable[Predicted]) -> None:
    before = "["
    for found in predictions:
        print(f"{before}{json.dumps(found.to_dict())}", end="", file=stream, flush=True)
        before = ",\n"
    print("[]" if before == "[" else "]", file=stream)


_WRITERS: dict[str, Writer] = {"text": _text, "csv": _csv, "json": _json}
