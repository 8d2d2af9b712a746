"""Choose unlabelled images to label next: those of which a head is least certain, unlike each other.

The margin of an image is the difference of its two greatest probabilities. Of the images with the least margins, as
many as are asked for are drawn as k-means++ draws its centres, so that no ten of them are frames of one scene.
(Scheffer, Decomain & Wrobel, "Active hidden Markov models for information extraction", IDA 2001, for the margin; Arthur
& Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007; both together after Zhdanov, "Diverse
mini-batch active learning", 2019.)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import HeadError
from heads.curating.doubts import out_of_fold
from heads.curating.likeness import Likeness
from heads.curating.question import Answer, Lines, Question
from heads.curating.unlabelled import table_of
from heads.feature_table import FeatureTable, Floats, Labels
from heads.fit import fit_table
from heads.search.held_out import divided
from heads.storage.fitted_head import FittedHead

POOL = 3
"""So many times as many of the least certain images as are asked for are drawn from."""

_KNOWING = 2 / 3
"""Of CIFAR-10, heads of less accuracy chose no better than chance, see docs/benchmarks.md."""


def label_next(question: Question) -> Answer:
    """Choose images without labels to label next: those of the pool, or rows of the class that stands for no label.

    Rows of that class which are in the validation or test split are not named: chosen by a head's doubt, they would no
    longer be images like any others, and figures on them would say less.

    Raises:
        HeadError: no pool and no such class, or both; a single class with labels; or no image without a label.
    """
    if (question.pool is None) == (question.unlabelled_class is None):
        raise HeadError("label-next: say where images without labels are: --pool, or --unlabelled-class")
    table = question.table
    rows = question.rows()
    rows = rows[table.splits[rows] != "test"]
    held = out_of_fold(table, rows, question.designs, question)
    if (right := float((held.scores.argmax(axis=1) == held.codes).mean())) < _KNOWING:
        question.note(f"out of fold the head is right in {right:.2f} of the labelled images: of so little, its doubt "
                      "tells hardly more than chance what to label next")  # fmt: skip
    splits = np.full(len(table.y), "", "U5")
    splits[rows] = "train"
    head = fit_table(
        divided(table, splits), held.trial.design, seed=question.seed, views=False, max_memory=question.max_memory
    )
    pool, hidden = _hidden(question)
    head.check_features(pool)
    margin = margins_of(head, pool, hidden)
    candidates = np.argsort(margin, kind="stable")[: POOL * question.count]
    Z = Likeness(table, rows).scaling.apply(np.asarray(pool.images.read(hidden[candidates], np.arange(0)), np.float32))
    Z /= np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-12)
    lines = Lines(pool, labelled=False)
    chosen = candidates[spread(Z, question.count, question.seed)]
    proba = head.predict_proba(pool.read(hidden[chosen], np.arange(0)))
    for place, row in zip(chosen.tolist(), proba, strict=True):
        first, second = np.argsort(-row, kind="stable")[:2].tolist()
        why = f"{row[first]:.3f} for {table.class_names[first]}, {row[second]:.3f} for {table.class_names[second]}"
        lines.add(int(hidden[place]), float(margin[place]), why, label=table.class_names[first])
    return lines.answer(len(hidden), len(hidden), question.pool)


def _hidden(question: Question) -> tuple[FeatureTable, Labels]:
    """Return the images without labels: a table, and the indices of the rows in it; each image once."""
    table = question.table
    if question.pool is not None:
        pool = table_of(question.pool, table.images, question.store, progress=question.progress, note=question.note)
        hidden = np.flatnonzero(~np.isin(pool.digest_bytes, table.digest_bytes))
        if known := len(pool.y) - len(hidden):
            question.note(f"{known} images of {question.pool} are left out: they are in {table.path} too")
    else:
        pool, mine = table, table.y == question.without_label()
        hidden = np.flatnonzero(mine & (table.splits == "train"))
        if others := int(mine.sum()) - len(hidden):
            question.note(f"{others} rows of class {question.unlabelled_class!r} are in other splits, and not named")
    if not len(hidden):
        raise HeadError(f"{question.pool or table.path}: no image without a label, or all are labelled elsewhere")
    return pool, hidden[np.unique(pool.digest_bytes[hidden], return_index=True)[1]]


def margins_of(head: FittedHead, table: FeatureTable, rows: Labels) -> NDArray[np.float64]:
    """Return the margin of some rows (N,), whose features are read a block at a time."""
    return np.concatenate([margins(head.predict_proba(block)) for block in table.stream(rows).blocks()])


def margins(proba: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the difference of the two greatest probabilities of each row (N, C), float64 (N,)."""
    two = np.partition(np.asarray(proba, np.float64), -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def spread(Z: Floats, count: int, seed: int) -> Labels:
    """Return the places of rows that are unlike each other (n,), in the order in which they were drawn.

    The first row is drawn first; each further one with a chance that grows with the squared distance from the nearest
    of those drawn before.

    Args:
        Z: the rows as they are compared (N, D).
        count: how many to draw; all rows if there are fewer.
        seed: of the draw.

    Example:
        >>> import numpy as np
        >>> spread(np.array([[1, 0], [1, 0], [0, 1]], np.float32), 2, seed=0).tolist()
        [0, 2]
    """
    rng = np.random.default_rng(seed)
    drawn, far = [0], _squared(Z, 0)
    while len(drawn) < min(count, len(Z)):
        far[drawn] = 0
        total = far.cumsum()
        if total[-1] > 0:
            place = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
            place = min(place, int(np.flatnonzero(far)[-1]))
        else:  # the rest are copies of those that were drawn
            place = int(np.setdiff1d(np.arange(len(Z)), drawn)[0])
        drawn.append(place)
        far = np.minimum(far, _squared(Z, place))
    return np.array(drawn)


def _squared(points: Floats, place: int) -> NDArray[np.float64]:
    """Return the squared distance of points (N, D) from one of them (N,)."""
    apart = points - points[place]
    return np.asarray(np.einsum("nd,nd->n", apart, apart, dtype=np.float64))
