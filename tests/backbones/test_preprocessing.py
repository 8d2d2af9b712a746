import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from featurestore.backbones.preprocessing import PREPROCESSINGS, Preprocessing
from featurestore.errors import BackboneError

three = st.tuples(*[st.floats(0.001, 300)] * 3)


@given(three, three)
def test_the_name_says_all_of_it(mean, std):
    found = Preprocessing(mean, std)
    assert Preprocessing.of(found.name) == found
    assert Preprocessing.of(found.name).name == found.name


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_known_numbers_have_their_short_name(name):
    known = PREPROCESSINGS[name]
    assert Preprocessing.of(name) is known and known.name == name
    if not known.bgr:
        mean, std = (",".join(map(str, values)) for values in (known.mean, known.std))
        assert Preprocessing.of(f"mean={mean} std={std}").name == name


@pytest.mark.parametrize(
    "name",
    ["", "TF", "mean=1,2,3", "mean=1,2 std=1,2", "mean=1,2,3 std=0,1,1", "mean=nan,1,1 std=1,1,1",
     "mean=1,1,1 std=a,1,1", "mean=1,1,1 std=1,1,1 bgr=1", "mean=1,1,1 std=inf,1,1", "mean=1,1,1 std=1=1,1"],
)  # fmt: skip
def test_other_texts_are_refused(name):
    with pytest.raises(BackboneError, match=r"unknown preprocessing .*mean=R,G,B std=R,G,B"):
        Preprocessing.of(name)


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS.values(), ids=PREPROCESSINGS)
def test_it_is_the_same_in_numpy_and_in_keras(preprocessing):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    found = ops.convert_to_numpy(preprocessing(ops.convert_to_tensor(pixels)))
    np.testing.assert_allclose(preprocessing(pixels), found, rtol=1e-6, atol=1e-6)
