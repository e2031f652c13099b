#!/usr/bin/env python3
"""compile_commands.json out of what `make -Bn V=1` would run (stdin)."""
import json
import os
import shlex
import sys

entries = []
for line in sys.stdin:
    try:
        words = shlex.split(line)
    except ValueError:
        continue
    if "-c" in words and "-o" in words:
        entries.append({"directory": os.getcwd(), "arguments": words,
                        "file": words[words.index("-c") + 1]})
json.dump(entries, sys.stdout, indent=1)
