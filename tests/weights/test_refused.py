"""Every reason is one line, whatever it quotes."""

from __future__ import annotations

import pytest

from weights import Refused


def test_reasons_and_their_place():
    refused = Refused("first", "second").within("net.prototxt")
    assert refused.reasons == ("net.prototxt: first", "net.prototxt: second")
    assert str(refused) == "net.prototxt: first\nnet.prototxt: second"


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("conv1_é_卷积", "conv1_é_卷积"),
        ("\u202e", r"\u202e"),  # turns the rest of the line around
        ("\udcff", r"\udcff"),  # a byte of a file's name that is no UTF-8
    ],
)
def test_what_would_garble_a_terminal_is_spelled_out(quoted, shown):
    assert Refused(f"layer '{quoted}'").reasons == (f"layer '{shown}'",)


def test_the_middle_of_a_page_is_left_out():
    (reason,) = Refused("start " + "x" * 99_999 + " end").reasons
    assert len(reason) <= 600
    assert reason.startswith("start xxx")
    assert reason.endswith("xxx end")
    assert Refused(reason).reasons == (reason,)
