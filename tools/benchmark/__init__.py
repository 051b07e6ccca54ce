"""What a conversion costs, and how fast a frozen graph runs beside other engines on the same network.

python -m tools.benchmark conversion deploy.prototxt alexnet.caffemodel
python -m tools.benchmark inference deploy.prototxt alexnet.caffemodel
"""
