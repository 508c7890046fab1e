#!/usr/bin/env python3
"""Writes an application image for an ESP32 that does nothing: examples/image.py VERSION [CHIP] > FILE

For trying firmware out without ESP-IDF. The layout is that of esp_app_format.h; `martlet firmware verify FILE` shows it.
"""
import hashlib
import struct
import sys

# Number in the header, and where its flash is mapped for data.
CHIPS = {"esp32": (0, 0x3F400020), "esp32s2": (2, 0x3F000020), "esp32s3": (9, 0x3C000020), "esp32c3": (5, 0x3C000020)}


def descriptor(version):
    """What an application says about itself, 256 bytes."""
    return struct.pack("<II8s32s32s16s16s32s32sHHBB2s72s", 0xABCD5432, 0, b"", version.encode(), b"example",
                       b"12:00:00", b"Jan  1 2026", b"v5.4.1", bytes(32), 0, 99, 16, 0, b"", b"")


def image(version, chip, constants=64):
    """`constants`: how many bytes of them it has, a multiple of 4."""
    number, data = CHIPS[chip]
    segments = [(data, descriptor(version) + bytes(constants)), (0x3FC88000, b"\xAA" * 4096)]
    made = struct.pack("<BBBBI", 0xE9, len(segments), 2, 0x20, 0x40374000)
    made += struct.pack("<BBBBHBHH4sB", 0xEE, 0, 0, 0, number, 0, 0, 199, b"", 1)
    checksum = 0xEF
    for address, bytes_ in segments:
        made += struct.pack("<II", address, len(bytes_)) + bytes_
        for byte in bytes_:
            checksum ^= byte
    made += bytes(15 - len(made) % 16) + bytes([checksum])
    return made + hashlib.sha256(made).digest()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or (sys.argv[2:] or ["esp32s3"])[0] not in CHIPS:
        sys.exit(f"usage: {sys.argv[0]} VERSION [{'|'.join(CHIPS)}] > FILE")
    sys.stdout.buffer.write(image(sys.argv[1], (sys.argv[2:] or ["esp32s3"])[0]))
