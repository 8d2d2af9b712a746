"""The results of a sweep and of a probe."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from featurestore.system.results import Result
from heads.documents import SettingsDocument, SweepDocument
from heads.kinds.design import HeadDesign
from heads.metrics.evaluation import Evaluated
from heads.search.trials import Trial, plain_design
from heads.solvers.calibration import Calibration

WINNER, SUMMARY = "winner", "sweep.json"
"""In the folder of a sweep: the winner, refitted and saved as a head; and the JSON of its :class:`SweepResult`."""


_LISTED = 10
"""Number of trials that a notebook shows."""


@dataclass(frozen=True)
class SweepSettings:
    """The settings that the trials of a sweep depend on, and those by which the winner was taken.

    Attributes:
        features: digest of the features, labels and splits; None of a sweep of an early version.
        space: name of the preset, or of the file, that holds the designs.
        cv: number of folds; None where the validation rows judged.
        metric: the metric by which designs were compared.
        views: whether augmented views of the train rows were fitted on too.
        sampler: the sampler that searched the space; None where all designs of it were judged.
        seed: seed of all that is random.
        ensemble: number of heads that were taken together.
        smallest: whether the smallest head that is as good as the best was taken.
        exhaustive: whether all designs were judged on all rows, however many there are, see
            :mod:`heads.search.halving`.
        group_near_duplicates: least similarity of rows that were kept together; None where none were.
        threshold: what the winner's threshold was chosen by, or a probability; None for one half.
        novelty: whether the winner carries what it needs to say how unlike its training rows an image is.
    """

    features: str | None
    space: str
    cv: int | None
    metric: str
    views: bool
    sampler: str | None
    seed: int
    ensemble: int = 1
    smallest: bool = False
    exhaustive: bool = False
    group_near_duplicates: float | None = None
    threshold: str | float | None = None
    novelty: bool = False

    @classmethod
    def from_document(cls, values: SettingsDocument) -> "SweepSettings":
        """Return the settings that a file holds; those that an early version did not write get what it did."""
        return cls(**{"features": None, "sampler": None, "exhaustive": True} | values)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    def of_trials(self) -> dict[str, Any]:
        """Return the settings that the trials depend on, as the first line of ``trials.jsonl`` holds them."""
        others = ("ensemble", "smallest", "exhaustive", "threshold", "novelty")
        return {name: value for name, value in asdict(self).items() if name not in others}


@dataclass(frozen=True)
class Together:
    """The best heads of a sweep, whose mean probabilities are one head.

    Attributes:
        members: the designs of the heads.
        accuracy: accuracy of the mean on the held-out rows.
        log_loss: log loss of the mean on the held-out rows.
    """

    members: Sequence[HeadDesign]
    accuracy: float
    log_loss: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        members = [plain_design(member) for member in self.members]
        return {"members": members, "accuracy": self.accuracy, "log_loss": self.log_loss}


@dataclass(frozen=True, repr=False)
class SweepResult(Result):
    """The result of a sweep. A notebook shows its best trials as a table.

    Attributes:
        path: folder of the sweep.
        settings: the settings of the sweep.
        features: where the features were; None of a sweep of an early version.
        trials: all designs that were judged, each on the most rows that it was judged on; the best first.
        winner: the trial of the head that was taken.
        head: folder of the saved head: the winner, refitted on train and validation rows.
        ensemble: the heads that were taken together, if several were.
        calibration: the temperature of the saved head; None where its scores are probabilities already.
        test: evaluation of the saved head on the test rows; None where there are none.
        notes: sentences about what was left out.
        seconds: duration of the call.
    """

    path: Path
    settings: SweepSettings
    features: str | None
    trials: list[Trial]
    winner: Trial
    head: Path
    ensemble: Together | None
    calibration: Calibration | None
    test: Evaluated | None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def from_document(cls, path: Path, values: SweepDocument, test: Evaluated | None) -> "SweepResult":
        """Return the result that a ``sweep.json`` in the folder `path` holds.

        Args:
            path: the folder.
            values: the content of the file.
            test: the evaluation that the file holds.

        Raises:
            ValueError: the winner is not one of the trials.
            DesignError: a design is of an unknown kind, or has a wrong value.
        """
        trials = [Trial.from_dict(each) for each in values["trials"]]
        winners = [trial for trial in trials if trial.key == Trial.from_dict(values["winner"]).key]
        if len(winners) != 1:
            raise ValueError("its winner is not one of its trials")
        several, found = values.get("ensemble"), values["calibration"]
        return cls(
            path=path,
            settings=SweepSettings.from_document(values["settings"]),
            features=values.get("features"),
            trials=trials,
            winner=winners[0],
            head=path / WINNER,
            ensemble=several and Together(
                [HeadDesign(member["kind"], member["params"]) for member in several["members"]],
                several["accuracy"], several["log_loss"],
            ),
            calibration=found
            and Calibration(found["temperature"], found["log_loss_before"], found["log_loss_after"]),
            test=test,
            notes=values["notes"],
            seconds=values["seconds"],
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, as ``sweep.json`` holds them."""
        found = self.calibration
        return {
            "settings": self.settings.to_dict(),
            "features": self.features,
            "trials": [trial.to_dict() for trial in self.trials],
            "winner": self.winner.to_dict() | {"path": str(self.head)},
            "ensemble": self.ensemble and self.ensemble.to_dict(),
            "calibration": found
            and {"temperature": found.temperature, "log_loss_before": found.before, "log_loss_after": found.after},
            "test": self.test and self.test.to_dict(),
            "notes": self.notes,
            "seconds": self.seconds,
        }

    def _shown(self) -> Iterator[tuple[str, str]]:
        metric, test = self.settings.metric, self.test
        yield "path", repr(str(self.path))
        yield "heads", str(len(self.trials))
        yield "winner", _named(self.winner.design)
        yield metric, _score(self.winner)
        if test:
            name = metric if metric in test.metrics() else "accuracy"
            bounds = " – ".join(f"{bound:.3f}" for bound in test.intervals.get(name, ()))
            yield "test", f"{name} {test.metrics()[name]:.3f} ({bounds}) of {test.rows:,} rows"
        if self.notes:
            yield "notes", repr(self.notes)

    def _repr_html_(self) -> str:
        head = ("", "features", "head", self.settings.metric, "rows", "seconds", "numbers", "stopped")
        rows = [
            ("*" if trial is self.winner else place, trial.features, _named(trial.design), _score(trial),
             f"{trial.rows:,}" if trial.rows else "", f"{trial.seconds:.2f}", f"{trial.size:,}", trial.stopped)
            for place, trial in enumerate(self.trials, 1)
            if place <= _LISTED or trial is self.winner
        ]  # fmt: skip
        cells = ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
        heading = "".join(f"<th>{html.escape(name)}</th>" for name in head)
        table = "".join(f"<tr>{row}</tr>" for row in (heading, *cells))
        return f"{super()._repr_html_()}<table>{table}</table>"


