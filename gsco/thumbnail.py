"""A picture inside a page: small, and nothing but pixels."""

import base64
import io

from PIL import Image

SIDE = 320
"""Longest side, in pixels, where nothing else is asked for."""


def data_url(image: Image.Image, side: int = SIDE) -> str:
    """Return an image, at most `side` pixels wide and high, as a URL that holds it."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    # Pillow would write the comment of the file that it came from, which may name a patient.
    small.info = {}
    kind, file = "PNG" if small.mode == "RGBA" else "JPEG", io.BytesIO()
    small.save(file, kind, quality=90)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
