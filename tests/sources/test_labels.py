"""Classes of labels that are numbers or texts."""

import pytest

from featurestore.errors import SourceError
from featurestore.sources.labels import About, Gathered, class_names_of


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["10", "9"], (), (("9", "10"), ["10", "9"])),
        (["10", "9", "x"], (), (("10", "9", "x"), ["10", "9", "x"])),
        (["007", "7", "-1"], (), (("-1", "7"), ["7", "7", "-1"])),
        (["1", "2"], ("a", "b"), (("a", "b"), ["b", None])),
        (["1", "0"], ("1", "0"), (("1", "0"), ["0", "1"])),  # numbers are indices first
        (["8", "3"], ("3", "8"), (("3", "8"), ["8", "3"])),  # and names where they can be nothing else
        (["b", "x"], ("a", "b"), (("a", "b"), ["b", None])),
    ],
)
def test_what_labels_mean(labels, names, expected):
    assert class_names_of(labels, names) == expected


def test_too_many_images_are_refused(monkeypatch):
    monkeypatch.setattr("featurestore.sources.labels.MAX_IMAGES", 2)
    gathered = Gathered("x.tar")
    for i in range(2):
        gathered.add(str(i), str(i), About("a"), i)
    with pytest.raises(SourceError, match=r"x\.tar: more than 2 images"):
        gathered.add("2", "2", About("a"), 2)
