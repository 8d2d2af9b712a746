"""Networks of timm, by name."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones.preprocessing import Preprocessing
from featurestore.backbones.taps import Tokens
from featurestore.errors import BackboneError, WeightsError, missing, nearest, one_line
from featurestore.importing.pretrained import Contract, Prepare, Pretrained, scaled, with_outputs
from featurestore.importing.reaching import commit_of, loading
from featurestore.spec import INTERPOLATIONS, LAST, Framing
from featurestore.system.files import check_regular, why

if TYPE_CHECKING:
    import torch


def load(name: str, size: int | None, weights: str | None) -> Pretrained:
    """Build a network of timm without its classifier, and load its weights.

    Args:
        name: that timm calls it by, with or without the tag of its weights.
        size: side of its input in pixels; by default its own.
        weights: None for timm's own, ``random``, or the path of a checkpoint.

    Raises:
        BackboneError: there is no such network, or it does not take that size.
        WeightsError: the weights cannot be had, or do not fit.
        MissingDependencyError: timm is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise missing(f"timm:{name}", "timm", "torch") from error
    origin = f"timm:{name}"
    known = [*timm.list_models(), *timm.list_pretrained()]
    if name not in known:
        raise BackboneError(f"{origin}: timm has no such network: {nearest(name, known)}")
    if weights is None and not timm.is_model_pretrained(name):
        raise WeightsError(f"{origin}: timm has no weights of it: pass --weights FILE or random")
    network = _build(timm, name, size, weights)
    config = timm.data.resolve_model_data_config(network)
    if size:
        config["input_size"] = (3, size, size)
    with loading(origin):
        wired, shapes = with_outputs(
            network,
            lambda pixels: _forward(network, pixels),
            _inner(network),
            config["input_size"][-1],
            nhwc=getattr(network, "output_fmt", "NCHW") == "NHWC",
        )
    cfg = network.pretrained_cfg
    own = weights is None
    tag = f".{cfg['tag']}" if own and cfg.get("tag") else ""
    return Pretrained(
        f"{cfg['architecture']}{tag}",
        origin,
        wired,
        shapes,
        contract_of(config),
        _tokens(network) if len(shapes[LAST]) == 2 else None,
        (cfg.get("license") or "") if own else "",
        _revision(cfg) if own else "",
        _processor(timm, config),
    )


def _build(timm: Any, name: str, size: int | None, weights: str | None) -> "torch.nn.Module":
    import torch

    origin = f"timm:{name}"
    cfg = timm.get_pretrained_cfg(name)
    sized = {"img_size": size} if size and cfg is not None and cfg.fixed_input_size else {}
    torch.manual_seed(0)
    with loading(origin):
        try:
            network = timm.create_model(name, pretrained=weights is None, num_classes=0, **sized).eval()
        except (AssertionError, TypeError, ValueError) as error:
            if not sized:
                raise
            side = cfg.input_size[-1]
            raise BackboneError(
                f"{origin}: it does not take {size} pixels ({one_line(error)}): pass --size {side}, or none"
            ) from error
    if weights not in (None, "random"):
        _load_file(timm, network, Path(weights))
    return network


def _load_file(timm: Any, network: "torch.nn.Module", path: Path) -> None:
    """Load a checkpoint, which may have any classifier, but must have all else; it can run no code."""
    try:
        check_regular(path)
        state = timm.models.load_state_dict(str(path), weights_only=True)
        # Each family of timm has a function that knows the checkpoints of the original authors.
        understand = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        state = understand(state, network) if understand else state
        lacking = network.load_state_dict(state, strict=False).missing_keys
    except OSError as error:
        raise WeightsError(f"{path}: {why(error)}: pass --weights FILE, random, or none") from error
    except Exception as error:  # whatever torch makes of a foreign file
        raise WeightsError(f"{path} cannot be read as weights of this network ({one_line(error)})") from error
    if lacking:
        shown = ", ".join(lacking[:3])
        raise WeightsError(f"{path} lacks {len(lacking)} tensors of this network ({shown}): pass weights that fit")


def _forward(network: Any, pixels: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor | None]":
    last = network.forward_features(pixels)
    pooled = network.forward_head(last, pre_logits=True)
    return last, pooled if pooled.ndim == 2 else None


def _inner(network: Any) -> "list[torch.nn.Module]":
    """List the modules that timm itself takes features from."""
    named = dict(network.named_modules())
    places = [info["module"] for info in getattr(network, "feature_info", ()) if "module" in info]
    return [named[place] for place in places if place in named]


def _tokens(network: Any) -> Tokens:
    cls = getattr(network, "cls_token", None) is not None
    return Tokens(cls, max(0, getattr(network, "num_prefix_tokens", int(cls)) - cls))


def _revision(cfg: dict[str, Any]) -> str:
    """Name the repository and the commit that the weights came from, or their address."""
    if not (repository := cfg.get("hf_hub_id")):
        return str(cfg.get("url") or "")
    commit = commit_of(repository, ("model.safetensors", "pytorch_model.bin"))
    return f"{repository}@{commit}" if commit else str(repository)


def contract_of(config: dict[str, Any]) -> Contract:
    """Translate what ``timm.data.resolve_model_data_config`` says of a network.

    Raises:
        BackboneError: it wants its pixels in a way that we have not.

    Example:
        >>> contract_of({
        ...     "input_size": (3, 224, 224), "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center",
        ...     "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5),
        ... }).framing
        Framing(size=224, resize='shortest', interpolation='bicubic', crop_share=0.875, decoder='pillow', crops=1)
    """
    (_, height, width), share, how = config["input_size"], config["crop_pct"], config["interpolation"]
    if how not in INTERPOLATIONS or height != width:
        raise BackboneError(f"it wants {height} × {width} pixels, {how}: only squares of {', '.join(INTERPOLATIONS)}")
    mean, std = (tuple(scaled(value) for value in config[key]) for key in ("mean", "std"))
    notes = []
    match config["crop_mode"]:
        case "squash" if share == 1:
            framing = Framing(width, "squash", how)
        case "border":
            framing = Framing(width, "pad", how)
            notes.append("timm pads images with their mean colour; here the border is black")
        case mode:
            # Where the share says another length by rounding, the length counts.
            length = math.floor(width / share)
            framing = Framing(width, "shortest", how, share)
            if framing.shortest != length:
                framing = Framing(width, "shortest", how, width / length)
            if mode == "squash":
                notes.append("timm resizes images to a square, and cuts its centre out; here they keep their shape")
    return Contract(framing, Preprocessing(mean, std), tuple(notes))


def _processor(timm: Any, config: dict[str, Any]) -> Prepare:
    transform = timm.data.create_transform(**config, is_training=False)

    def prepare(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        from PIL import Image

        return np.asarray(transform(Image.fromarray(image)), np.float32)

    return prepare
