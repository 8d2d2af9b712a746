"""Networks from ONNX files. Those of strangers that mean harm are in tests/hostile/test_onnx_networks.py."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_nets import Net, cnn, transformer

from featurestore.backbones import Request, load_backbone, network_cache, onnx_file, onnx_reader, taps_of
from featurestore.backbones.onnx_graph import layer_name, plain_name
from featurestore.backbones.preprocessing import Preprocessing
from featurestore.backbones.registry import find
from featurestore.backbones.sidecar import Sidecar, write_sidecar
from featurestore.engines import compile_backbone, difference, registry
from featurestore.errors import BackboneError, MissingDependencyError, WeightsError

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
ENGINES = ("openvino", "onnxruntime")


def torch_like(pixels, bgr=False):
    values = (pixels - np.array([123.675, 116.28, 103.53])) / np.array([58.395, 57.12, 57.375])
    return (values[..., ::-1] if bgr else values).astype(np.float32).transpose(0, 3, 1, 2)


def by_hand(path, image, *names):
    """What the file's own graph gives, by ONNX' reference."""
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return ReferenceEvaluator(model).run(list(names), {"image": image})


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_features_are_those_of_the_files_own_graph(tmp_path, channels):
    path = cnn(tmp_path / "net.onnx", sidecar={"channels": channels})
    taps = ["/block1/relu=avg+max", "block1.relu=flatten", "a=none", "last"]
    network = load_backbone(str(path), taps=taps)
    assert network.shapes == {
        "a": (15, 15, 4), "block1.relu.avg+max": (12,), "block1.relu.flatten": (13 * 13 * 6,), "last": (5,)
    }  # fmt: skip
    first = 2 * 15 * 15 * 4 * 27
    assert network.flops["a"] == first
    assert network.flops["last"] == first + 2 * 13 * 13 * 6 * 36 + 2 * 6 * 5
    a, relu, logits = by_hand(path, torch_like(PIXELS, channels == "BGR"), "a", "/block1/relu", "logits")
    last = relu.transpose(0, 2, 3, 1)
    expected = {
        "a": a.transpose(0, 2, 3, 1),
        "block1.relu.avg+max": np.concatenate([last.mean((1, 2)), last.max((1, 2))], 1),
        "block1.relu.flatten": last.reshape(3, -1),
        "last": logits,
    }
    for run in (network.run, *(lambda x, e=e: compile_backbone(network, e)(x)() for e in ENGINES)):
        found = run(PIXELS)
        assert {name: values.dtype for name, values in found.items()} == dict.fromkeys(expected, np.float32)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
def test_versions_of_the_operators(tmp_path, opset):
    path = cnn(tmp_path / "net.onnx", opset=opset, sidecar={})
    network = load_backbone(str(path), taps=["block1.relu=avg+max"])
    (relu,) = by_hand(path, torch_like(PIXELS), "/block1/relu")
    expected = np.concatenate([relu.mean((2, 3)), relu.max((2, 3))], 1)
    np.testing.assert_allclose(network.run(PIXELS)["block1.relu"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("cls", "registers", "pool"), [(True, 2, "cls+patches"), (False, 1, "patches"), (True, 0, "cls")]
)
def test_tokens(tmp_path, cls, registers, pool):
    path = transformer(tmp_path / "vit.onnx", cls=cls, registers=registers)
    network = load_backbone(str(path), taps=["block[-2:]=none", "block1", f"last={pool}"])
    default = load_backbone(str(path))
    assert default.taps[0].pool == ("cls+patches" if cls else "patches")
    pixels = PIXELS[:, :16, :16]
    found = network.run(pixels)
    image = (pixels / 127.5 - 1).astype(np.float32).transpose(0, 3, 1, 2)
    block, tokens = by_hand(path, image, "block0", "tokens")
    np.testing.assert_allclose(found["block0"], block, rtol=1e-4, atol=1e-5)
    parts = {"cls": tokens[:, 0], "patches": tokens[:, cls + registers :].mean(1)}
    np.testing.assert_allclose(
        found["last"], np.concatenate([parts[part] for part in pool.split("+")], 1), rtol=1e-4, atol=1e-5
    )
    for engine in ENGINES:
        assert difference(found["last"], compile_backbone(network, engine)(pixels)()["last"]) < 1e-5
    assert (network.licence, network.revision) == ("apache-2.0", "r1")


def test_a_graph_with_its_batch_in_a_shape_runs_image_by_image(tmp_path):
    network = load_backbone(str(transformer(tmp_path / "vit.onnx", baked=True)))
    honest = load_backbone(str(transformer(tmp_path / "honest.onnx")))
    fixed = load_backbone(str(transformer(tmp_path / "fixed.onnx", batch=1)))
    pixels = PIXELS[:, :16, :16]
    for engine in (*ENGINES, "reference"):
        for each in (network, fixed):
            found = compile_backbone(each, engine)(pixels)()["last"]
            np.testing.assert_allclose(found, honest.run(pixels)["last"], rtol=1e-4, atol=1e-5)


def test_keras_and_its_export_give_the_same(tmp_path):
    """TensorFlow's graphs take (N, side, side, 3), and are channels-first inside: maps come out as Keras gives them."""
    import keras
    import tf2onnx
    from keras import layers

    image = keras.Input((32, 32, 3))
    maps = layers.Conv2D(4, 3, activation="relu", name="one")(image)
    model = keras.Model(image, layers.Conv2D(5, 3, padding="same", activation="relu", name="two")(maps))
    model.save(tmp_path / "net.keras")
    tf2onnx.convert.from_keras(model, output_path=str(tmp_path / "net.onnx"))
    theirs = load_backbone(str(tmp_path / "net.keras"), preprocessing="torch", taps=["last=avg", "last=flatten"])
    ours = load_backbone(str(tmp_path / "net.onnx"), preprocessing="torch", taps=["last=avg", "last=flatten"])
    (inner,) = [
        row for row in taps_of(str(tmp_path / "net.onnx"), preprocessing="torch") if row["shape"] == (30, 30, 4)
    ][:1]
    assert inner["flops"] == 2 * 30 * 30 * 27 * 4
    for name, values in theirs.run(PIXELS).items():
        assert difference(values, ours.run(PIXELS)[name]) < 1e-5


