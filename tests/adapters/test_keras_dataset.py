import numpy as np
import pytest
from storage import feature_file

from featurestore import FeatureDataset, FeatureStore
from featurestore.errors import StoreError


def rows_of(batches):
    return np.concatenate([features for features, _ in batches]), np.concatenate([labels for _, labels in batches])


def test_batches_of_a_split(tmp_path):
    path = feature_file(tmp_path)
    store, data = FeatureStore(path), FeatureDataset(path, "test", 4)
    assert [len(labels) for _, labels in data] == [4, 2] and (data.shape, len(data)) == ((7,), 2)
    features, labels = rows_of(data)
    rows = store.rows("test")
    np.testing.assert_array_equal(features, store.features()[rows])
    np.testing.assert_array_equal(labels, store.labels[rows])
    assert (features.dtype, labels.dtype, data.class_names) == (np.float32, np.int32, store.class_names)


def test_each_epoch_has_an_order_of_its_own(tmp_path):
    path = feature_file(tmp_path)
    data, same = FeatureDataset(path, batch_size=5, seed=1), FeatureDataset(path, batch_size=5, seed=1)
    first = rows_of(data)[0]
    np.testing.assert_array_equal(first, rows_of(same)[0])
    data.on_epoch_end()
    second = rows_of(data)[0]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(second, axis=0))


def test_a_loop_of_keras_and_tf_data(tmp_path):
    import keras

    path = feature_file(tmp_path)
    data = FeatureDataset(path, batch_size=4)
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(data, epochs=2, validation_data=FeatureDataset(path, "test"), verbose=0)
    assert np.isfinite(history.history["val_loss"]).all()
    stream = FeatureDataset(path, "test", 4).to_tf()
    assert len(stream) == 2
    found = [(features.numpy(), labels.numpy()) for features, labels in stream]
    for one, other in zip(rows_of(found), rows_of(FeatureDataset(path, "test", 4)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_bad_input(tmp_path):
    path = feature_file(tmp_path)
    with pytest.raises(StoreError, match="no rows of split 'training': it has test, train, validation"):
        FeatureDataset(path, "training")
    with pytest.raises(StoreError, match="no such file"):
        FeatureDataset(tmp_path / "nothing.h5")
