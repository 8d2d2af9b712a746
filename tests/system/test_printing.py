import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.system.printing import all_printable, prepare, printable, say


@pytest.mark.parametrize(
    "harmful",
    ["\x1b]0;title\x07", "\x1b]52;c;cm0gLXJm\x07", "\x1b[2J", "a\nb", "a\rb", "\x9b31m", "\u202egnp.exe", "\udcff"],
)
def test_what_commands_a_terminal_is_spelt_out(harmful):
    found = printable(harmful)
    assert found.isprintable() and "\\" in found


@given(st.text(st.characters()))
def test_any_text_becomes_one_line_that_can_be_written(text):
    found = printable(text)
    assert len(found.splitlines()) <= 1 and printable(found) == found
    found.encode("utf-8")


def test_letters_of_all_scripts_stay():
    text = "Löwe, кошка, 猫\u3000一, قطة, 👩\u200d🔬"
    assert printable(text) == text


def test_keys_and_values_are_made_printable():
    assert all_printable({"a\x1b": ["\n", 1, None, (2.5, "\x07")]}) == {"a\\x1b": ["\\n", 1, None, [2.5, "\\x07"]]}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@given(text=st.text(st.characters()))
def test_every_text_can_be_written_to_every_stream(encoding, text):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding, errors="strict", newline="")
    prepare(stream)
    say(text, stream)
    assert raw.getvalue().endswith(b"\n")


def test_bytes_of_a_name_are_written_as_they_were():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "utf-8", errors="strict")
    prepare(stream)
    say("caf\udce9.jpg", stream)
    assert raw.getvalue() == b"caf\xe9.jpg\n"
