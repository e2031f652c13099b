#!/usr/bin/env python3
"""Run the HTTP tests; arguments pick those whose name contains one of them."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]
import harness  # noqa: E402
import suite  # noqa: E402


def stop():
    try:
        status = harness.stop_shared()
        if status != 0:
            print(f"the server's exit status is {status}")
            return 1
    except AssertionError as error:
        print(error)
        return 1
    return 0


def main():
    if not os.path.exists(harness.INFERD):
        print(f"{harness.INFERD} is not built: run make")
        return 1
    print(f"model {os.path.relpath(harness.main_model())}"
          f"{'' if harness.have_stories() else ' (random weights)'}")
    return suite.run(HERE, sys.argv[1:], stop)


if __name__ == "__main__":
    sys.exit(main())
