"""What a difference of a few rows is said to mean."""

import numpy as np
import pytest

from heads.evaluation.evaluate import paired_difference
from heads.finetuning.result import recommendation


def difference(right, wrong, rows=75):
    before, after = np.tile([[0.9, 0.1]], (2, rows, 1))
    before[:right] = after[right : right + wrong] = [0.1, 0.9]
    return paired_difference(np.zeros(rows, np.intp), before, after)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (4, 0, "keep the frozen head: on 75 test rows the difference may be chance"),
        (0, 4, "keep the frozen head: on 75 test rows the difference may be chance"),
        (9, 1, "take the fine-tuned model"),
        (1, 9, "keep the frozen head: fine-tuning has made it worse"),
        (0, 0, "keep the frozen head: on 75 test rows the difference may be chance"),
    ],
)
def test_a_model_is_taken_only_beyond_chance(right, wrong, said):
    assert recommendation(difference(right, wrong), 75, "test").startswith(said)
