"""Networks of timm and Hugging Face, written once to ONNX files, which need no PyTorch afterwards."""
