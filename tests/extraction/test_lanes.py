import numpy as np
import pytest

from featurestore.backbones import load_backbone
from featurestore.engines import compile_backbone
from featurestore.errors import ImageError
from featurestore.extraction.lanes import Lane
from featurestore.system.parallel import ahead, batched


@pytest.fixture(scope="module")
def network():
    return compile_backbone(load_backbone("efficientnet_lite0", size=32))


def pixels(item: int):
    return ImageError(f"item {item} is bad") if item % 7 == 3 else np.full((32, 32, 3), item, np.uint8)


def run(network, batches, dtype="float32"):
    """Outcomes of a lane whose items come one by one, in the order of the batches."""
    lane = Lane(network, 32, batches, dtype=dtype, batch_size=4)
    items = [item for batch in batches for item in batch if item is not None]
    return [batch() for item in items for batch in lane.offer({item: pixels(item)})]


def test_outcomes_come_in_order_with_their_failures(network):
    outcomes = run(network, list(batched(range(18), 4)))
    assert [outcome.items for outcome in outcomes] == [[0, 1, 2], [4, 5, 6, 7], [8, 9, 11], [12, 13, 14, 15], [16]]
    assert [failure for outcome in outcomes for failure in outcome.failures] == [
        (3, "item 3 is bad"), (10, "item 10 is bad"), (17, "item 17 is bad")
    ]  # fmt: skip
    for outcome in outcomes:
        assert outcome.features["last"].shape == (len(outcome.items), 1280)


def test_a_row_is_the_same_however_its_batch_is_filled(network):
    (whole,) = run(network, [[0, 1, 2, 4]])
    for item, slots in ((2, [None, None, 2, None]), (4, [None, 3, None, 4]), (0, [0])):
        (outcome,) = run(network, [slots])
        assert outcome.items == [item]
        np.testing.assert_array_equal(outcome.features["last"][0], whole.features["last"][whole.items.index(item)])


def test_a_batch_runs_when_its_last_item_has_come(network):
    lane = Lane(network, 32, [[0, 1], [2, None]], dtype="float32", batch_size=4)
    assert list(lane.offer({0: pixels(0)})) == []
    assert [batch().items for batch in lane.offer({1: pixels(1), 2: pixels(2)})] == [[0, 1], [2]]


def test_a_batch_of_failures_has_no_features(network):
    (outcome,) = run(network, [[3, 10, None]])
    assert outcome.items == [] and outcome.features == {} and len(outcome.failures) == 2


def test_stored_type(network):
    (outcome,) = run(network, [[1]], "float16")
    assert outcome.features["last"].dtype == np.float16


def test_results_come_in_order_and_errors_are_not_swallowed():
    assert list(ahead(range(50), lambda key: key * 2, window=5)) == [(key, key * 2) for key in range(50)]
    with pytest.raises(ZeroDivisionError):
        list(ahead([1, 0], lambda key: 1 // key, window=5))


def test_work_stays_a_window_ahead():
    """Memory is bounded: most of the keys are not touched before their turn."""
    seen: list[int] = []
    results = ahead(range(400), seen.append, window=10)
    next(results)
    assert len(seen) <= 11
    results.close()
    assert len(seen) <= 11
