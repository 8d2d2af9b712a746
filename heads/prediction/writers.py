"""Write predictions one by one as they come: as text for a terminal, CSV, or one JSON list."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from featurestore.errors import SourceError
from featurestore.system.files import replacing
from featurestore.system.printing import ERRORS, printable, standard_output
from featurestore.system.progress import Progress, reporting
from heads.prediction.predictor import Prediction, Predictor

Writer = Callable[[TextIO, tuple[str, ...], int | None, Iterable[Prediction]], None]


def write_predictions(
    head_dir: str | os.PathLike[str],
    inputs: Iterable[str | os.PathLike[str]],
    *,
    form: str | None = None,
    out: str | os.PathLike[str] | None = None,
    top: int | None = None,
    weights: str | None = None,
    path_column: str | None = None,
    progress: bool | Progress = True,
) -> int:
    """Classify images, and write what is found while the rest is still being read.

    Args:
        head_dir, inputs, weights, path_column: see :class:`heads.prediction.predictor.Predictor` and its ``predict``.
        progress: see :func:`featurestore.system.progress.reporting`.
        form: ``text``, ``csv`` or ``json``; by default what the suffix of `out` says, else text.
        out: file to write; until it is complete, ``.part`` follows its name. By default, standard output.
        top: name only so many classes of each image, the likeliest first.

    Returns:
        How many images could not be read: each has its line, with the reason.

    Raises:
        SourceError: a folder without images; or `out` is called neither ``.csv`` nor ``.json``.
        WriteError: `out` cannot be written.
        FeatureStoreError: see :class:`heads.prediction.predictor.Predictor`.
    """
    form = form or ("text" if out is None else Path(out).suffix.removeprefix("."))
    if form not in _WRITERS:
        raise SourceError(f"{out}: predictions are written as CSV or JSON: call the file *.csv or *.json")
    predictor = Predictor(head_dir, weights=weights)
    failures = 0

    def counted(report: Progress | None) -> Iterator[Prediction]:
        nonlocal failures
        for prediction in predictor.predict(inputs, top=top, path_column=path_column, progress=report):
            failures += prediction.error is not None
            yield prediction

    with _opened(out) as stream, reporting(progress) as report:
        _WRITERS[form](stream, predictor.class_names, top, counted(report))
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


def _text(stream: TextIO, class_names: tuple[str, ...], top: int | None, predictions: Iterable[Prediction]) -> None:
    for found in predictions:  # for people, who would have to guess where a name with a line break ends
        likeliest = sorted(found.probabilities.items(), key=lambda pair: -pair[1])[: top or 1]
        cells = [f"{printable(name)}\t{chance:.3f}" for name, chance in likeliest]
        cells = cells or [f"error: {printable(str(found.error))}\t"]
        print(printable(found.path), *cells, sep="\t", file=stream, flush=True)


def _csv(stream: TextIO, class_names: tuple[str, ...], top: int | None, predictions: Iterable[Prediction]) -> None:
    """A column per class; or, with `top`, a pair of columns per rank."""
    ranks = range(1, min(top or 0, len(class_names)) + 1)
    columns = [text for rank in ranks for text in (f"class {rank}", f"probability {rank}")]
    writer, shown = csv.writer(stream), printable if stream.isatty() else str
    writer.writerow(["path", "class", "error", *map(shown, columns if top else class_names)])
    for found in predictions:
        chances = {name: f"{chance:.6f}" for name, chance in found.probabilities.items()}
        cells = [text for pair in chances.items() for text in pair] if top else list(chances.values())
        cells = cells or [""] * (len(columns) if top else len(class_names))
        writer.writerow(map(shown, [found.path, found.label or "", found.error or "", *cells]))
        stream.flush()


def _json(stream: TextIO, class_names: tuple[str, ...], top: int | None, predictions: Iterable[Prediction]) -> None:
    before = "["
    for found in predictions:
        print(f"{before}{json.dumps(found.to_dict())}", end="", file=stream, flush=True)
        before = ",\n"
    print("[]" if before == "[" else "]", file=stream)


_WRITERS: dict[str, Writer] = {"text": _text, "csv": _csv, "json": _json}
