"""What a conversion costs, and how fast a frozen graph runs, or a step of training, beside other engines on the same
network.

python -m tools.benchmark conversion deploy.prototxt alexnet.caffemodel
python -m tools.benchmark inference deploy.prototxt alexnet.caffemodel
python -m tools.benchmark training deploy.prototxt alexnet.caffemodel --plot training.png
"""
