"""Bytes as text that goes into a URL as it is: how tokens and cursors are written."""

from __future__ import annotations

import base64
import binascii


def to_text(packed: bytes) -> str:
    """Give base64 of the URL-safe alphabet without padding."""
    return base64.urlsafe_b64encode(packed).decode("ascii").rstrip("=")


def to_bytes(text: str) -> bytes:
    """Give what `to_text` was given.

    Raises:
        ValueError: It is no such text.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
