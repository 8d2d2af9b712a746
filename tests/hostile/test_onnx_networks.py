"""ONNX files that mean harm: refused from what they declare, before memory is taken or anything else is read."""

import os

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_nets import Net, cnn

from featurestore.backbones import load_backbone, onnx_reader, onnx_shapes
from featurestore.errors import BackboneError


def refused(path, reason, **options):
    with pytest.raises(BackboneError, match=rf"{path.name}.*{reason}") as caught:
        load_backbone(str(path), preprocessing="tf", **{"size": 32} | options)
    assert "\n" not in str(caught.value)


@pytest.fixture
def external(tmp_path):
    """A network whose weights lie beside it, and its model without them."""
    options = {"save_as_external_data": True, "size_threshold": 0, "location": "w.bin"}
    path = cnn(tmp_path / "net.onnx", **options)
    return path, onnx.load(path, load_external_data=False)


def changed(path, model, **facts):
    """The file with other facts about where its first weights lie."""
    tensor = model.graph.initializer[0]
    known = {entry.key: entry.value for entry in tensor.external_data} | facts
    del tensor.external_data[:]
    for key, value in known.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("location", ["/etc/passwd", "../w.bin", "a/../../w.bin", "", "w\0.bin"])
def test_weights_outside_of_the_folder(external, location):
    path, model = external
    (path.parent.parent / "w.bin").write_bytes(b"x" * 10_000)
    refused(changed(path, model, location=location), "lie outside its folder .*copy that file beside it")


def test_a_link_out_of_the_folder(external, tmp_path_factory):
    path, _ = external
    other = tmp_path_factory.mktemp("other") / "w.bin"
    (path.parent / "w.bin").rename(other)
    (path.parent / "w.bin").symlink_to(other)
    refused(path, "lie outside its folder")


@pytest.mark.parametrize("facts", [{"length": "10"}, {"offset": "-4"}, {"length": "x"}, {"offset": "1e3"}])
def test_places_that_cannot_be(external, facts):
    refused(changed(*external, **facts), "are not as many bytes as it says")


def test_weights_that_are_not_there(external):
    path, model = external
    refused(changed(path, model, offset=str(2**40)), "end behind the file's end")
    (path.parent / "w.bin").unlink()
    refused(path, r"cannot be read \(no such file\)\): put them beside")
    os.mkfifo(path.parent / "w.bin")
    refused(path, "not a regular file")


def test_weights_that_claim_terabytes(external):
    path, model = external
    tensor = model.graph.initializer[0]
    tensor.dims[:] = [2**20, 2**20]
    refused(changed(path, model, length=str(2**42)), "more than 2,032 MiB|more than 2 GiB|end behind")
    tensor.dims[:] = [2**62, 2**62]
    refused(changed(path, model), "not as many bytes")
    tensor.dims[:] = [-1, 4]
    refused(changed(path, model), "negative size")


@pytest.mark.parametrize("field", ["raw_data", "float_data"])
def test_weights_that_are_not_as_many_as_they_say(tmp_path, field):
    model = onnx.load(cnn(tmp_path / "net.onnx"))
    tensor = model.graph.initializer[0]
    if field == "float_data":
        tensor.ClearField("raw_data")
        tensor.float_data.extend([1.0, 2.0])
    tensor.dims[:] = [10**6, 10**6]
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "net.onnx", r"not as many as it says \(1,000,000,000,000\)")


def growing(op, inputs, **attributes):
    net = Net()
    net.constant("huge", np.array([1, 3, 2**20, 2**20]))
    net.constant("times", np.array([1, 1, 2**15, 2**15]))
    net.constant("scales", np.array([1, 1, 2**15, 2**15], np.float32))
    net.add(op, inputs, "large", **attributes)
    net.add("GlobalAveragePool", ["large"], "pool")
    net.add("Add", ["pool", net.add("GlobalAveragePool", ["image"], "other")], "out")
    return net


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("ConstantOfShape", ["huge"]),
        ("Expand", ["image", "huge"]),
        ("Tile", ["image", "times"]),
        ("Resize", ["image", "", "scales"]),
    ],
)
def test_outputs_that_would_fill_the_memory(tmp_path, op, inputs):
    net = growing(op, inputs)
    net.save(tmp_path / "net.onnx", ["N", 3, "H", "W"] if op != "Expand" else ["N", 3, 1, 1], ["out"])
    reason = r"'large' takes [\d,]+ GiB for one image, more than a quarter"
    refused(tmp_path / "net.onnx", reason, size=1 if op == "Expand" else 32)


