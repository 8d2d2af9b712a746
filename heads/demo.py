"""Do the main job in one call, on data that comes with the installation: extract once, fit every kind of head."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from featurestore.errors import SourceError, missing, suggest
from featurestore.extraction.extract import extract
from featurestore.extraction.publishing import Extraction
from featurestore.sources.arrays import ArraySource
from featurestore.sources.base import Source
from featurestore.sources.opener import open_source
from featurestore.system.keras import import_keras
from featurestore.system.progress import Progress, reporting
from featurestore.system.results import Result
from heads.choices import DemoData
from heads.evaluation.evaluate import evaluate
from heads.fit import fit_head
from heads.kinds.design import KINDS
from heads.metrics.evaluation import Evaluated

FLOWERS = "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz"


def digits() -> Source:
    """Return 1,797 handwritten digits of 8×8 pixels, part of scikit-learn."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return ArraySource((data.images * (255 / 16)).astype("uint8"), data.target, name="digits")


def textiles() -> Source:
    """Return 2,000 JPEG images of textiles in three classes of defects (conformal-clip-data)."""
    try:
        from conformal_clip_data import textile_simulated_root
    except ImportError as error:
        raise missing("the data set textiles", "conformal-clip-data", "textiles") from error
    return open_source(textile_simulated_root(), name="textiles")


def flowers() -> Source:
    """Return 3,670 photographs of flowers in five classes (tf_flowers), downloaded once by Keras, 218 MB."""
    keras = import_keras("downloading tf_flowers")
    try:
        folder = keras.utils.get_file(origin=FLOWERS, extract=True)
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise SourceError(
            f"{FLOWERS} cannot be downloaded ({str(error).rsplit(' -- ', 1)[-1]}): download and unpack it elsewhere, "
            "and run  featurestore extract flower_photos --store features"
        ) from error
    return open_source(next(path for path in (Path(folder) / "flower_photos", Path(folder)) if path.is_dir()))


DATA: dict[DemoData, Callable[[], Source]] = {"digits": digits, "textiles": textiles, "flowers": flowers}


@dataclass(frozen=True, repr=False)
class DemoHead(Result):
    """One head of the demonstration.

    Attributes:
        head: its kind.
        path: folder of the saved head.
        fit_seconds: how long it took to fit, with reading the features.
        evaluation: what it was measured at, on the test rows.
    """

    head: str
    path: str
    fit_seconds: float
    evaluation: Evaluated


@dataclass(frozen=True, repr=False)
class Demo(Result):
    """What :func:`run_demo` did.

    Attributes:
        extraction: what was extracted.
        heads: the fitted heads, one of each kind.
    """

    extraction: Extraction
    heads: list[DemoHead]


def run_demo(folder: str | os.PathLike[str], data: DemoData = "digits", *, progress: bool | Progress = True) -> Demo:
    """Extract features of a data set with the default backbone, then fit and evaluate one head of every kind.

    Args:
        folder: where the feature file and the heads go.
        data: ``digits``, ``textiles``, or ``flowers`` (which needs the network).
        progress: see :func:`featurestore.system.progress.reporting`; the heads come as stage ``fitting``.

    Raises:
        SourceError: no such data set, or it cannot be downloaded.
        FeatureStoreError: see :func:`featurestore.extract`.
    """
    if data not in DATA:
        raise SourceError(f"unknown data set {data!r}: {suggest(data, DATA)}")
    folder, heads = Path(folder), list[DemoHead]()
    with reporting(progress) as update:
        extraction = extract(DATA[data](), folder / "features", progress=update)
        for done, kind in enumerate(KINDS, 1):
            out = folder / "heads" / f"{data}-{kind}"
            started = time.perf_counter()
            fit_head(extraction.path, kind, out=out)
            seconds = round(time.perf_counter() - started, 3)
            heads.append(DemoHead(kind, str(out), seconds, evaluate(out, extraction.path)))
            if update:
                update("fitting", done, len(KINDS))
    return Demo(extraction, heads)
