"""Numeric columns: cells become numbers, two texts become 0 and 1, and what is neither is named with its line."""

from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import ArraySource, FeatureStore, extract, open_source
from featurestore.errors import SourceError
from featurestore.sources.numeric import coded


def column(*cells):
    columns, values = coded(["x"], [(i + 2, (cell,)) for i, cell in enumerate(cells)], "a.csv")
    return columns.codes[0], [value for (value,) in values]


@given(st.lists(st.floats(-1e15, 1e15) | st.none(), min_size=1))
def test_numbers_stay_numbers_and_empty_cells_are_missing(numbers):
    codes, values = column(*("" if number is None else repr(number) for number in numbers))
    assert codes == ()
    np.testing.assert_array_equal(values, [nan if number is None else number for number in numbers])


def test_two_texts_are_coded_in_their_order_whatever_stands_first():
    assert column("M", "F", "M") == (("F", "M"), [1, 0, 1])
    assert column("yes") == (("yes",), [0])
    codes, values = column("NA", "M", "n/a", "F", "NaN", "None", "null")
    assert codes == ("F", "M") and [isnan(value) for value in values] == [True, False] * 2 + [True] * 3


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (
            ("F", "M", "f"),
            "column 'x' holds 'F' in line 2, 'M' in line 3, 'f' in line 4: write numbers, or the same two",
        ),
        (("61", "6o"), "holds '6o' in line 3 among numbers: write numbers"),
        (("5", "1e400"), "holds '1e400' in line 3 among numbers"),
        (("1", "inf"), "holds 'inf' in line 3 among numbers"),
        (("a" * 300, "b"), "holds 'aaaa"),
    ],
)
def test_cells_that_are_no_numbers_are_named_with_their_line(cells, words):
    with pytest.raises(SourceError, match=words):
        column(*cells)


@pytest.mark.parametrize("names", [["x", "x"], [""], ["x" * 201], [f"c{i}" for i in range(1001)]])
def test_names_that_cannot_serve(names):
    with pytest.raises(SourceError, match=r"named twice|1 to 200 characters|1,000 at most"):
        coded(names, [], "a.csv")


def manifest(images, path, age=lambda i: str(20 + i)):
    listed = open_source(images).listing().samples
    lines = [f"{s.path},{s.path.split('/')[0]},{age(i)},{'FM'[i % 2]}" for i, s in enumerate(listed)]
    path.write_text("\n".join(["path,label,age,sex", *lines]))
    return path


def test_columns_of_a_manifest_go_into_the_file_and_new_numbers_cost_no_features(images, tmp_path):
    table, options = tmp_path / "m.csv", {"backbone": "small_cnn", "weights": "random", "size": 32, "progress": False}

    def run(age, columns=("age", "sex")):
        return extract(open_source(images, labels=manifest(images, table, age), columns=columns), tmp_path, **options)

    first = run(lambda i: "" if i == 3 else str(20 + i))
    file = FeatureStore(first.path)
    file.verify()
    assert [(each.name, each.codes) for each in file.columns] == [("age", ()), ("sex", ("F", "M"))]
    numbers = file.features("tabular")
    assert numbers.dtype == np.float32 and numbers.shape == (len(file), 2)
    assert numbers[:3].tolist() == [[20, 0], [21, 1], [22, 0]] and isnan(numbers[3, 0])
    assert file.samples([1])[0].values == file.samples()[1].values == (21, 1)
    assert file.summary()["columns"] == ["age", "sex"] and not file.grouped
    assert not run(lambda i: "" if i == 3 else str(20 + i)).written
    again = run(lambda i: str(30 + i))
    assert again.written and again.computed == 0 and again.path == first.path
    assert FeatureStore(again.path).features("tabular")[3].tolist() == [33, 1]
    np.testing.assert_array_equal(FeatureStore(again.path).features("last"), file.features("last"))
    source = open_source(images, labels=table, columns=["age", "sex"])
    shards = FeatureStore(extract(source, tmp_path / "shards", **options, shard_rows=10).path)
    assert shards.path.is_dir() and shards.columns == file.columns
    by_id = {sample.id: sample.values for sample in FeatureStore(again.path).samples()}
    assert {sample.id: sample.values for sample in shards.samples()} == by_id
    np.testing.assert_array_equal(shards.features("tabular")[:], [by_id[key] for key in shards.ids])
    plain = run(str, columns=())
    assert plain.written and plain.computed == 0 and FeatureStore(plain.path).columns == ()


def test_columns_that_a_manifest_lacks_and_sources_without_columns(images, tmp_path):
    with pytest.raises(SourceError, match="no column 'weight': its columns are 'path', 'label', 'age', 'sex'"):
        open_source(images, labels=manifest(images, tmp_path / "m.csv"), columns=["weight"])
    with pytest.raises(SourceError, match="numeric columns are taken from a CSV: add --labels FILE"):
        open_source(images, columns=["age"])
    with pytest.raises(SourceError, match="holds 'x' in line 3 among numbers"):
        open_source(
            images, labels=manifest(images, tmp_path / "m.csv", lambda i: "x" if i == 1 else "5"), columns=["age"]
        )


def test_numbers_of_arrays():
    images, labels = np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1]
    tabular = {"age": np.array([1, nan, 3, 4]), "sex": ["M", None, "F", "M"], "smokes": [True, False, True, True]}
    listing = ArraySource(images, labels, name="x", tabular=tabular).listing()
    assert listing.columns == ("age", "sex", "smokes") and listing.codes == ((), ("F", "M"), ("False", "True"))
    assert [sample.values for sample in listing.samples][2:] == [(3, 0, 1), (4, 1, 1)]
    assert [isnan(value) for value in listing.samples[1].values] == [True, True, False]
    assert ArraySource(images, labels, name="x").listing().samples[0].values == ()
    for wrong, words in [
        ({"a": [1, 2, 3]}, "x: 4 images, but 3 numbers in column 'a': give one for each"),
        ({"a": [1, 2, "b", 4]}, "x: column 'a' holds 'b' in line 2 among numbers"),
        ({"a": [1, 2, np.inf, 4]}, "holds 'inf' in line 2 among numbers"),
    ]:
        with pytest.raises(SourceError, match=words):
            ArraySource(images, labels, name="x", tabular=wrong)


def test_a_data_frame_has_the_names_of_its_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"age": [1.5, nan], "sex": ["F", "M"]})
    listing = ArraySource(np.zeros((2, 8, 8), np.uint8), [0, 1], name="x", tabular=frame).listing()
    assert listing.columns == ("age", "sex") and listing.samples[0].values == (1.5, 0)
