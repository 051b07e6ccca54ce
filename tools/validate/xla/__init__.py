"""A port's own XLA program: TensorFlow lowers its graph, JAX's client compiles and runs it, here or on another machine.

lowering   TensorFlow's graph -> programs, each for one set of fed and wanted tensors and their shapes
stablehlo  what XLA reads: made portable, and proved before it is compiled
engine     JAX: devices, compiling, running
session    what stands for a TensorFlow session where a port is asked for values
saved      programs in a file, and the port that is opened from it, where there is no TensorFlow
outcome    what follows a comparison: the programs written, forward passes timed
"""
