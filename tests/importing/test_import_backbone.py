"""What needs no PyTorch: contracts as data, refusals before anything is loaded, and how differences are measured."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import BackboneError, MissingDependencyError, WeightsError, WriteError
from featurestore.importing import hf_models, timm_models
from featurestore.importing.comparing import Difference
from featurestore.importing.import_backbone import import_backbone
from featurestore.importing.reaching import loading
from featurestore.spec import Framing

TIMM = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}


@pytest.mark.parametrize(
    ("stated", "framing", "notes"),
    [
        ({}, Framing(224, "shortest", "bicubic", 0.875), 0),
        ({"crop_pct": 1.0, "crop_mode": "squash"}, Framing(224, "squash", "bicubic"), 0),
        ({"crop_pct": 0.9, "crop_mode": "squash"}, Framing(224, "shortest", "bicubic", 0.9), 1),
        ({"crop_pct": 1.0, "crop_mode": "border"}, Framing(224, "pad", "bicubic"), 1),
    ],
)
def test_what_timm_says_of_pixels(stated, framing, notes):
    contract = timm_models.contract_of(TIMM | stated)
    assert (contract.framing, len(contract.notes)) == (framing, notes)
    assert contract.preprocessing.name == "torch"


@given(st.integers(16, 1024), st.floats(0.5, 1.0))
def test_the_resized_length_is_timms(size, share):
    framing = timm_models.contract_of(TIMM | {"input_size": (3, size, size), "crop_pct": share}).framing
    assert framing.shortest == int(np.floor(size / share))


@pytest.mark.parametrize("stated", [{"interpolation": "nearest"}, {"input_size": (3, 224, 192)}])
def test_pixels_that_we_cannot_make_are_refused(stated):
    with pytest.raises(BackboneError, match="224"):
        timm_models.contract_of(TIMM | stated)


HF = {
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "rescale_factor": 1 / 255,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
CONVNEXT = {"do_center_crop": False, "crop_size": None, "crop_pct": 0.875}


@pytest.mark.parametrize(
    ("stated", "size", "framing", "notes"),
    [
        ({}, None, Framing(224, "shortest-floor", "bicubic", 1.0), 0),
        ({"size": {"shortest_edge": 256}}, None, Framing(224, "shortest-floor", "bicubic", 0.875), 0),
        ({"size": {"shortest_edge": 256}}, 448, Framing(448, "shortest-floor", "bicubic", 0.875), 0),
        ({"size": {"height": 256, "width": 256}}, None, Framing(224, "shortest-floor", "bicubic", 0.875), 1),
        ({"size": {"height": 384, "width": 384}, "do_center_crop": False}, None, Framing(384, "squash", "bicubic"), 0),
        (CONVNEXT, None, Framing(224, "shortest-floor", "bicubic", 0.875), 0),
        (CONVNEXT | {"size": {"shortest_edge": 384}}, None, Framing(384, "squash", "bicubic"), 0),
    ],
)
def test_what_an_image_processor_says_of_pixels(stated, size, framing, notes):
    contract = hf_models.contract_of("hf:mine", HF | stated, size)
    assert (contract.framing, len(contract.notes)) == (framing, notes)
    assert contract.preprocessing.name == "clip"


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ({"do_normalize": False}, "mean=0,0,0 std=255,255,255"),
        ({"do_normalize": False, "do_rescale": False}, "none"),
        ({"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 1 / 127.5, "rescale_offset": True}, "tf"),
    ],
)
def test_how_an_image_processor_scales_pixels(stated, name):
    assert hf_models.contract_of("hf:mine", HF | stated).preprocessing.name == name


@pytest.mark.parametrize("stated", [{"resample": 0}, {"size": {"height": 224, "width": 192}, "do_center_crop": False}])
def test_an_image_processor_that_makes_no_such_square_is_refused(stated):
    with pytest.raises(BackboneError, match="hf:mine"):
        hf_models.contract_of("hf:mine", HF | stated)


@pytest.mark.parametrize("source", ["resnet50", "timm:", "torchvision:resnet50", "timm"])
def test_a_source_that_is_none(source, tmp_path):
    with pytest.raises(BackboneError, match="timm:NAME or hf:OWNER/NAME"):
        import_backbone(source, tmp_path / "a.onnx")


def test_what_is_there_already_stays(tmp_path):
    for name in ("a.onnx", "b.json"):
        (tmp_path / name).write_text("mine")
    for out in ("a.onnx", "b.onnx", "c.pt"):
        with pytest.raises(WriteError):
            import_backbone("timm:resnet18", tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.json"]


def test_without_pytorch_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"featurestore\[torch\]"):
        import_backbone("timm:resnet18", tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


class GatedRepoError(OSError):
    """Is called as that of huggingface_hub."""


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (GatedRepoError("403"), WeightsError, "accept its licence"),
        (ConnectionError("no route"), WeightsError, r"cannot be reached \(no route\)"),
        (ValueError("pass `trust_remote_code=True`"), BackboneError, "code of its own, which is never run"),
        (KeyError("odd"), BackboneError, "'odd'"),
    ],
)
def test_errors_of_loading_are_ours(error, kind, text):
    with pytest.raises(kind, match=rf"^hf:a/b: .*{text}"), loading("hf:a/b"):
        try:
            raise error
        except Exception as cause:
            if kind is BackboneError:
                raise
            raise OSError("something else") from cause


rows = st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6)


@given(rows, rows)
def test_differences_add_up_over_batches(found, expected):
    a, b = (np.array(values, np.float32).reshape(3, 2) for values in (found, expected))
    whole, parts = Difference(), Difference()
    whole.add(a, b)
    for i in range(3):
        parts.add(a[i : i + 1], b[i : i + 1])
    assert (whole.relative, whole.cosine) == pytest.approx((parts.relative, parts.cosine))
    assert whole.relative == pytest.approx(np.abs(a - b).max() / (np.abs(b).max() or 1))
    assert -1 - 1e-9 <= whole.cosine <= 1


def test_a_number_that_is_none_is_no_rounding():
    difference = Difference()
    difference.add(np.array([[np.nan, 1.0]], np.float32), np.ones((1, 2), np.float32))
    difference.add(np.ones((1, 2), np.float32), np.ones((1, 2), np.float32))
    assert np.isnan(difference.relative)
