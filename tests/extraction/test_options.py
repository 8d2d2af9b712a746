"""Both public functions take the same options, which are checked in one place."""

import inspect
from dataclasses import fields

import pytest

from featurestore import extract, extract_all, open_source
from featurestore.errors import BackboneError, FeatureStoreError
from featurestore.extraction.options import ExtractionOptions
from featurestore.sources.options import SourceOptions


def options_of(function) -> dict[str, inspect.Parameter]:
    return {name: p for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}


def test_the_public_functions_spell_out_the_same_options():
    one, several = options_of(extract), options_of(extract_all)
    looks = {"resize", "crops"}  # of which `extract`, which gives one file, takes one
    assert {name: one[name] for name in several if name not in looks} == {
        name: parameter for name, parameter in several.items() if name not in looks
    }
    assert all(one[name].default == several[name].default for name in looks)
    assert set(one) - set(several) == {"backbone", "weights"}
    assert set(several) - {"progress", "note"} == {field.name for field in fields(ExtractionOptions)}


def test_open_source_spells_out_the_options_of_a_source():
    defaults = {field.name: field.default for field in fields(SourceOptions)}
    defaults["columns"] = defaults.pop("numeric")  # a name that the columns of paths and labels have there
    defaults["label_column"] = defaults.pop("label_columns") or None  # one, or several
    del defaults["labelled"]  # which commands set
    assert {name: parameter.default for name, parameter in options_of(open_source).items()} == defaults


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"resize": "crops"}, "unknown resize rule 'crops': did you mean 'crop'?"),
        ({"crops": 4}, "4 crops: pass --crops 1, 5 or 10"),
        ({"dtype": "float64"}, "unknown dtype 'float64'"),
        ({"decoder": "turbojpeg"}, "unknown decoder 'turbojpeg': did you mean 'turbo'?"),
        ({"engine": "kera"}, "unknown engine 'kera': did you mean 'keras'?"),
        ({"batch_size": 0}, "batch size 0: it must be at least 1"),
        ({"views": 1001}, "views 1001: it must be 0 to 1,000"),
        ({"augment": "flipp"}, "did you mean 'flip'"),
        ({"cluster": "many"}, "cluster 'many': give a number"),
    ],
)
def test_what_is_wrong_is_said_before_the_source_is_looked_at(tmp_path, option, words):
    with pytest.raises((BackboneError, FeatureStoreError)) as error:
        extract(tmp_path / "nowhere", tmp_path / "store", **option)
    assert words in str(error.value)
    assert not (tmp_path / "store").exists()


OPTIONS = {
    name: parameter.default
    for name, parameter in inspect.signature(extract_all).parameters.items()
    if name in {field.name for field in fields(ExtractionOptions)}
}


def test_each_look_is_a_request():
    """Several resize rules and numbers of crops are taken in all pairs; a crop share is for those that have one."""
    several = OPTIONS | {"resize": ["squash", "shortest"], "crops": [1, 5, 1], "crop_share": 0.9}
    found = ExtractionOptions(**several).requests({"vgg16": "random"})
    assert [(each.resize, each.crops, each.crop_share) for each in found] == [
        ("squash", 1, None), ("squash", 5, 0.9), ("shortest", 1, 0.9), ("shortest", 5, 0.9)
    ]  # fmt: skip
    assert len({each.network for each in found}) == 1
    (alone,) = ExtractionOptions(**OPTIONS | {"crop_share": 0.9}).requests({"vgg16": "random"})
    assert (alone.resize, alone.crops, alone.crop_share) == (None, 1, 0.9)
    two = ExtractionOptions(**OPTIONS | {"crops": (1, 5)}).requests({"vgg16": "random", "vgg19": "imagenet"})
    assert [(each.name, each.crops) for each in two] == [("vgg16", 1), ("vgg16", 5), ("vgg19", 1), ("vgg19", 5)]
