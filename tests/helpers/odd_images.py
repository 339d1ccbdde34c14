"""Image files that ask for trouble."""

import struct
import zlib


def png_of(width: int, height: int) -> bytes:
    """A PNG that states a size and has no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = (
        struct.pack(">I", zlib.crc32(header)) + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + end
