"""What the sources of the family publish: each layer's output and each variable, as they print them."""

from __future__ import annotations

SHAPES = {
    "bvlc": """
        conv1 55 55 96, relu1 55 55 96, norm1 55 55 96, pool1 27 27 96,
        conv2 27 27 256, relu2 27 27 256, norm2 27 27 256, pool2 13 13 256,
        conv3 13 13 384, relu3 13 13 384, conv4 13 13 384, relu4 13 13 384, conv5 13 13 256, relu5 13 13 256,
        pool5 6 6 256, fc6 4096, relu6 4096, drop6 4096, fc7 4096, relu7 4096, drop7 4096,
        fc8 1000, logits 1000, prob 1000""",
    "caffenet": """
        conv1 55 55 96, relu1 55 55 96, pool1 27 27 96, norm1 27 27 96,
        conv2 27 27 256, relu2 27 27 256, pool2 13 13 256, norm2 13 13 256,
        conv3 13 13 384, relu3 13 13 384, conv4 13 13 384, relu4 13 13 384, conv5 13 13 256, relu5 13 13 256,
        pool5 6 6 256, fc6 4096, relu6 4096, drop6 4096, fc7 4096, relu7 4096, drop7 4096,
        fc8 1000, logits 1000, prob 1000""",
    "ungrouped": """
        conv1 54 54 96, relu1 54 54 96, norm1 54 54 96, pool1 26 26 96,
        conv2 26 26 256, relu2 26 26 256, norm2 26 26 256, pool2 12 12 256,
        conv3 12 12 384, relu3 12 12 384, conv4 12 12 384, relu4 12 12 384, conv5 12 12 256, relu5 12 12 256,
        pool5 5 5 256, fc6 4096, relu6 4096, drop6 4096, fc7 4096, relu7 4096, drop7 4096,
        fc8 1000, logits 1000, prob 1000""",
    "paper": """
        conv1 56 56 96, relu1 56 56 96, norm1 56 56 96, pool1 55 55 96,
        conv2 28 28 256, relu2 28 28 256, norm2 28 28 256, pool2 27 27 256,
        conv3 13 13 384, relu3 13 13 384, conv4 13 13 384, relu4 13 13 384, conv5 13 13 256, relu5 13 13 256,
        fc6 4096, relu6 4096, drop6 4096, fc7 4096, relu7 4096, drop7 4096,
        fc8 1000, logits 1000, prob 1000""",
    "one_weird_trick": """
        conv1 56 56 64, relu1 56 56 64, norm1 56 56 64, pool1 27 27 64,
        conv2 27 27 192, relu2 27 27 192, norm2 27 27 192, pool2 13 13 192,
        conv3 13 13 384, relu3 13 13 384, conv4 13 13 256, relu4 13 13 256, conv5 13 13 256, relu5 13 13 256,
        pool5 6 6 256, drop5 6 6 256, fc6 4096, relu6 4096, drop6 4096, fc7 4096, relu7 4096,
        fc8 1000, logits 1000, prob 1000""",
    "torchvision": """
        conv1 55 55 64, relu1 55 55 64, pool1 27 27 64,
        conv2 27 27 192, relu2 27 27 192, pool2 13 13 192,
        conv3 13 13 384, relu3 13 13 384, conv4 13 13 256, relu4 13 13 256, conv5 13 13 256, relu5 13 13 256,
        pool5 6 6 256, drop5 6 6 256, fc6 4096, relu6 4096, drop6 4096, fc7 4096, relu7 4096,
        fc8 1000, logits 1000, prob 1000""",
    "batchnorm": """
        conv1 56 56 96, relu1 56 56 96, pool1 28 28 96, norm1 28 28 96,
        conv2 28 28 256, relu2 28 28 256, pool2 14 14 256, norm2 14 14 256,
        conv3 14 14 384, relu3 14 14 384, norm3 14 14 384, conv4 14 14 384, relu4 14 14 384, norm4 14 14 384,
        conv5 14 14 256, relu5 14 14 256, pool5 7 7 256, norm5 7 7 256,
        fc6 4096, relu6 4096, drop6 4096, fc7 4096, relu7 4096, drop7 4096, fc8 1000, relu8 1000,
        fc9 17, logits 17, prob 17""",
}
"""Name -> each endpoint's shape without the batch, in order."""

