"""The columnar checks: a group of batches becomes Arrow columns without a Python object a record.

    bytes of many batches
      |  twin.py       ptars: wire bytes -> Arrow, by a twin of the contract that hides nothing
      v
    events.py, spans.py, samples.py     checks of whole columns
      |  texts.py, stamps.py, payloads.py, identifiers.py, addresses.py     what they share
      v
    blocks of checked columns (storage/columns.py), and the places of suspects

A column check never gives a verdict. What it does not accept at once is a *suspect*: its message
goes through the record checks of checks/, which reject it with a verdict or give a row. So both
paths judge alike, and the columns only have to be no laxer than the record checks.

ptars is a small project and its wheels are few. Where it is missing, and for groups of few
records, the record checks do all.
"""

from __future__ import annotations

import importlib.util


def is_available() -> bool:
    """Tell whether the libraries of the columnar path are installed."""
    return all(importlib.util.find_spec(name) for name in ("ptars", "pgpq"))
