import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import DesignError
from heads.kinds.design import HeadDesign
from heads.search.space import expand, load_space, read_space


@pytest.fixture
def space(tmp_path):
    """The designs of a TOML text."""

    def load(text, seed=0):
        (tmp_path / "sweep.toml").write_text(text, encoding="utf-8")
        return expand(load_space("", tmp_path / "sweep.toml"), seed)

    return load


@pytest.mark.parametrize(
    ("preset", "counts"),
    [
        ("quick", {"logreg": 9, "linear-svm": 4, "ridge": 4, "lda": 2, "centroid": 1, "knn": 2}),
        (
            "standard",
            {"logreg": 26, "linear-svm": 11, "ridge": 9, "lda": 5, "centroid": 2, "knn": 8, "svm": 6, "dense": 32},
        ),
        (
            "thorough",
            {"logreg": 100, "linear-svm": 44, "ridge": 30, "lda": 9, "centroid": 2, "knn": 24, "svm": 10, "dense": 128},
        ),
    ],
)
def test_presets(preset, counts):
    designs = expand(load_space(preset), 0)
    assert Counter(design.kind for design in designs) == counts
    assert len(set(designs)) == len(designs)
    assert designs == expand(load_space(preset), 0)
    others = set(expand(load_space(preset), 1))
    assert {d for d in designs if d.kind != "dense"} == {d for d in others if d.kind != "dense"}
    assert (set(designs) == others) == (preset == "quick")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("C = 0.5", [0.5]),
        ("C = [1, 0.5, 1.0]", [1.0, 0.5]),
        ("C = { log = [1e-3, 10], num = 5 }", [1e-3, 0.01, 0.1, 1.0, 10.0]),
        ("C = { uniform = [1, 2], num = 3 }", [1.0, 1.5, 2.0]),
        ("C = { choice = [3.0, 4.0] }", [3.0, 4.0]),
        ("C.log = [1, 1]", [1.0]),
        ("", [0.01]),
    ],
)
def test_values_of_a_range(space, values, expected):
    assert [design.params["C"] for design in space(f"[[heads]]\nkind = 'logreg'\n{values}")] == expected


def test_every_combination_or_so_many_at_random(space):
    text = """
    [[heads]]
    kind = "dense"
    hidden = [[], 64, [256, 64]]
    batch_norm = [true, false]
    epochs = { log = [10, 40], num = 3 }
    """
    designs = space(text)
    assert len(set(designs)) == 18
    assert {d.params["hidden"] for d in designs} == {(), (64,), (256, 64)}
    assert {d.params["epochs"] for d in designs} == {10, 20, 40}
    drawn = space(f"{text}\nsamples = 40\nlearning_rate = {{ log = [1e-4, 1e-2] }}\ndropout = {{ uniform = [0, 0.5] }}")
    assert len(drawn) == 40
    rates = np.array([d.params["learning_rate"] for d in drawn])
    assert rates.min() >= 1e-4 and rates.max() <= 1e-2 and len(set(rates)) == 40
    assert 8 < (rates < 1e-3).sum() < 32
    assert {d.params["hidden"] for d in drawn} == {(), (64,), (256, 64)}
    assert all(10 <= d.params["epochs"] <= 40 for d in drawn)


def test_equal_designs_are_one():
    space = [{"kind": "logreg", "C": [1, 0.01]}, {"kind": "logreg", "C": {"log": [0.01, 1.0], "num": 3}}]
    assert expand(read_space(space), 0) == [HeadDesign("logreg", {"C": C}) for C in (1.0, 0.01, 0.1)]