_CAFFE = """
    conv1/weights 11 11 3 96, conv1/biases 96, conv2/weights 5 5 48 256, conv2/biases 256,
    conv3/weights 3 3 256 384, conv3/biases 384, conv4/weights 3 3 192 384, conv4/biases 384,
    conv5/weights 3 3 192 256, conv5/biases 256, fc6/weights 9216 4096, fc6/biases 4096,
    fc7/weights 4096 4096, fc7/biases 4096, fc8/weights 4096 1000, fc8/biases 1000"""
_SINGLE_COLUMN = """
    conv1/weights 11 11 3 64, conv1/biases 64, conv2/weights 5 5 64 192, conv2/biases 192,
    conv3/weights 3 3 192 384, conv3/biases 384, conv4/weights 3 3 384 256, conv4/biases 256,
    conv5/weights 3 3 256 256, conv5/biases 256, fc6/weights 9216 4096, fc6/biases 4096,
    fc7/weights 4096 4096, fc7/biases 4096, fc8/weights 4096 1000, fc8/biases 1000"""

VARIABLES = {
    "bvlc": _CAFFE,
    "caffenet": _CAFFE,
    "ungrouped": """
        conv2d/kernel 11 11 3 96, conv2d/bias 96, conv2d_1/kernel 5 5 96 256, conv2d_1/bias 256,
        conv2d_2/kernel 3 3 256 384, conv2d_2/bias 384, conv2d_3/kernel 3 3 384 384, conv2d_3/bias 384,
        conv2d_4/kernel 3 3 384 256, conv2d_4/bias 256, dense/kernel 6400 4096, dense/bias 4096,
        dense_1/kernel 4096 4096, dense_1/bias 4096, dense_2/kernel 4096 1000, dense_2/bias 1000""",
    "paper": """
        conv_layer_1/conv2d/kernel 11 11 3 96, conv_layer_1/conv2d/bias 96,
        conv_layer_2/conv2d/kernel 5 5 96 256, conv_layer_2/conv2d/bias 256,
        conv_layer_3/conv2d/kernel 3 3 256 384, conv_layer_3/conv2d/bias 384,
        conv_layer_4/conv2d/kernel 3 3 384 384, conv_layer_4/conv2d/bias 384,
        conv_layer_5/conv2d/kernel 3 3 384 256, conv_layer_5/conv2d/bias 256,
        fc_layer_1/dense/kernel 43264 4096, fc_layer_1/dense/bias 4096,
        fc_layer_2/dense/kernel 4096 4096, fc_layer_2/dense/bias 4096,
        softmax_layer/dense/kernel 4096 1000, softmax_layer/dense/bias 1000""",
    "one_weird_trick": _SINGLE_COLUMN,
    "torchvision": _SINGLE_COLUMN,
    "batchnorm": """
        w_c1 11 11 3 96, b_c1 96, batch_normalization/gamma 96, batch_normalization/beta 96,
        batch_normalization/moving_mean 96, batch_normalization/moving_variance 96,
        w_c2 5 5 96 256, b_c2 256, batch_normalization_1/gamma 256, batch_normalization_1/beta 256,
        batch_normalization_1/moving_mean 256, batch_normalization_1/moving_variance 256,
        w_c3 3 3 256 384, b_c3 384, batch_normalization_2/gamma 384, batch_normalization_2/beta 384,
        batch_normalization_2/moving_mean 384, batch_normalization_2/moving_variance 384,
        w_c4 3 3 384 384, b_c4 384, batch_normalization_3/gamma 384, batch_normalization_3/beta 384,
        batch_normalization_3/moving_mean 384, batch_normalization_3/moving_variance 384,
        w_c5 3 3 384 256, b_c5 256, batch_normalization_4/gamma 256, batch_normalization_4/beta 256,
        batch_normalization_4/moving_mean 256, batch_normalization_4/moving_variance 256,
        w_f1 12544 4096, b_f1 4096, w_f2 4096 4096, b_f2 4096, w_f3 4096 1000, b_f3 1000,
        w_out 1000 17, b_out 17""",
}
"""Name -> each variable's shape, in order."""


def parsed(text: str) -> dict[str, list[int]]:
    """Returns name -> shape."""
    words = (entry.split() for entry in text.split(","))
    return {name: [int(size) for size in sizes] for name, *sizes in words}
