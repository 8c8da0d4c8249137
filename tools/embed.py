#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Turns a text file into a C header: embed.py NAME INPUT OUTPUT.h

The header defines `static const char NAME[]`, NUL-terminated; sizeof(NAME) - 1 is the length of the text.
"""
import os
import re
import sys

ESCAPES = {"\\": "\\\\", '"': '\\"', "\t": "\\t", "\r": "\\r", "?": "\\?"}  # \? because ??x may be a trigraph


def c_line(data: bytes) -> str:
    text = "".join(
        ESCAPES.get(chr(b), chr(b)) if 32 <= b < 127 or b in (9, 13) else f"\\{b:03o}" for b in data
    )
    return f'    "{text}\\n"'


def header(name: str, source: str, data: bytes) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        raise SystemExit(f"embed.py: {name!r} is not a lower-case C identifier")
    if b"\0" in data:
        raise SystemExit(f"embed.py: {source} contains a NUL byte")
    lines = data.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    body = "\n".join(c_line(line) for line in lines) or '    ""'
    return (
        "/* SPDX-License-Identifier: Apache-2.0 OR MIT */\n"
        f"/* Made by tools/embed.py from {os.path.basename(source)}: do not edit. */\n"
        f"static const char {name}[] =\n{body};\n"
    )


def main() -> None:
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    name, source, target = sys.argv[1:]
    with open(source, "rb") as file:
        text = header(name, source, file.read())
    with open(target, "w", encoding="ascii", newline="\n") as file:
        file.write(text)


if __name__ == "__main__":
    main()