def test_weights_beside_the_file_are_the_same_network(tmp_path):
    one = load_backbone(str(cnn(tmp_path / "one.onnx", sidecar={})))
    options = {"save_as_external_data": True, "size_threshold": 0, "location": "w.bin", "convert_attribute": True}
    path = cnn(tmp_path / "two.onnx", sidecar={}, **options)
    two = load_backbone(str(path))
    assert one.weights_digest == two.weights_digest and (tmp_path / "w.bin").stat().st_size > 500
    np.testing.assert_array_equal(one.run(PIXELS)["last"], two.run(PIXELS)["last"])
    assert onnx_file.files(path) == [path, tmp_path / "w.bin", tmp_path / "two.json"]
    assert onnx_file.files(tmp_path / "none.onnx") == [tmp_path / "none.onnx"]


def test_the_digest_is_of_what_is_computed(tmp_path):
    plain = find(str(cnn(tmp_path / "one.onnx", sidecar={})))
    model = onnx.load(tmp_path / "one.onnx")
    model.doc_string, model.producer_name, model.graph.name = "words", "somebody", "other"
    for node in model.graph.node:
        node.doc_string, node.name = "more", f"n{node.output[0]}"
    tensor = model.graph.initializer[0]
    values = onnx.numpy_helper.to_array(tensor).ravel()
    tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, values))  # as float_data
    onnx.save(model, tmp_path / "two.onnx")
    shutil.copy(tmp_path / "one.json", tmp_path / "two.json")
    digest = load_backbone(str(tmp_path / "one.onnx")).weights_digest
    assert load_backbone(str(tmp_path / "two.onnx"), taps=["a"]).weights_digest == digest
    model.graph.node[0].attribute[1].ints[:] = [1, 1]
    onnx.save(model, tmp_path / "two.onnx")
    assert load_backbone(str(tmp_path / "two.onnx")).weights_digest != digest
    assert load_backbone(str(cnn(tmp_path / "other.onnx", seed=1, sidecar={}))).weights_digest != digest
    write_sidecar(tmp_path / "one.onnx", Sidecar(size=32, preprocessing="torch", output="/block1/relu"))
    other = load_backbone(str(tmp_path / "one.onnx"))
    assert other.weights_digest != digest and other.shapes == {"last": (6,)}
    assert plain.name == "one"


