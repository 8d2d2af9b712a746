"""Explain what a head says of images: heat maps as PNG files, one page, and their numbers as JSON."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featurestore.pages import html
from featurestore.system.files import check_writable, write_whole
from featurestore.system.progress import Progress, reporting
from featurestore.system.results import Result
from heads.explaining.drawing import SIDE, Pixels, overlaid, row_of_pictures
from heads.explaining.explainer import ClassMap, Explained, Explainer
from heads.prediction.inputs import Needs, find_images
from heads.storage.numeric_input import columns_of
from heads.storage.saved_head import FittedHead, load_head

PAGE, NUMBERS = "explanation.html", "explanation.json"
SHOWN = 100
"""Images that the page shows, at most; each has its PNG file."""


@dataclass(frozen=True, repr=False)
class ImageExplanation(Result):
    """What :func:`explain` found for one image.

    Attributes:
        path: as given, or below the folder that was given.
        label: name of the likeliest class.
        png: the picture, and the map of each class over it, as one file.
        classes: the maps.
    """

    path: str
    label: str
    png: str
    classes: list[ClassMap]


@dataclass(frozen=True, repr=False)
class Explanation(Result):
    """What :func:`explain` wrote.

    Attributes:
        path: the page.
        json: the file of these numbers.
        exact: whether scores are sums over places; otherwise maps are right to first order.
        notes: what a reader has to know, in sentences.
        images: each with its maps.
        failures: path and reason of each image that cannot be read.
    """

    path: str
    json: str
    exact: bool
    notes: list[str]
    images: list[ImageExplanation]
    failures: list[tuple[str, str]]


def explain(
    head: str | os.PathLike[str] | FittedHead,
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    top: int = 2,
    weights: str | Mapping[str, str] | None = None,
    path_column: str | None = None,
    progress: bool | Progress = True,
) -> Explanation:
    """Draw which places of images speak for and against the likeliest classes of a head.

    The backbone runs without its pooling, and the head is asked for each place. The mean of a map and the base is the
    class's score: exactly so for a linear head on an averaged, flattened or maximum-pooled map (class activation
    mapping: Zhou et al., "Learning deep features for discriminative localization", CVPR 2016), and on the mean of a
    transformer's patches; to first order for any other head. What is drawn is the score that each place would have by
    itself, blue against the class and red for it, on the square of pixels that the network sees.

    Args:
        head: a saved head, or its folder.
        images: see :func:`heads.predict`.
        out: folder for ``explanation.html``, ``explanation.json`` and a PNG file of each image.
        top: so many classes of each image, the likeliest first.
        weights: of the backbone, see :class:`heads.prediction.predictor.Predictor`.
        path_column: of a CSV, see :meth:`heads.prediction.predictor.Predictor.predict`.
        progress: see :func:`featurestore.system.progress.reporting`.

    Raises:
        HeadError: no feature of the head belongs to a place, see :class:`heads.explaining.explainer.Explainer`.
        SourceError: a folder without any image, or a CSV that does not fit.
        WriteError: the folder cannot be written; this is found before the work.
        FeatureStoreError: the backbone cannot be built.

    Example:
        >>> from featurestore import extract
        >>> from heads import explain, fit_head
        >>> file = extract("images", "store", backbone="small_cnn", weights="random", size=32, progress=False).path
        >>> found = explain(fit_head(file), "images/red", "why", progress=False)
        >>> found.exact, len(found.images), [each.name for each in found.images[0].classes]
        (True, 10, ['red', ...])
        >>> first = found.images[0].classes[0]
        >>> import numpy as np
        >>> bool(np.isclose(np.mean(first.maps[0].values) + first.base, first.score))
        True
    """
    folder, given = Path(out), [images] if isinstance(images, str | os.PathLike) else images
    check_writable(folder / PAGE)
    fitted = head if isinstance(head, FittedHead) else load_head(head)
    total, wanted = find_images(given, Needs(str(fitted.path or ""), columns_of(fitted.numeric), path_column))
    explainer = Explainer(fitted, weights=weights)
    with reporting(progress) as update:
        report = update or (lambda stage, done, total: None)
        found, shown, failures = list[ImageExplanation](), list[dict[str, Any]](), list[tuple[str, str]]()
        for each in explainer.explain(wanted, top=top):
            if each.error is not None:
                failures.append((each.path, each.error))
            else:
                found.append(_written(folder, len(found) + 1, each, shown))
            report("explaining", len(found) + len(failures), total)
    written = Explanation(str(folder / PAGE), str(folder / NUMBERS), explainer.exact, explainer.notes, found, failures)
    write_whole(folder / NUMBERS, json.dumps(written.to_dict()).encode())
    html.write(
        folder / PAGE, "explanation.html", "heads.explaining", found=written, shown=shown, dataset=fitted.dataset,
        more=len(found) - len(shown),
    )  # fmt: skip
    return written


def _written(folder: Path, number: int, each: Explained, shown: list[dict[str, Any]]) -> ImageExplanation:
    """Write the PNG file of an image, and add it to those that the page shows, unless these are many."""
    pictures, greatest = pictures_of(each)
    name = re.sub(r"[^\w.-]", "_", Path(each.path).stem, flags=re.ASCII)[-40:]
    file = folder / f"{number:05d}-{name}.png"
    words = [[Path(each.path).name, f"full colour: ±{greatest:.3g}"], *(_words(one) for one in each.classes)]
    write_whole(file, row_of_pictures(pictures, words))
    if len(shown) < SHOWN:
        alts = ["as the network sees it", *(f"map of {one.name}" for one in each.classes)]
        uris = [{"uri": html.data_uri(p), "alt": f"{each.path}, {alt}"} for p, alt in zip(pictures, alts, strict=True)]
        shown.append({"path": each.path, "pictures": uris, "classes": each.classes, "greatest": greatest})
    return ImageExplanation(each.path, str(each.label), str(file), list(each.classes))


def _words(one: ClassMap) -> list[str]:
    return [f"{one.name}: {one.probability:.3f}", f"score {one.score:.3g}, base {one.base:.3g}"]


def pictures_of(each: Explained) -> tuple[list[Pixels], float]:
    """Return a picture, and the map of each of its classes over it, uint8 (S, S, 3); and the value of a full colour."""
    assert each.pixels is not None
    pixels = each.pixels
    if len(pixels) < SIDE:  # of small pictures each pixel becomes a square
        pixels = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    drawn = [one.drawn(len(pixels), each.exact) for one in each.classes]
    greatest = max((float(np.abs(values).max()) for values in drawn), default=0.0)
    return [pixels, *(overlaid(pixels, values, greatest) for values in drawn)], greatest


def explained_rows(
    explainer: Explainer, wanted: Iterable[Any], classes: list[list[str]]
) -> Iterator[list[dict[str, str]]]:
    """Give for each image the maps of some classes as thumbnails with their words; none if it cannot be read."""
    for each in explainer.explain(wanted, classes):
        pictures = [] if each.error else pictures_of(each)[0][1:]
        yield [
            {"uri": html.data_uri(picture, html.THUMBNAIL), "alt": f"map of {one.name}"}
            for picture, one in zip(pictures, each.classes, strict=True)
        ]
