"""Caffe's training, faithfully, as a TF1 graph: python -m tools.train --solver solver.prototxt."""