def test_the_sidecar_and_the_options(tmp_path):
    contract = {"name": "mine", "resize": "shortest", "crop_share": 0.875, "interpolation": "bicubic", "licence": "mit"}
    path = str(cnn(tmp_path / "net.onnx", sidecar=contract))
    network = load_backbone(path)
    framing = network.spec().framing
    assert (network.name, framing.size, framing.resize, framing.crop_share) == ("mine", 32, "shortest", 0.875)
    assert (framing.interpolation, network.licence, network.preprocessing) == ("bicubic", "mit", "torch")
    other = load_backbone(path, size=40, preprocessing="tf", resize="pad", interpolation="bilinear")
    assert (other.size, other.preprocessing, other.resize, other.crop_share) == (40, "tf", "pad", 1.0)
    assert other.weights_digest == network.weights_digest
    (tmp_path / "net.json").unlink()
    alone = load_backbone(path, preprocessing="tf")
    assert (alone.name, alone.size) == ("net", 224)


def test_what_can_be_tapped(tmp_path):
    rows = taps_of(str(cnn(tmp_path / "net.onnx", sidecar={})))
    assert [(row["layer"], row["type"], row["shape"]) for row in rows] == [
        ("a", "Conv", (15, 15, 4)),
        ("block1.conv", "Conv", (13, 13, 6)),
        ("block1.relu", "Relu", (13, 13, 6)),
        ("back", "Transpose", (13, 13, 6)),
        ("pool", "GlobalAveragePool", (1, 1, 6)),
        ("flat", "Flatten", (6,)),
        ("logits", "Gemm", (5,)),
    ]
    rows = taps_of(str(transformer(tmp_path / "vit.onnx")))
    layers = [row["layer"] for row in rows]
    assert "extra" not in layers and "prefix" not in layers  # they do not depend on the image
    assert [row["shape"] for row in rows if row["layer"] in ("maps", "tokens")] == [(4, 4, 8), (19, 8)]


def test_names_of_layers(tmp_path):
    assert layer_name("/blocks.0/mlp/Add_output_0") == "blocks.0.mlp.Add_output_0"
    assert layer_name("a b+c=d[0]:0") == "a_b_c_d_0_"
    assert plain_name("/blocks.*/Add*") == "blocks.*.Add*" and plain_name("block[-4:]") == "block[-4:]"
    net = Net()
    before = "image"
    for name in ("/x/y", "x.y", "x/y:0", "last"):
        before = net.add("Relu", [before], name)
    net.save(tmp_path / "net.onnx", [1, 3, 8, 8], ["last"])
    rows = taps_of(str(tmp_path / "net.onnx"), preprocessing="tf")
    assert [row["layer"] for row in rows] == ["x.y", "x.y_2", "x.y_3", "last_2"]
    network = load_backbone(str(tmp_path / "net.onnx"), preprocessing="tf", taps=["x.y_2", "last", "last_2"])
    assert list(network.shapes) == ["x.y_2", "last"]
    network.spec()


def test_other_types_of_input(tmp_path):
    for kind, preprocessing in ((TensorProto.UINT8, "none"), (TensorProto.FLOAT16, "torch")):
        net = Net()
        net.add("Cast", ["image"], "values", to=TensorProto.FLOAT)
        net.save(tmp_path / "net.onnx", ["N", 3, 32, 32], ["values"], kind=kind)
        network = load_backbone(str(tmp_path / "net.onnx"), preprocessing=preprocessing, pool="none")
        expected = Preprocessing.of(preprocessing)(PIXELS)
        np.testing.assert_allclose(compile_backbone(network)(PIXELS)()["last"], expected, atol=2e-3)
    net.save(tmp_path / "net.onnx", ["N", 3, 32, 32], ["values"], kind=TensorProto.UINT8)
    with pytest.raises(BackboneError, match=r"net\.onnx: its network takes the pixels as they are"):
        load_backbone(str(tmp_path / "net.onnx"), preprocessing="torch")


def inputs_of(path, image, kind=TensorProto.FLOAT, **options):
    net = Net()
    net.add("Cast", ["image"], "values", to=TensorProto.FLOAT)
    net.save(path, image, ["values"], kind=kind, **options)


