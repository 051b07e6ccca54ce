"""Records what a Caffe network computes on pictures, so that a port can be held against it where Caffe is not.

python -m tools.record deploy.prototxt alexnet.caffemodel --images pictures/ -o reference.h5
"""
