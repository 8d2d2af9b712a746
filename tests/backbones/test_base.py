"""A network that is not Keras' is a file with two classes and a line in the registry. Here is such a file."""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from featurestore import FeatureStore, backbones, engines, extract
from featurestore.backbones import ARCHITECTURES, Architecture, FrozenNetwork, Request, find, load_backbone, taps_of
from featurestore.backbones.preprocessing import PREPROCESSINGS
from featurestore.backbones.taps import resolve
from featurestore.errors import BackboneError
from featurestore.images.decode import decode
from featurestore.spec import Tap, tap_names

# ---------------------------------------------------------------------------------------------- the file of the network

WEIGHTS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
LAYERS = {"colours": (3,), "mixed": (4,)}


@dataclass(frozen=True)
class ColourNetwork(FrozenNetwork):
    """The mean colour of an image, and four mixtures of its channels."""

    def run(self, pixels):
        colours = PREPROCESSINGS[self.preprocessing](pixels).mean(axis=(1, 2))
        outputs = {"colours": colours, "last": colours @ WEIGHTS}
        return {name: outputs[tap.layer] for name, tap in zip(tap_names(self.taps), self.taps, strict=True)}


@dataclass(frozen=True)
class ColourArchitecture(Architecture):
    network: type = ColourNetwork

    def load(self, request: Request) -> ColourNetwork:
        taps = resolve(self.name, LAYERS, "mixed", request.parsed_taps())
        widths = {"colours": 3, "last": 4}
        return self.network(
            **self.common(request),
            taps=taps,
            weights_digest=hashlib.sha256(WEIGHTS.tobytes()).hexdigest(),
            shapes={name: (widths[tap.layer],) for name, tap in zip(tap_names(taps), taps, strict=True)},
            flops=dict.fromkeys(tap_names(taps)),
        )

    def layers(self, size):
        return [{"layer": name, "type": "mean", "shape": shape, "flops": None} for name, shape in LAYERS.items()]


# ---------------------------------------------------------------------------------------------- what it can do then


@pytest.fixture
def colours(monkeypatch):
    line = ColourArchitecture("colours", 8, 1, "torch", 4, "in the code")
    monkeypatch.setitem(ARCHITECTURES, line.name, line)
    return line


def expected(path: Path) -> np.ndarray:
    pixels = decode(path.read_bytes(), 8, "squash")
    means = (pixels.astype(np.float64).mean(axis=(0, 1)) - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375)
    return means @ WEIGHTS


def test_its_features_are_extracted_and_read(colours, images, tmp_path):
    done = extract(images, tmp_path / "store", backbone="colours", taps=["*", "last"])
    assert (done.rows, done.computed) == (30, 30)
    file = FeatureStore(done.path)
    assert set(file.taps) == {"colours", "last"}
    for path, row in zip(file.paths, file.features("last")[:], strict=True):
        np.testing.assert_allclose(row, expected(images / path), rtol=1e-4, atol=1e-4)
    assert file.spec.backbone == "colours" and file.producers[-1]["engine"] == "reference"
    assert "keras" not in file.producers[-1]
    again = extract(images, tmp_path / "store", backbone="colours", taps=["*", "last"])
    assert (again.computed, again.written) == (0, False)


def test_it_is_found_listed_and_asked_for_its_layers(colours):
    assert find("Colours") is colours
    assert any(row["backbone"] == "colours" and row["width"] == 4 for row in backbones.table())
    assert [row["layer"] for row in taps_of("colours")] == list(LAYERS)
    assert load_backbone("colours", taps=["mixed=max", "col*"]).taps == (Tap("colours"), Tap("last", "max"))
    with pytest.raises(BackboneError, match="colours has no option 'width': it takes none"):
        find("colours:width=2")
    with pytest.raises(BackboneError, match="colours has no layer 'colour' to tap: did you mean 'colours'"):
        load_backbone("colours", taps=["colour"])


def test_an_engine_takes_what_a_network_offers(colours):
    network = load_backbone("colours")
    assert engines.default(network) == engines.fastest(network) == "reference"
    for engine, message in (("keras", "no network of Keras"), ("openvino", "no form that OpenVINO reads")):
        assert not engines.available(engine, network)
        with pytest.raises(BackboneError, match=f"colours .*{message}"):
            engines.compile_backbone(network, engine)


@dataclass(frozen=True)
class OpenVinoColours(ColourNetwork):
    """The same network, which offers a model of OpenVINO too."""

    wrong: bool = False

    def openvino_model(self):
        import openvino
        from openvino import opset13 as ops

        contract = PREPROCESSINGS[self.preprocessing]
        pixels = ops.parameter([-1, self.size, self.size, 3], np.uint8, name="pixels")
        mean, std, weights = map(ops.constant, (*np.float32([contract.mean, contract.std]), WEIGHTS + self.wrong))
        values = ops.divide(ops.subtract(ops.convert(pixels, "f32"), mean), std)
        means = ops.reduce_mean(values, ops.constant(np.array([1, 2])), False)
        mixed = ops.matmul(means, weights, False, False)
        mixed.output(0).set_names({"last"})
        return openvino.Model([mixed], [pixels], "colours")


def test_what_offers_an_openvino_model_runs_there_and_is_compared_with_its_own_way():
    pytest.importorskip("openvino")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    network = ColourArchitecture("colours", 8, 1, "torch", 4, network=OpenVinoColours).load(Request("colours"))
    assert engines.default(network) == "openvino"
    found = engines.compile_backbone(network)(pixels)()
    np.testing.assert_allclose(found["last"], network.run(pixels)["last"], rtol=1e-4, atol=1e-5)
    wrong = OpenVinoColours(**vars(network) | {"wrong": True})
    with pytest.raises(BackboneError, match="the engine openvino gives features of colours, tap 'last', that differ"):
        engines.compile_backbone(wrong)(pixels)()


def test_it_needs_no_keras(images, tmp_path):
    script = (
        "import sys; sys.modules['keras'] = sys.modules['tensorflow'] = None\n"
        "from pathlib import Path; from featurestore import extract\n"
        "from featurestore.backbones import ARCHITECTURES; from test_base import ColourArchitecture\n"
        "ARCHITECTURES['colours'] = ColourArchitecture('colours', 8, 1, 'torch', 4)\n"
        "print(extract(Path(sys.argv[1]), Path(sys.argv[2]), backbone='colours').rows)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", script, str(images), str(tmp_path / "store")],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "30", done.stderr
