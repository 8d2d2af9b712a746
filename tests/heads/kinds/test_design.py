import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import DesignError
from heads import HeadDesign
from heads.kinds.design import KINDS, RECIPES, parameters


def values(known):
    """Any value that a hyperparameter takes."""
    if isinstance(known.default, bool):
        return st.booleans()
    words = st.sampled_from(known.choices) if known.choices else st.nothing()
    if isinstance(known.default, tuple):
        return st.lists(st.integers(int(known.low), int(known.high)), max_size=4).map(tuple)
    if isinstance(known.default, int):
        return st.integers(int(known.low), int(known.high))
    return words | (st.floats(known.low, known.high) if known.low < known.high else st.nothing())


@st.composite
def designs(draw):
    kind = draw(st.sampled_from(sorted(KINDS)))
    return HeadDesign(
        kind, draw(st.fixed_dictionaries({}, optional={n: values(p) for n, p in parameters(kind).items()}))
    )


@given(designs())
def test_designs_survive_json_and_text(design):
    assert HeadDesign.from_json(design.to_json()) == design
    texts = [
        f"{name}={(','.join(map(str, value)) or '0') if isinstance(value, tuple) else value}"
        for name, value in design.params.items()
    ]
    assert HeadDesign.parse(design.kind, texts) == design
    assert len({design, HeadDesign.from_json(design.to_json())}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_defaults_that_it_takes_itself_and_help(kind):
    known = parameters(kind)
    assert HeadDesign(kind).params == {name: item.default for name, item in known.items()}
    assert all(item.help and item.allowed for item in known.values())
    assert HeadDesign(kind).build(seed=7).get_params() == {**HeadDesign(kind).params, "random_state": 7}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("logreg", "C=1e-2", 0.01),
        ("logreg", "C=3", 3.0),
        ("logreg", "max_iter= 50", 50),
        ("logreg", "standardize=False", False),
        ("svm", "gamma=scale", "scale"),
        ("svm", "gamma=0.5", 0.5),
        ("dense", "hidden=512", (512,)),
        ("dense", "hidden=512, 256", (512, 256)),
        ("dense", "hidden=0", ()),
    ],
)
def test_text_becomes_typed_values(kind, text, value):
    found = HeadDesign.parse(kind, [text]).params[text.split("=")[0]]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        ("logrek", {}, "did you mean 'logreg'"),
        ("caltech", {}, "did you mean 'caltech101'"),
        ("xray", {"epoch": 1}, "did you mean 'epochs'"),
        ("logreg", {"c": 1}, "did you mean 'C'"),
        ("dense", {"droput": 1}, "did you mean 'dropout'"),
        ("logreg", {"C": "many"}, "a number from 1e-10 to 1e\\+10"),
        ("logreg", {"C": 0}, "a number from"),
        ("logreg", {"C": float("nan")}, "a number from"),
        ("logreg", {"C": True}, "a number from"),
        ("logreg", {"C": None}, "a number from"),
        ("logreg", {"max_iter": 2.5}, "a whole number from 1"),
        ("logreg", {"standardize": 2}, "true or false"),
        ("svm", {"gamma": "auto"}, "scale or a number"),
        ("knn", {"metric": "manhattan"}, "cosine or euclidean"),
        ("knn", {"metric": "0"}, "cosine or euclidean"),
        ("dense", {"hidden": "512,0"}, "whole numbers"),
        ("dense", {"hidden": True}, "whole numbers"),
        ("dense", {"hidden": {"a": 1}}, "whole numbers"),
        ("dense", {"epochs": 10**400}, "a whole number"),
    ],
)
def test_what_is_impossible_is_named_with_the_way_out(kind, params, message):
    with pytest.raises(DesignError, match=message):
        HeadDesign(kind, params)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": []}', '{"kind": "logreg", "params": [1]}'])
def test_text_that_is_no_design(text):
    with pytest.raises(DesignError):
        HeadDesign.from_json(text)


def test_setting_without_a_value():
    with pytest.raises(DesignError, match="NAME=VALUE"):
        HeadDesign.parse("logreg", ["C"])


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_designs_of_their_kind(name, digits):
    kind, params = RECIPES[name]
    design = HeadDesign.parse(name, {"epochs": 5, "learning_rate": 0.01})
    assert design == HeadDesign(kind, {**params, "epochs": 5, "learning_rate": 0.01})
    assert HeadDesign.parse(name, ["dropout=0.1"]).params["dropout"] == 0.1
    assert parameters(name) == parameters(kind)
    X, y = digits
    assert design.build().fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.3
