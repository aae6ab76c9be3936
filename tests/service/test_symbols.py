"""Symbols in sentences of findings: each is found where it stands alone, and has its place in the
glossary.
"""

import html
import re
from pathlib import Path

import httpx
import pytest

from ffengine.findings import FINDINGS
from service.results.symbols import SYMBOLS, symbols_in

GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SGD, S+ of a wave", ["S"]),
        ("until tau = 4", ["tau"]),
        ("tau* = 0.9 / (q lambda_1), where S is lowest.", ["S", "tau*", "lambda_1", "q"]),
        ("τ* = 0.9 / (q λ₁)", ["tau*", "lambda_1", "q"]),
        ("the sum of h^q for q from 1 to 4", []),
        ("n^2 / sum of n_b^2 in an S-curve", []),
        ("kappa - kappa_G is zero, C = 1 - sqrt(p) kappa", ["C", "p", "kappa", "kappa_G"]),
    ],
)
def test_a_symbol_is_one_where_it_stands_alone(text: str, found: list[str]) -> None:
    assert [one.written for one in symbols_in([text])] == found


def test_each_symbol_has_its_place_in_the_glossary() -> None:
    anchors = set(re.findall(r'<a id="([^"]+)">', GLOSSARY.read_text()))
    assert {one.anchor for one in SYMBOLS if one.anchor} <= anchors
    assert [one.written for one in SYMBOLS if not one.anchor] == ["B"]


def test_the_page_of_findings_defines_what_its_texts_use(client: httpx.Client) -> None:
    page = html.unescape(client.get("/findings").text)
    legend = page[page.index('<dl class="symbols">') : page.index("</dl>")]
    used = {
        one
        for finding in FINDINGS.values()
        for one in symbols_in([finding.question, finding.method, finding.falsified_by])
    }
    assert len(used) > 10
    for symbol in used:
        assert f"<dt>{symbol.label}</dt><dd>{symbol.meaning}</dd>" in legend
