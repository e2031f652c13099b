#!/usr/bin/env python3
"""What an operator runs beside the program: curl, HAProxy, Prometheus.

    INFERD=bin/inferd tests/deploy/run.py [-v] [words of test names]
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../http"), os.path.join(HERE, "..")]
import suite  # noqa: E402

if __name__ == "__main__":
    sys.exit(suite.run(HERE, sys.argv[1:]))
