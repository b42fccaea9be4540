"""Small compressed streams that are large inside."""

import base64
import zlib
from collections.abc import Iterator

ZEROS = 1024 * 1024
"""What each part of a bomb becomes."""

_BROTLI_START = base64.b64decode("9P8fAEgAxGOB5N4H6P8/AJAAiMM=")
_BROTLI_MEGABYTE = base64.b64decode(
    "AtC9D9D/fwAgARCHBaB7H6D//wBAAiAOC0D3PkD//wGABEAcFoDufYD+/wMACYA4LADd+wD9/wcAEgBxWAC69wH6/w8AJADisAB0"
    "7wP0/x8ASADEYQHo3gfo/z8AkACIww=="
)
_ZSTD_START = bytes.fromhex("28b52ffd 00 50")  # magic, no options, a window of 1 MiB
_ZSTD_128_KIB_OF_ZEROS = bytes.fromhex("020010 00")  # a block that repeats one byte

CODINGS = ("gzip", "deflate", "br", "zstd")


def bomb(coding: str) -> Iterator[bytes]:
    """For ever: a part that decodes to one more mebibyte of zeros."""
    if coding == "br":
        yield _BROTLI_START
        while True:
            yield _BROTLI_MEGABYTE
    if coding == "zstd":
        yield _ZSTD_START
        while True:
            yield _ZSTD_128_KIB_OF_ZEROS * 8
    packer = _packer(coding)
    yield packer.compress(bytes(ZEROS)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(ZEROS)) + packer.flush(zlib.Z_FULL_FLUSH)
    while True:
        yield again


def compressed(coding: str, text: bytes) -> bytes:
    """A complete stream. The two codings that Python cannot write hold the text as it is."""
    blocks = [text[start : start + 65536] for start in range(0, len(text), 65536)]
    if coding == "br":
        return b"".join(_brotli_block(block, after=index) for index, block in enumerate(blocks)) + b"\x03"
    if coding == "zstd":
        last = len(blocks) - 1
        return _ZSTD_START + b"".join(
            (len(block) << 3 | (index == last)).to_bytes(3, "little") + block
            for index, block in enumerate(blocks)
        )
    packer = _packer(coding)
    return packer.compress(text) + packer.flush()


def _packer(coding: str) -> "zlib._Compress":
    return zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)


def _brotli_block(block: bytes, *, after: int) -> bytes:
    """An uncompressed meta-block (RFC 7932 §9.2); the first one follows one bit for a window of 64 KiB."""
    bits = (len(block) - 1) << 3 | 1 << 19
    return (bits << 1 if after == 0 else bits).to_bytes(3, "little") + block
