"""Posters: small generated images, and a decompression bomb."""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from io import BytesIO

from PIL import Image, ImageDraw

from sandbox.world import salt, scatter

_SIZES = ((120, 160), (300, 400), (600, 800), (400, 300), (96, 96), (1080, 1440))
_BOMB = 30_000  # pixels each way: above every decoder's limit, but only 110 kB compressed


@lru_cache(maxsize=256)
def poster(seed: int, number: int, version: int) -> tuple[bytes, str]:
    """Return an image and its media type: JPEG; every tenth is a partly transparent PNG."""
    draw = scatter(number, salt(seed, "poster", version))
    size = _SIZES[number % len(_SIZES)]
    is_png = number % 10 == 2
    picture = Image.new("RGBA" if is_png else "RGB", size, _colour(draw))
    pen = ImageDraw.Draw(picture)
    for place in range(6):
        x, y = draw // (place + 2) % size[0], draw // (place + 5) % size[1]
        fill = _colour(draw // (place + 3))
        pen.rectangle((x, y, x + size[0] // 4, y + size[1] // 5), (*fill, 90 * (place % 3)) if is_png else fill)
    out = BytesIO()
    if is_png:
        picture.save(out, "PNG")
        return out.getvalue(), "image/png"
    picture.save(out, "JPEG", quality=70)
    return out.getvalue(), "image/jpeg"


def _colour(draw: int) -> tuple[int, int, int]:
    return draw & 255, draw >> 8 & 255, draw >> 16 & 255


@lru_cache(maxsize=1)
def bomb() -> bytes:
    """Return a valid PNG of few bytes and 900 million pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + _BOMB // 8)
    packed = b"".join([packer.compress(row * 100) for _ in range(_BOMB // 100)]) + packer.flush()
    header = struct.pack(">IIBBBBB", _BOMB, _BOMB, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