@pytest.mark.parametrize(
    ("image", "kind", "reason"),
    [
        ([1, 16], TensorProto.INT64, r"takes 'image' int64 \(1, 16\), and a backbone takes one RGB image"),
        (["N", 1, 28, 28], TensorProto.FLOAT, r"takes 'image' float \(N, 1, 28, 28\), and"),
        (["N", 3, 48, 192], TensorProto.FLOAT, "export it for square images"),
        ([8, 3, 32, 32], TensorProto.FLOAT, r"takes 'image' float \(8, 3, 32, 32\)"),
        (["N", "C", "H", "W"], TensorProto.FLOAT, r'tells no layout: state "layout" in .*net\.json, NCHW or NHWC'),
        (None, TensorProto.FLOAT, "of unknown shape, and a backbone"),
    ],
)
def test_what_is_no_image(tmp_path, image, kind, reason):
    inputs_of(tmp_path / "net.onnx", image, kind)
    with pytest.raises(BackboneError, match=rf"net\.onnx.*{reason}"):
        load_backbone(str(tmp_path / "net.onnx"), preprocessing="tf")


def test_a_stated_layout(tmp_path):
    inputs_of(tmp_path / "net.onnx", ["N", "a", "b", "c"])
    for layout in ("NCHW", "NHWC"):
        write_sidecar(tmp_path / "net.onnx", Sidecar(size=32, preprocessing="tf", layout=layout))
        network = load_backbone(str(tmp_path / "net.onnx"), pool="none")
        np.testing.assert_allclose(network.run(PIXELS)["last"], PIXELS / 127.5 - 1, atol=1e-6)


def test_bad_input(tmp_path):
    path = tmp_path / "net.onnx"
    inputs_of(path, ["N", 3, 32, 32], inputs=[helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1])])
    with pytest.raises(BackboneError, match=r"takes 'image' .*, 'mask' .*: export it with its image as the only input"):
        load_backbone(str(path), preprocessing="tf")
    cnn(path, sides=(32, 32))
    with pytest.raises(BackboneError, match=r"say how .*write .*net\.json with .*or pass --preprocessing caffe or"):
        load_backbone(str(path))
    for options, reason in [
        ({"size": 48}, "its network takes 32 pixels, not 48: pass --size 32"),
        ({"size": 16}, "size 16 is too small for net"),
        ({"pool": "cls"}, r"net, 'last' gives \(5,\) and no tokens"),
        ({"taps": ["block1=cls"]}, r"no layer 'block1' to tap: did you mean 'block1.\w+'"),
        ({"taps": ["block1.relu=patches"]}, "no tokens: pass another --pool"),
        ({"weights": "random"}, "holds its own weights: leave --weights out"),
    ]:
        with pytest.raises((BackboneError, WeightsError), match=reason):
            load_backbone(str(path), preprocessing="tf", **options)
    cnn(path, sides=("H", "W"))
    with pytest.raises(BackboneError, match=r"net\.onnx: its network cannot take 3 pixels"):
        load_backbone(str(path), preprocessing="tf", size=3)
    (tmp_path / "net.json").write_text('{"size": 64, "output": "logit", "preprocessing": "tf"}')
    with pytest.raises(BackboneError, match=r"net\.json: net\.onnx has no output 'logit': did you mean 'logits'"):
        load_backbone(str(path))
    cnn(path, sides=(32, 32))
    with pytest.raises(BackboneError, match=r"net\.json: it states a size of 64, and net\.onnx takes 32"):
        load_backbone(str(path))


def test_several_outputs(tmp_path):
    net = Net()
    net.add("Relu", ["image"], "maps")
    net.add("ReduceMean", ["maps"], "mean", axes=[2, 3], keepdims=0)
    net.save(tmp_path / "net.onnx", ["N", 3, 32, 32], ["maps", "mean"])
    with pytest.raises(BackboneError, match=r'it has 2 outputs: maps, mean: name one as "output" in .*net\.json'):
        load_backbone(str(tmp_path / "net.onnx"), preprocessing="tf")
    write_sidecar(tmp_path / "net.onnx", Sidecar(preprocessing="tf", output="mean"))
    assert load_backbone(str(tmp_path / "net.onnx")).shapes == {"last": (3,)}


