"""Any ``.onnx`` file as a frozen network, as long as it takes one image and has operators of ONNX' own only.

What it wants its pixels to be stands in a file beside it, see :mod:`featurestore.backbones.sidecar`, or is given as
options.
"""

from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones import onnx_reader
from featurestore.backbones.base import Architecture, FrozenNetwork, Outputs, Request
from featurestore.backbones.onnx_graph import ANY, PIXELS, Layer, from_pixels, layers_of, plain_name, pooled_shape
from featurestore.backbones.preprocessing import PREPROCESSINGS, Preprocessing
from featurestore.backbones.sidecar import Layout, Sidecar, path_of, read_sidecar
from featurestore.backbones.taps import resolve
from featurestore.errors import BackboneError, WeightsError, missing, nearest, one_line
from featurestore.spec import LAST, tap_names

SUFFIX = ".onnx"
_SIZE = 224  # of a network that takes any


@dataclass(frozen=True, eq=False)
class OnnxNetwork(FrozenNetwork):
    """A frozen ONNX graph with its preprocessing in front and its pooling behind.

    Attributes:
        model: serialised, from ``pixels`` uint8 (N, size, size, 3), where N may be fixed to 1, to float32 outputs.
    """

    model: bytes = field(repr=False)

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Compute one image after the other, by ONNX Runtime as the graph is, or by OpenVINO where that is missing."""
        names = list(self.shapes)
        rows = [self._plain(pixels[i : i + 1]) for i in range(len(pixels))]
        return {name: np.concatenate([row[i] for row in rows]) for i, name in enumerate(names)}

    def libraries(self) -> tuple[str, ...]:
        """Name what has read the file."""
        return ("onnx",)

    def onnx_model(self) -> bytes:
        """See :meth:`FrozenNetwork.onnx_model`."""
        return self.model

    def openvino_model(self) -> Any:
        """See :meth:`FrozenNetwork.openvino_model`; None where OpenVINO is not installed, or lacks an operator."""
        return self._converted

    @cached_property
    def _converted(self) -> Any:
        if find_spec("openvino") is None:
            return None
        import openvino

        try:
            return openvino.Core().read_model(self.model)
        except RuntimeError:
            return None

    @cached_property
    def _plain(self) -> Any:
        names = list(self.shapes)
        if find_spec("onnxruntime") is None:
            if self._converted is None:
                raise missing(f"the backbone {self.name}", "ONNX Runtime", "onnx")
            import openvino

            self._converted.reshape([1, self.size, self.size, 3])
            compiled = openvino.Core().compile_model(self._converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

            def by_openvino(pixels: NDArray[np.uint8]) -> list[Any]:
                found = compiled(pixels)
                return [found[name] for name in names]

            return by_openvino
        session = open_session(self.name, self.model, plain=True)
        return lambda pixels: session.run(names, {PIXELS: pixels})


def open_session(name: str, model: bytes, *, plain: bool = False) -> Any:
    """Open a model in ONNX Runtime, for single images in one thread of the CPU.

    Args:
        name: of the network, for the message.
        model: as :meth:`FrozenNetwork.onnx_model` gives it.
        plain: whether the graph stays as it is, and is not optimised.

    Raises:
        BackboneError: ONNX Runtime cannot run it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name(ANY, 1)
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common class
        raise BackboneError(f"{name}: ONNX Runtime cannot run it ({one_line(error)}): export it again") from error


