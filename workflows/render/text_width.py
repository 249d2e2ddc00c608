"""How wide a text is in the font that pictures are set in: Inter, whose files ship in `fonts/`."""

from __future__ import annotations

_REGULAR = (
    281, 278, 403, 631, 638, 812, 639, 222, 362, 362, 500, 659, 280, 460, 276, 357, 625, 464, 605, 636, 642, 608, 624,
    571, 616, 624, 276, 280, 659, 659, 659, 507, 936, 676, 651, 727, 719, 598, 587, 743, 740, 264, 543, 652, 562, 889,
    753, 761, 635, 761, 639, 638, 642, 741, 676, 949, 642, 665, 625, 362, 357, 362, 469, 452, 497, 564, 621, 558, 621,
    582, 361, 609, 591, 237, 237, 544, 237, 869, 585, 597, 609, 609, 372, 523, 364, 581, 557, 812, 540, 557, 541, 362,
    327, 362, 659,
)  # fmt: skip
_SEMIBOLD = (
    248, 309, 396, 643, 649, 844, 663, 213, 393, 393, 543, 673, 295, 466, 290, 379, 667, 481, 621, 652, 666, 632, 648,
    587, 646, 648, 290, 295, 673, 673, 673, 544, 999, 724, 657, 744, 724, 608, 586, 755, 744, 275, 561, 677, 566, 906,
    741, 775, 643, 776, 651, 649, 660, 734, 724, 1007, 690, 705, 653, 393, 379, 393, 481, 468, 497, 575, 630, 577, 630,
    593, 377, 625, 613, 261, 261, 569, 261, 898, 610, 608, 625, 625, 397, 549, 380, 608, 576, 837, 562, 576, 562, 393,
    358, 393, 673,
)  # fmt: skip
"""Advances of U+0020 to U+007E in thousandths of the font size, as the font files state them."""

_OTHER = 1000
"""Of any other character; that of a full-width one, so that a text is never wider than it was taken for."""


def text_width(text: str, size: float, *, is_bold: bool = False) -> float:
    """Width in pixels of a line of text set in `size` pixels.

    >>> round(text_width("fetch", 10), 1)
    24.3
    """
    advances = _SEMIBOLD if is_bold else _REGULAR
    return sum(advances[ord(c) - 32] if " " <= c <= "~" else _OTHER for c in text) * size / 1000


def shortened(text: str, width: float, size: float, *, is_bold: bool = False) -> str:
    """The text, or as much of its beginning as fits into `width` pixels, with an ellipsis."""
    if text_width(text, size, is_bold=is_bold) <= width:
        return text
    kept = text
    while kept and text_width(kept + "...", size, is_bold=is_bold) > width:
        kept = kept[:-1]
    return kept.rstrip() + "…"
