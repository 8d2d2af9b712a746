"""Networks of Hugging Face's transformers: a repository of the hub, or a folder that ``save_pretrained`` wrote."""

import inspect
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones.preprocessing import Preprocessing
from featurestore.backbones.taps import Tokens
from featurestore.errors import BackboneError, WeightsError, missing
from featurestore.importing.pretrained import Contract, Prepare, Pretrained, scaled, with_outputs
from featurestore.importing.reaching import commit_of, loading
from featurestore.spec import LAST, Framing, Interpolation

if TYPE_CHECKING:
    import torch

_INTERPOLATIONS: dict[int, Interpolation] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of its filters, which stand in the files."""


def load(name: str, size: int | None, weights: str | None) -> Pretrained:
    """Build the image network of a repository, and load its weights. Code in the repository is never run.

    Args:
        name: ``OWNER/NAME``, perhaps with ``@REVISION``, or the path of a folder.
        size: side of its input in pixels; by default its own.
        weights: None for the repository's own, or ``random``.

    Raises:
        BackboneError: it has no image network, or none that transformers can build; or it does not take that size.
        WeightsError: it cannot be reached, or needs permission.
        MissingDependencyError: transformers is not installed.
    """
    try:
        import transformers
        from huggingface_hub.utils import are_progress_bars_disabled
    except ImportError as error:
        raise missing(f"hf:{name}", "transformers", "torch") from error
    if weights not in (None, "random"):
        raise WeightsError(f"hf:{name}: its weights are those of the repository: pass --weights random, or none")
    transformers.logging.set_verbosity_error()
    if are_progress_bars_disabled():
        transformers.logging.disable_progress_bar()
    origin = f"hf:{name}"
    place, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    at: dict[str, Any] = {"revision": revision or None, "trust_remote_code": False}
    with loading(origin):
        config = transformers.AutoConfig.from_pretrained(place, **at)
    kind = _class_of(origin, config)
    with loading(origin):
        processor = transformers.AutoImageProcessor.from_pretrained(place, **at)
        network, pools = _build(kind, config, None if weights else place, at["revision"])
    contract = contract_of(origin, processor.to_dict(), size)
    side = contract.framing.size
    vision = getattr(network, "vision_model", network)
    try:
        wired, shapes = with_outputs(network, _forward(network, side, pools), _inner(vision), side)
    except Exception as error:  # networks fail in whatever way they do
        raise BackboneError(f"{origin}: it does not take {side} pixels ({error}): pass --size N, or none") from error
    commit = None if Path(place).is_dir() else commit_of(place, ["config.json"], at["revision"])
    return Pretrained(
        Path(place).resolve().name if Path(place).is_dir() else place.rpartition("/")[2],
        origin,
        wired,
        shapes,
        contract,
        _tokens(vision, shapes[LAST], side),
        "" if weights else _licence(place, commit),
        f"{place}@{commit}" if commit and not weights else "",
        None if size else prepare_by(processor),
    )


def _class_of(origin: str, config: Any) -> Any:
    """Return the class of a network; it is asked before gigabytes of weights are fetched."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    if config.model_type in ("timm_wrapper", "timm_backbone"):
        raise BackboneError(f"{origin}: it is a network of timm: pass timm:{getattr(config, 'architecture', 'NAME')}")
    kind = MODEL_MAPPING.get(type(config), None)
    kind = kind[0] if isinstance(kind, tuple | list) else kind
    if kind is None or not (hasattr(kind, "get_image_features") or kind.main_input_name == "pixel_values"):
        raise BackboneError(f"{origin}: {config.model_type} takes no images: pass a network for images")
    return kind


def _build(kind: Any, config: Any, place: str | None, revision: str | None) -> "tuple[torch.nn.Module, bool]":
    """Build a network, and say whether the pooling that it has was trained."""
    import torch

    if place is None:
        torch.manual_seed(0)
        return kind(config).float().eval(), True
    network, loaded = kind.from_pretrained(
        place, config=config, revision=revision, dtype=torch.float32, output_loading_info=True
    )
    lacking = set(loaded["missing_keys"])
    pooling = {key for key in lacking if "pooler" in key}
    if lacking - pooling:
        shown = ", ".join(sorted(lacking - pooling)[:3])
        raise WeightsError(f"hf:{place}: its weights lack {len(lacking - pooling)} tensors of its network ({shown})")
    return network.eval(), not pooling


def _forward(network: Any, side: int, pools: bool) -> Any:
    run = getattr(network, "get_image_features", network)
    takes = inspect.signature(getattr(run, "forward", run)).parameters
    config = getattr(network.config, "vision_config", network.config)
    other = getattr(config, "image_size", side) not in (side, [side, side], (side, side))
    more = {"interpolate_pos_encoding": True} if other and "interpolate_pos_encoding" in takes else {}

    def forward(pixels: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor | None]":
        found = run(pixel_values=pixels, return_dict=True, **more)
        pooled = getattr(found, "pooler_output", None) if pools else None
        return found.last_hidden_state, None if pooled is None else pooled.flatten(1)

    return forward


