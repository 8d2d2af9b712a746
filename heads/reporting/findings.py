"""Gather what a report shows of a head: its answers, how they were measured, and what is doubtful in the data."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featurestore.errors import FeatureStoreError
from featurestore.store.reader import FeatureStore
from heads.console import evaluated
from heads.curating.audit import Audit, alike_pairs, audit, contradicted
from heads.evaluation.curves import Rates, Reliability, rates, reliability
from heads.evaluation.evaluate import Answers, answers
from heads.feature_table import FeatureTable
from heads.metrics.evaluation import Evaluated, Evaluation
from heads.reporting.provenance import origin
from heads.reporting.run_folder import RunFolder
from heads.storage.saved_head import FittedHead
from heads.tasks.registry import TASKS

_SPLITS = ("test", "validation", "train")


@dataclass(frozen=True, eq=False)
class Findings:
    """What is known of a head and of the data it was fitted on.

    Attributes:
        run: the folder of the head.
        evaluation: the head's metrics, where they are known.
        answers: its answers to the rows that it is judged on; None without features, as everything below.
        stores: the feature files of the answers.
        calibration: how reliable its probabilities are, by what they are called.
        rates: its rates at each threshold, if there are two classes.
        base: accuracy of an answer that is always the largest class.
        audit: what the features show of each other.
        mistakes: rows with a wrong answer, the most confident first.
        alike: pairs of near-duplicates, those that matter most first.
        suspects: rows whose label their neighbours contradict, the most doubtful first.
        origin: what the head was made with: pairs of a name and a text.
        commands: the commands that make it again.
        notes: sentences about how the rest was found.
        groups: how many groups the source has named, see :func:`count_groups`; None where it has named none.
    """

    run: RunFolder
    evaluation: Evaluated | None = None
    answers: Answers | None = None
    stores: list[FeatureStore] = field(default_factory=list)
    calibration: dict[str, Reliability] = field(default_factory=dict)
    rates: Rates | None = None
    base: float | None = None
    audit: Audit | None = None
    mistakes: list[dict[str, Any]] = field(default_factory=list)
    alike: list[dict[str, Any]] = field(default_factory=list)
    suspects: list[dict[str, Any]] = field(default_factory=list)
    origin: list[list[str]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    groups: dict[str, int] | None = None

    @property
    def of_classes(self) -> Evaluation | None:
        """The metrics, where each image has one class."""
        return self.evaluation if isinstance(self.evaluation, Evaluation) else None


def gather(run: RunFolder, features: Any, *, required: bool) -> Findings:
    """Find out what there is to report of a head.

    Args:
        run: its folder.
        features: feature file or folder of them, or None.
        required: whether it is an error that the features cannot be read.
    """
    judged, notes = _answers(run.fitted, features, required)
    if judged is None:
        return Findings(run, run.measured, origin=origin(run, []), notes=notes)
    evaluation, said = _evaluation(run, judged)
    stores = [FeatureStore(file) for file in dict.fromkeys(judged.table.files)]
    if run.fitted.head.link_ is not None:  # what follows is of classes
        return Findings(
            run, evaluation, judged, stores, mistakes=_mistakes(judged), origin=origin(run, stores), notes=notes + said,
            groups=count_groups(judged.table),
        )  # fmt: skip
    plain, outcomes = judged.uncalibrated(), judged.outcomes
    named = {"probabilities": outcomes} if plain is None else {"calibrated": outcomes, "before": plain}
    both = outcomes.classes == 2 and len(np.unique(outcomes.y)) == 2
    stores = [FeatureStore(file) for file in dict.fromkeys(judged.table.files)]
    with judged.table.named():
        seen = audit(judged.table)
    return Findings(
        run,
        evaluation,
        judged,
        stores,
        calibration={name: reliability(each) for name, each in named.items()},
        rates=rates(outcomes.y, outcomes.two_columns) if both else None,
        base=float(np.bincount(outcomes.y).max() / len(outcomes.y)),
        audit=seen,
        mistakes=_mistakes(judged),
        alike=alike_pairs(judged.table, seen.alike),
        suspects=contradicted(judged.table, seen.suspects),
        origin=origin(run, stores),
        notes=notes + said,
        groups=count_groups(judged.table),
    )


def _answers(fitted: FittedHead, features: Any, required: bool) -> tuple[Answers | None, list[str]]:
    """Return the head's answers, or None and why there are none."""
    if features is None:
        return None, ["No feature file was given: --features FILE adds what the rows show."]
    split = next((split for split in _SPLITS if fitted.rows.get(split)), "test")
    try:
        return answers(fitted, features, split), []
    except FeatureStoreError as error:
        if required:
            raise
        return None, [f"Without the features there is less to show: {error}"]


