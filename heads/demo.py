"""The main job in one call, on data that comes with the installation: extract once, fit every kind of head."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from featurestore.errors import SourceError, missing, suggest
from featurestore.extraction.extract import extract
from featurestore.sources.arrays import ArraySource
from featurestore.sources.base import Source
from featurestore.sources.opener import open_source
from featurestore.system.keras import import_keras
from heads.evaluation.evaluate import evaluate
from heads.fit import fit_head
from heads.kinds.design import KINDS

FLOWERS = "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz"


def digits() -> Source:
    """1,797 handwritten digits of 8×8 pixels, part of scikit-learn."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return ArraySource((data.images * (255 / 16)).astype("uint8"), data.target, name="digits")


def textiles() -> Source:
    """2,000 JPEG images of textiles in three classes of defects (conformal-clip-data)."""
    try:
        from conformal_clip_data import textile_simulated_root
    except ImportError as error:
        raise missing("the data set textiles", "conformal-clip-data", "textiles") from error
    return open_source(textile_simulated_root(), name="textiles")


def flowers() -> Source:
    """3,670 photographs of flowers in five classes (tf_flowers), downloaded once by Keras, 218 MB."""
    keras = import_keras("downloading tf_flowers")
    try:
        folder = keras.utils.get_file(origin=FLOWERS, extract=True)
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise SourceError(
            f"{FLOWERS} cannot be downloaded ({str(error).rsplit(' -- ', 1)[-1]}): download and unpack it elsewhere, "
            "and run  featurestore extract flower_photos --store features"
        ) from error
    return open_source(next(path for path in (Path(folder) / "flower_photos", Path(folder)) if path.is_dir()))


DATA: dict[str, Callable[[], Source]] = {"digits": digits, "textiles": textiles, "flowers": flowers}


def run_demo(
    folder: str | os.PathLike[str],
    data: str = "digits",
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Extract features of a data set with the default backbone, then fit and evaluate one head of every kind.

    Args:
        folder: where the feature file and the heads go.
        data: ``digits``, ``textiles``, or ``flowers`` (which needs the network).
        progress: see :func:`featurestore.extract`; the heads come as stage ``fitting``.

    Returns:
        Plain JSON types: ``extraction``, and ``heads``, a list of ``{head, path, fit_seconds, evaluation}``.

    Raises:
        SourceError: no such data set, or it cannot be downloaded.
        FeatureStoreError: see :func:`featurestore.extract`.
    """
    if data not in DATA:
        raise SourceError(f"unknown data set {data!r}: {suggest(data, DATA)}")
    folder = Path(folder)
    extraction = extract(DATA[data](), folder / "features", progress=progress)
    heads = []
    for done, kind in enumerate(KINDS, 1):
        out = folder / "heads" / f"{data}-{kind}"
        started = time.perf_counter()
        fit_head(extraction.path, kind, out=out)
        seconds = round(time.perf_counter() - started, 3)
        evaluation = evaluate(out, extraction.path)
        heads.append({"head": kind, "path": str(out), "fit_seconds": seconds, "evaluation": evaluation.to_dict()})
        if progress:
            progress("fitting", done, len(KINDS))
    return {"extraction": extraction.to_dict(), "heads": heads}