def test_a_size_that_depends_on_pixels(tmp_path):
    net = Net()
    net.add("ReduceMax", ["image"], "brightest", keepdims=0)
    net.add("Cast", ["brightest"], "number", to=TensorProto.INT64)
    net.add("Reshape", ["number", net.constant("one", np.array([1]))], "shape")
    net.add("ConstantOfShape", ["shape"], "large")
    net.add("ReduceMean", ["large"], "mean")
    net.add("Add", ["image", "mean"], "out")
    net.save(tmp_path / "net.onnx", ["N", 3, 32, 32], ["out"])
    refused(tmp_path / "net.onnx", "how large 'large' becomes, which ConstantOfShape gives, cannot be known")


def test_operators_that_are_refused(tmp_path):
    path = tmp_path / "net.onnx"
    net = Net()
    net.add("Attack", ["image"], "out", domain="com.example")
    net.save(path, ["N", 3, 32, 32], ["out"])
    refused(path, r"its operator Attack is com\.example's.*ONNX' own operators only")
    net = Net()
    net.add("RandomUniformLike", ["image"], "out")
    net.save(path, ["N", 3, 32, 32], ["out"])
    refused(path, "gives random numbers")
    net = Net()
    body = helper.make_graph([], "body", [], [])
    net.add("Loop", ["", "", "image"], "out", body=body)
    net.save(path, ["N", 3, 32, 32], ["out"])
    refused(path, "is a Loop with a graph inside.*without branches")
    model = onnx.load(cnn(path))
    model.functions.add(name="f", domain="d")
    path.write_bytes(model.SerializeToString())
    refused(path, "it holds functions.*inline_local_functions")
    refused(cnn(path, opset=10), "it is of opset 10.*opset 11 or a later one")
    net = Net()
    for i in range(onnx_reader.MOST_NODES + 1):
        net.nodes.append(helper.make_node("Relu", ["image"], [f"r{i}"]))
    net.save(path, ["N", 3, 32, 32], ["r0"])
    refused(path, "20,001 operations, more than 20,000")


def test_graphs_that_are_none(tmp_path):
    path = tmp_path / "net.onnx"
    net = Net()
    net.add("Relu", ["nowhere"], "out")
    net.save(path, ["N", 3, 32, 32], ["out"])
    refused(path, "cannot be used as a backbone .*nowhere")
    net = Net()
    net.add("Relu", ["b"], "a"), net.add("Relu", ["a"], "b")
    net.save(path, ["N", 3, 32, 32], ["b"])
    refused(path, "cannot be used as a backbone")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x07" * 1000, b"\x00" * 64])
def test_other_files(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    refused(tmp_path / "net.onnx", "no ONNX file")


def test_files_that_are_none(tmp_path):
    refused(tmp_path / "none.onnx", "no such file")
    os.mkfifo(tmp_path / "fifo.onnx")
    refused(tmp_path / "fifo.onnx", "not a regular file")
    with (tmp_path / "hollow.onnx").open("wb") as file:
        file.truncate(2**34)
    refused(tmp_path / "hollow.onnx", "sparse file|larger than")


@given(st.data())
def test_any_damage_is_an_error_of_ours_or_none(tmp_path_factory, data):
    """A byte changed or an end cut off: a graph that is still one may run; all else is refused in one line."""
    folder = tmp_path_factory.mktemp("damaged")
    raw = bytearray(cnn(folder / "net.onnx").read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (folder / "net.onnx").write_bytes(raw)
    try:
        load_backbone(str(folder / "net.onnx"), preprocessing="tf", size=32)
    except BackboneError as error:
        assert "\n" not in str(error)


def test_arithmetic_stays_small():
    """What is folded while shapes are found out gives no more numbers than a shape has."""
    assert not set(onnx_shapes._ARITHMETIC) & {"Expand", "Tile", "Range", "Resize", "Pad"}