@dataclass(frozen=True)
class OnnxArchitecture(Architecture):
    """What the registry knows of a network in an ONNX file.

    Attributes:
        file: the path that the user named.
        model: as :func:`featurestore.backbones.onnx_reader.read_model` gives it.
        layout: of its input.
        side: of its input, where the file states one.
        output: the tensor that is the tap ``last``.
    """

    file: str = field(kw_only=True)
    model: Any = field(kw_only=True, repr=False)
    layout: Layout = field(kw_only=True)
    side: int | None = field(kw_only=True)
    output: str = field(kw_only=True)

    def load(self, request: Request) -> OnnxNetwork:
        """Put preprocessing in front of the graph, cut it off behind its last tap, and pool."""
        if request.weights != "imagenet":
            raise WeightsError(f"{self.file} holds its own weights: leave --weights out, or name another .onnx file")
        facts = self.common(request) | {"weights": self.file}
        layers = self._layers(facts["size"])
        output = next((name for name, layer in layers.items() if layer.tensor == self.output), None)
        if output is None:
            raise BackboneError(
                f"{self.file}: its output {self.output!r} is no float tensor (1, …) of rank 2 to 4: name another as "
                f'"output" in {path_of(self.file).name}: {nearest(self.output, list(layers))}'
            )
        shapes = {name: layer.shape for name, layer in layers.items()}
        wanted = [(plain_name(pattern), pool) for pattern, pool in request.parsed_taps()]
        taps = resolve(self.name, shapes, output, wanted, self.tokens)
        names = tap_names(taps)
        chosen = [layers[output if tap.layer == LAST else tap.layer] for tap in taps]
        image = facts["size"], self.layout, Preprocessing.of(self.preprocessing)
        pools = [tap.pool for tap in taps]
        model = from_pixels(
            self.model, image, dict(zip(names, zip(chosen, pools, strict=True), strict=True)), self.tokens
        )
        return OnnxNetwork(
            **facts,
            taps=taps,
            weights_digest=onnx_reader.digest(self.model, repr((self.layout, self.output, self.tokens))),
            shapes={
                name: pooled_shape(layer.shape, pool, self.tokens)
                for name, layer, pool in zip(names, chosen, pools, strict=True)
            },
            flops={name: layer.flops for name, layer in zip(names, chosen, strict=True)},
            model=model.SerializeToString(),
            tokens=self.tokens,
        )

    def layers(self, size: int) -> list[dict[str, Any]]:
        """See :meth:`Architecture.layers`."""
        return [
            {"layer": name, "type": layer.type, "shape": layer.shape, "flops": layer.flops}
            for name, layer in self._layers(size).items()
        ]

    def _layers(self, size: int) -> dict[str, Layer]:
        if self.side not in (None, size):
            raise BackboneError(
                f"{self.file}: its network takes {self.side} pixels, not {size}: pass --size {self.side}, or none"
            )
        try:
            return layers_of(self.model, size, self.layout)
        except ValueError as error:
            raise BackboneError(f"{self.file}: {error}: pass another --size, or another network") from error


def architecture(name: str, preprocessing: str | None) -> OnnxArchitecture:
    """Find out what the registry needs to know of the network in a file.

    Args:
        name: path of the file.
        preprocessing: the name of one, in place of that which the sidecar states.

    Raises:
        BackboneError: nothing says how it wants the pixels; the file is damaged, or takes no image.
        MissingDependencyError: ONNX is not installed.
    """
    path = Path(name)
    if find_spec("onnx") is None:
        raise missing(f"the backbone {name}", "ONNX", "onnx")
    stated = read_sidecar(path)
    model = onnx_reader.read_model(path)
    beside = stated or Sidecar()
    layout, side = _input(path, model, beside)
    pixels = preprocessing or beside.pixels
    if pixels is None:
        raise BackboneError(
            f'{path}: say how its network wants the pixels: write {path_of(path)} with "mean" and "std" of R, G and '
            f"B in 0 to 255, or pass --preprocessing {' or '.join(PREPROCESSINGS)}"
        )
    return OnnxArchitecture(
        beside.name or path.stem,
        side or beside.size or _SIZE,
        side or 1,
        _preprocessing(path, model, pixels),
        None,
        "in the file",
        resize=beside.resize,
        interpolation=beside.interpolation,
        crop_share=beside.crop_share,
        tokens=beside.tokens,
        licence=beside.licence,
        revision=beside.revision,
        file=name,
        model=model,
        layout=layout,
        side=side,
        output=_output(path, model, beside),
    )


