import json
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.system.documents import parse, read


@dataclass
class Point:
    x: int
    names: list[str]
    y: float = 0.0


def test_gives_the_type_that_was_asked_for():
    assert parse('{"x": 1, "names": ["\\udcff"], "y": 2, "later": []}', Point) == Point(1, ["\udcff"], 2.0)


@pytest.mark.parametrize(
    "text",
    [
        "[]", "{", '{"x": 1}', '{"x": "1", "names": []}', '{"x": 1.5, "names": []}', '{"x": true, "names": []}',
        '{"x": 1, "names": "abc"}', '{"x": 1, "names": {}}', '{"x": 1, "names": [1]}', '{"x": 1, "names": null}',
        '{"x": 1, "names": [], "\\udcff": 1}', f'{{"x": 1, "names": [], "y": 1{"0" * 5000}}}', b"\xff\xfe{", "",
    ],
)  # fmt: skip
def test_any_other_document_is_refused_in_one_line(text):
    with pytest.raises(ValueError) as caught:
        parse(text, Point)
    assert str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 10**6, '{"a":' * 900 + "1" + "}" * 900, "[" * 150 + "]" * 150])
def test_deep_documents_are_refused(text):
    with pytest.raises(ValueError, match=r"deep|lists and objects"):
        parse(text, dict)


@pytest.mark.parametrize("item", ["[],", "{},", "1,"])
def test_what_would_swell_is_refused_before_it_does(item):
    with pytest.raises(ValueError, match="values"):
        parse("[" + item * 2**22 + "1]", list)


def test_large_files_are_refused_unread(tmp_path):
    with (tmp_path / "sparse.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="larger than 32 MiB"):
        read(tmp_path / "sparse.json", dict)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)


@given(values)
def test_every_document_is_a_point_or_a_value_error(value):
    try:
        assert isinstance(parse(json.dumps(value), Point), Point)
    except ValueError as error:
        assert "\n" not in str(error)


@settings(max_examples=30)
@given(st.dictionaries(st.text(), values))
def test_plain_documents_come_through_as_they_are(value):
    text = json.dumps(value)
    assert json.dumps(parse(text, dict)) == text
