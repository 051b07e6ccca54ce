"""The numbers of a network: layouts, and the file formats that hold arrays."""

from weights.layout import Layout, Shape
from weights.parameter import Parameter
from weights.refused import Refused

__all__ = ["Layout", "Parameter", "Refused", "Shape"]