def files(name: str) -> list[Path]:
    """List the file, those that hold its weights, and the sidecar if there is one."""
    sidecar = path_of(name)
    return [*onnx_reader.files_of(Path(name)), *([sidecar] if sidecar.exists() else [])]


def _input(path: Path, model: Any, stated: Sidecar) -> tuple[Layout, int | None]:
    """Return the layout of the one input, and its side, where the file states one."""
    inputs = {value.name: value.type.tensor_type for value in model.graph.input}
    shown = ", ".join(f"{name!r} {_shown(kind)}" for name, kind in list(inputs.items())[:4])
    wanted = (
        f"it takes {shown or 'nothing'}, and a backbone takes one RGB image, (N, 3, side, side) or (N, side, side, 3)"
    )
    if len(inputs) != 1:
        raise _refused(path, wanted, "export it with its image as the only input")
    (kind,) = inputs.values()
    sides = [side.dim_value if side.dim_value > 0 else None for side in kind.shape.dim]
    if kind.elem_type not in _INPUTS or len(sides) != 4 or not _is_one(sides[0]):
        raise _refused(path, wanted, "export it with such an input")
    fits: dict[Layout, bool] = {"NCHW": sides[1] in (3, None), "NHWC": sides[3] in (3, None)}
    if sides[1] == 3 or sides[3] == 3:
        fits = {"NCHW": sides[1] == 3, "NHWC": sides[3] == 3}
    layout: Layout = stated.layout or ("NHWC" if fits["NHWC"] and not fits["NCHW"] else "NCHW")
    if not fits[layout]:
        raise _refused(path, wanted, "export it with such an input")
    if all(fits.values()) and stated.layout is None:
        raise _refused(path, f"its input {shown} tells no layout", f'state "layout" in {path_of(path)}, NCHW or NHWC')
    ends = {side for side in (sides[2:] if layout == "NCHW" else sides[1:3]) if side}
    if len(ends) > 1:
        raise _refused(path, wanted, "export it for square images")
    side = next(iter(ends), None)
    if side and stated.size not in (None, side):
        raise BackboneError(
            f"{path_of(path)}: it states a size of {stated.size}, and {path.name} takes {side}: correct it"
        )
    return layout, side


_INPUTS = (1, 2, 10, 11)
"""float32, uint8, float16 and float64 as ONNX numbers them."""


def _is_one(batch: int | None) -> bool:
    return batch in (None, 1)


def _shown(kind: Any) -> str:
    import onnx

    if not onnx.TensorProto.DataType.Name(kind.elem_type) or not kind.HasField("shape"):
        return "of unknown shape"
    sides = ", ".join(str(side.dim_value or side.dim_param or "?") for side in kind.shape.dim[:8])
    return f"{onnx.TensorProto.DataType.Name(kind.elem_type).lower()} ({sides})"


def _preprocessing(path: Path, model: Any, name: str) -> str:
    found = Preprocessing.of(name)
    takes_bytes = model.graph.input[0].type.tensor_type.elem_type == _INPUTS[1]
    if takes_bytes and (set(found.mean), set(found.std)) != ({0.0}, {1.0}):
        raise BackboneError(f"{path}: its network takes the pixels as they are: state the preprocessing 'none'")
    return found.name


def _output(path: Path, model: Any, stated: Sidecar) -> str:
    names = [value.name for value in model.graph.output]
    if stated.output is None:
        if len(names) == 1:
            return str(names[0])
        shown = ", ".join(names[:8])
        raise _refused(path, f"it has {len(names)} outputs: {shown}", f'name one as "output" in {path_of(path)}')
    known = [*(name for node in model.graph.node for name in node.output if name), *names]
    if stated.output not in known:
        raise BackboneError(
            f"{path_of(path)}: {path.name} has no output {stated.output!r}: {nearest(stated.output, known)}"
        )
    return stated.output


def _refused(path: Path, reason: str, way_out: str) -> BackboneError:
    return BackboneError(f"{path}: {reason}: {way_out}")
