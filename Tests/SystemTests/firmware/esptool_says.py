"""What esptool reads in images: `esptool_says.py FILE...` prints an object of JSON for each, a line each.

One process for all of them: esptool takes longer to start than to read.
"""
import contextlib
import io
import json
import sys

import esptool

NAMES = ("Detected image type", "Segments", "Flash size", "Flash mode", "Chip ID", "Minimal chip revision", "Checksum",
         "Validation hash", "Project name", "App version", "Compile time", "ESP-IDF", "ELF file SHA256", "MMU page size",
         "Secure version")


def say(path):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        esptool.main(["image-info", path])
    fields = {}
    for line in text.getvalue().splitlines():
        name, colon, value = line.partition(": ")
        if colon and name in NAMES:
            fields[name] = value
    return fields


for file in sys.argv[1:]:
    print(json.dumps(say(file)))
