"""A solver's definition: every field used, refused by name, or said to have no effect; files found as Caffe does."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.caffe_pb2 import SolverParameter
from converter.rules import State
from tools.train import forks, schedule
from tools.train import solver as module
from tools.train.solver import WITHOUT_EFFECT, read_solver
from tools.train.updates import RULES, Adam, Nesterov
from weights import Refused


@pytest.fixture
def read(train):
    def run(more="", changes=None):
        base = train.solver
        for old, new in (changes or {}).items():
            assert old in base
            base = base.replace(old, new)
        train.write(more, base=base)
        return read_solver(Path("solver.prototxt"))

    return run


@pytest.fixture
def reasons(read):
    def run(more="", changes=None):
        with pytest.raises(Refused) as refused:
            read(more, changes)
        return list(refused.value.reasons)

    return run


def test_every_field_of_the_schema_is_read_by_name_or_listed():
    source = "".join(Path(one.__file__).read_text(encoding="utf-8") for one in (module, schedule, forks))
    for field in SolverParameter.DESCRIPTOR.fields:
        is_named = f"message.{field.name}" in source or f'"{field.name}"' in source
        assert is_named or field.name in WITHOUT_EFFECT, field.name


@pytest.mark.parametrize("field", WITHOUT_EFFECT)
def test_fields_without_effect_are_said(field, read):
    value = "GPU" if field == "solver_mode" else "0" if field == "device_id" else "true"
    assert any(note.startswith(f"solver.prototxt: {field} has no effect: ") for note in read(f"{field}: {value}").notes)


@pytest.mark.parametrize(
    ("more", "changes", "expected"),
    [
        ("foo: 1", None, "line 9, column 1: SolverParameter has no field 'foo'; mend its spelling or take it out"),
        ("", {"base_lr: 0.01": ""}, "does not say base_lr"),
        ("", {"max_iter: 12": ""}, "does not say max_iter"),
        ("", {'lr_policy: "fixed"': ""}, "does not say lr_policy"),
        ("", {"fixed": "cosine"}, "lr_policy 'cosine' is unknown; expected one of fixed, step, exp, inv, "
         "multistep, poly, sigmoid, plateau, multifixed"),
        ("gamma: 0.1", {"fixed": "step"}, "does not say stepsize, which lr_policy 'step' reads"),
        ("gamma: 0.1 stepsize: 0", {"fixed": "step"}, "stepsize is 0; expected 1 or more"),
        ("gamma: -0.1", {"fixed": "exp"}, "gamma is -0.1; expected 0 or more"),
        ('type: "Adamax"', None, "type 'Adamax' is unknown; expected one of SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, "
         "Adam"),
        ('type: "SGD" solver_type: ADAM', None, "gives both type and solver_type, its older spelling; Caffe accepts "
         "one"),
        ('type: "RMSProp" momentum: 0.9', None, "momentum is 0.9; Caffe accepts none with type RMSProp"),
        ('type: "AdaGrad" momentum: 0.9', None, "momentum is 0.9; Caffe accepts none with type AdaGrad"),
        ('type: "RMSProp" rms_decay: 1', None, "rms_decay is 1; expected 0 or more, and less than 1"),
        ('type: "Adam" momentum: 1.5', None, "momentum is 1.5; expected 0 or more, and less than 1"),
        ("rampup_interval: -3", None, "rampup_interval is -3; expected 0 or more"),
        ("rampup_interval: 3 warmup_iter: 4", None, "gives both rampup_interval, NVIDIA's, and warmup_iter, Intel's; "
         "no Caffe reads both"),
        ("min_lr: 0.5 power: 1", {"fixed": "poly"}, "min_lr is 0.5, above base_lr, 0.01; lr_policy 'poly' falls to it"),
        ("stagelr: 0.1 stagelr: 0.2 stageiter: 7", {"fixed": "multifixed"}, "has 2 values of stagelr and 1 of "
         "stageiter; lr_policy 'multifixed' wants one of each for each stage"),
        ("warmup_iter: 5 momentum: 0.9", None, "warmup_iter: with type SGD and a momentum Intel's Caffe scales the "
         "momentum too, by how the rate rises, which is not done here; to train without take warmup_iter or momentum "
         "out"),
        ("local_lr_auto: true", None, "local_lr_auto is true: Intel's Caffe takes each parameter's rate from the norms "
         "of its values and gradients, which is not done here; to train without say false"),
        ("larc: true", None, "larc is true: NVIDIA's Caffe takes each parameter's rate from the norms of its values "
         "and gradients, which is not done here; to train without say false"),
        ('momentum_policy: "poly"', None, "momentum_policy is 'poly': NVIDIA's Caffe changes the momentum from "
         "iteration to iteration, which is not done here; to train without say 'fixed'"),
        ('regularization_type: "L3"', None, "regularization_type 'L3' is unknown; expected L1 or L2"),
        ("iter_size: 0", None, "iter_size is 0; expected 1 or more"),
        ("average_loss: 0", None, "average_loss is 0; expected 1 or more"),
        ("", {'net: "net.prototxt"': ""}, "needs one of net, net_param, train_net and train_net_param; gives "
         "none of them"),
        ('train_net: "net.prototxt"', None, "needs one of net, net_param, train_net and train_net_param; gives net and "
         "train_net"),
        ("test_iter: 3", None, "test_interval is 0; with test_iter it must be 1 or more"),
        ('test_net: "net.prototxt"', None, "has 1 test nets and 0 values of test_iter; Caffe wants one for each"),
        ("test_iter: 2 test_interval: 5 test_state { } test_state { }", None, "has 2 values of test_state for 1 test "
         "nets"),
        ("snapshot: 5", {'"small"': '"absent/small"'}, "snapshot_prefix: the folder absent does not exist; "
         "make it first"),
        ("", {"net.prototxt": "absent.prototxt"}, "net: 'absent.prototxt' is neither in the working "
         "directory nor beside the solver, absent.prototxt"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_name(more, changes, expected, reasons):
    assert reasons(more, changes) == [f"solver.prototxt: {expected}"]


def test_everything_that_is_wrong_is_said_at_once(reasons):
    found = reasons('type: "Foo" iter_size: 0', {"fixed": "bar"})
    assert [reason.split(":")[1].split()[0] for reason in found] == ["lr_policy", "type", "iter_size"]


@pytest.mark.parametrize(
    ("more", "note"),
    [
        ("gamma: 0.1", "gamma has no effect with lr_policy 'fixed'"),
        ("power: 0.1", "power has no effect with lr_policy 'fixed'"),
        ("stepvalue: 3", "stepvalue has no effect with lr_policy 'fixed'"),
        ("momentum2: 0.9", "momentum2 has no effect with type SGD"),
        ("delta: 0.9", "delta has no effect with type SGD"),
        ("rms_decay: 0.9", "rms_decay has no effect with type SGD"),
        ("test_interval: 9", "test_interval has no effect without test_iter"),
        ("test_iter: 0 test_interval: 5", "test_iter is 0: that test has no batches, and is left out"),
        ("momentum: 1.5", "momentum is 1.5, and used as Caffe does; 0 or more, and less than 1, is usual"),
        ("plateau_winsize: 100", "plateau_winsize has no effect with lr_policy 'fixed'"),
        ("rampup_lr: 0.1", "rampup_lr has no effect without rampup_interval"),
        ("larc: false larc_eta: 0.1", "larc has no effect: it is what every Caffe does"),
        ("larc: false larc_eta: 0.1", "larc_eta has no effect without larc"),
        ("solver_data_type: FLOAT16", "solver_data_type has no effect: it says in what NVIDIA's Caffe keeps weights "
         "and their history; here that is float32"),
    ],
)  # fmt: skip
def test_fields_that_this_solver_does_not_read_are_said(more, note, read):
    assert f"solver.prototxt: {note}" in read(more).notes


@pytest.mark.parametrize(
    ("policy", "more", "note"),
    [
        ("multistep", "gamma: 0.1", "does not say stepvalue, which lr_policy 'multistep' reads; the learning rate "
         "stays what it is, as in Caffe"),
        ("inv", "gamma: 0.1", "does not say power, which lr_policy 'inv' reads; it counts as 0, as in Caffe"),
        ("poly", "power: 1 min_lr: 0.001", "min_lr: lr_policy 'poly' falls to it, as in NVIDIA's Caffe 0.17; 0.16 cuts "
         "the rate off there"),
    ],
)  # fmt: skip
def test_what_a_policy_lacks_counts_as_in_caffe_and_is_said(policy, more, note, read):
    assert f"solver.prototxt: {note}" in read(more, {"fixed": policy}).notes


def test_every_unknown_field_is_said_at_once(reasons):
    found = reasons('foo: 1 bar: "x" "y" net_param { baz { a: [1, 2] } } qux < b: 3 > # zip: 1\n type: "SGD"')
    assert [reason.split(": ")[2] for reason in found] == [
        f"{message} has no field '{name}'; mend its spelling or take it out"
        for message, name in (
            ("SolverParameter", "foo"),
            ("SolverParameter", "bar"),
            ("NetParameter", "baz"),
            ("SolverParameter", "qux"),
        )
    ]
    assert found[1].startswith("solver.prototxt: line 9, column 8: ")
    assert reasons("foo: 1 base_lr: x")[1:] == ["solver.prototxt: line 9, column 17: Couldn't parse float: x"]
    many = reasons("\n".join(f"f{number}: 1" for number in range(30)))
    assert len(many) == 21
    assert many[-1] == "solver.prototxt: has more than 20 such fields"


def test_older_spelling_of_the_type(read):
    assert read("solver_type: NESTEROV momentum: 0.9").rule == Nesterov(pytest.approx(0.9))
    assert {read(f"solver_type: {name.upper()}").type for name in RULES} == set(RULES)
    assert read('type: "Adam" momentum: 0.5').rule == Adam(0.5, pytest.approx(0.999), pytest.approx(1e-8))


def test_states_come_from_the_phase_then_the_net_then_the_solver(read):
    changes = {'net: "net.prototxt"': 'net_param { state { level: 3 stage: "a" } layer { name: "x" } }'}
    more = (
        'train_state { stage: "b" } test_iter: 1 test_iter: 2 test_interval: 4 test_state { level: 5 } test_state { }'
    )
    solver = read(more, changes)
    assert solver.train.state == State("TRAIN", 3, ("a", "b"))
    assert [one.definition.state for one in solver.tests] == [State("TEST", 5, ("a",)), State("TEST", 3, ("a",))]
    assert [one.iterations for one in solver.tests] == [1, 2]


def test_test_nets_are_those_named_then_the_solver_s_own(read, train):
    (train.folder / "other.prototxt").write_text('name: "other" layer { name: "x" }')
    solver = read('test_net: "other.prototxt" test_iter: 1 test_iter: 2 test_iter: 3 test_interval: 4')
    assert [one.definition.message.name for one in solver.tests] == ["other", "small", "small"]


def test_a_file_beside_the_solver_is_found_and_said(read, train, monkeypatch):
    read()
    (train.folder / "elsewhere").mkdir()
    monkeypatch.chdir(train.folder / "elsewhere")
    solver = read_solver(Path("../solver.prototxt"))
    note = "../solver.prototxt: net: 'net.prototxt' is not in the working directory; taken from ../net.prototxt"
    assert note in solver.notes
    (train.folder / "elsewhere" / "net.prototxt").write_text('name: "nearer" layer { name: "x" }')
    assert read_solver(Path("../solver.prototxt")).train.message.name == "nearer"


@pytest.mark.parametrize(
    ("stated", "prefix"),
    [("", "solver"), ('snapshot_prefix: "out"', "out/solver"), ('snapshot_prefix: "out/net"', "out/net")],
)
def test_snapshots_are_named_as_caffe_names_them(stated, prefix, read, train):
    (train.folder / "out").mkdir()
    assert read(stated, {'snapshot_prefix: "small"': ""}).snapshot_prefix == Path(prefix)


def test_several_weights_with_commas_or_repeated(read):
    assert read('weights: "a.npz,b.npz" weights: "c.npz"').weights == ("a.npz", "b.npz", "c.npz")


def test_a_broken_net_is_said_with_its_place(reasons, train):
    changes = {"net.prototxt": "broken.prototxt"}
    (train.folder / "broken.prototxt").write_text('layer { nmae: "x" }')
    said = (
        "net: broken.prototxt: line 1, column 9: LayerParameter has no field 'nmae'; mend its spelling or take it out"
    )
    assert reasons("", changes) == [f"solver.prototxt: {said}"]


def test_a_network_given_as_the_solver_is_said(train):
    with pytest.raises(
        Refused, match=r"^net.prototxt: is a network's definition, not a solver's; give the solver that nam"
    ):
        read_solver(Path("net.prototxt"))
    with pytest.raises(Refused, match=r"^absent.prototxt: No such file or directory$"):
        read_solver(Path("absent.prototxt"))
