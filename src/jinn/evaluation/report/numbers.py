"""Numbers as text: as many digits as help, and the unit."""

from __future__ import annotations

import math

MINUS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"


def show(value: float, unit: str, sign: bool = False) -> str:
    """A number with its unit, a `jinn.evaluation.catalogue.Unit`; with ``sign`` as a difference."""
    if not math.isfinite(value):
        return NONE
    plus = "+" if sign else ""
    if unit == "fraction":
        text = f"{100 * value:{plus}.1f}" + (" points" if sign else "%")
    elif unit == "score":
        text = f"{value:{plus}.3f}"
    elif unit in ("dB", "bits", "count"):
        text = f"{value:{plus},.{2 if unit == 'dB' else 1}f}" + (f" {unit}" if unit != "count" else "")
    else:
        text = f"{value:{plus},.0f}" if abs(value) >= 99.95 else f"{value:{plus}#.3g}"
    return text.replace("-", MINUS)
