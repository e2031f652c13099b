#!/usr/bin/env python3
"""Run the tests of infer-train; arguments pick those whose name contains one.

KILLS=100 kills a run more often than the 8 times of `make test`; SLOW=1 adds
the tests that take minutes.
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]
import program  # noqa: E402
import suite  # noqa: E402


def main():
    for path in (program.TRAIN, program.INFERD):
        if not os.path.exists(path):
            print(f"{path} is not built: run make")
            return 1
    return suite.run(HERE, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
