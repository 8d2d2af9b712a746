"""Compute the heat maps of a head for images, with its backbones in front."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import FrozenNetwork
from featurestore.engines import Compute, compile_backbone
from featurestore.errors import HeadError, ImageError
from featurestore.images.decode import decode_framings
from featurestore.spec import ExtractionSpec, Framing, Pool, Tap
from featurestore.system.parallel import ahead, batched
from featurestore.system.results import Result
from heads.explaining.drawing import enlarged
from heads.explaining.places import Places, grid_of, is_linear, maps_of
from heads.feature_table import Floats, Input
from heads.prediction.inputs import Wanted, here
from heads.prediction.predictor import backbone_of, weights_of
from heads.storage.numeric_input import scaling_of
from heads.storage.saved_head import FittedHead, load_head
from heads.tasks.registry import check_one_class

BATCH_SIZE = 8
_PORTION = 8 * BATCH_SIZE
"""Images that are read at a time."""


@dataclass(frozen=True, repr=False)
class TapMap(Result):
    """What the places of one tap do to a score.

    Attributes:
        backbone, tap: where the features come from.
        values: by row and column of the tap's own map; their mean is the part of the score that is theirs.
    """

    backbone: str
    tap: str
    values: list[list[float]]


@dataclass(frozen=True, repr=False)
class ClassMap(Result):
    """Why an image has its score for a class: `score` = `base` + the mean of each of `maps`.

    Attributes:
        name: of the class.
        probability: what the head says.
        score: by how much the class's score exceeds the mean of the scores of all classes, on which alone
            probabilities depend.
        base: the part of the score that has no place: the intercept, class tokens, numeric columns; and where the map
            is approximate, what is left.
        maps: of each tap with places.
    """

    name: str
    probability: float
    score: float
    base: float
    maps: list[TapMap]

    def drawn(self, side: int, exact: bool = True) -> NDArray[np.float64]:
        """Return one map (side, side) of all taps.

        Its mean is the score: each place has `base` too, so that 0 is the mean of all classes. Where it is not exact,
        `base` is what no place explains, and is left out: 0 is no change of the score.
        """
        return np.asarray(
            self.base * exact + np.sum([enlarged(np.array(each.values), side) for each in self.maps], axis=0)
        )


@dataclass(frozen=True, eq=False)
class Explained:
    """One image with the maps of some classes.

    Attributes:
        path: as given.
        pixels: what the network saw, uint8 (S, S, 3); None if it cannot be read.
        label: name of the likeliest class.
        classes: their maps, in the order that was asked for.
        exact: see :class:`Explainer`.
        error: why the image cannot be read, or None.
    """

    path: str
    pixels: NDArray[np.uint8] | None = None
    label: str | None = None
    classes: tuple[ClassMap, ...] = ()
    exact: bool = True
    error: str | None = None


class Explainer:
    """A saved head with its backbones in front, which gives the maps before pooling.

    Args:
        head: a saved head, or its folder.
        weights: of the backbones, see :class:`heads.prediction.predictor.Predictor`.

    Attributes:
        exact: whether scores are sums over places, so that nothing is approximated.

    Raises:
        HeadError: the head does not answer with one class; none of its features belongs to a place of an image; or
            its backbones see different parts of it.
        WeightsError, MissingDependencyError, SpecMismatchError: see :class:`heads.prediction.predictor.Predictor`.
    """

    def __init__(
        self, head: str | os.PathLike[str] | FittedHead, *, weights: str | Mapping[str, str] | None = None
    ) -> None:
        self._head = head if isinstance(head, FittedHead) else load_head(head)
        check_one_class(self._head.head.task_.name, self._head.path or "the head", "a heat map")
        self._taps = [_tap(item) for item in self._head.inputs]
        _check_inputs(self._head)
        self.exact = is_linear(self._head.head)
        self._networks: dict[ExtractionSpec, tuple[FrozenNetwork, Compute]] = {}
        for spec, given in weights_of(self._head, weights).items():
            wanted = [tap for item, tap in zip(self._head.inputs, self._taps, strict=True) if item.spec == spec]
            unpooled = tuple(dict.fromkeys(Tap(tap.layer, "none") for tap in spec.taps if tap in wanted))
            network = backbone_of(str(self._head.path), replace(spec, taps=unpooled), given)
            self._networks[spec] = network, compile_backbone(network)
        grids = [
            grid_of(self._networks[item.spec][0].shapes[tap.layer], tap.pool, self._networks[item.spec][0].tokens)
            for item, tap in zip(self._head.inputs, self._taps, strict=True)
        ]
        if not any(grids):
            raise _no_places(self._head, self._taps)

    @property
    def notes(self) -> list[str]:
        """What a reader of the maps has to know, in sentences."""
        found = []
        if not self.exact:
            found.append(
                f"Approximate: the scores of the head ({self._head.design.kind}) are no sum over places. A map shows "
                "how a score changes, to first order, with the features of each place. It stays grey where none "
                "changes it."
            )
        pools = {tap.pool for tap in self._taps}
        if any("max" in pool for pool in pools):
            found.append("Of a maximum, a place has only those channels that are greatest there.")
        if any("cls" in pool for pool in pools):
            found.append("The class token belongs to no place: what it does to a score is in the base, not in the map.")
        if self._head.numeric:
            found.append("What the numeric columns do to a score is in the base, not in the map.")
        return found

    def explain(
        self, images: Iterable[Wanted], classes: Sequence[Sequence[str]] | None = None, *, top: int = 2
    ) -> Iterator[Explained]:
        """Explain images as they are read. One that cannot be read does not stop the others.

        Args:
            images: see :func:`heads.prediction.inputs.find_images`.
            classes: names of classes for each image; by default its likeliest ones.
            top: so many of them.
        """
        framings = {spec.framing for spec in self._networks}

        def decoded(item: tuple[int, Wanted]) -> dict[Framing, NDArray[np.uint8]] | ImageError:
            try:
                with item[1].reading() as data:
                    return decode_framings(data, framings)
            except ImageError as error:
                return error.alone()

        for portion in batched(enumerate(images), _PORTION):
            for batch in batched(ahead(here(portion), decoded, window=2 * BATCH_SIZE), BATCH_SIZE):
                good = [found for _, found in batch if not isinstance(found, ImageError)]
                outputs = self._run(good) if good else {}
                place = 0
                for (i, wanted), found in batch:
                    if isinstance(found, ImageError):
                        yield Explained(wanted.path, error=str(found))
                        continue
                    made = {spec: {tap: each[place] for tap, each in taps.items()} for spec, taps in outputs.items()}
                    pixels = found[next(iter(self._networks)).framing]
                    yield self._explained(wanted, pixels, made, classes[i] if classes else None, top)
                    place += 1

    def _run(self, images: Sequence[Mapping[Framing, NDArray[np.uint8]]]) -> dict[ExtractionSpec, Mapping[str, Any]]:
        """Return the maps of images before pooling: per backbone and layer, (n, ...)."""
        found = {}
        for spec, (_, compute) in self._networks.items():
            pixels = np.zeros((BATCH_SIZE, spec.size, spec.size, 3), np.uint8)  # kernels depend on the batch size
            pixels[: len(images)] = [image[spec.framing] for image in images]
            found[spec] = compute(pixels)()
        return found

    def _explained(
        self,
        wanted: Wanted,
        pixels: NDArray[np.uint8],
        made: Mapping[ExtractionSpec, Mapping[str, Floats]],
        names: Sequence[str] | None,
        top: int,
    ) -> Explained:
        fitted, head = self._head, self._head.head
        divided = [
            Places.of(made[item.spec][tap.layer], tap.pool, self._networks[item.spec][0].tokens)
            for item, tap in zip(fitted.inputs, self._taps, strict=True)
        ]
        raw = np.concatenate([*(each.row for each in divided), np.array(wanted.values, np.float32)])[None]
        scaling = scaling_of(fitted.numeric)
        x = (scaling.apply(raw) if scaling else raw)[0]
        scores = _centred(np.asarray(head.scores(x[None])[0], np.float64))
        starts = np.cumsum([0, *(each.width for each in divided)])
        maps = [
            (item, _centred(maps_of(head, x, each, int(start))))
            for item, each, start in zip(fitted.inputs, divided, starts, strict=False)
            if each.grid != (0, 0)
        ]
        chances = fitted.predict_proba(raw)[0]
        order = np.argsort(-chances, kind="stable")
        # A class that the head was not shown has no score, so no map.
        columns = {fitted.class_names[code]: i for i, code in enumerate(head.classes_)}
        likeliest = [name for name in (fitted.class_names[code] for code in order) if name in columns][:top]
        chosen = likeliest if names is None else [name for name in names if name in columns]
        return Explained(wanted.path, pixels, fitted.class_names[order[0]], tuple(
            _class_map(name, float(chances[fitted.class_names.index(name)]), float(scores[columns[name]]),
                       [(item, each[columns[name]]) for item, each in maps])
            for name in chosen
        ), self.exact)  # fmt: skip


def _class_map(
    name: str, probability: float, score: float, maps: Sequence[tuple[Input, NDArray[np.float64]]]
) -> ClassMap:
    base = score - sum(float(values.mean()) for _, values in maps)
    found = [TapMap(item.spec.backbone, item.tap, values.tolist()) for item, values in maps]
    return ClassMap(name, probability, score, base, found)


def _centred(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores (C, ...) without their mean over classes, on which no probability depends.

    Those of discriminant analysis have much in common, and would all show that.
    """
    return np.asarray(scores - scores.mean(axis=0))


