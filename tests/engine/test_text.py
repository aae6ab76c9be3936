"""Text that people choose: what may stand in a name, what is said of what may not, and how stored
text is shown.
"""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ffengine.spec import AnySpec, StudySpec
from ffengine.study import expand
from ffengine.text import STORED, UserText, all_visible, bytes_in_words, user_text, visible
from tests.hostile import BAD, CHECK

GOOD = (
    *(
        "baseline",
        "théorème 1",
        "学习率",
        "تجربة أولى",
        "प्रयोग",
        "می‌خواهم",
        "Löwe, 3 × 1000 (λ = 0,1) <b>&",
        "a" * 200,
    ),
    *("🧪", "👩‍🔬 run", "❤️", "👍🏽", "🇪🇺", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "1️⃣", "a\u00a0b", "\u3000全角"),
)
# what XML 1.0 does not have, but for what a JSON text cannot hold
NO_XML = [chr(code) for code in range(0x20) if code not in (9, 10, 13)] + ["\ufffe", "\uffff"]
names: TypeAdapter[str] = TypeAdapter(UserText)


@pytest.mark.parametrize("name", GOOD)
def test_names_in_any_script_and_with_any_emoji_pass(name: str) -> None:
    assert names.validate_python(name) == unicodedata.normalize("NFC", name)
    assert visible(name) == name


@pytest.mark.parametrize("character", BAD)
def test_what_cannot_be_seen_is_refused_by_its_number_and_place(character: str) -> None:
    with pytest.raises(
        ValidationError,
        match=rf"character 5 is U\+{ord(character):04X}, which cannot be seen; leave it out",
    ):
        names.validate_python(f"run {character} 1")
    assert visible(f"run {character} 1") == "run \ufffd 1"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "\u3000",
        "\u200d ",
        "a" * 201,
        "\U0001f3f4\U000e0067\U000e007f",
        "\U0001f3f4" + "\U000e0061" * 7 + "\U000e007f",
    ],
)
def test_a_name_has_one_to_two_hundred_characters_and_something_to_see(name: str) -> None:
    with pytest.raises(ValidationError):
        names.validate_python(name)


def test_names_that_look_the_same_are_the_same() -> None:
    assert user_text("the\u0301ore\u0300me") == "théorème"
    with pytest.raises(ValidationError, match="each value once"):
        StudySpec.model_validate({"parts": {"e\u0301": {"base": CHECK}, "\u00e9": {"base": CHECK}}})


@given(st.text(st.characters(codec=None), max_size=300))
def test_a_text_passes_where_nothing_of_it_is_hidden(text: str) -> None:
    try:
        name = user_text(text)
    except ValueError:
        assert (
            visible(text) != text
            or not text.strip(" \u200c\u200d")
            or text.isspace()
            or len(unicodedata.normalize("NFC", text)) > 200
        )
    else:
        assert visible(name) == name == user_text(name)
        assert not set(name) & set(NO_XML)
        name.encode()
    shown = visible(text)
    assert len(shown) == len(text)
    assert visible(shown) == shown
    assert not set(shown) & set(NO_XML)


def test_what_is_to_be_kept_is_kept() -> None:
    assert visible("a\tb\nc\x1b", keep="\n\t") == "a\tb\nc\ufffd"
    assert all_visible({"a\x01": ["\x1b", 1, None, {"b": True}]}) == {
        "a\ufffd": ["\ufffd", 1, None, {"b": True}]
    }


@pytest.mark.parametrize("character", BAD)
def test_neither_parts_nor_values_of_a_grid_have_such_characters(character: str) -> None:
    spec: TypeAdapter[StudySpec] = TypeAdapter(AnySpec)
    for study in (
        {"kind": "study", "parts": {f"a{character}": {"base": CHECK}}},
        {
            "kind": "study",
            "base": CHECK,
            "grid": {"theorem": [f"1{character}", 2]},
        },  # white space is no matter to a number
        {
            "kind": "study",
            "parts": {"a": {"base": CHECK, "grid": {"seeds": [[f"0{character}"], [1]]}}},
        },
    ):
        with pytest.raises(ValidationError):
            spec.validate_python(study)


def test_what_was_accepted_once_is_read_whatever_it_holds() -> None:
    document = {
        "parts": {
            "": {"base": CHECK},
            "\x01" * 300: {"base": CHECK, "grid": {"seeds": [["0\x0c"], [1]]}},
        }
    }
    study = StudySpec.model_validate(document, context=STORED)
    assert [cell.part for cell in expand(study, STORED)] == ["", "\x01" * 300, "\x01" * 300]
    changed = StudySpec.model_validate(
        {"preset": "quick", **document, "base": {"kind": "check", "widths": [8]}}, context=STORED
    )
    assert len(expand(changed, STORED)) == 3


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1_023, "1023 bytes"),
        (1_024, "1 KiB"),
        (2**20 - 1, "1 MiB"),
        (512 * 2**20, "512 MiB"),
        (1.5 * 2**30, "1.5 GiB"),
        (3238456.1 * 2**30, "3.1 PiB"),
        (2**60, "1.0 EiB"),
        (2**80, "1,048,576.0 EiB"),
    ],
)
def test_bytes_are_said_in_the_unit_that_fits(count: float, words: str) -> None:
    assert bytes_in_words(count) == words