@dataclass(frozen=True, repr=False)
class ProbeResult(Result):
    """How well a quick linear head does on one tap of a feature file.

    Attributes:
        file: the feature file.
        backbone: name of the backbone that computed the features.
        tap: name of the features.
        width: number of columns.
        metrics: by name, on the validation rows; without any, on the held-out rows of 3 folds of the train rows. The
            first one is that by which taps are ranked. In ``to_dict`` they stand among the other fields.
        gflops: billions of multiplications and additions of one image's way to the tap; None where that is not known.
        images_per_second: of the extraction, where the log beside the file tells; else None.
        seconds: duration of all fits.
    """

    file: str
    backbone: str
    tap: str
    width: int
    metrics: dict[str, float]
    gflops: float | None
    images_per_second: float | None
    seconds: float

    @property
    def accuracy(self) -> float:
        """The accuracy, where each image has one class; else NaN."""
        return self.metrics.get("accuracy", float("nan"))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        values = super().to_dict()
        return {**{name: value for name, value in values.items() if name != "metrics"}, **self.metrics}


def _named(design: HeadDesign) -> str:
    """Return a design in one line: its kind, and the hyperparameters that differ from their default."""
    return " ".join([design.kind, *design.settings()])


def _score(trial: Trial) -> str:
    return f"{trial.mean:.3f} ± {trial.error:.3f}" if trial.scores else "-"
