"""Batches of training pictures: what is in them, that a seed fixes them, and what broken pictures do to them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from graphs.tensorflow1 import tensorflow1
from tools.dataset import Examples, Faults, Preparation, batches, order_notes, prepare, read_examples
from tools.record.decoding import decode, resized
from tools.record.preprocessing import Asked, fed, settle
from weights import Refused

pytest.importorskip("fsspec")
PIL = pytest.importorskip("PIL.Image")
MEAN = np.array([104, 117, 123], np.float32)


def preparation(height, width, **more):
    return Preparation(height, width, 3, "BGR", **{"mean": np.zeros(3, np.float32), **more})


def taken(dataset):
    return [tuple(one.numpy() for one in batch) for batch in dataset]


def equal(one, other):
    return len(one) == len(other) and all(np.array_equal(a, b) for x, y in zip(one, other) for a, b in zip(x, y))


@pytest.fixture
def rows(tmp_path, rng):
    """13 pictures of 7x11, no two values alike, so that every crop shows where it is from."""
    array = rng.permutation(13 * 7 * 11 * 3).reshape(13, 7, 11, 3).astype(np.float32)
    np.save(tmp_path / "x.npy", array)
    np.save(tmp_path / "y.npy", np.arange(13) % 5)
    return read_examples(str(tmp_path / "x.npy")), array


def test_it_is_said_how_colours_of_arrays_are_taken():
    said = "x.npy: its channels are fed as they lie; the network reads B, G, R"
    assert order_notes(["x.npy"], preparation(5, 7)) == [said]
    grey = prepare((1, 1, 5, 7), {}, Asked())
    assert order_notes(["x.npy"], grey) == order_notes([], preparation(5, 7)) == []


class TestAsCaffeReads:
    @pytest.fixture
    def listed(self, shared, tmp_path):
        paths = sorted((shared / "images").iterdir())
        (tmp_path / "list.txt").write_text("".join(f"{path} {index % 2}\n" for index, path in enumerate(paths)))
        return read_examples(str(tmp_path / "list.txt")), paths

    def test_files_are_what_opencv_reads(self, listed):
        cv2 = pytest.importorskip("cv2")
        examples, paths = listed
        ((values, labels, indices),) = taken(batches(examples, preparation(61, 67), 7, training=False))
        assert labels.tolist() == [0, 1] * 3
        assert indices.tolist() == list(range(6))
        for got, path in zip(values, paths):
            read = cv2.imread(str(path))
            top, left = (read.shape[0] - 61) // 2, (read.shape[1] - 67) // 2
            assert np.array_equal(got, read[top : top + 61, left : left + 67])

    @pytest.mark.parametrize("order", ["BGR", "RGB"])
    def test_resized_cropped_and_scaled_as_opencv_does(self, listed, order):
        cv2 = pytest.importorskip("cv2")
        examples, paths = listed
        how = preparation(227, 227, resize=(256, 251), mean=MEAN, scale=0.017)
        how = Preparation(**{**vars(how), "channel_order": order})
        ((values, _, _),) = taken(batches(examples, how, 7, training=False))
        for got, path in zip(values, paths):
            read = cv2.resize(cv2.imread(str(path)), (251, 256))[14:241, 12:239]
            expected = ((read[:, :, ::-1] if order == "RGB" else read) - MEAN) * 0.017
            assert np.abs(got - expected).max() <= 0.017 * 1.0001  # OpenCV's weights are of 11 bits: a level, at most
            assert np.abs(got - expected).mean() < 0.017 * 0.2

    def test_validation_sees_what_recordings_are_made_of(self, listed):
        examples, paths = listed
        asked = Asked(mean=MEAN, scale=0.017, resize=256)
        shape = (1, 3, 227, 227)
        fact, settled = settle(shape, {}, asked)
        pictures = [resized(decode(path.read_bytes(), 3), settled.resize) for path in paths]
        ((values, _, _),) = taken(batches(examples, prepare(shape, {}, asked), 7, training=False))
        assert np.array_equal(values.transpose(0, 3, 1, 2), fed(pictures, fact, 227, 227))


class TestPreparation:
    def test_the_definition_is_honoured_and_what_is_asked_goes_before_it(self):
        stated = {"scale": 0.5, "mirror": True, "crop_size": 7, "mean_value": (3, 5, 11), "channel_order": "BGR"}
        how = prepare((1, 3, 7, 7), stated, Asked(resize=11))
        assert (how.height, how.width, how.channels, how.channel_order) == (7, 7, 3, "BGR")
        assert (how.scale, how.mirror, how.resize, how.mean.tolist()) == (0.5, True, (11, 11), [3, 5, 11])
        how = prepare((1, 3, 7, 7), stated, Asked(scale=2, mean=MEAN, channel_order="RGB"), mirror=False)
        assert (how.scale, how.mirror, how.resize, how.channel_order) == (2, False, (7, 7), "RGB")
        assert how.mean.tolist() == MEAN.tolist()

    def test_a_mean_picture_is_cropped_with_the_picture(self, rng):
        mean = rng.random((3, 13, 13)).astype(np.float32)
        how = prepare((1, 3, 7, 7), {}, Asked(mean=mean))
        assert how.resize == (13, 13)
        picture = rng.random((13, 13, 3)).astype(np.float32)
        assert np.array_equal(how.input(picture), (picture - mean.transpose(1, 2, 0))[3:10, 3:10])
        top, left, _ = how.window((13, 13), np.random.default_rng(3))
        window = (picture - mean.transpose(1, 2, 0))[top : top + 7, left : left + 7]
        assert (top, left) != (3, 3)
        assert np.array_equal(how.input(picture, np.random.default_rng(3)), window)

    def test_grey_files_and_colour_networks(self, tmp_path, rng):
        cv2 = pytest.importorskip("cv2")
        grey = rng.integers(0, 256, (7, 11), np.uint8)
        PIL.fromarray(grey).save(tmp_path / "grey.png")
        data = (tmp_path / "grey.png").read_bytes()
        assert np.array_equal(preparation(7, 11).input(data), cv2.imread(str(tmp_path / "grey.png")))
        one = Preparation(7, 11, 1, "", np.zeros(1, np.float32))
        assert np.array_equal(one.input(data)[..., 0], grey)

    @pytest.mark.parametrize(
        ("picture", "more", "reason"),
        [
            ((5, 11, 3), {}, "is 5x11, smaller than the input, 7x11; --resize SIZE enlarges it"),
            ((7, 11, 1), {}, "has 1 channels, the network's input 3"),
            ((9, 13, 3), {"mean": np.zeros((8, 12, 3), np.float32)}, "is 9x13, but the mean is 8x12"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, picture, more, reason):
        with pytest.raises(Refused) as error:
            preparation(7, 11, **more).input(np.zeros(picture, np.uint8))
        assert error.value.reasons == (reason,)


class TestTraining:
    def test_every_crop_is_a_window_and_all_of_them_come(self, rows):
        examples, array = rows
        how = preparation(5, 9, mirror=True)
        seen = set()
        dataset = batches(examples, how, 13, training=True, seed=3, endless=True).take(23)
        for values, labels, indices in taken(dataset):
            assert sorted(indices) == list(range(13))
            assert labels.tolist() == (indices % 5).tolist()
            for value, index in zip(values, indices):
                windows = {
                    (top, left, mirrored): array[index, top : top + 5, left : left + 9][:, :: -1 if mirrored else 1]
                    for top in range(3) for left in range(3) for mirrored in (False, True)
                }  # fmt: skip
                (found,) = [where for where, window in windows.items() if np.array_equal(value, window)]
                seen.add(found)
        assert len(seen) == 18

    def test_without_training_the_middle_comes_in_order(self, rows):
        examples, array = rows
        got = taken(batches(examples, preparation(5, 9, mirror=True), 5, training=False))
        assert [len(values) for values, _, _ in got] == [5, 5, 3]
        assert np.array_equal(np.concatenate([values for values, _, _ in got]), array[:, 1:6, 1:10])

    def test_seed_epoch_and_picture_fix_the_numbers(self, rows):
        examples, _ = rows
        how = preparation(5, 9, mirror=True)

        def run(**more):
            return taken(batches(examples, how, 3, training=True, **{"seed": 3, "epoch": 2, **more}))

        assert equal(run(), run())
        assert equal(run(threads=1), run(threads=5))
        assert equal(run(start=6), run()[2:])
        assert not equal(run(), run(epoch=3))
        assert not equal(run(), run(seed=5))

    def test_endless_batches_run_across_epochs(self, rows):
        examples, _ = rows
        how = preparation(5, 9)
        dataset = batches(examples, how, 5, training=True, seed=3, endless=True)
        got = taken(dataset.take(8))
        assert [len(indices) for _, _, indices in got] == [5] * 8
        epochs = [taken(batches(examples, how, 13, training=True, seed=3, epoch=epoch))[0] for epoch in range(3)]
        for run, whole in zip(zip(*got), zip(*epochs)):
            assert np.array_equal(np.concatenate(run)[:39], np.concatenate(whole))
        later = batches(examples, how, 5, training=True, seed=3, start=15, endless=True)
        assert equal(taken(later.take(5)), got[3:])

    def test_unshuffled_training_keeps_the_order(self, rows):
        examples, _ = rows
        dataset = batches(examples, preparation(5, 9), 13, training=True, shuffled=False)
        assert taken(dataset)[0][2].tolist() == list(range(13))

    def test_one_dataset_serves_a_session_for_all_epochs(self, rows):
        examples, _ = rows
        how = preparation(5, 9, mirror=True)
        tf = tensorflow1("the tests")
        runs = ((2, 0), (3, 5))
        with tf.Graph().as_default() as graph, tf.Session() as session:
            epoch, start = (tf.placeholder(tf.int64, ()) for _ in range(2))
            dataset = batches(examples, how, 5, training=True, seed=3, epoch=epoch, start=start)
            iterator = tf.data.make_initializable_iterator(dataset)
            batch = iterator.get_next()
            graph.finalize()
            assert batch[0].shape.as_list() == [None, 5, 9, 3]
            got = []
            for number, first in runs:
                session.run(iterator.initializer, {epoch: number, start: first})
                got.append([session.run(batch) for _ in range(3 - first // 5)])
                with pytest.raises(tf.errors.OutOfRangeError):
                    session.run(batch)
        for run, (number, first) in zip(got, runs):
            assert equal(run, taken(batches(examples, how, 5, training=True, seed=3, epoch=number, start=first)))


class TestBrokenPictures:
    @pytest.fixture
    def listed(self, tmp_path, rng):
        for name in "abcdefg":
            PIL.fromarray(rng.integers(0, 256, (19, 23, 3), np.uint8)).save(tmp_path / f"{name}.jpeg")
        whole = (tmp_path / "c.jpeg").read_bytes()
        (tmp_path / "c.jpeg").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "f.jpeg").unlink()
        (tmp_path / "list.txt").write_text("".join(f"{name}.jpeg {index}\n" for index, name in enumerate("abcdefg")))
        return read_examples(str(tmp_path / "list.txt"))

    @pytest.mark.parametrize("training", [True, False])
    def test_they_are_told_once_and_missing_from_their_batch(self, listed, training):
        lines = []
        faults = Faults(2, lines.append)
        kept = []
        for _ in range(2):
            got = taken(batches(listed, preparation(17, 19), 3, training=training, seed=3, faults=faults))
            indices = np.concatenate([indices for _, _, indices in got])
            assert sorted(indices) == [0, 1, 3, 4, 6]
            assert np.array_equal(np.concatenate([labels for _, labels, _ in got]), indices)
            assert all(values.any(axis=(1, 2, 3)).all() for values, _, _ in got)
            kept.append(got)
        assert equal(*kept)
        line_3, line_6 = sorted(lines) if training else lines  # without training: in the list's order
        assert line_3.startswith(f"{listed.place}: line 3: c.jpeg: is no whole picture: ")
        assert line_6 == f"{listed.place}: line 6: f.jpeg: no such file or folder; passed over"
        assert len(faults.found) == 2

    def test_a_batch_of_nothing_else_is_left_out(self, listed):
        only = listed.taken(np.array([0, 1, 2, 5, 3, 4]))
        faults = Faults(2, lambda line: None)
        got = taken(batches(only, preparation(17, 19), 2, training=False, faults=faults))
        assert [indices.tolist() for _, _, indices in got] == [[0, 1], [4, 5]]

    @pytest.mark.parametrize(
        ("limit", "told", "end"), [(0, 0, "--max-bad N passes"), (1, 1, "one more than --max-bad 1")]
    )
    def test_one_too_many_stops(self, listed, limit, told, end):
        lines = []
        faults = Faults(limit, lines.append)
        with pytest.raises(Refused) as error, faults.raised():
            taken(batches(listed, preparation(17, 19), 3, training=False, faults=faults))
        assert len(lines) == told
        (reason,) = error.value.reasons
        assert reason.startswith(f"{listed.place}: line {3 if limit == 0 else 6}: ")
        assert end in reason

    def test_rows_that_are_no_numbers_are_among_them(self, rows, tmp_path):
        _, array = rows
        array[11, 3, 5, 1] = np.nan
        np.save(tmp_path / "x.npy", array)
        examples = read_examples(str(tmp_path / "x.npy"))
        faults = Faults()
        reason = r"x\.npy: row 11: holds values that are not finite; --max-bad N"
        with pytest.raises(Refused, match=reason), faults.raised():
            taken(batches(examples, preparation(5, 9), 5, training=False, faults=faults))


class TestMemory:
    def test_few_batches_are_made_ahead(self, rows):
        examples, _ = rows
        source = Counting(examples.source)
        many = Examples("rows", source, np.zeros(997, np.int64), np.zeros(997, np.int64), ("0", "1"))
        dataset = iter(batches(many, preparation(5, 9), 7, training=False, threads=2))
        next(dataset)
        time.sleep(0.5)
        assert 7 <= source.read <= 7 * 5  # the one that is out, two ready, one being made, and what threads hold

    def test_arrays_are_not_loaded(self, tmp_path):
        shape = (499, 227, 227, 3)
        array = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, shape)  # 308 MB, on the disk none
        del array
        np.save(tmp_path / "y.npy", np.arange(499) % 5)
        examples = read_examples(str(tmp_path / "x.npy"))
        taken(batches(examples, preparation(227, 227), 7, training=False).take(1))  # TensorFlow's own
        before = resident()
        for _ in batches(examples, preparation(227, 227), 7, training=False).take(20):
            pass
        assert resident() - before < 308e6 * (20 * 7 / 499) + 60e6


def resident():
    """Returns the bytes of memory that this process holds."""
    path = Path("/proc/self/statm")
    if not path.exists():
        pytest.skip("needs Linux's /proc")
    return int(path.read_text().split()[1]) * 4096


class Counting:
    """Rows that count how often one is read."""

    is_remote = False

    def __init__(self, source):
        self._source = source
        self._lock = threading.Lock()
        self.read = 0

    def picture(self, number):
        with self._lock:
            self.read += 1
        return self._source.picture(number)

    def name(self, number):
        return self._source.name(number)
