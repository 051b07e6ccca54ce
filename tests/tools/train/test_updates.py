"""What an update does to a parameter: against torch.optim where its formula is Caffe's, else against Caffe's formulas
written out in NumPy, float64 (src/caffe/solvers/*.cpp)."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.tensorflow1 import tensorflow1
from tools.train.solver import read_solver
from tools.train.step import slots_of, updates
from tools.training.trainable import Rate

tf = tensorflow1("the tests")
SHAPE, STEPS = (5, 7), 9


@pytest.fixture
def run(train):
    """Returns a function that applies a solver to gradients: the values of parameters after each, in order."""

    def apply(fields, first, gradients, rates=None, multipliers=None):
        train.write(fields)
        solver = read_solver(train.folder / "solver.prototxt")
        multipliers = multipliers or {name: Rate() for name in first}
        with tf.Graph().as_default(), tf.Session() as session:
            variables = {
                name: tf.get_variable(name, initializer=np.float32(value), use_resource=True)
                for name, value in first.items()
            }
            slots = slots_of(tf, solver, variables)
            slopes = {name: tf.placeholder(tf.float32, np.shape(value)) for name, value in first.items()}
            rate = tf.placeholder(tf.float32, [])
            change = updates(tf, solver, variables, slots, slopes, multipliers, rate)
            session.run(tf.global_variables_initializer())
            seen = []
            for step, of_step in enumerate(gradients):
                now = rates[step] if rates else solver.policy.rate(step)
                fed = {slopes[name]: value for name, value in of_step.items()}
                session.run(change, {**fed, rate: now * solver.rule.correction(step)})
                seen.append(session.run(variables))
        return seen

    return apply


@pytest.fixture
def first(rng):
    return {"w": rng.standard_normal(SHAPE)}


@pytest.fixture
def slopes(rng):
    return [{"w": rng.standard_normal(SHAPE) * 10 ** rng.uniform(-3, 1)} for _ in range(STEPS)]


TORCH = {
    "SGD": ("momentum: 0.9", "SGD", {"momentum": 0.9}),
    "Nesterov": ("momentum: 0.8", "SGD", {"momentum": 0.8, "nesterov": True}),
    "AdaGrad": ("delta: 0.01", "Adagrad", {"eps": 0.01}),
    "RMSProp": ("rms_decay: 0.7 delta: 0.01", "RMSprop", {"alpha": 0.7, "eps": 0.01}),
    "AdaDelta": ("momentum: 0.9 delta: 0.001", "Adadelta", {"rho": 0.9, "eps": 0.001}),
    "Adam": ("momentum: 0.9 momentum2: 0.99 delta: 1e-12", "Adam", {"betas": (0.9, 0.99), "eps": 1e-12}),
}
"""Type -> the solver's fields, torch's optimizer and its arguments; at one learning rate all of them are Caffe's but
for where Adam adds its delta, which is too small here to matter."""


@pytest.mark.parametrize("name", TORCH)
def test_rules_are_torch_s_at_one_learning_rate(name, run, first, slopes, agree):
    torch = pytest.importorskip("torch")
    fields, optimizer, arguments = TORCH[name]
    found = run(f'type: "{name}" weight_decay: 0.05 {fields}', first, slopes)
    value = torch.tensor(first["w"], requires_grad=True)
    torched = getattr(torch.optim, optimizer)([value], lr=0.01, weight_decay=0.05, **arguments)
    for step, of_step in enumerate(slopes):
        value.grad = torch.tensor(of_step["w"])
        torched.step()
        agree(found[step]["w"], value.detach().numpy(), 1e-6, f"{name}, step {step}")


def caffe_sgd(w, g, rate, held, momentum):
    held[0] = rate * g + momentum * held[0]
    return w - held[0]


def caffe_nesterov(w, g, rate, held, momentum):
    before = held[0].copy()
    held[0] = rate * g + momentum * held[0]
    return w - ((1 + momentum) * held[0] - momentum * before)


def caffe_adam(w, g, rate, held, momentum, momentum2=0.99, delta=0.05):
    held[2] += 1
    held[0] = momentum * held[0] + (1 - momentum) * g
    held[1] = momentum2 * held[1] + (1 - momentum2) * g**2
    correction = np.sqrt(1 - momentum2 ** held[2]) / (1 - momentum ** held[2])
    return w - rate * correction * held[0] / (np.sqrt(held[1]) + delta)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ('type: "SGD"', caffe_sgd),
        ('type: "Nesterov"', caffe_nesterov),
        ("solver_type: NESTEROV", caffe_nesterov),
        ('type: "Adam" momentum2: 0.99 delta: 0.05', caffe_adam),
    ],
    ids=["SGD", "Nesterov", "NESTEROV", "Adam"],
)
def test_a_learning_rate_that_changes_is_within_the_history(fields, rule, run, first, slopes, agree):
    """Caffe's history has the rate of its own time; torch's and TensorFlow's momentum take today's for all."""
    rates = [0.1 / (step + 1) for step in range(STEPS)]
    found = run(f"{fields} momentum: 0.9", first, slopes, rates)
    value, held = first["w"], [np.zeros(SHAPE), np.zeros(SHAPE), 0]
    for step, of_step in enumerate(slopes):
        value = rule(value, of_step["w"], rates[step], held, 0.9)
        agree(found[step]["w"], value, 1e-6, f"step {step}")


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("iter_size", [1, 3])
@pytest.mark.parametrize("clip", [-1, 0.5, 5e4])
def test_gradients_are_clipped_then_averaged_then_decay_is_added(kind, iter_size, clip, run, rng, agree):
    """ClipGradients, Normalize, Regularize and then the rule, each with the parameter's own multipliers."""
    first = {"w": rng.standard_normal(SHAPE), "b": rng.standard_normal(11)}
    slopes = [{"w": rng.standard_normal(SHAPE), "b": rng.standard_normal(11)} for _ in range(3)]
    rates = {"w": Rate(1.0, 1.0), "b": Rate(2.0, 0.5)}
    fields = f'regularization_type: "{kind}" weight_decay: 0.3 iter_size: {iter_size} clip_gradients: {clip}'
    found = run(fields, first, slopes, multipliers=rates)
    values = dict(first)
    for step, of_step in enumerate(slopes):
        norm = np.sqrt(sum((slope**2).sum() for slope in of_step.values()))
        factor = clip / norm if 0 <= clip < norm else 1.0
        for name, slope in of_step.items():
            decay = np.sign(values[name]) if kind == "L1" else values[name]
            slope = slope * factor / iter_size + 0.3 * rates[name].decay_mult * decay
            values[name] = values[name] - 0.01 * rates[name].lr_mult * slope
            agree(found[step][name], values[name], 1e-6, f"{name}, step {step}")
