"""Find images to look at, and write them as a list and as a page of pictures."""

import csv
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from featurestore.errors import HeadError
from featurestore.pages import html
from featurestore.store.file_format import SHARDS, SUFFIX
from featurestore.store.reader import FeatureStore
from featurestore.system.files import check_writable, replacing
from featurestore.system.printing import ERRORS
from featurestore.system.progress import Progress, reporting
from featurestore.system.results import Result
from heads import choices
from heads.curating.modes import MODES
from heads.curating.pictures import Pictures
from heads.curating.question import Answer, Look, Question
from heads.feature_table import load_features
from heads.search.held_out import designs_of


@dataclass(frozen=True, repr=False)
class Looked(Result):
    """Images to look at; see :func:`look_at`.

    Attributes:
        path: the feature file.
        dataset: name of the data set.
        mode: how they were found.
        score: what their score is.
        looks: a line for each, the first to look at first.
        found: how many there are in all.
        compared: how many rows were looked at.
        notes: sentences on what was left out.
        out: the list, as CSV; None where none was asked for.
        page: the page; None where none was asked for.
    """

    path: str
    dataset: str
    mode: str
    score: str
    looks: list[Look]
    found: int
    compared: int
    notes: list[str] = field(default_factory=list)
    out: str | None = None
    page: str | None = None


def look_at(
    mode: choices.LookAt,
    features: str | os.PathLike[str],
    *,
    to: str | os.PathLike[str] | None = None,
    pool: str | os.PathLike[str] | None = None,
    unlabelled_class: str | None = None,
    head: str = "logreg",
    params: Mapping[str, Any] | Iterable[str] = (),
    tap: str | None = None,
    count: int = 24,
    out: str | os.PathLike[str] | None = None,
    page: str | os.PathLike[str] | None = None,
    source: str | os.PathLike[str] | None = None,
    seed: int = 0,
    max_memory: int | None = None,
    progress: bool | Progress = True,
    note: Callable[[str], None] | None = None,
) -> Looked:
    """Find images that are worth a look.

    - ``neighbours``: the most alike to an image, or to a row.
    - ``near-duplicates``: pairs that are much more alike to each other than to others, also between splits.
    - ``doubtful-labels``: labels that heads contradict which were not fitted to them, see :mod:`heads.curating.doubts`.
    - ``outliers``: images that are far from all others.
    - ``label-next``: images without labels of which a head is least certain, see :mod:`heads.curating.label_next`.

    Likeness is the cosine of standardised features; all rows are compared, exactly, a block at a time.

    Args:
        mode: one of these.
        features: feature file, or store folder.
        to: whose neighbours: the id of a row, its path or its number; or an image file, whose features are computed.
        pool: images without labels: a folder, a tar, … whose features are computed once and kept in ``unlabelled/``
            beside the feature file; or a feature file, whose labels are not looked at.
        unlabelled_class: the class of the rows that have no label, for images without labels in a folder of their own
            among the class folders; ``doubtful-labels`` leaves them out.
        head: kind of head that doubtful-labels and label-next ask, or a recipe; folds choose its hyperparameters.
        params: values of hyperparameters, see :func:`heads.fit.fit_head`.
        tap: name of the features, see :func:`heads.load_features`.
        count: most lines.
        out: CSV file to write: a line for each, with the columns of :class:`heads.curating.question.Look`.
        page: HTML file to write, with pictures if there is a `source`.
        source: what was extracted (the folder, CSV, ``.npz``, tar, …), for pictures.
        seed: of folds, and of what is drawn.
        max_memory: bytes that may be used; by default half of the machine's.
        progress: see :func:`featurestore.system.progress.reporting`.
        note: is called with each note, as soon as it is known.

    Raises:
        HeadError: an option that the mode does not take, or lacks; no such row or class; or the rows are too few, of a
            single class, or hold NaN.
        SourceError: no images in the pool.
        StoreError, SpecMismatchError: no readable feature file, or features that were made in another way.
        WriteError: a file cannot be written; this is found before the work.

    Example:
        >>> from heads import look_at
        >>> found = look_at("neighbours", "digits.h5", to="00007.png", count=2, out="near.csv", progress=False)
        >>> [each.label for each in found.looks], found.compared
        (['digit ...', 'digit ...'], 600)
        >>> print(open("near.csv").readline().strip())
        rank,id,split,label,score,other,other_label,why
    """
    _check(mode, {"to": to, "pool": pool, "unlabelled_class": unlabelled_class}, count)
    for file in (out, page):
        if file is not None:
            check_writable(file)
    notes: list[str] = []

    def noted(text: str) -> None:
        notes.append(text)
        if note is not None:
            note(text)

    table = load_features(features, tap)
    question = Question(
        table, count, designs=designs_of(head, params),
        to=None if to is None else os.fspath(to), pool=None if pool is None else os.fspath(pool),
        unlabelled_class=unlabelled_class, seed=seed, max_memory=max_memory, progress=progress, note=noted,
    )  # fmt: skip
    answer = MODES[mode].answer(question)
    found = Looked(
        str(table.path), table.dataset, mode, MODES[mode].score, answer.looks, answer.found, answer.compared, notes
    )
    if out is not None:
        write_csv(out, answer.looks)
    if page is not None:
        with reporting(progress) as told:
            _write_page(Path(page), found, answer, question, source, told)
    return replace(found, out=None if out is None else os.fspath(out), page=None if page is None else os.fspath(page))


