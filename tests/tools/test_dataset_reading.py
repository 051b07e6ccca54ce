"""Training pictures as they are named: lists, folders, arrays; what is wrong with them in one line."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tools.dataset import Faults, checked, read_examples, split
from weights import Refused

pytest.importorskip("fsspec")
PIL = pytest.importorskip("PIL.Image")


@pytest.fixture
def picture(rng):
    """Returns a function that writes a picture, 19 high and 23 wide."""

    def write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.fromarray(rng.integers(0, 256, (19, 23, 3), np.uint8)).save(path)
        return path

    return write


def refused(place, **options):
    with pytest.raises(Refused) as error:
        read_examples(str(place), **options)
    return error.value.reasons


class TestLists:
    def test_names_pictures_from_its_own_folder(self, tmp_path, picture):
        files = [picture(tmp_path / "set" / name) for name in ("cats/3 and 4.png", "dogs/1.png", "5.png")]
        listed = tmp_path / "set" / "train.txt"
        text = (
            f"cats/3 and 4.png 0\n\n  ./dogs/1.png\t2\r\n{files[2]} 1"  # blanks, a tab, CRLF, an absolute path, no end
        )
        listed.write_text("\ufeff" + text, encoding="utf-8")
        examples = read_examples(str(listed))
        assert examples.labels.tolist() == [0, 2, 1]
        assert examples.labels.dtype == np.int64
        assert examples.classes == ("0", "1", "2")
        assert [examples.picture(index) for index in range(3)] == [file.read_bytes() for file in files]
        assert examples.name(1) == f"{listed}: line 3: ./dogs/1.png"
        assert checked(examples, Faults()) is examples

    def test_root_goes_before_the_lists_folder(self, tmp_path, picture):
        file = picture(tmp_path / "elsewhere" / "a.png")
        (tmp_path / "list.txt").write_text("a.png 0\n")
        examples = read_examples(str(tmp_path / "list.txt"), root=str(tmp_path / "elsewhere"))
        assert examples.picture(0) == file.read_bytes()

    def test_every_wrong_line_is_named(self, tmp_path):
        listed = tmp_path / "list.txt"
        listed.write_text("a.png 0\nb.png\nc.png one\nd.png 1.5\ne.png 7\n")
        wrong = "expected a path and a label, a whole number that counts from 0"
        assert refused(listed) == (
            f"{listed}: line 2: 'b.png' is all there is; {wrong}",
            f"{listed}: line 3: label 'one' is no whole number; {wrong}",
            f"{listed}: line 4: label '1.5' is no whole number; {wrong}",
        )

    def test_of_many_wrong_lines_the_rest_is_counted(self, tmp_path):
        listed = tmp_path / "list.txt"
        listed.write_text("a.png\n" * 13)
        reasons = refused(listed)
        assert len(reasons) == 11
        assert reasons[-1] == "and 3 more of the same kind"

    @pytest.mark.parametrize(
        ("label", "classes", "reason"),
        [
            (-1, None, "label -1 is out of range; labels count classes, from 0 to 999999 at most"),
            (20130927, None, "label 20130927 is out of range; labels count classes, from 0 to 999999 at most"),
            (3, ("a", "b", "c"), "label 3 is out of range; the 3 classes count from 0 to 2"),
        ],
    )
    def test_labels_out_of_range_are_refused(self, tmp_path, label, classes, reason):
        listed = tmp_path / "list.txt"
        listed.write_text(f"a.png 0\n\nb.png {label}\n")
        assert refused(listed, classes=classes) == (f"{listed}: line 3: {reason}",)

    def test_labels_that_count_from_1_leave_a_note(self, tmp_path):
        (tmp_path / "list.txt").write_text("a.png 1\nb.png 2\n")
        assert read_examples(str(tmp_path / "list.txt")).notes == ("1 of 3 classes have no picture: 0",)

    @pytest.mark.parametrize("text", ["", "\n \n"])
    def test_an_empty_list_is_refused(self, tmp_path, text):
        (tmp_path / "list.txt").write_text(text)
        assert refused(tmp_path / "list.txt") == (f"{tmp_path}/list.txt: names no picture",)

    def test_a_picture_is_no_list(self, tmp_path, picture):
        file = picture(tmp_path / "a.png")
        expected = "expected lines of a path and a label, a folder, or a pair of .npy"
        assert refused(file) == (f"{file}: is no text; {expected}",)

    def test_a_missing_list_is_refused(self, tmp_path):
        assert refused(tmp_path / "list.txt") == (f"{tmp_path}/list.txt: no such file or folder",)


class TestChecked:
    def test_names_the_line_of_what_is_no_picture(self, tmp_path, picture):
        picture(tmp_path / "a.png")
        (tmp_path / "text.jpg").write_text("no picture")
        (tmp_path / "folder.jpg").mkdir()
        listed = tmp_path / "list.txt"
        listed.write_text("a.png 0\ncats/3.jpg 1\ntext.jpg 1\nfolder.jpg 0\na.png 1\n")
        lines = []
        kept = checked(read_examples(str(listed)), Faults(3, lines.append))
        assert lines == [
            f"{listed}: line 2: cats/3.jpg: no such file; passed over",
            f"{listed}: line 3: text.jpg: is no picture that Pillow can read; passed over",
            f"{listed}: line 4: folder.jpg: Is a directory; passed over",
        ]
        assert (kept.count, kept.labels.tolist()) == (2, [0, 1])
        assert kept.name(1) == f"{listed}: line 5: a.png"

    def test_one_too_many_is_refused(self, tmp_path, picture):
        picture(tmp_path / "a.png")
        listed = tmp_path / "list.txt"
        listed.write_text("a.png 0\nb.png 1\nc.png 1\n")
        examples = read_examples(str(listed))
        with pytest.raises(Refused) as none:
            checked(examples, Faults())
        way = "--max-bad N passes over up to N such pictures"
        assert none.value.reasons == (f"{listed}: line 2: b.png: no such file; {way}",)
        lines = []
        with pytest.raises(Refused) as one:
            checked(examples, Faults(1, lines.append))
        assert lines == [f"{listed}: line 2: b.png: no such file; passed over"]
        assert one.value.reasons == (
            f"{listed}: line 3: c.png: no such file; one more than --max-bad 1 passes over",
        )  # fmt: skip

    def test_it_is_told_on_stderr(self, tmp_path, picture, capsys):
        picture(tmp_path / "a.png")
        (tmp_path / "list.txt").write_text("a.png 0\nb.png 1\n")
        checked(read_examples(str(tmp_path / "list.txt")), Faults(1))
        assert capsys.readouterr().err == f"{tmp_path}/list.txt: line 2: b.png: no such file; passed over\n"

    def test_where_none_is_left_it_is_refused(self, tmp_path):
        (tmp_path / "list.txt").write_text("a.png 0\nb.png 1\n")
        with pytest.raises(Refused, match=r"list\.txt: no picture is left of 2"):
            checked(read_examples(str(tmp_path / "list.txt")), Faults(2, lambda line: None))


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path, picture):
        for name in ("tulips/b.PNG", "tulips/a.jpg", "daisies/z.bmp", "daisies/.hidden.png", ".cache/c.png"):
            picture(tmp_path / "flowers" / name)
        (tmp_path / "flowers" / "tulips" / "Thumbs.db").write_text("")
        (tmp_path / "flowers" / "README").write_text("")
        return tmp_path / "flowers"

    def test_a_class_is_a_folder(self, folder):
        examples = read_examples(str(folder))
        assert examples.classes == ("daisies", "tulips")
        assert examples.labels.tolist() == [0, 1, 1]
        assert [examples.name(index) for index in range(3)] == [
            f"{folder}/{name}" for name in ("daisies/z.bmp", "tulips/a.jpg", "tulips/b.PNG")
        ]
        assert examples.picture(2) == (folder / "tulips" / "b.PNG").read_bytes()
        assert examples.notes == (f"{folder}: passed over, being hidden or no pictures: 4",)

    def test_validation_has_the_classes_of_training(self, folder, tmp_path, picture):
        for name in ("tulips", "roses"):
            picture(tmp_path / "val" / name / "a.png")
        classes = read_examples(str(folder)).classes
        assert refused(tmp_path / "val", classes=classes) == (
            f"{tmp_path}/val: has a folder for class 'roses', which is not among the training classes",
            f"{tmp_path}/val: has no folder for class 'daisies', which training has",
        )
        shutil.move(tmp_path / "val" / "roses", tmp_path / "val" / "daisies")
        assert read_examples(str(tmp_path / "val"), classes=("tulips", "daisies")).labels.tolist() == [0, 1]

    def test_a_class_without_pictures_is_refused(self, folder):
        (folder / "roses").mkdir()
        assert refused(folder) == (f"{folder}/roses: holds no pictures (.png, .jpg, .jpeg, .jpe, ...)",)

    def test_a_folder_without_classes_is_refused(self, folder):
        reason = "holds no folders; expected one for each class, with its pictures"
        assert refused(folder / "tulips") == (f"{folder}/tulips: {reason}",)


class TestArrays:
    @pytest.fixture
    def save(self, tmp_path):
        def write(x, y):
            np.save(tmp_path / "x.npy", x)
            np.save(tmp_path / "y.npy", y)
            return tmp_path / "x.npy"

        return write

    @pytest.mark.parametrize("shape", [(5, 7, 11, 3), (5, 3, 7, 11), (5, 7, 11)], ids=["last", "first", "grey"])
    @pytest.mark.parametrize("place", ["x.npy", "x.npy,y.npy", ""], ids=["x", "pair", "folder"])
    def test_rows_are_pictures(self, tmp_path, save, rng, shape, place):
        array = rng.integers(0, 256, shape, np.uint8)
        save(array, np.array([2, 0, 1, 2, 0], np.int32))
        examples = read_examples(",".join(str(tmp_path / name) for name in place.split(",")))
        last = array[..., None] if array.ndim == 3 else array if shape[3] == 3 else array.transpose(0, 2, 3, 1)
        assert (examples.count, examples.classes) == (5, ("0", "1", "2"))
        assert examples.labels.tolist() == [2, 0, 1, 2, 0]
        assert np.array_equal(examples.picture(3), last[3])
        assert examples.name(3) == f"{tmp_path}/x.npy: row 3"

    def test_they_stay_on_the_disk(self, save, rng):
        examples = read_examples(str(save(rng.random((5, 7, 11, 3)), np.arange(5))))
        assert isinstance(examples.source.array, np.memmap)

    def test_labels_may_be_one_hot(self, save, rng):
        place = save(rng.random((3, 7, 11, 3)), np.eye(17)[[16, 2, 5]])
        examples = read_examples(str(place))
        assert examples.labels.tolist() == [16, 2, 5]
        assert len(examples.classes) == 17

    @pytest.mark.parametrize(
        ("x", "y", "name", "reason"),
        [
            ((5, 7, 11, 3), np.arange(4), "y", "has the shape 4, but {x} holds 5 pictures"),
            ((2, 7, 11, 3), np.array([0, 1.5]), "y", "row 1: label 1.5 is no whole number"),
            ((2, 7, 11, 3), np.array([0, np.nan]), "y", "row 1: label nan is no whole number"),
            ((2, 7, 11, 3), np.array([0, -1]), "y",
             "row 1: label -1 is out of range; labels count classes, from 0 to 999999 at most"),
            ((2, 7, 11, 3), np.array([[1, 0], [1, 1]]), "y", "row 1 is not one-hot; expected one 1, and 0 elsewhere"),
            ((2, 7, 11, 3), np.array(["a", "b"]), "y",
             "holds <U1 of the shape 2; expected class indices (N) or one-hot rows (NxCLASSES)"),
            ((2, 7, 11, 5), np.arange(2), "x",
             "has the shape 2x7x11x5; expected pictures: NxHxWxC, NxCxHxW or NxHxW"),
            ((0, 7, 11, 3), np.arange(0), "x", "holds no picture"),
        ],
    )  # fmt: skip
    def test_what_is_no_pair_is_refused(self, save, x, y, name, reason):
        place = save(np.zeros(x, np.uint8), y)
        at = place.with_name(f"{name}.npy")
        assert refused(place) == (f"{at}: {reason.format(x=place)}",)

    def test_pickled_objects_are_refused(self, save, tmp_path):
        place = save(np.array([{}], object), np.arange(1))
        reason = "holds pickled objects, which are not read as they may run code"
        assert refused(place) == (f"{place}: {reason}",)

    def test_a_cut_off_file_is_refused(self, save, rng):
        place = save(rng.random((5, 7, 11, 3)), np.arange(5))
        place.write_bytes(place.read_bytes()[:-100])
        assert refused(place)[0].startswith(f"{place}: is no whole array: ")

    def test_missing_labels_are_refused(self, tmp_path, save, rng):
        place = save(rng.random((5, 7, 11, 3)), np.arange(5))
        (tmp_path / "y.npy").unlink()
        assert refused(place) == (f"{tmp_path}/y.npy: no such file",)
        place = place.rename(tmp_path / "pictures.npy")
        reason = "does not say where the labels are; name both: pictures.npy,labels.npy"
        assert refused(place) == (f"{place}: {reason}",)

    def test_one_hot_labels_have_the_classes_of_training(self, save, rng):
        place = save(rng.random((3, 7, 11, 3)), np.eye(5)[:3])
        reason = "is one-hot over 5 classes, but training has 3"
        assert refused(place, classes=("a", "b", "c")) == (f"{place.with_name('y.npy')}: {reason}",)


class TestSets:
    @pytest.fixture
    def examples(self, tmp_path):
        labels = [0] * 29 + [1] * 11 + [2]
        (tmp_path / "list.txt").write_text("".join(f"{index}.png {label}\n" for index, label in enumerate(labels)))
        return read_examples(str(tmp_path / "list.txt"))

    def test_a_share_of_every_class_is_held_out(self, examples):
        training, held_out = split(examples, 0.2, seed=5)
        assert held_out.per_class.tolist() == [6, 2, 0]  # of a class of one, none
        assert training.per_class.tolist() == [23, 9, 1]
        assert sorted([*training.members, *held_out.members]) == list(range(41))
        assert held_out.classes == training.classes == examples.classes

    def test_the_seed_fixes_the_division(self, examples):
        first, again, other = (split(examples, 0.2, seed)[1].members.tolist() for seed in (5, 5, 7))
        assert first == again != other

    @pytest.mark.parametrize(
        ("fraction", "reason"),
        [
            (0, "a share of 0 can't be held out; it lies between 0 and 1"),
            (1, "a share of 1 can't be held out; it lies between 0 and 1"),
            (0.01, "a share of 0.01 holds nothing out of classes of at most 29 pictures"),
        ],
    )
    def test_a_share_that_divides_nothing_is_refused(self, examples, fraction, reason):
        with pytest.raises(Refused) as error:
            split(examples, fraction, seed=5)
        assert error.value.reasons == (f"{examples.place}: {reason}",)

    def test_one_class_is_refused(self, examples):
        reason = "all 29 pictures show class '0'; training needs two classes or more"
        with pytest.raises(Refused) as error:
            examples.taken(np.arange(29)).trainable(3)
        assert error.value.reasons == (f"{examples.place}: {reason}",)

    def test_a_batch_larger_than_the_set_is_refused(self, examples):
        assert examples.trainable(41) is examples
        with pytest.raises(Refused) as error:
            examples.trainable(43)
        assert error.value.reasons == (
            f"{examples.place}: a batch of 43 is larger than the set, 41 pictures; say --batch 41 or less",
        )