def _evaluation(run: RunFolder, judged: Answers) -> tuple[Evaluated, list[str]]:
    """Return the metrics of the answers, and what has to be said of them."""
    known, split, notes = run.measured, judged.split, []
    found: Evaluated
    if known and _same_answers(judged.measured(None), known):
        notes.append("The test rows were measured before; here they are drawn, and nothing is chosen by them.")
        found = known
    else:
        found = judged.measured(run.fitted.path)
        if known:
            notes.append("The test rows of this feature file are not those that were measured before: measured anew.")
    if split != "test":
        notes.append(f"There are no test rows: the head is judged on the {split} rows.")
    if judged.seen:
        notes.append(f"{evaluated.seen(judged.seen)} The figures say little about other images.")
    if judged.left_out:
        notes.append(f"{judged.left_out} {split} rows are left out: the head was fitted on them.")
    return found, notes


def _same_answers(one: Evaluated, other: Evaluated) -> bool:
    if not (isinstance(one, Evaluation) and isinstance(other, Evaluation)):
        return one.metrics() == other.metrics()
    if one.confusion_matrix is None:  # of so many classes there is no matrix
        return one.per_class == other.per_class and one.confused == other.confused
    return one.confusion_matrix == other.confusion_matrix


def answer(judged: Answers, i: int) -> dict[str, Any]:
    """Describe the head's answer to the row at place `i` of those that were asked for."""
    fitted, row = judged.fitted, int(judged.rows[i])
    told = fitted.head.task_.told(judged.outcomes.rows(np.array([i])), fitted.class_names, fitted.head.link_)
    return {"row": row, "id": str(judged.table.ids[row]), **told}


def _mistakes(judged: Answers) -> list[dict[str, Any]]:
    head = judged.fitted.head
    return [answer(judged, i) for i in head.task_.mistakes(judged.outcomes, head.link_).tolist()]


def count_groups(table: FeatureTable) -> dict[str, int] | None:
    """Count the groups that the source has named: ``groups``, rows of the ``largest``, and rows ``without`` one.

    Those that stand in several splits are ``divided``. None where no row has a group.
    """
    if not (table.group_names != "").any():
        return None
    named = table.group_names != ""
    _, place = np.unique(table.group_names[named], return_inverse=True)
    sizes = np.bincount(place)
    splits = np.unique(table.splits[named], return_inverse=True)[1]
    parts = np.bincount(np.unique(np.stack([place, splits]), axis=1)[0])
    return {
        "groups": len(sizes), "largest": int(sizes.max()), "without": int((~named).sum()),
        "divided": int((parts > 1).sum()),
    }  # fmt: skip


def class_counts(table: FeatureTable) -> list[tuple[str, dict[str, int]]]:
    """Count the rows of each class or label in each split, the largest first; of numbers all rows."""
    there = [split for split in (*reversed(_SPLITS), "duplicate") if (table.splits == split).any()]
    task = TASKS[table.task]
    counts = {s: task.counts(table.y[table.splits == s], len(table.class_names)) for s in there}
    found = [(name, {s: int(counts[s][i]) for s in there}) for i, name in enumerate(table.class_names)]
    return sorted(found, key=lambda item: (-sum(item[1].values()), item[0]))
