"""What is done to pictures before the first layer: channel order, mean, scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from graphs.layers.convolution import Convolution
from graphs.layers.inner_product import InnerProduct
from tools.recording import Preprocessing
from tools.validate.mistakes.scene import INPUTS, Change, Scene, Step, Variant

IMAGENET = {
    "104.00699, 116.66877, 122.67892": (104.00699, 116.66877, 122.67892),
    "103.939, 116.779, 123.68": (103.939, 116.779, 123.68),
    "104, 117, 123": (104.0, 117.0, 123.0),
    "128": (128.0, 128.0, 128.0),
    "127.5": (127.5, 127.5, 127.5),
}
"""Means that recipes for ImageNet subtract, B, G, R."""


@dataclass(frozen=True)
class Done:
    """One thing done to pictures: what it is called ("" for what the truth does), what the port does then, and how
    pictures (N, C, H, W), 0..255 in the truth's order, come out of it."""

    mistake: str
    does: str
    change: Change


NOTHING = Done("", "", lambda x: x)


def input_mistakes(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields what a port may do to pictures: each is undone as far as the preprocessing that the truth states, and done
    again with one mistake."""
    pictures, mean = _pictures(scene, step), _mean(scene.preprocessing)
    if pictures is None:
        return
    right = _plus(-mean)
    if len(mean) == 3 and not np.array_equal(mean, mean[::-1]):  # else that is the same as the first of the orders
        turned = Done("channel order", "reads pictures and mean with the channels the other way round", _turned)
        yield _prepared(scene, step, turned, Done("", "", _plus(-mean[::-1])))
    for order in _orders(scene, pictures):
        yield _prepared(scene, step, order, Done("", "", right))
    for subtraction in _subtractions(scene.preprocessing, mean, pictures.shape[1]):
        yield _prepared(scene, step, NOTHING, subtraction)
    for mistake, explanation, change in _scales(scene):
        yield Variant(mistake, explanation, (step.followed_by(change),))


def two_input_mistakes(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields one mistake in the pictures' channels together with one in the mean."""
    pictures, mean = _pictures(scene, step), _mean(scene.preprocessing)
    if pictures is not None:
        for order in _orders(scene, pictures):
            for subtraction in _subtractions(scene.preprocessing, mean, pictures.shape[1]):
                yield _prepared(scene, step, order, subtraction)
                yield _prepared(scene, step, subtraction, order)


def _pictures(scene: Scene, step: Step) -> np.ndarray | None:
    if step.name != INPUTS or len(step.tops) != 1 or step.after:
        return None
    pictures = np.asarray(scene.truth[step.tops[0]])
    return pictures if pictures.ndim == 4 else None


def _prepared(scene: Scene, step: Step, first: Done, second: Done) -> Variant:
    stated, mean = scene.preprocessing, _mean(scene.preprocessing)

    def change(x: np.ndarray) -> np.ndarray:
        return stated.scale * second.change(first.change(x / stated.scale + mean))

    done = sorted((one for one in (first, second) if one.mistake), key=lambda one: one.mistake != "channel order")
    does = " and ".join(one.does for one in done)
    explanation = f"the port {does}; the reference's pictures are {stated}: prepare them so"
    return Variant(" + ".join(one.mistake for one in done), explanation, (step.followed_by(change),))


def _turned(x: np.ndarray) -> np.ndarray:
    return x[:, ::-1]


def _mean(stated: Preprocessing) -> np.ndarray:
    mean = np.asarray(stated.mean, np.float64)
    return mean.reshape(-1, 1, 1) if mean.ndim == 1 else mean


def _orders(scene: Scene, pictures: np.ndarray) -> Iterator[Done]:
    if pictures.shape[1] == 3:
        order = scene.preprocessing.channel_order or "the reference"
        yield Done("channel order", f"has its pictures' channels the other way round than {order}", _turned)
        for kept in (0, 2):
            # a[0], a[2] = a[2], a[0] on arrays that are views
            what = "has the first channel in the third's place too, as a swap does that overwrites what it is to move"
            if kept == 2:
                what = what.replace("first", "third", 1).replace("third's", "first's")
            yield Done("channel order", what, _picking([kept, 1, kept]))
    if pictures.shape[2] == pictures.shape[3]:
        yield Done("rows and columns swapped", "reads the picture's columns as rows", lambda x: x.swapaxes(2, 3))


def _picking(channels: list[int]) -> Change:
    return lambda x: x[:, channels]


def _subtractions(stated: Preprocessing, mean: np.ndarray, channels: int) -> Iterator[Done]:
    if mean.any():
        yield Done("mean missing", "does not subtract the mean", lambda x: x)
        yield Done("mean doubled", "subtracts the mean a second time", lambda x: x - 2 * mean)
    if len(mean) == 3 and not np.array_equal(mean, mean[::-1]):
        yield Done(
            "mean reordered", "subtracts the mean with its channels the other way round", lambda x: x - mean[::-1]
        )
    own = "subtracts each picture's own mean"
    yield Done("another mean", f"{own}, one number", lambda x: x - x.mean(axis=(1, 2, 3), keepdims=True))
    yield Done("another mean", f"{own}, channel by channel", lambda x: x - x.mean(axis=(2, 3), keepdims=True))
    for spelled, values in IMAGENET.items() if channels == 3 else ():
        for order in ("B, G, R", "R, G, B") if len(set(values)) > 1 else ("B, G, R",):
            known = np.reshape(values if order == "B, G, R" else values[::-1], (3, 1, 1))
            if not np.allclose(known, mean, rtol=1e-7):
                reordered = order != "B, G, R" and stated.channel_order != "RGB"
                yield Done(
                    "another mean + mean reordered" if reordered else "another mean",
                    f"subtracts the mean {spelled}, {'the other way round' if reordered else 'in the order ' + order}",
                    _plus(-known),
                )


def _plus(offset: np.ndarray) -> Change:
    return lambda x: x + offset


def _scales(scene: Scene) -> Iterator[tuple[str, str, Change]]:
    mean, scale = _mean(scene.preprocessing), scene.preprocessing.scale
    yield (
        "scale",
        "the port reads values 255 times too small: 0..1 where the reference has 0..255; multiply by 255",
        lambda x: x / 255,
    )
    if mean.any():
        yield (
            "scale",
            "the port subtracts a mean of 0..255 from pictures of 0..1; multiply the pictures by 255 first",
            lambda x: x / 255 - scale * mean * (1 - 1 / 255),
        )
    yield (
        "scale",
        "the port reads values 255 times too large: 0..255 where the reference has 0..1; divide by 255",
        lambda x: x * 255,
    )
    if scale != 1:
        yield ("scale", f"the port reads values without the factor {scale:g}; multiply by it once", lambda x: x / scale)
        yield ("scale", f"the port multiplies by the factor {scale:g} twice; once is right", lambda x: x * scale)
    yield (
        "scale",
        "the port reads pictures brought to -1..1 (x / 127.5 - 1); feed it the reference's preprocessing: "
        f"{scene.preprocessing}",
        lambda x: (x / scale + mean) / 127.5 - 1,
    )


def fitted_input(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields what scale and mean the port's pictures seem to have had, channel by channel in either order, fitted to
    the input itself, or to the value of a first layer that is linear."""
    reader = next((one for one in scene.suspects() if scene.is_target(one)), None)
    if scene.target[0] == INPUTS:
        passed_on = replace(step, bottoms=(scene.target,), tops=(scene.target,), instead=lambda x: x)
        yield from _fits_of(scene, step, passed_on)
    if step.name != INPUTS or step.after or reader is None or not isinstance(reader.layer, (Convolution, InnerProduct)):
        return
    if reader.arrays is None or reader.bottoms[0][0] != INPUTS:
        return
    yield from _fits_of(scene, step, reader)


def _fits_of(scene: Scene, step: Step, reader: Step) -> Iterator[Variant]:
    pictures = scene.bottom(reader)
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
        return
    channels = pictures.shape[1]
    for order in ("", "channel order") if channels == 3 else ("",):
        turned = pictures[:, ::-1] if order else pictures
        factors, offsets = _fitted(reader, turned, scene.got)
        if factors is None or offsets is None or np.abs(factors).min() < 1e-12:
            continue
        mean, scale = _mean(scene.preprocessing).mean(axis=(1, 2), keepdims=True), scene.preprocessing.scale
        implied = (mean[::-1] if order else mean) - offsets / (factors * scale)
        spelled = ", ".join(f"{one:.4g}" for one in implied.ravel())
        is_scaled = not np.allclose(factors, 1, rtol=1e-3)
        is_moved = bool(np.abs(offsets).max() > 1e-3 * np.abs(pictures).max()) or not (order or is_scaled)
        names = [order] * bool(order) + ["scale"] * is_scaled + ["another mean"] * is_moved
        facts = ["reads its channels the other way round"] * bool(order)
        facts += [f"scales by {', '.join(f'{one * scale:.4g}' for one in factors.ravel())}"] * is_scaled
        facts += [f"subtracts a mean of about {spelled}, in the order that it reads"] * is_moved
        yield Variant(
            " + ".join(names),
            f"the port {', '.join(facts)}; the reference's preprocessing is {scene.preprocessing}",
            (step.followed_by(_affine(bool(order), factors, offsets)),),
        )


def _affine(is_turned: bool, factors: np.ndarray, offsets: np.ndarray) -> Change:
    return lambda x: (x[:, ::-1] if is_turned else x) * factors + offsets


def _fitted(reader: Step, pictures: np.ndarray, got: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Returns the factor and the offset of each channel (C, 1, 1) with which a linear step comes closest to ``got``;
    None where its shape is another."""
    zero = reader.compute(np.zeros_like(pictures))[0]
    if zero.shape != got.shape:
        return None, None
    columns = []
    for filled in (pictures, np.ones_like(pictures)):
        for channel in range(pictures.shape[1]):
            alone = np.zeros_like(pictures)
            alone[:, channel] = filled[:, channel]
            columns.append((reader.compute(alone)[0] - zero).ravel().astype(np.float64))
    basis = np.stack(columns, axis=1)
    if not np.isfinite(got).all():
        return None, None
    found = np.linalg.lstsq(basis.T @ basis, basis.T @ (got - zero).ravel(), rcond=1e-14)[0]
    factors, offsets = found.reshape(2, -1, 1, 1)
    return factors, offsets
