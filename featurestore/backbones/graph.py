"""Which layers of a network can be tapped or trained, what each costs, and the network cut into parts.

All of it looks at the model's own graph only (a layer may be shared with other models), and takes a model inside the
model as one layer.
"""

import math
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones.base import matching
from featurestore.errors import BackboneError, nearest
from featurestore.spec import LAST

if TYPE_CHECKING:
    import keras


def resolve_taps(model: "keras.Model", patterns: Sequence[str]) -> list[str]:
    """The names that `patterns` stand for, each once, in the model's order.

    Args:
        model: built, functional or sequential.
        patterns: names of layers, ``last`` for the model's output, or globs such as ``block*_pool``. Only layers that
            give one float tensor of rank 2 to 4 (with the batch) can be tapped.

    Raises:
        BackboneError: a pattern that no layer matches; the message names the nearest.
    """
    return matching(model.name, [*_taps(model)], patterns)


def tap_table(model: "keras.Model") -> list[dict[str, Any]]:
    """One row per layer that can be tapped, in the model's order.

    Returns:
        ``layer`` and its ``type``, the ``shape`` of its output for one image, and ``flops``: what all layers that it
        needs compute for one image. A multiply-add counts as two, and those of Conv2D, DepthwiseConv2D,
        SeparableConv2D and Dense are counted; all else (biases, normalization, activations, pooling) is left out.
        None where a size is not known.
    """
    nodes = _nodes(model)
    needed, place = _needed(nodes)
    costs = np.array([_flops(node) for node in nodes])
    rows = []
    for name, tensor in _taps(model).items():
        layer, flops = tensor._keras_history.operation, costs[needed[place[id(_node(tensor))]]].sum()
        rows.append(
            {
                "layer": name,
                "type": type(layer).__name__,
                "shape": tuple(tensor.shape[1:]),
                "flops": None if math.isnan(flops) else int(flops),
            }
        )
    return rows


def largest_output(model: "keras.Model") -> tuple[str, int]:
    """The layer of the largest output, and how many numbers that is for one image; a size not known counts as 1."""
    found = [
        (math.prod(side or 1 for side in tensor.shape[1:]), node.operation.name)
        for node in _nodes(model)
        for tensor in node.outputs
    ]
    numbers, name = max(found)
    return name, numbers


def cut(model: "keras.Model", names: Sequence[str]) -> "keras.Model":
    """The part of `model` that `names`, as :func:`resolve_taps` gives them, need; layers and weights are shared.

    Returns:
        A functional model from the same input to ``{name: output of that layer}``.
    """
    from keras import Model

    tensors = {**_taps(model), LAST: model.outputs[0]}
    return Model(model.inputs[0], {name: tensors[name] for name in names}, name=model.name)


def from_layer(model: "keras.Model", what: str) -> list[str]:
    """The names of the layers with weights that are to be trained, in the model's order; if it is all, of all layers.

    Args:
        model: built, functional.
        what: a layer, for it and all after it; a number N, for the last N layers that have weights, and all after the
            first of these; ``last-block``, for all from the first layer with weights whose map is as large as that of
            the last one; or ``all``.

    Raises:
        BackboneError: there is no such layer (the message names the nearest), or none with weights from there on.
    """
    names = [layer.name for layer in model.layers]
    weighted = [layer for layer in model.layers if layer.weights]
    if not weighted:
        raise BackboneError(f"{model.name} has no weights that could be trained: use another backbone")
    maps = [(layer.name, layer.output.shape[1:3]) for layer in weighted if len(layer.output.shape) == 4]
    if what == "all":
        return names
    if what == "last-block" and maps:
        first = next(name for name, side in maps if side == maps[-1][1])
    elif what.isdecimal() and 0 < int(what) <= len(weighted):
        first = weighted[-int(what)].name
    elif what in names:
        first = what
    else:
        known = [*(layer.name for layer in weighted), "last-block", "all"]
        numbers = f", or a number from 1 to {len(weighted)}" if what.isdecimal() else ""
        raise BackboneError(f"{model.name} has no layer {what!r} to unfreeze: {nearest(what, known)}{numbers}")
    behind = names[names.index(first) :]
    if not (chosen := [layer.name for layer in weighted if layer.name in behind]):
        raise BackboneError(
            f"{model.name} has no weights from layer {what!r} on: unfreeze from {weighted[-1].name!r} or before"
        )
    return chosen