HEAD = "# é\n[[heads]]\nkind = 'knn'\n\n[[heads]]\nC = 1\nkind = 'logreg'\n"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (f"{HEAD}c = 1", "heads[1].c", "did you mean 'C'"),
        (f"{HEAD}samples = 0", "heads[1].samples", "whole number from 1"),
        (f"{HEAD}sample = 3", "heads[1].sample", "did you mean 'samples'"),
        (f"{HEAD}tol = 'small'", "heads[1].tol", "takes no tol=small"),
        (f"{HEAD}'tol' = [0.1, 'small', 0.2]", "heads[1].tol", "takes no tol=small"),
        (f"{HEAD}tol = []", "heads[1].tol", "an empty list"),
        (f"{HEAD}tol = {{ log = [0.1, 0.01] }}", "heads[1].tol", "the smaller first, above 0"),
        (f"{HEAD}tol = {{ log = [0, 0.01] }}", "heads[1].tol", "above 0"),
        (f"{HEAD}tol = {{ uniform = 3 }}", "heads[1].tol", "two numbers"),
        (f"{HEAD}tol = {{ uniform = [0.1, 0.2], num = 0 }}", "heads[1].tol", "num = 0"),
        (f"{HEAD}tol = {{ uniform = [0.1, 0.2], num = 1000000000 }}", "heads[1].tol", "num = 1000000000"),
        (f"{HEAD}tol = {{ uniform = [0.1, 0.2], nun = 3 }}", "heads[1].tol", "did you mean 'num'"),
        (f"{HEAD}tol = {{ num = 3 }}", "heads[1].tol", "write one of them"),
        (f"{HEAD}tol.log = [5, 9]", "heads[1].tol", "takes no tol=5"),
        (f"{HEAD}[heads.tol]\nlog = [5, 9]", "heads[1].tol: ", "takes no tol=5"),
        (f"{HEAD}max_iter = {{ log = [1, 1{'0' * 400}] }}", "heads[1].max_iter", "two numbers"),
        (f"{HEAD}max_iter = {{ uniform = [-1e308, 1e308] }}", "heads[1].max_iter", "two numbers"),
        (f"{HEAD}tol = 2020-01-01", "heads[1].tol", "takes no tol=2020-01-01"),
        (f"{HEAD}[[heads]]\nkind = 'logrek'", "heads[2].kind: ", "did you mean 'logreg'"),
        (f"{HEAD}[[heads]]\nkind = 3", "heads[2]: ", "needs a kind"),
        (f"{HEAD}\n[[heads]]", "heads[2]: ", "needs a kind"),
        (f"{HEAD}[[heads]]\nkind = 'lda'\nshrinkage = {{ uniform = [0.1, 1], num = 99999 }}\nstandardize = [true, false]",  # noqa: E501
         "heads[2]: ", "more than 100000"),
        (f"{HEAD}[[head]]\nkind = 'knn'", "a space has no 'head': ", "did you mean 'heads'"),
        ("\nhead = 3", "a space has no 'head': ", "did you mean 'heads'"),
        ("\n[head]\n", "a space has no 'head': ", "did you mean 'heads'"),
        ("# none\nheads = [\n  { kind = 'logreg', c = 3 },\n]", "heads[0].c: ", "did you mean 'C'"),
        ("# a\u2028b\nx = 3", "a space has no 'x': ", "known: heads"),
        ("[[heads]]\nkind = 'knn'\n\"a\\nb\" = 1", r"heads[0].'a\nb': ", "has no hyperparameter"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(space, text, place, message):
    with pytest.raises(DesignError) as caught:
        space(text)
    assert f"sweep.toml: {place}" in str(caught.value)
    assert re.search(message, str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "heads = 3", "heads = [3]", "[heads]", "heads = []", "x =", "x = " + "[" * 5000, "\x00"]
)
def test_text_that_is_no_space(space, text):
    with pytest.raises(DesignError, match="head"):
        space(text)


def test_files_and_presets_that_are_not_there(tmp_path):
    with pytest.raises(DesignError, match="did you mean 'standard'"):
        load_space("standart")
    with pytest.raises(DesignError, match="none"):
        load_space("", tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(DesignError, match="latin"):
        load_space("", tmp_path / "latin.toml")


numbers = st.integers() | st.floats().map(str) | st.sampled_from(["1e-3", "0.5", "10", "1e400", "true", "'scale'"])
words = st.sampled_from(["kind", "C", "tol", "hidden", "samples", "log", "uniform", "choice", "num", "gamma", "heads"])
inner = st.recursive(
    numbers.map(str) | st.dates().map(str) | st.sampled_from(["'svm'", "'dense'", "'knn'", "''"]),
    lambda some: (
        st.lists(some, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(words, some, max_size=2).map(
            lambda items: f"{{ {', '.join(f'{key} = {value}' for key, value in items.items())} }}"
        )
    ),
    max_leaves=6,
)
lines = st.one_of(
    st.tuples(words, inner).map(" = ".join),
    st.sampled_from(["[[heads]]", "[[heads]]\nkind = 'svm'", "[[heads]]\nkind = 'dense'", "[heads.C]", "\r\n"]),
    st.text(max_size=8),
)


@given(st.lists(lines, max_size=6).map("\n".join) | st.text())
def test_any_text_gives_designs_or_an_error_of_ours(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode(errors="replace"))
    try:
        assert all(isinstance(design, HeadDesign) for design in expand(load_space("", path), 0))
    except DesignError as error:
        assert "any.toml" in str(error)
