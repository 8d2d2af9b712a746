import pytest

from featurestore import FeatureStore
from featurestore.errors import SourceError
from heads import load_head
from heads.demo import DATA, digits, run_demo, textiles
from heads.kinds.design import KINDS


def test_the_demo_on_a_part_of_its_digits(tmp_path, monkeypatch):
    """The whole job on 120 of the 1,797 digits: the rest is more of the same."""
    from featurestore import ArraySource

    whole = digits()
    listing = whole.listing().samples
    assert len(listing) == 1797
    few = listing[:120]
    part = ArraySource([whole._load(s) for s in few], [s.label for s in few], name="digits")
    monkeypatch.setitem(DATA, "digits", lambda: part)
    events = []
    result = run_demo(tmp_path, progress=lambda *event: events.append(event))
    assert [head.head for head in result.heads] == list(KINDS)
    assert len(FeatureStore(result.extraction.path)) == 120
    for head in result.heads:
        assert load_head(head.path).design.kind == head.head
        assert head.evaluation.accuracy > 0.4  # ten classes, and eight images of each to learn from
    assert ("fitting", len(KINDS), len(KINDS)) in events


def test_textiles_are_there():
    assert {name.split("/")[0] for name in textiles().class_names} == {"global", "local", "nominal"}


def test_an_unknown_data_set(tmp_path):
    with pytest.raises(SourceError, match="unknown data set 'flower': did you mean 'flowers'"):
        run_demo(tmp_path, "flower")
