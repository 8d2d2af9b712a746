import numpy as np
import pytest

from featurestore.backbones import load_backbone
from featurestore.errors import ImageError
from featurestore.forward import Forward, batched


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("efficientnet_lite0", size=32)


def read(item: int):
    if item % 7 == 3:
        raise ImageError(f"item {item} is bad")
    return np.full((20, 20, 3), item, np.uint8)


def forward(backbone, dtype="float32"):
    return Forward(read, backbone, resize="squash", dtype=dtype, batch_size=4)


def test_outcomes_come_in_order_with_their_failures(backbone):
    outcomes = list(forward(backbone).run(batched(range(18), 4)))
    assert [outcome.items for outcome in outcomes] == [[0, 1, 2], [4, 5, 6, 7], [8, 9, 11], [12, 13, 14, 15], [16]]
    assert [failure for outcome in outcomes for failure in outcome.failures] == [
        (3, "item 3 is bad"), (10, "item 10 is bad"), (17, "item 17 is bad")
    ]  # fmt: skip
    for outcome in outcomes:
        assert outcome.features["last"].shape == (len(outcome.items), 1280)


def test_a_row_is_the_same_however_its_batch_is_filled(backbone):
    whole = {item: row for outcome in forward(backbone).run([[0, 1, 2, 4]])
             for item, row in zip(outcome.items, outcome.features["last"], strict=True)}  # fmt: skip
    for item, slots in ((2, [None, None, 2, None]), (4, [None, 3, None, 4]), (0, [0])):
        (outcome,) = forward(backbone).run([slots])
        assert outcome.items == [item]
        np.testing.assert_array_equal(outcome.features["last"][0], whole[item])


def test_a_batch_of_failures_has_no_features(backbone):
    (outcome,) = forward(backbone).run([[3, 10, None]])
    assert outcome.items == [] and outcome.features == {} and len(outcome.failures) == 2


def test_stored_type(backbone):
    (outcome,) = forward(backbone, "float16").run([[1]])
    assert outcome.features["last"].dtype == np.float16


def test_an_error_that_is_not_of_the_image_is_not_swallowed(backbone):
    def broken(item: int):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Forward(broken, backbone, resize="squash", dtype="float32", batch_size=4).run([[1]]))


def test_reading_stays_a_few_batches_ahead(backbone):
    """Memory is bounded: most of the items are not touched before their turn."""
    seen = []

    def watched(item: int):
        seen.append(item)
        return read(0)

    outcomes = Forward(watched, backbone, resize="squash", dtype="float32", batch_size=4).run(batched(range(400), 4))
    next(outcomes)
    assert len(seen) <= 16
    outcomes.close()
    assert len(seen) <= 16
