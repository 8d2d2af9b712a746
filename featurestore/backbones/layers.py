"""Which layers of a network can be tapped, what each costs, and the network cut down to some of them.

All of it looks at the model's own graph only (a layer may be shared with other models), and takes a model inside the
model as one layer.
"""

import difflib
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.errors import BackboneError
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
    names = [*_taps(model), LAST]
    wanted: set[str] = set()
    for pattern in patterns:
        # A name may hold characters that mean something in a glob.
        matched = [pattern] if pattern in names else [name for name in names[:-1] if fnmatchcase(name, pattern)]
        if not matched:
            nearest = difflib.get_close_matches(pattern, names, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, nearest))}?" if nearest else f"such as {', '.join(names[-4:])}"
            raise BackboneError(f"{model.name} has no layer {pattern!r} to tap: {hint}")
        wanted.update(matched)
    return [name for name in names if name in wanted]


def tap_table(model: "keras.Model") -> list[dict[str, Any]]:
    """One row per layer that can be tapped, in the model's order.

    Returns:
        ``layer`` and its ``type``, the ``shape`` of its output for one image, and ``flops``: what all layers that it
        needs compute for one image. A multiply-add counts as two, and those of Conv2D, DepthwiseConv2D,
        SeparableConv2D and Dense are counted; all else (biases, normalization, activations, pooling) is left out.
        None where a size is not known.
    """
    nodes = _nodes(model)
    place = {id(node): i for i, node in enumerate(nodes)}
    costs = np.array([_flops(node) for node in nodes])
    needed = np.eye(len(nodes), dtype=bool)
    for i, node in enumerate(nodes):
        for tensor in node.input_tensors:
            needed[i] |= needed[place[id(_node(tensor))]]
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


def cut(model: "keras.Model", names: Sequence[str]) -> "keras.Model":
    """The part of `model` that `names`, as :func:`resolve_taps` gives them, need; layers and weights are shared.

    Returns:
        A functional model from the same input to ``{name: output of that layer}``.
    """
    from keras import Model

    tensors = {**_taps(model), LAST: model.outputs[0]}
    return Model(model.inputs[0], {name: tensors[name] for name in names}, name=model.name)


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
