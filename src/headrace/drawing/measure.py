"""How wide text is, without a font at hand."""

from __future__ import annotations

from typing import Final

# Of the characters from the blank to the tilde, in hundredths of the font's size. Source: the metrics of DejaVu Sans 2.37, the
# widest of the usual fonts of user interfaces. In all others the text has a little more room.
_WIDTHS: Final = (
    *(
        32,
        40,
        46,
        84,
        64,
        95,
        78,
        27,
        39,
        39,
        50,
        84,
        32,
        36,
        32,
        34,
        64,
        64,
        64,
        64,
        64,
        64,
        64,
        64,
    ),
    *(
        64,
        64,
        34,
        34,
        84,
        84,
        84,
        53,
        100,
        68,
        69,
        70,
        77,
        63,
        58,
        77,
        75,
        29,
        29,
        66,
        56,
        86,
        75,
        79,
    ),
    *(
        60,
        79,
        69,
        63,
        61,
        73,
        68,
        99,
        69,
        61,
        69,
        39,
        34,
        39,
        84,
        50,
        50,
        61,
        63,
        55,
        63,
        62,
        35,
        63,
    ),
    *(63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84),
)
_OTHERS: Final = 100
_BOLD: Final = 1.11


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """The most that a line of text takes, in the unit of the size."""
    hundredths = sum(_WIDTHS[ord(one) - 32] if 32 <= ord(one) < 127 else _OTHERS for one in text)
    return hundredths / 100 * size * (_BOLD if bold else 1.0)


def cut(text: str, longest: int) -> str:
    """The text, or its beginning and end with an ellipsis between them."""
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[: longest - 1 - half]}…{text[len(text) - half :]}"
