"""Text of catalogues: tags go, signs of mathematics stay."""

import time

import pytest

from pipeline.sources.values import plain


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("<h4>Methods</h4>We ran <i>it</i>.", "Methods We ran it."),
        ("(p < .001) and n > 5<h4>Conclusions</h4>Yes", "(p < .001) and n > 5 Conclusions Yes"),
        ("a<b and c>d", "a<b and c>d"),
        ("1<2, 3>2", "1<2, 3>2"),
        ("<jats:p id=\"a\" class='b'>Text</jats:p><br/>", "Text"),
        ("<!-- not > this -->but this", "but this"),
        ("CO<sub>2</sub> &amp; H<sub>2</sub>O", "CO2 & H2O"),
        ("<mml:math xmlns:mml='http://x'>x &lt; y</mml:math>", "x < y"),
    ],
)
def test_tags_go_and_signs_stay(given: str, meant: str) -> None:
    assert plain(given) == meant


@pytest.mark.parametrize(
    "given",
    ["<" * 100_000, "<a " * 50_000, "<a b='" * 20_000, "<a " + "b=c " * 50_000, "<!--" * 20_000],
    ids=["signs", "tags", "quotes", "attributes", "comments"],
)
def test_hostile_text_costs_little(given: str) -> None:
    begun = time.monotonic()
    assert isinstance(plain(given), str)
    assert time.monotonic() - begun < 5