def test_libraries_that_are_missing(tmp_path, monkeypatch):
    path = str(cnn(tmp_path / "net.onnx", sidecar={}))
    network, there = load_backbone(path), importlib.util.find_spec
    expected = network.run(PIXELS)["last"]

    def without(*names):
        for module in (onnx_file, registry.onnxruntime_engine, registry.openvino_engine):
            monkeypatch.setattr(module, "find_spec", lambda name: None if name in names else there(name))

    without("onnxruntime")
    found = load_backbone(path)
    assert registry.default(found) == "openvino"
    np.testing.assert_allclose(compile_backbone(found)(PIXELS)()["last"], expected, rtol=1e-4, atol=1e-5)
    without("openvino")
    found = load_backbone(path)
    assert registry.default(found) == "onnxruntime" == registry.choose(found, 10**4)
    np.testing.assert_allclose(compile_backbone(found)(PIXELS)()["last"], expected, rtol=1e-4, atol=1e-5)
    without("openvino", "onnxruntime")
    with pytest.raises(MissingDependencyError, match=r"featurestore\[onnx\]"):
        compile_backbone(load_backbone(path))(PIXELS)()
    without("onnx")
    with pytest.raises(MissingDependencyError, match=r"net\.onnx needs ONNX.*featurestore\[onnx\]"):
        load_backbone(path)


def test_the_engine_onnxruntime_says_what_it_cannot(tmp_path):
    from dataclasses import replace

    network = load_backbone(str(cnn(tmp_path / "net.onnx", sidecar={})))
    assert registry.available("onnxruntime", network) and not registry.available("keras", network)
    with pytest.raises(BackboneError, match="onnxruntime does not compute in bfloat16"):
        compile_backbone(replace(network, precision="bfloat16"), "onnxruntime")
    with pytest.raises(BackboneError, match="small_cnn is no network of an ONNX file"):
        compile_backbone(load_backbone("small_cnn", weights="random", size=32), "onnxruntime")
    assert registry.fastest(network) in ENGINES


@pytest.mark.parametrize(("name", "size"), [("ch_ppocr_mobile_v2.0_cls_infer", 48), ("ch_PP-OCRv4_det_infer", 96)])
def test_files_that_nobody_here_wrote(tmp_path, name, size):
    package = pytest.importorskip("rapidocr_onnxruntime")
    path = shutil.copy(Path(package.__file__).parent / "models" / f"{name}.onnx", tmp_path)
    write_sidecar(path, Sidecar(size=size, mean=(127.5,) * 3, std=(127.5,) * 3, channels="BGR"))
    inner = [row["layer"] for row in taps_of(path) if row["type"] == "Conv"][5]
    network = load_backbone(path, taps=[inner, "last"])
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    for engine in ENGINES:
        assert difference(network.run(pixels)[inner], compile_backbone(network, engine)(pixels)()[inner]) < 1e-4


def test_reading_leaves_one_form(tmp_path):
    net = Net()
    net.nodes.append(
        helper.make_node("Constant", [], ["two"], value=helper.make_tensor("", TensorProto.FLOAT, [1], [2.0]))
    )
    net.add("Mul", ["image", "two"], "twice")
    net.save(tmp_path / "net.onnx", ["N", 3, 8, 8], ["twice"])
    model = onnx_reader.read_model(tmp_path / "net.onnx")
    assert [node.op_type for node in model.graph.node] == ["Mul"]
    assert [tensor.name for tensor in model.graph.initializer] == ["two"]


def test_all_its_files_are_watched(tmp_path):
    """What an earlier run knows of a network is not believed when its weights or its pixel contract have changed."""
    options = {"save_as_external_data": True, "size_threshold": 0, "location": "w.bin"}
    path = cnn(tmp_path / "net.onnx", sidecar={}, **options)
    watched = network_cache._files(Request(str(path)))
    assert {path, tmp_path / "w.bin", tmp_path / "net.json"} <= set(watched)


def test_keras_is_not_needed(tmp_path, images):
    path = cnn(tmp_path / "net.onnx", sidecar={})
    code = (
        "import sys; from featurestore import extract\n"
        f"done = extract({str(images)!r}, {str(tmp_path / 'store')!r}, backbone={str(path)!r}, progress=False)\n"
        "print(done.computed, {'keras', 'tensorflow', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "30 set()"
