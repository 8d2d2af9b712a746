"""Data sets that TensorFlow Datasets has prepared."""

import pickle
import shutil
import sys

import pytest
from source_files import refused, rows

from featurestore import FeatureStore, extract, open_source
from featurestore.errors import ImageError, MissingDependencyError
from featurestore.images.decode import decode
from featurestore.sources.opener import unlabelled

NAME = "tfds:little_pets"


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def prepared(request, tmp_path_factory):
    """A data set of 12 training, 6 test and 2 other images, in a folder of prepared data sets."""
    tfds = pytest.importorskip("tensorflow_datasets")
    import numpy as np

    class LittlePets(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "image/filename": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"]),
                "weight": tfds.features.Scalar(np.int64),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            parts = {"train": (0, 12), "test": (12, 18), "extra": (18, 20)}
            return {split: self._generate_examples(*ends) for split, ends in parts.items()}

        def _generate_examples(self, first, end):
            for i in range(first, end):
                yield (
                    i,
                    {
                        "image": np.full((20, 24, 3), i, np.uint8),
                        "image/filename": f"p{i // 2}_{i}.png",
                        "label": i % 3,
                        "weight": i % 2,
                    },
                )

    folder = tmp_path_factory.mktemp(request.param)
    LittlePets(data_dir=folder, file_format=request.param).download_and_prepare()
    return folder


@pytest.fixture
def there(prepared, monkeypatch):
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(prepared))
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    return prepared


def shade(source, sample):
    """The grey of an image, which is its number."""
    return int(decode(source.read(sample), 4, "squash")[0, 0, 0])


def test_a_prepared_data_set(there):
    source = open_source(NAME)
    assert (source.name, source.class_names) == ("little_pets", ("cat", "dog", "eel"))
    assert [row[3] for row in rows(source)] == ["test"] * 6 + ["train"] * 12
    assert source.listing().skipped == {"of split 'extra'": 2}
    samples = source.dataset().samples
    found = [shade(source, each) for each in samples]
    assert sorted(found) == list(range(18)) and set(found[:6]) == set(range(12, 18))
    assert [each.label for each in samples] == [number % 3 for number in found]
    assert [each.path.rpartition("/")[2] for each in samples] == [f"p{n // 2}_{n}.png" for n in found]
    grouped = open_source(NAME, group_pattern=r"/(p\d+)_").listing().samples
    assert [each.group for each in grouped] == [f"p{n // 2}" for n in found]


def test_a_split_and_a_folder(there):
    part = open_source(f"{NAME}:train[:50%]")
    assert (part.name, len(part.listing().samples)) == ("little_pets-train-50", 6)
    assert {each.split for each in part.listing().samples} == {""}
    both = open_source(f"{NAME}:1.0.0:train[6:]+test").listing().samples
    assert [each.split for each in both] == ["test"] * 6 + ["train"] * 6
    folder = open_source(f"tfds:{there}/little_pets/1.0.0")
    assert (folder.name, len(folder.listing().samples)) == ("little_pets", 18)
    assert open_source(NAME, label_column="weight", group_column="label").class_names == ("0", "1")


def test_extracted_and_found_again(there, tmp_path):
    options = {"backbone": "small_cnn", "weights": "random", "size": 32, "engine": "keras"}
    store = FeatureStore(extract(NAME, tmp_path, **options).path)
    assert (store.dataset, len(store)) == ("little_pets", 18)
    source = open_source(NAME)
    assert {shade(source, each) for each in store.samples([0, 1, 2, 3, 4, 5])} == set(range(12, 18))
    assert extract(NAME, tmp_path, **options).computed == 0


def test_a_part_reads_its_samples_in_another_process(there):
    source = open_source(NAME)
    samples = source.dataset().samples
    part = pickle.loads(pickle.dumps(source.part(samples[3:5])))
    assert [part.read(each) for each in samples[3:5]] == [source.read(each) for each in samples[3:5]]


def test_images_without_labels(there):
    source = unlabelled(NAME)
    assert source is not None and len(source.listing().samples) == 18 and source.class_names == ()
    assert shade(source, source.listing().samples[0]) in range(12, 18)


def test_what_cannot_serve(there, tmp_path):
    message = refused("tfds:no_such_set")
    assert str(there) in message and "tfds.builder('no_such_set').download_and_prepare()" in message
    assert "did you mean 'train'?" in refused(f"{NAME}:tran")
    assert "unknown split" in refused(f"{NAME}:train[:x%]")
    assert "no feature 'breed': its features are image (Image)" in refused(NAME, label_column="breed")
    assert "leave --split-column out" in refused(NAME, split_column="label")
    assert "write tfds:NAME" in refused("tfds:")
    (tmp_path / "1.0.0").mkdir()
    assert "description cannot be read" in refused(f"tfds:{tmp_path}/1.0.0")


def test_a_damaged_file(there, tmp_path):
    shutil.copytree(there / "little_pets", tmp_path / "pets")
    (file,) = (tmp_path / "pets/1.0.0").glob("*train*")
    source = open_source(f"tfds:{tmp_path}/pets/1.0.0")
    samples = source.dataset().samples
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elsewhere = pickle.loads(pickle.dumps(source))  # which opens the file anew
    with pytest.raises(ImageError):
        for each in samples:
            elsewhere.read(each)
    found = open_source(f"tfds:{tmp_path}/pets/1.0.0").listing()
    assert [each.path for each in found.failures] == [file.name]
    assert len(found.samples) >= 6 and {each.split for each in found.samples} >= {"test"}


def test_the_library_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(MissingDependencyError, match=r"featurestore\[tfds\]"):
        open_source(NAME)
