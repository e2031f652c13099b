#!/usr/bin/env python3
"""Run the HTTP tests; arguments pick those whose name contains one of them.

Ends with unittest's summary and a line "N passed, N failed, N skipped".
"""
import os
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import harness  # noqa: E402


def chosen(suite, words):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from chosen(test, words)
        elif not words or any(word in test.id() for word in words):
            yield test


class Result(unittest.TextTestResult):
    """Also prints the slowest tests, for whoever wants the suite shorter."""
    times = {}
    passed = 0

    def addSuccess(self, test):
        self.passed += 1
        super().addSuccess(test)

    def startTest(self, test):
        self.started = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        self.times[test.id()] = time.monotonic() - self.started
        super().stopTest(test)


def main():
    if not os.path.exists(harness.INFERD):
        print(f"{harness.INFERD} is not built: run make")
        return 1
    words = [a for a in sys.argv[1:] if a != "-v"]
    verbose = 2 if "-v" in sys.argv else 1
    tests = unittest.TestSuite(chosen(
        unittest.defaultTestLoader.discover(HERE), words))
    print(f"model {os.path.relpath(harness.main_model())}"
          f"{'' if harness.have_stories() else ' (random weights)'}")
    result = unittest.TextTestRunner(
        resultclass=Result, verbosity=verbose).run(tests)
    broken = 0
    try:
        status = harness.stop_shared()
        if status != 0:
            print(f"the server's exit status is {status}")
            broken = 1
    except AssertionError as error:
        print(error)
        broken = 1
    if verbose == 2:
        for name, took in sorted(Result.times.items(), key=lambda x: -x[1]
                                 )[:15]:
            print(f"  {took:6.2f} s  {name}")
    # A test with failing subtests counts once, as failed.
    bad = {t.test_case.id() if hasattr(t, "test_case") else t.id()
           for t, _ in result.failures + result.errors}
    failed = len(bad) + broken
    print(f"{result.passed} passed, {failed} failed, "
          f"{len(result.skipped)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
