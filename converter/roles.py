"""What a layer's parameters are called: here, by other converters, by TensorFlow, Keras and PyTorch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphs.layer import ParameterSpec
from weights.stored import ArrayLike, Arrays

_NAMES = {
    "weights": ("weights", "weight", "kernel", "kernels", "filter", "filters", "w", "depthwise_kernel",
                "depthwise_weights", "embedding", "embeddings"),
    "gamma": ("gamma", "scale", "scales"),
    "biases": ("biases", "bias", "b"),
    "beta": ("beta", "offset", "shift"),
    "slopes": ("slopes", "slope", "alpha", "alphas"),
    "mean": ("mean", "moving_mean", "running_mean", "pop_mean", "population_mean", "global_mean", "mu"),
    "variance": ("variance", "var", "moving_variance", "moving_var", "running_variance", "running_var", "pop_variance",
                 "pop_var", "population_variance", "population_var", "global_variance", "global_var"),
    "scale_factor": ("scale_factor",),
    "deviation": ("std", "stddev", "sd", "sigma", "moving_std", "moving_stddev", "running_std", "pop_std", "inv_std",
                  "inv_var", "running_inv_std", "rstd"),
}  # fmt: skip
"""Meaning -> the names that it goes by. No layer declares a deviation: it is here so that none is taken for another."""

_MEANINGS = {name: meaning for meaning, names in _NAMES.items() for name in names}

_ACCEPTED = {
    "weights": ("weights", "gamma"),
    "gamma": ("gamma", "weights"),
    "biases": ("biases", "beta"),
    "beta": ("beta", "biases"),
    "slopes": ("slopes", "gamma", "weights"),
    "mean": ("mean",),
    "variance": ("variance",),
    "scale_factor": ("scale_factor",),
}
"""What a parameter means -> the meanings that may stand for it, the nearest first: Scale's weights are a gamma."""

_TOLD_BY_SHAPE = {"weights", "gamma", "biases", "beta", "slopes", "mean"}
"""Meanings for which an array of a name that nobody knows is taken where its shape leaves no other. What looks like a
variance may be a deviation; what looks like a recurrent layer's weights may have its gates in another order."""

COUNTERS = ("num_batches_tracked",)
"""Names of what is counted beside a layer's parameters, and is none."""

NORMALIZATION = ("gamma", "mean", "variance")
"""Meanings that a layer's arrays have where those of a batch normalization after it stand among them."""

Key = int | str
Fits = Callable[[ArrayLike, ParameterSpec], bool]


def meaning(name: Key) -> str:
    """Returns what an array of that name is, "" where nobody knows. Case does not matter, nor do TensorFlow's ``:0``
    and the ``_1`` that it appends to a name it has given before."""
    plain = str(name).removesuffix(":0").lower()
    return _MEANINGS.get(plain) or _MEANINGS.get(re.sub(r"_\d+$", "", plain), "")


@dataclass(frozen=True)
class Assigned:
    """``keys`` has, for each of a layer's parameters, its array's key, or None where it has none there; ``by_shape``
    the keys that only their shapes told; ``problem`` why the names can't be told apart, "" where they can."""

    keys: tuple[Key | None, ...]
    by_shape: tuple[Key, ...] = ()
    problem: str = ""


def assign(specs: Sequence[ParameterSpec], arrays: Arrays, fits: Fits) -> Assigned:
    """Returns which of a layer's arrays is which of its parameters.

    Positions are Caffe's, and what the format means. Names are a parameter's own, else one that is known to mean it,
    else, for as many unknown names as parameters are left, what their shapes leave no doubt of.
    """
    if all(isinstance(key, int) for key in arrays):
        return Assigned(tuple(index if index in arrays else None for index in range(len(specs))))
    if any(isinstance(key, int) for key in arrays):
        return Assigned((None,) * len(specs), (), "some of its arrays have names and some have none")
    own = {key: str(key).removesuffix(":0") for key in arrays}
    exact = [[key for key, name in own.items() if name == spec.name] for spec in specs]
    taken = {key for keys in exact for key in keys}
    rest = {key: meaning(key) for key in arrays if key not in taken}
    found = [keys or _meant(spec, rest) for spec, keys in zip(specs, exact)]
    for spec, keys in zip(specs, found):
        if len(keys) > 1:
            named = " and ".join(f"'{key}'" for key in keys)
            return Assigned((None,) * len(specs), (), f"{named} may both be its {spec.name}")
    chosen = [keys[0] if keys else None for keys in found]
    open_ones = [index for index, key in enumerate(chosen) if key is None]
    unknown = [key for key, known in rest.items() if not known]
    told = _by_shape([specs[index] for index in open_ones], {key: arrays[key] for key in unknown}, fits)
    for index, key in zip(open_ones, told):
        chosen[index] = key
    return Assigned(tuple(chosen), tuple(told))


def _meant(spec: ParameterSpec, meanings: Mapping[Key, str]) -> list[Key]:
    """Returns the keys of the nearest meaning that a parameter accepts."""
    accepted = _ACCEPTED.get(meaning(spec.name), ())
    if "weights" in meanings.values() and set(NORMALIZATION) & set(meanings.values()):
        accepted = accepted[:1]  # a batch normalization's beta is not the convolution's bias
    for one in accepted:
        keys = [key for key, known in meanings.items() if known == one]
        if keys:
            return keys
    return []


def _by_shape(specs: Sequence[ParameterSpec], arrays: Arrays, fits: Fits) -> list[Key]:
    """Returns each parameter's key where every array fits one of them alone and each takes one, else []."""
    if len(specs) != len(arrays) or any(meaning(spec.name) not in _TOLD_BY_SHAPE for spec in specs):
        return []
    fitting = [[key for key, array in arrays.items() if fits(array, spec)] for spec in specs]
    singles = [keys[0] for keys in fitting if len(keys) == 1]
    return singles if len(set(singles)) == len(specs) else []
