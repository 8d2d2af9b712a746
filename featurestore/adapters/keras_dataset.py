"""A feature file as batches for training loops of one's own. Importing this module imports Keras."""

import os
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import StoreError
from featurestore.store.reader import FeatureStore, find_file
from featurestore.system.keras import import_keras

PyDataset: Any = import_keras("FeatureDataset").utils.PyDataset


class FeatureDataset(PyDataset):  # type: ignore[misc]
    """Batches of one split: what ``model.fit`` takes, and a sequence of (features, labels) for any other loop.

    A batch is float32 (B, ...), as the file's maps are shaped, and int32 (B,), indices into `class_names`; the last one
    of an epoch may be shorter. Features are read from the file as they are needed, whatever its size.

    Args:
        path: a feature file, or a folder with one.
        split: ``train``, ``validation`` or ``test``.
        batch_size: rows in a batch.
        tap: which features; may be left out when the file has one tap.
        shuffle: another order in each epoch; by default for ``train``.
        seed: of the orders.
        options: of ``keras.utils.PyDataset``, such as ``workers``.

    Attributes:
        class_names: class `i` is ``class_names[i]``.
        shape: of one row's features.

    Raises:
        StoreError: no such file, or no rows of this split in it.
        MissingDependencyError: Keras is not installed.

    Example:
        >>> from featurestore import FeatureDataset
        >>> batches = FeatureDataset("digits.h5", "train", batch_size=100)
        >>> features, labels = batches[0]
        >>> len(batches), features.shape, labels.shape
        (4, (100, 64), (100,))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str = "train",
        batch_size: int = 64,
        *,
        tap: str | None = None,
        shuffle: bool | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        store = FeatureStore(find_file(path))
        self._features, self._labels, self._rows = store.features(tap), store.labels, store.rows(split)
        if not len(self._rows):
            raise StoreError(f"{store.path}: no rows of split {split!r}: it has {', '.join(np.unique(store.splits))}")
        self.class_names, self.shape = store.class_names, self._features.shape[1:]
        self._batch_size, self._rng = batch_size, np.random.default_rng(seed)
        self._shuffle = split == "train" if shuffle is None else shuffle
        self.on_epoch_end()

    def __len__(self) -> int:
        return ceil(len(self._rows) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rows = self._rows[index * self._batch_size : (index + 1) * self._batch_size]
        return np.asarray(self._features[rows], np.float32), self._labels[rows]

    def on_epoch_end(self) -> None:
        """Keras calls it after each epoch."""
        if self._shuffle:
            self._rows = self._rng.permutation(self._rows)

    def to_tf(self) -> Any:
        """The same batches as a ``tf.data.Dataset``, read ahead; each pass over it is an epoch.

        Raises:
            ImportError: TensorFlow is not installed.
        """
        import tensorflow as tf

        def batches() -> Any:
            yield from (self[i] for i in range(len(self)))
            self.on_epoch_end()

        signature = (tf.TensorSpec((None, *self.shape), tf.float32), tf.TensorSpec((None,), tf.int32))
        data = tf.data.Dataset.from_generator(batches, output_signature=signature)
        return data.apply(tf.data.experimental.assert_cardinality(len(self))).prefetch(tf.data.AUTOTUNE)