def _check(mode: str, given: Mapping[str, Any], count: int) -> None:
    """Check the options of a mode, before anything is begun."""
    if mode not in MODES:
        raise HeadError(f"unknown mode {mode!r}: give one of {', '.join(MODES)}")
    if count < 1:
        raise HeadError(f"--count {count}: give 1 or more images to look at")
    for name, value in given.items():
        takes = [other for other, each in MODES.items() if name in each.options]
        if value is not None and mode not in takes:
            option = f"--{name.replace('_', '-')}"
            raise HeadError(f"{option} is an option of {' and '.join(takes)}: leave it out of {mode}")


def write_csv(path: str | os.PathLike[str], looks: Iterable[Look]) -> None:
    """Write a line for each image, with the names of the columns before them.

    Raises:
        WriteError: it cannot be written; the file is then as it was before.
    """
    with replacing(path) as part, part.open("w", newline="", errors=ERRORS) as stream:
        writer = csv.writer(stream)
        writer.writerow([each.name for each in fields(Look)])
        writer.writerows([f"{v:.6f}" if isinstance(v, float) else v for v in each.to_dict().values()] for each in looks)


def _write_page(
    file: Path, found: Looked, answer: Answer, question: Question, source: Any, progress: Progress | None
) -> None:
    """Write the page: for each image its picture, that of the other one, and the same words in all modes."""
    pictures, others = _pictures(answer, question, source, progress)
    shown = []
    for look, row, other in zip(found.looks, answer.rows, answer.others, strict=True):
        images = [pictures[row]] if row in pictures else []
        images += [others[other]] if other in others else []
        shown.append((images, _caption(look)))
    html.write(file, "looks.html", "heads.curating", found=found, shown=shown)


def _caption(look: Look) -> list[str]:
    about = ", ".join(part for part in (look.label, look.split) if part)
    words = [f"{look.rank}. {look.id}" + (f" ({about})" if about else ""), look.why]
    if look.other:
        words.append(f"alike: {look.other} ({look.other_label})")
    return words


def _pictures(
    answer: Answer, question: Question, source: Any, progress: Progress | None
) -> tuple[dict[int, Any], dict[int, Any]]:
    """Return thumbnails of the rows that an answer names, and of the rows that these are alike to."""
    others = [row for row in answer.others if row is not None]
    found: list[dict[int, Any]] = []
    elsewhere = answer.images is not None and answer.table is not question.table
    for table, rows, where in (
        (answer.table, answer.rows, answer.images if elsewhere else source),
        (question.table, others, source),
    ):
        if where is None or not rows or os.fspath(where).endswith((SUFFIX, SHARDS)):
            found.append({})
            continue
        pictures = Pictures(FeatureStore(table.files[0]), where, progress)
        found.append(pictures.take(list(dict.fromkeys(rows)), 0)[0])
        if pictures.failures:
            path, reason = pictures.failures[0]
            question.note(f"{len(pictures.failures)} pictures cannot be shown, the first is {path}: {reason}")
    if source is None and not any(found):
        question.note("pictures are left out of the page: --source FOLDER, the folder that was extracted, adds them")
    return found[0], found[1]
