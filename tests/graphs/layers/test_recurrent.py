"""LSTM and RNN held against their equations, one stream, one unit and one step at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from graphs import infer
from graphs.layers.data import Input
from graphs.layers.recurrent import LSTM, RNN
from graphs.network import Network, Node
from weights import Refused

T, N, D = 5, 3, 2


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def drawn(rng, *shapes):
    return [(0.7 * rng.standard_normal(shape)).astype(np.float32) for shape in shapes]


def gate_input(unit, x, w, b, static, w_static, h, w_h, goes_on):
    total = float(b[unit]) + sum(float(a) * float(v) for a, v in zip(w[unit], x))
    if static is not None:
        total += sum(float(a) * float(v) for a, v in zip(w_static[unit], static))
    return total + sum(float(a) * goes_on * v for a, v in zip(w_h[unit], h))


def lstm(x, cont, w, b, w_h, static=None, w_static=None, h0=None, c0=None):
    """Returns h of every step, and the last h and c."""
    out = np.zeros((T, N, D))
    h = np.zeros((N, D)) if h0 is None else h0[0].astype(float)
    c = np.zeros((N, D)) if c0 is None else c0[0].astype(float)
    for t in range(T):
        new_h, new_c = np.zeros((N, D)), np.zeros((N, D))
        for n in range(N):
            own = None if static is None else static[n].reshape(-1)
            gates = [
                gate_input(unit, x[t, n].reshape(-1), w, b, own, w_static, h[n], w_h, float(cont[t, n]))
                for unit in range(4 * D)
            ]
            for d in range(D):
                i, f, o, g = (gates[gate * D + d] for gate in range(4))
                new_c[n, d] = float(cont[t, n]) * sigmoid(f) * c[n, d] + sigmoid(i) * math.tanh(g)
                new_h[n, d] = sigmoid(o) * math.tanh(new_c[n, d])
        h, c = new_h, new_c
        out[t] = h
    return [out, h[None], c[None]]


def rnn(x, cont, w, b, w_h, w_o, b_o, static=None, w_static=None, h0=None):
    """Returns o of every step, and the last h."""
    out = np.zeros((T, N, D))
    h = np.zeros((N, D)) if h0 is None else h0[0].astype(float)
    for t in range(T):
        new = np.zeros((N, D))
        for n in range(N):
            own = None if static is None else static[n].reshape(-1)
            for d in range(D):
                arguments = (x[t, n].reshape(-1), w, b, own, w_static, h[n], w_h, float(cont[t, n]))
                new[n, d] = math.tanh(gate_input(d, *arguments))
            for d in range(D):
                out[t, n, d] = math.tanh(float(b_o[d]) + sum(float(a) * v for a, v in zip(w_o[d], new[n])))
        h = new
    return [out, h[None]]


@pytest.fixture
def cont():
    """Streams that begin anew at different steps; two go on from before the first, one is halved in between."""
    flags = np.ones((T, N), np.float32)
    flags[0, 0] = flags[3, 0] = flags[2, 1] = 0
    flags[1, 2] = 0.5
    return flags


def test_lstm(rng, cont, agree_everywhere):
    cases = {}
    statics = (None, (N, 11), (N, 11, 2, 3))
    for features, static, exposed in itertools.product(((7,), (2, 7), (2, 7, 3)), statics, (False, True)):
        cases[f"{features}, {static}, {exposed}"] = lstm_case(rng, cont, features, static, exposed)
    agree_everywhere(cases, free=False)


def lstm_case(rng, cont, features, static_shape, exposed):
    k = math.prod(features)
    x, w, b, w_h, h0, c0 = drawn(rng, (T, N, *features), (4 * D, k), (4 * D,), (4 * D, D), (1, N, D), (1, N, D))
    bottoms, parameters, given = [x, cont], [w, b], {}
    if static_shape:
        static, w_static = drawn(rng, static_shape, (4 * D, math.prod(static_shape[1:])))
        bottoms.append(static)
        parameters.append(w_static)
        given = {"static": static, "w_static": w_static}
    if exposed:
        bottoms += [h0, c0]
        given |= {"h0": h0, "c0": c0}
    expected = lstm(x, cont, w, b, w_h, **given)
    tops = expected if exposed else expected[:1]
    return LSTM(num_output=D, expose_hidden=exposed), bottoms, tops, *parameters, w_h


def test_rnn(rng, cont, agree_everywhere):
    cases = {}
    for static, exposed in itertools.product((None, (N, 11)), (False, True)):
        cases[f"{static}, {exposed}"] = rnn_case(rng, cont, static, exposed)
    agree_everywhere(cases, free=False)


def rnn_case(rng, cont, static_shape, exposed):
    shapes = (T, N, 7), (D, 7), (D,), (D, D), (D, D), (D,), (1, N, D)
    x, w, b, w_h, w_o, b_o, h0 = drawn(rng, *shapes)
    bottoms, parameters, given = [x, cont], [w, b], {}
    if static_shape:
        static, w_static = drawn(rng, static_shape, (D, 11))
        bottoms.append(static)
        parameters.append(w_static)
        given = {"static": static, "w_static": w_static}
    if exposed:
        bottoms.append(h0)
        given["h0"] = h0
    expected = rnn(x, cont, w, b, w_h, w_o, b_o, **given)
    tops = expected if exposed else expected[:1]
    return RNN(num_output=D, expose_hidden=exposed), bottoms, tops, *parameters, w_h, w_o, b_o


def test_parameters_are_caffes_in_its_order():
    def names(layer, *bottoms):
        return [(spec.name, spec.layout.caffe) for spec in layer.parameters(*bottoms)]

    assert names(LSTM(2), (5, 3, 7), (5, 3)) == [("W_xc", (8, 7)), ("b_c", (8,)), ("W_hc", (8, 2))]
    assert names(LSTM(2), (5, 3, 7), (5, 3), (3, 11))[2] == ("W_xc_static", (8, 11))
    assert names(RNN(2), (5, 3, 7), (5, 3), (3, 11)) == [
        ("W_xh", (2, 7)),
        ("b_h", (2,)),
        ("W_xh_static", (2, 11)),
        ("W_hh", (2, 2)),
        ("W_ho", (2, 2)),
        ("b_o", (2,)),
    ]


def test_multiply_adds():
    assert LSTM(2).multiply_adds(((5, 3, 7), (5, 3), (3, 11)), ((5, 3, 2),)) == 3 * (5 * 8 * 7 + 8 * 11 + 5 * 8 * 2)


@pytest.mark.parametrize(
    ("layer", "shapes", "reason"),
    [
        (LSTM(), [(5, 3, 7), (5, 3)], "num_output is 0"),
        (LSTM(2), [(5, 3), (5, 3)], "expected three axes or more"),
        (LSTM(2), [(5, 3, 7), (5, 2)], "second bottom has the shape 5x2; expected 5x3"),
        (LSTM(2), [(5, 3, 7), (5, 3), (2, 11)], "static input has the shape 2x11"),
        (LSTM(2), [(5, 3, 7), (5, 3), (3, 11), (1, 3, 2)], "has 4 bottom blobs; expected 2, or 3 with a static"),
        (LSTM(2, expose_hidden=True), [(5, 3, 7), (5, 3), (1, 3, 2)], "has 3 bottom blobs; expected 4, or 5"),
        (LSTM(2, expose_hidden=True), [(5, 3, 7), (5, 3), (1, 3, 2), (3, 2)], "state of shape 3x2; expected 1x3x2"),
        (RNN(2, expose_hidden=True), [(5, 3, 7), (5, 3)], "has 2 bottom blobs; expected 3, or 4"),
    ],
)
def test_refuses_what_caffe_refuses(layer, shapes, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(*shapes)


def test_tops_beyond_the_state_are_refused_and_the_batch_is_fixed():
    nodes = [Node("x", Input(((5, 3, 7),)), (), ("x",)), Node("c", Input(((5, 3),)), (), ("c",))]
    with pytest.raises(Refused, match="has 3 top blobs; expected 1"):
        infer(Network("n", (*nodes, Node("y", LSTM(2), ("x", "c"), ("y", "h", "d")))))
    shapes = infer(Network("n", (*nodes, Node("y", LSTM(2), ("x", "c"), ("y",)))))
    assert not shapes.free_batch
    assert shapes.layers[-1].open_tops == ((5, 3, 2),)