def boundary(model: "keras.Model", trained: Container[str]) -> str | None:
    """The deepest layer that can be tapped and that all which reaches the layers in `trained` goes through, or None.

    None of these is needed for its output.
    """
    nodes = _nodes(model)
    needed, place = _needed(nodes)
    frozen = np.array([node.operation.name not in trained for node in nodes])
    edges = [(place[id(_node(tensor))], i) for i, node in enumerate(nodes) for tensor in node.input_tensors]
    source, target = np.array(edges).T
    found: dict[int, str] = {}
    for name, tensor in _taps(model).items():
        i = place[id(_node(tensor))]
        crossing = needed[i, source] & ~needed[i, target]
        if frozen[needed[i]].all() and (source[crossing] == i).all():
            found[int(needed[i].sum())] = name
    return found[max(found)] if found else None


def split(model: "keras.Model", name: str) -> "tuple[keras.Model, keras.Model]":
    """`model` up to the layer `name`, which :func:`boundary` gave, and behind it; layers and weights are shared."""
    from keras import Model

    tensor = _taps(model)[name]
    return Model(model.inputs[0], tensor), Model(tensor, model.outputs[0])


def _taps(model: "keras.Model") -> dict[str, Any]:
    """Per layer that can be tapped its output, in the model's order. A layer that is used twice has no one output."""
    from keras import layers

    found: dict[str, Any] = {}
    for node in _nodes(model):
        name = node.operation.name
        ranks = [len(tensor.shape) for tensor in node.outputs if "float" in str(tensor.dtype)]
        fits = isinstance(node.operation, layers.Layer) and not node.is_input and ranks in ([2], [3], [4])
        found[name] = node.outputs[0] if fits and len(node.outputs) == 1 and name not in found else None
    return {layer.name: found[layer.name] for layer in model.layers if found.get(layer.name) is not None}


def _node(tensor: Any) -> Any:
    """The call that gave a Keras tensor. Keras tells this in attributes that are not public, and nowhere else."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def _nodes(model: "keras.Model") -> list[Any]:
    """The calls of layers in the model's graph, each after those that it needs."""
    ordered: dict[int, Any] = {id(_node(tensor)): _node(tensor) for tensor in model.inputs}
    stack = [_node(tensor) for tensor in reversed(model.outputs)]
    while stack:
        before = [_node(tensor) for tensor in stack[-1].input_tensors]
        missing = [node for node in reversed(before) if id(node) not in ordered]
        if missing:
            stack.extend(missing)
        else:
            node = stack.pop()
            ordered.setdefault(id(node), node)
    return list(ordered.values())


def _needed(nodes: Sequence[Any]) -> tuple[NDArray[np.bool_], dict[int, int]]:
    """Whether call `i` of :func:`_nodes` needs call `j`, or is that, at [i, j]; and each call's number by its id."""
    place = {id(node): i for i, node in enumerate(nodes)}
    needed = np.eye(len(nodes), dtype=bool)
    for i, node in enumerate(nodes):
        for tensor in node.input_tensors:
            needed[i] |= needed[place[id(_node(tensor))]]
    return needed, place


def _flops(node: Any) -> float:
    """Of one call, NaN where a size is not known."""
    import keras

    layer = node.operation
    if isinstance(layer, keras.Model):
        return math.fsum(_flops(inner) for inner in _nodes(layer))
    kinds = keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D, keras.layers.Dense
    if not isinstance(layer, kinds):
        return 0.0
    kernels = sum(math.prod(weight.shape) for weight in layer.weights if len(weight.shape) > 1)
    places = node.outputs[0].shape[1:-1]
    return math.nan if None in places else 2.0 * math.prod(places) * kernels
