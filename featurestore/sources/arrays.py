"""Images and labels in memory: which arrays serve, and the source that is made of them."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import SourceError
from featurestore.images.picture import scale16
from featurestore.sources.base import ImageData, Source
from featurestore.sources.numeric import NumericColumns, coded
from featurestore.sources.samples import Dataset, Sample
from featurestore.sources.split_names import split_named


class ArraySource(Source):
    """Images in memory.

    Args:
        images: (N, H, W) or (N, H, W, C) with C of 1, 3 or 4: uint8; uint16, scaled to 8 bits; or floats in [0, 1].
        labels: (N,) or (N, 1), whole numbers or texts. With `class_names`, numbers are indices into them.
        name: of the data set.
        class_names: by default the distinct labels, sorted.
        splits: N words such as train, val, test; by default :func:`featurestore.extract` divides each class.
        ids: N distinct names; by default the index.
        groups: N names of groups whose images must not be divided, such as patients; "" for none. By default all are.
        tabular: numbers that belong to the images, such as ``{"age": [61, None, 48], "sex": ["F", "M", "M"]}`` or a
            data frame: N of each name, of which None and NaN are missing; two texts become 0 and 1. They are the tap
            ``tabular``.

    Raises:
        SourceError: shapes, types or values are others than these, or there is a single class.

    Example:
        >>> import numpy as np
        >>> from featurestore import ArraySource
        >>> source = ArraySource(np.zeros((4, 8, 8), np.uint8), ["cat", "dog", "cat", "dog"], name="pets")
        >>> source.class_names
        ('cat', 'dog')
        >>> [sample.label for sample in source.listing().samples]
        [0, 1, 0, 1]
    """

    def __init__(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        *,
        name: str,
        class_names: Sequence[str] | None = None,
        splits: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        groups: Sequence[object] | None = None,
        tabular: Mapping[str, Iterable[object]] | None = None,
    ) -> None:
        self._images = checked_images(np.asarray(images), name)
        n = len(self._images)
        index, names = _classes(np.asarray(labels), class_names, name)
        keys = [str(i).zfill(len(str(n - 1))) for i in range(n)] if ids is None else [str(key) for key in ids]
        words = [""] * n if splits is None else [split_named(str(word), name) for word in splits]
        named = [""] * n if groups is None else [str(group) for group in groups]
        counts: dict[str, Sized] = {"labels": index, "ids": keys, "splits": words, "groups": named}
        if any(len(found) != n for found in counts.values()):
            told = ", ".join(f"{len(found)} {what}" for what, found in counts.items())
            raise SourceError(f"{name}: {n} images, {told}")
        self._rows = {key: i for i, key in enumerate(keys)}
        if len(self._rows) < n:
            raise SourceError(f"{name}: {n - len(self._rows)} ids stand twice: each image needs its own")
        numeric, values = _numbers({} if tabular is None else tabular, name, n)
        samples = [
            Sample(id=key, path="", label=index[i], split=words[i], group=named[i], values=values[i])
            for key, i in sorted(self._rows.items())
        ]
        super().__init__(
            Dataset(name=name, class_names=names, samples=samples, columns=numeric.names, codes=numeric.codes)
        )

    def part(self, samples: Sequence[Sample]) -> Self:
        """Return a source as :meth:`Source.part`, with these images only."""
        part = super().part(samples)
        part._images = self._images[[self._rows[sample.id] for sample in samples]]
        part._rows = {sample.id: i for i, sample in enumerate(samples)}
        return part

    def _load(self, sample: Sample) -> ImageData:
        return to_uint8(self._images[self._rows[sample.id]])


def checked_images(images: NDArray[Any], name: str) -> NDArray[Any]:
    """Return the images themselves, if :func:`to_uint8` can take each of them; otherwise raise a SourceError."""
    shape, dtype = images.shape, images.dtype
    if not (images.ndim == 3 or (images.ndim == 4 and shape[3] in (1, 3, 4))) or 0 in shape:
        raise SourceError(f"{name}: images must have shape (N, H, W) or (N, H, W, 1, 3 or 4), not {shape}")
    if dtype.kind == "f":
        if not (images.min() >= 0 and images.max() <= 1):  # also false for NaN
            raise SourceError(f"{name}: images of {dtype} must lie in [0, 1]: scale them, or convert them to uint8")
    elif dtype not in (np.uint8, np.uint16):
        raise SourceError(f"{name}: images must be uint8, uint16 or floats in [0, 1], not {dtype}: convert them")
    return images


def to_uint8(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale one checked image to uint8 in [0, 255]; its shape stays."""
    if image.dtype == np.uint8:
        return image
    return np.rint(image * 255).astype(np.uint8) if image.dtype.kind == "f" else scale16(image)


def _numbers(
    tabular: Mapping[str, Iterable[object]], name: str, rows: int
) -> tuple[NumericColumns, list[tuple[float, ...]]]:
    """Return the numeric columns, and the numbers of each image; see :func:`featurestore.sources.numeric.coded`.

    Raises:
        SourceError: a column has another length, or holds neither numbers nor two texts.
    """
    columns = {str(key): [_cell(value) for value in values] for key, values in tabular.items()}
    for key, cells in columns.items():
        if len(cells) != rows:
            raise SourceError(f"{name}: {rows} images, but {len(cells)} numbers in column {key!r}: give one for each")
    found, numbers = coded([*columns], [*enumerate(zip(*columns.values(), strict=True))], name)
    return found, numbers or [()] * rows


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _classes(labels: NDArray[Any], class_names: Sequence[str] | None, name: str) -> tuple[list[int], tuple[str, ...]]:
    """Return labels as indices, and the names that they point to.

    Args:
        labels: (N,) or (N, 1), numbers or texts.
        class_names: what whole numbers point into, and what texts are among; None for the sorted labels themselves.
        name: of the dataset, for messages.

    Raises:
        SourceError: another shape or type, a label that is no class, or fewer than two classes.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iubUO":
        raise SourceError(f"{name}: labels must be N whole numbers or texts, not {labels.dtype} {labels.shape}")
    if labels.dtype.kind == "O":
        labels = labels.astype(str)
    values, index = np.unique(labels, return_inverse=True)
    names = tuple(str(value) for value in (values if class_names is None else class_names))
    if class_names is not None and len(set(names)) < len(names):
        twice = next(each for each in names if names.count(each) > 1)
        raise SourceError(f"{name}: class name {twice!r} stands twice: each class needs its own")
    known = list(values) if class_names is None else names if labels.dtype.kind == "U" else range(len(names))
    position = {value: i for i, value in enumerate(known)}
    for value in values:
        if value not in position:
            raise SourceError(f"{name}: label {value.item()!r} is none of the {len(names)} class names")
    if len(values) < 2:
        raise SourceError(f"{name}: only one class, {names[position[values[0]]]!r}: a head needs two or more")
    return [position[values[i]] for i in index], names
