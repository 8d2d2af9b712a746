"""List the layers of a Keras model that can be tapped or trained, with their cost, and cut the model into parts.

The functions look at the model's own graph only (a layer may be shared with other models), and take a model inside the
model for one layer.
"""

import math
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones.taps import matching
from featurestore.errors import BackboneError, nearest
from featurestore.spec import LAST

if TYPE_CHECKING:
    import keras


def resolve_taps(model: "keras.Model", patterns: Sequence[str]) -> list[str]:
    """Return the names that `patterns` stand for, each once, in the model's order.

    Args:
        model: built, functional or sequential.
        patterns: names of layers, ``last`` for the model's output, or globs such as ``block*_pool``. Only layers that
            give one float tensor of rank 2 to 4 (with the batch) can be tapped.

    Raises:
        BackboneError: a pattern that no layer matches; the message names the nearest.
    """
    return matching(model.name, [*_taps(model)], patterns)


def tap_table(model: "keras.Model") -> list[dict[str, Any]]:
    """Return one row per layer that can be tapped, in the model's order.

    Returns:
        ``layer`` and its ``type``, the ``shape`` of its output for one image, and ``flops``: what all layers that it
        needs compute for one image. A multiply-add counts as two, and those of Conv2D, DepthwiseConv2D,
        SeparableConv2D and Dense are counted; all else (biases, normalization, activations, pooling) is left out.
        None where a size is not known, or behind a layer that is made of others.
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
    """Return the layer with the largest output for one image, and the numbers in it; an unknown size counts as 1."""
    found = [
        (math.prod(side or 1 for side in tensor.shape[1:]), node.operation.name)
        for node in _nodes(model)
        for tensor in node.outputs
    ]
    numbers, name = max(found)
    return name, numbers


def cut(model: "keras.Model", names: Sequence[str]) -> "keras.Model":
    """Cut off what `names`, as :func:`resolve_taps` gives them, do not need; layers and weights are shared.

    Returns:
        A functional model from the same input to ``{name: output of that layer}``.
    """
    from keras import Model

    tensors = {**_taps(model), LAST: model.outputs[0]}
    return Model(model.inputs[0], {name: tensors[name] for name in names}, name=model.name)


def from_layer(model: "keras.Model", what: str) -> list[str]:
    """Return the names of the layers with weights that are to be trained, in the model's order; of all for ``all``.

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
    """Return the deepest layer that can be tapped and stands before all layers in `trained`, or None.

    All paths from the input to the trained layers lead through it, and its own output needs none of them.
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
    """Split `model` behind the layer `name`, which :func:`boundary` gave; layers and weights are shared."""
    from keras import Model

    tensor = _taps(model)[name]
    return Model(model.inputs[0], tensor), Model(tensor, model.outputs[0])


def _taps(model: "keras.Model") -> dict[str, Any]:
    """Return the output of each layer that can be tapped, in the model's order; a layer used twice cannot."""
    from keras import layers

    found: dict[str, Any] = {}
    for node in _nodes(model):
        name = node.operation.name
        ranks = [len(tensor.shape) for tensor in node.outputs if "float" in str(tensor.dtype)]
        fits = isinstance(node.operation, layers.Layer) and not node.is_input and ranks in ([2], [3], [4])
        found[name] = node.outputs[0] if fits and len(node.outputs) == 1 and name not in found else None
    return {layer.name: found[layer.name] for layer in model.layers if found.get(layer.name) is not None}


def _node(tensor: Any) -> Any:
    """Return the call that made a Keras tensor. Keras tells this in attributes only that are not public."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def _nodes(model: "keras.Model") -> list[Any]:
    """Return the calls of layers in the model's graph, each after those that it needs."""
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
    """Return a matrix whose [i, j] says whether call i needs call j or is it, and each call's number by its id."""
    place = {id(node): i for i, node in enumerate(nodes)}
    needed = np.eye(len(nodes), dtype=bool)
    for i, node in enumerate(nodes):
        for tensor in node.input_tensors:
            needed[i] |= needed[place[id(_node(tensor))]]
    return needed, place


def _flops(node: Any) -> float:
    """Count the operations of one call; NaN where a size is not known."""
    import keras

    layer = node.operation
    if isinstance(layer, keras.Model):
        return math.fsum(_flops(inner) for inner in _nodes(layer))
    kinds = keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D, keras.layers.Dense
    if not isinstance(layer, kinds):
        # Of a layer that is made of others, such as a transformer's block, nobody knows how often it calls which.
        inside = layer._flatten_layers(include_self=False) if isinstance(layer, keras.layers.Layer) else []
        return math.nan if any(inner.weights for inner in inside) else 0.0
    kernels = sum(math.prod(weight.shape) for weight in layer.weights if len(weight.shape) > 1)
    places = node.outputs[0].shape[1:-1]
    return math.nan if None in places else 2.0 * math.prod(places) * kernels
