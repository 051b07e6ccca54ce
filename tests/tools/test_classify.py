"""tools.classify: pictures named by the demo, what is done to a picture on the way, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from converter import convert
from converter.mean import write_mean
from graphs.tensorflow1 import tensorflow1
from tools import classify
from tools.classify import guesses
from tools.pictures import prepare
from tools.record.pictures import PictureSource
from tools.record.preprocessing import Asked, fed, settle
from weights import Refused

Image = pytest.importorskip("PIL.Image")

DEMO = Path(classify.__file__).parent / "demo"
LABELS = DEMO / "labels.txt"
THREE = DEMO / "pictures" / "digit-3.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classify")


@pytest.fixture(scope="module")
def digits(folder: Path) -> Path:
    path = folder / "digits.pb"
    convert(DEMO / "digits.prototxt", DEMO / "digits.caffemodel").save(path)
    return path


@pytest.fixture
def port_of(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that converts a definition without weights, and what else there is, to a frozen graph."""

    def make(text: str, *sources: Path) -> Path:
        definition, graph = tmp_path / "net.prototxt", tmp_path / "net.pb"
        definition.write_text(text)
        convert(definition, *sources).save(graph)
        return graph

    return make


@pytest.fixture
def run(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Returns a function that runs the command line: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = classify.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def rows(out: str) -> list[list[str]]:
    """Returns the cells of the table's lines, without its heading."""
    lines = [re.split(r"  +", line.strip()) for line in out.splitlines() if line.strip()]
    return lines[2:]


def test_every_picture_of_the_demo_is_named_right(digits, run):
    pictures = sorted((DEMO / "pictures").glob("*.png"))
    code, out, err = run(digits, *pictures, "--labels", LABELS)
    assert (code, err) == (0, "")
    assert next(line.split() for line in out.splitlines() if line.strip()) == [
        "picture",
        "class",
        "probability",
        "runners-up",
    ]
    found = rows(out)
    assert [row[0] for row in found] == list(map(str, pictures))
    assert [row[1] for row in found] == LABELS.read_text().split()
    for row in found:
        assert re.fullmatch(r"\d\d\.\d%", row[2])
        assert re.fullmatch(r"\w+ \d+\.\d%(; \w+ \d+\.\d%){3}", row[3])


def test_without_labels_the_manifest_names_the_classes(digits, run, tmp_path):
    for path in (digits, digits.with_name(digits.name + ".json")):
        shutil.copy(path, tmp_path / path.name)
    manifest = tmp_path / (digits.name + ".json")
    named = {**json.loads(manifest.read_text()), "classes": [f"the {number}" for number in range(10)]}
    manifest.write_text(json.dumps(named))
    code, out, _ = run(tmp_path / digits.name, THREE)
    assert code == 0
    assert "the 3 " in out


def test_without_labels_classes_are_counted(digits, run):
    _, out, _ = run(digits, THREE, "--top", 1)
    assert rows(out)[0][1] == "3"
    assert len(rows(out)[0]) == 3


def test_any_layer_can_be_the_output(digits, run):
    _, out, _ = run(digits, THREE, "--output", "fc8", "--top", 2)
    assert "score" in out
    assert "%" not in out
    assert rows(out)[0][1] == "3"


def test_more_pictures_than_a_batch_are_all_named(digits, run, monkeypatch):
    monkeypatch.setattr(classify, "BATCH", 3)
    pictures = [DEMO / "pictures" / f"digit-{digit}.png" for digit in (4, 1, 7, 9, 0, 2, 2)]
    _, out, _ = run(digits, *pictures)
    assert [row[1] for row in rows(out)] == list("4179022")


def test_the_module_runs_and_its_help_starts_with_an_example(root):
    done = subprocess.run([sys.executable, "-m", "tools.classify", "--help"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0
    example, options = "python -m tools.classify digits.pb", "options:"
    assert 0 < done.stdout.index(example) < done.stdout.index(options)


def test_a_fixed_batch_is_filled_up(tmp_path, run):
    path = tmp_path / "two.pb"
    tf = tensorflow1("the tests")
    with tf.Graph().as_default() as graph:
        data = tf.placeholder(tf.float32, [2, 1, 3, 1], name="data")
        tf.reshape(tf.square(data), [2, 3], name="scores")
        path.write_bytes(graph.as_graph_def().SerializeToString())
    pictures = []
    for place in (2, 0, 1):
        pixels = np.zeros((1, 3), np.uint8)
        pixels[0, place] = 9
        pictures.append(tmp_path / f"{place}.png")
        Image.fromarray(pixels).save(pictures[-1])
    code, out, err = run(path, *pictures, "--top", 1)
    assert code == 0
    assert err == f"note: {path}: no preprocessing is stated, so values stay 0 to 255; see --mean and --scale\n"
    assert [row[1:] for row in rows(out)] == [["2", "81.00"], ["0", "81.00"], ["1", "81.00"]]


# What is done to a picture.


@pytest.fixture
def colored(tmp_path) -> Path:
    """4 rows of 6 pixels; red, green and blue tell row and column."""
    row, column = np.mgrid[0:4, 0:6]
    path = tmp_path / "colored.png"
    Image.fromarray(np.stack([10 + row, 100 + column, 200 + row + column], axis=-1).astype(np.uint8)).save(path)
    return path


def test_three_channels_are_b_g_r(colored):
    fed = prepare((-1, 3, 4, 6), {"channel_order": "BGR"}).read(colored)
    assert fed.shape == (4, 6, 3)
    assert fed.dtype == np.uint8
    assert fed[3, 5].tolist() == [208, 105, 13]
    assert fed[0, 2].tolist() == [202, 102, 10]


def test_three_channels_are_r_g_b_where_that_is_stated(colored):
    fed = prepare((-1, 3, 4, 6), {"channel_order": "RGB"}).read(colored)
    assert fed[3, 5].tolist() == [13, 105, 208]


def test_one_channel_is_grey(colored):
    fed = prepare((-1, 1, 4, 6), {}).read(colored)
    assert fed.shape == (4, 6, 1)
    assert fed[1, 4, 0] == round(0.299 * 11 + 0.587 * 104 + 0.114 * 205)


def test_the_mean_comes_off_before_the_scale():
    stated = {"mean_value": [7.0, 20.0, 30.0], "scale": 0.5, "mirror": True, "crop_size": 2}
    fed = prepare((-1, 3, 2, 2), stated).fed(np.full((5, 2, 2, 3), (10, 20, 40), np.uint8))
    assert fed.shape == (5, 2, 2, 3)
    assert fed.dtype == np.float32
    assert fed[4, 1, 0].tolist() == [1.5, 0.0, 5.0]


def test_what_the_caller_says_replaces_what_is_stated():
    stated = {"mean_value": [7.0], "scale": 0.5}
    fed = prepare((-1, 3, 1, 1), stated, mean=np.float32([1, 2, 3]), scale=2.0).fed(np.full((1, 1, 1, 3), 4, np.uint8))
    assert fed.ravel().tolist() == [6.0, 4.0, 2.0]


def test_a_mean_picture_says_the_size_and_is_cropped_like_the_picture(colored):
    mean = np.zeros((3, 4, 6), np.float32)
    mean[0] = np.arange(24).reshape(4, 6)  # of blue
    preparation = prepare((-1, 3, 2, 3), {"mean_file": "mean.binaryproto"}, mean=mean)
    assert preparation.resize == (4, 6)
    pixels = preparation.read(colored)
    assert pixels[0, 0].tolist() == [202, 101, 11]  # row 1, column 1
    assert preparation.fed(pixels[np.newaxis])[0, :, :, 0].tolist() == [
        [202 - 7, 203 - 8, 204 - 9],
        [203 - 13, 204 - 14, 205 - 15],
    ]


def test_a_picture_is_brought_to_the_size_and_turned_upright(tmp_path):
    wide = np.zeros((20, 40), np.uint8)
    wide[:, 20:] = 250
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown a quarter to the right
    Image.fromarray(wide).save(tmp_path / "turned.png", exif=exif)
    pixels = prepare((-1, 1, 8, 4), {}).read(tmp_path / "turned.png")[:, :, 0]
    assert pixels[0].tolist() == [0] * 4
    assert pixels[-1].tolist() == [250] * 4


@pytest.mark.parametrize("side", [227, 256])
def test_photographs_are_prepared_as_for_a_recording_and_as_opencv_does(shared, side):
    cv2 = pytest.importorskip("cv2")
    stated, mean = {"scale": 0.5}, np.array([104, 117, 123], np.float32)
    preprocessing, preparation = settle((-1, 3, 227, 227), stated, Asked(mean, resize=side))
    for path in sorted((shared / "images").iterdir()):
        pixels = preparation.read(path)
        cut = (side - 227) // 2
        theirs = cv2.resize(cv2.imread(str(path)), (side, side))[cut : cut + 227, cut : cut + 227]
        assert np.abs(pixels.astype(int) - theirs).max() <= 1, path.name  # what two decoders of JPEG differ by
        picture, _ = PictureSource(path.name, path).read(3, (side, side))
        recorded = fed([picture], preprocessing, 227, 227)
        assert np.array_equal(np.moveaxis(preparation.fed(pixels[np.newaxis]), -1, 1), recorded)


@pytest.mark.parametrize(
    ("stated", "changes", "message"),
    [
        (
            {"mean_file": "data/mean.binaryproto"},
            {},
            'the definition states mean_file "data/mean.binaryproto"; give that file with --mean',
        ),
        ({"crop_size": 7}, {}, "the definition states crop_size 7, but the input is 5x8"),
        ({"force_gray": True}, {}, "the definition states force_gray, but the input's channels are 3"),
        ({"gamma": 2}, {}, "preprocessing that is unknown here: gamma"),
        ({"mean_value": [1, 2]}, {}, "the mean has 2 channels, the input 3"),
        ({}, {"resize": 7}, "pictures of 7x7 are too small for the input, 5x8"),
        ({}, {"mean": np.ones((3, 9, 9)), "resize": 11}, "pictures are brought to 11x11, but the mean is 9x9"),
        ({}, {"mean": np.ones((3, 4, 9))}, "pictures of 4x9 are too small for the input, 5x8"),
    ],
)
def test_a_preparation_that_cannot_be_honoured_is_refused(stated, changes, message):
    with pytest.raises(Refused) as refused:
        prepare((-1, 3, 5, 8), stated, **changes)
    assert str(refused.value) == message


@pytest.mark.parametrize("ending", [".npy", ".binaryproto"])
def test_a_mean_file_is_read(tmp_path, ending):
    mean = np.arange(3 * 5 * 7, dtype=np.float32).reshape(3, 5, 7)
    path = tmp_path / f"mean{ending}"
    write_mean(path, mean)
    np.testing.assert_array_equal(classify.read_mean(str(path)), mean)


def test_a_mean_of_numbers_is_read():
    assert classify.read_mean("104,117,122.5").tolist() == [104, 117, 122.5]


# Which classes are shown.


def test_probabilities_too_small_to_print_are_left_out():
    found = guesses(np.array([0.0004, 0.9992, 0.0004]), ["a", "b", "c"], top=3)
    assert list(map(str, found)) == ["b 99.9%"]


def test_equal_scores_keep_the_order_of_classes():
    found = guesses(np.array([0.25, 0.25, 0.5]), ["a", "b", "c"], top=3)
    assert list(map(str, found)) == ["c 50.0%", "a 25.0%", "b 25.0%"]


def test_scores_that_are_no_probabilities_are_shown_as_they_are():
    assert list(map(str, guesses(np.array([-3.0, 12.5]), ["a", "b"], top=9))) == ["b 12.50", "a -3.000"]
    assert list(map(str, guesses(np.array([0.25, 0.5]), ["a", "b"], top=9))) == ["b 0.5000", "a 0.2500"]


# What is refused.


def broken(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Yields pictures that are none, and what is said of them."""
    whole = THREE.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for name, content, message in (
        ("empty.png", b"", "is empty"),
        ("text.png", b"a picture of a three", "is no picture that Pillow can read"),
        ("short.png", whole[: len(whole) // 2], "is no whole picture: "),
        ("flipped.png", bytes(flipped), "is no whole picture: "),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        yield path, f"{path}: {message}"
    deep = tmp_path / "deep.tiff"
    Image.fromarray(np.full((8, 8), 70_000, np.int32)).save(deep)
    yield deep, f"{deep}: has more than 16 bits in a channel; save it with 8"
    yield tmp_path / "none.png", f"{tmp_path / 'none.png'}: No such file or directory"
    yield tmp_path, f"{tmp_path}: Is a directory"


def test_all_missing_and_broken_pictures_are_told_at_once(digits, run, tmp_path):
    paths, messages = zip(*broken(tmp_path))
    code, out, err = run(digits, THREE, *paths)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages):
        assert line.startswith(message)


@pytest.mark.filterwarnings("error")
def test_damaged_pictures_never_end_in_a_traceback(tmp_path, rng):
    preparation = prepare((-1, 3, 9, 9), {})
    path = tmp_path / "damaged"
    refusals = []
    for ending in ("png", "jpeg", "gif", "bmp", "tiff"):
        Image.open(THREE).convert("RGB").save(path, format=ending)
        whole = path.read_bytes()
        for _ in range(40):
            damaged = bytearray(whole)
            for place in rng.integers(0, len(whole), 3):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.5 else damaged)
            try:
                assert preparation.read(path).shape == (9, 9, 3)
            except Refused as refused:
                refusals.append(refused.reasons)
    assert len(refusals) > 20
    assert all(len(reasons) == 1 and reasons[0].startswith(f"{path}: ") for reasons in refusals)


def test_no_such_graph(run, tmp_path):
    missing = tmp_path / "missing.pb"
    assert run(missing, THREE) == (2, "", f"{missing}: No such file or directory\n")


def test_no_graph(run):
    code, _, err = run(THREE, THREE)
    assert code == 2
    assert err.startswith(f"{THREE}: is no frozen graph: ")
    assert err.count("\n") == 1


def test_labels_that_do_not_fit(digits, run, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\n\n")
    assert run(digits, THREE, "--labels", labels) == (
        2,
        "",
        f"{labels}: has 2 labels; the network tells 10 classes apart\n",
    )
    labels.unlink()
    assert run(digits, THREE, "--labels", labels) == (2, "", f"{labels}: No such file or directory\n")
    labels.write_bytes(b"\xff\xfe\n" * 10)
    assert run(digits, THREE, "--labels", labels) == (
        2,
        "",
        f"{labels}: is no text in UTF-8; expected one label a line\n",
    )


def test_labels_may_have_spaces_and_windows_line_ends(digits, run, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(b"[digit] no. %d" % digit for digit in range(10)) + b"\r\n")
    _, out, _ = run(digits, THREE, "--labels", labels, "--top", 1)
    assert rows(out)[0][1] == "[digit] no. 3"


@pytest.mark.parametrize("mean", ["12,x", "nan", "1,,2", "mean.npy"])
def test_neither_numbers_nor_a_file_for_a_mean(digits, run, mean):
    message = f"--mean {mean}: is neither numbers, such as 104,117,123, nor a file\n"
    assert run(digits, THREE, "--mean", mean) == (2, "", message)


def test_a_file_that_is_no_mean(digits, run):
    code, _, err = run(digits, THREE, "--mean", THREE)
    assert code == 2
    assert err.startswith(f"{THREE}: ")
    assert err.count("\n") == 1


def test_a_stated_mean_file_is_asked_for(port_of, run):
    graph = port_of(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } '
        'transform_param { mean_file: "imagenet_mean.binaryproto" } } '
        'layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }'
    )
    assert run(graph, THREE) == (
        2,
        "",
        f'{graph}: the definition states mean_file "imagenet_mean.binaryproto"; give that file with --mean\n',
    )
    assert run(graph, THREE, "--mean", "1,2,3")[0] == 0


def test_a_mean_picture_among_the_sources_counts_by_its_averages(port_of, run, tmp_path):
    mean = np.zeros((3, 9, 9), np.float32)
    mean[0, 3:] = 90  # blue: 60 on average; 90 in the middle
    mean[1] = 40
    write_mean(tmp_path / "mean.npy", mean)
    white = tmp_path / "white.png"
    Image.fromarray(np.full((9, 9, 3), 255, np.uint8)).save(white)
    graph = port_of(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 1 dim: 1 } } } '
        'layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }',
        tmp_path / "mean.npy",
    )
    code, out, err = run(graph, white)
    assert (
        err == f"note: {graph}: of the mean picture mean.npy, only its averages are subtracted; see --mean mean.npy\n"
    )
    assert (code, rows(out)[0][1:]) == (0, ["2", "255.0", "1 215.0; 0 195.0"])
    code, out, err = run(graph, white, "--mean", tmp_path / "mean.npy")
    assert (code, err) == (0, "")
    assert rows(out)[0][1:] == ["2", "255.0", "1 215.0; 0 165.0"]


def test_several_inputs(port_of, run):
    graph = port_of(
        'layer { name: "in" type: "Input" top: "left" top: "right" '
        "input_param { shape { dim: 1 dim: 1 dim: 4 dim: 4 } } } "
        'layer { name: "both" type: "Concat" bottom: "left" bottom: "right" top: "both" }'
    )
    assert run(graph, THREE) == (2, "", f"{graph}: has 2 inputs (left, right); expected one, for pictures\n")


def test_several_outputs(port_of, run):
    graph = port_of(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 4 dim: 4 } } } '
        'layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" } '
        'layer { name: "up" type: "ReLU" bottom: "data" top: "up" }'
    )
    assert run(graph, THREE) == (2, "", f"{graph}: has 2 outputs (flat, up); choose one with --output\n")
    assert run(graph, THREE, "--output", "up") == (
        2,
        "",
        f"{graph}: output 'up' has the shape Nx4x4x1; expected a row of scores for each picture\n",
    )
    assert run(graph, THREE, "--output", "down") == (
        2,
        "",
        f"{graph}: 'down' is no output, layer or tensor of this graph\n",
    )
    assert run(graph, THREE, "--output", "flat", "--scale", 1)[0] == 0


def test_an_input_that_is_no_picture(port_of, run):
    graph = port_of(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 5 } } } '
        'layer { name: "prob" type: "Softmax" bottom: "data" top: "prob" }'
    )
    assert run(graph, THREE) == (
        2,
        "",
        f"{graph}: input 'data' has the shape Nx5; expected pictures, N x (1 or 3) x H x W\n",
    )


@pytest.mark.filterwarnings("ignore:overflow")
def test_scores_that_are_no_numbers_are_refused(port_of, run):
    graph = port_of(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 4 dim: 4 } } } '
        'layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }'
    )
    code, out, err = run(graph, THREE, "--scale", "3e38")
    assert (code, out) == (2, "")
    assert err == f"{graph}: output 'flat' has values that are no numbers (NaN or infinite)\n"


@pytest.mark.parametrize(
    "arguments", [["--top", "0"], ["--top", "few"], ["--resize", "-3"], ["--scale", "big"], ["--scale", "nan"]]
)
def test_numbers_that_are_none(digits, run, arguments):
    code, _, err = run(digits, THREE, *arguments)
    assert code == 2
    assert err.splitlines()[-1].startswith("python -m tools.classify: error: argument --")


def test_a_real_network_names_photographs(shared, tmp_path, run):
    graph = tmp_path / "squeezenet.pb"
    model = shared / "models" / "squeezenet"
    convert(model / "deploy.prototxt", model / "squeezenet.caffemodel").save(graph)
    names = {
        "llama.jpeg": "llama",
        "sealion.jpeg": "sea lion",
        "zebra.jpeg": "zebra",
        "quail.jpeg": "quail",
        "weasel.png": "weasel",
        "poodle.png": "miniature poodle",
    }
    pictures = [shared / "images" / name for name in names]
    labels = shared / "labels" / "imagenet.txt"
    code, out, err = run(graph, *pictures, "--labels", labels, "--mean", "104,117,123", "--top", 1)
    assert (code, err) == (0, "")
    assert [row[1] for row in rows(out)] == list(names.values())