def _inner(vision: Any) -> "list[torch.nn.Module]":
    """List the network's layers: the first list of several modules of one class, from the outermost on."""
    import torch

    lists = [m for m in vision.modules() if isinstance(m, torch.nn.ModuleList) and len({type(each) for each in m}) == 1]
    return list(next((each for each in lists if len(each) > 1), ()))


def _tokens(vision: Any, last: tuple[int, ...], side: int) -> Tokens | None:
    """Count the tokens in front of the patches': all but as many as there are patches."""
    if len(last) != 2:
        return None
    cls = any(name.endswith(("cls_token", "class_embedding")) for name, _ in vision.named_parameters())
    patch = getattr(vision.config, "patch_size", side)
    patches = (side // (patch if isinstance(patch, int) else patch[0])) ** 2
    return Tokens(cls, max(0, last[0] - patches - cls))


def _licence(place: str, revision: str | None) -> str:
    """Read the licence from the model's card; empty where there is none."""
    from huggingface_hub import ModelCard, hf_hub_download

    with suppress(Exception):  # a card is for people, and may hold anything
        local = Path(place, "README.md")
        card = local if local.is_file() else Path(hf_hub_download(place, "README.md", revision=revision))
        data = ModelCard.load(card).data
        named = data.license_name if data.license in (None, "other") else data.license
        return str(named or data.license or "")
    return ""


def contract_of(origin: str, settings: dict[str, Any], size: int | None = None) -> Contract:
    """Translate the settings of an image processor.

    Args:
        origin: for messages.
        settings: those of ``preprocessor_config.json``, with the defaults of its class.
        size: side of the pixels, where it is to be another.

    Raises:
        BackboneError: it wants its pixels in a way that we have not.

    Example:
        >>> contract_of("hf:mine", {
        ...     "size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
        ...     "resample": 3, "rescale_factor": 1 / 255, "image_mean": [0.485, 0.456, 0.406],
        ...     "image_std": [0.229, 0.224, 0.225],
        ... }).framing
        Framing(size=224, resize='shortest-floor', interpolation='bicubic', crop_share=0.875, decoder='pillow', crops=1)
    """
    resample = settings.get("resample")
    how = _INTERPOLATIONS.get(2 if resample is None else int(resample))
    sides = dict(settings["size"])
    lengths = {int(sides[key]) for key in ("shortest_edge", "height", "width") if sides.get(key)}
    crops = dict(settings.get("crop_size") or {}) if settings.get("do_center_crop") else {}
    kept = {int(crops[key]) for key in ("height", "width") if crops.get(key)} or lengths
    if how is None or len(lengths) != 1 or len(kept) != 1:
        raise BackboneError(
            f"{origin}: its image processor makes no square of one size (size {sides}, resample "
            f"{resample}): write the ONNX file and its .json yourself"
        )
    notes = []
    (length,), (side,) = lengths, kept
    # ConvNeXt's processor counts the other way round, and squashes images for larger networks.
    share = settings.get("crop_pct")
    keeps = "shortest_edge" in sides and not (share and length >= 384)
    share = share if share and keeps else min(1.0, side / length)
    if keeps or side < length:
        framing = Framing(size or side, "shortest-floor", how, share)
        if not keeps:
            notes.append("the original resizes images to a square, and cuts its centre out; here they keep their shape")
    else:
        framing = Framing(size or side, "squash", how)
    return Contract(framing, _preprocessing(settings), tuple(notes))


def _preprocessing(settings: dict[str, Any]) -> Preprocessing:
    """Return it for pixels of 0 to 255: the original multiplies them by a factor first."""
    factor = settings.get("rescale_factor") or 1 / 255 if settings.get("do_rescale", True) else 1.0
    offset = 1.0 if settings.get("rescale_offset") else 0.0
    normalizes = settings.get("do_normalize", True)
    mean = settings["image_mean"] if normalizes else (0.0,) * 3
    std = settings["image_std"] if normalizes else (1.0,) * 3
    return Preprocessing(
        tuple(scaled(value + offset, 1 / factor) for value in mean), tuple(scaled(value, 1 / factor) for value in std)
    )


def prepare_by(processor: Any) -> Prepare:
    """Return how an image processor prepares an image, see :class:`Pretrained`."""

    def prepare(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        from PIL import Image

        found = processor(images=Image.fromarray(image), return_tensors="np")["pixel_values"][0]
        return np.asarray(found, np.float32)

    return prepare