def _tap(item: Input) -> Tap:
    return item.spec.taps[item.spec.tap_names.index(item.tap)]


def _check_inputs(head: FittedHead) -> None:
    where = head.path or "the head"
    if not head.inputs:
        raise HeadError(f"{where}: it is fitted on numeric columns alone, and looks at no image: there is no map of it")
    ways = {(each.resize, each.crop_share, each.decoder) for each in (item.spec.framing for item in head.inputs)}
    if len(ways) > 1:
        shown = " and ".join(sorted(f"{resize} ({share:g})" for resize, share, _ in ways))
        raise HeadError(
            f"{where}: its backbones see different parts of an image ({shown}), whose maps do not lie over each other: "
            "extract all with one --resize and --crop-share, and fit a head on that"
        )


def _no_places(head: FittedHead, taps: Sequence[Tap]) -> HeadError:
    where, pools = head.path or "the head", {tap.pool for tap in taps}
    names = ", ".join(f"{item.spec.backbone} {item.tap!r}" for item in head.inputs)
    kinds: set[Pool] = {"cls"}
    if pools == kinds:
        return HeadError(
            f"{where}: it is fitted on the class token ({names}), which has looked at the whole image and belongs to "
            "no place: extract with --pool patches, or cls+patches for a map of the half that has places, and fit a "
            "head on that"
        )
    return HeadError(
        f"{where}: its features ({names}) are no map and no tokens of an image, so that none belongs to a place: "
        "extract a --tap whose shape is height × width × channels (see  featurestore backbones NAME --taps), and fit "
        "a head on that"
    )
