"""Backbones and features inside other people's loops: scikit-learn pipelines, Keras training."""
