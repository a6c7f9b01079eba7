"""Pictures made for tests."""

import struct
import zlib
from io import BytesIO


def encoded(image, kind="PNG", **options):
    data = BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def png_of(width, height):
    """The header of a PNG that claims a size, with next to nothing behind it."""

    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"\0")) + part(b"IEND", b"")
