"""Run a folder of unittest files; words pick those whose name has one of them.

Ends with unittest's summary and a line "N passed, N failed, N skipped".
"""
import time
import unittest


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


def run(folder, arguments, at_end=lambda: 0):
    """The exit status; at_end() returns what else has failed."""
    words = [a for a in arguments if a != "-v"]
    verbose = 2 if "-v" in arguments else 1
    tests = unittest.TestSuite(chosen(
        unittest.defaultTestLoader.discover(folder), words))
    result = unittest.TextTestRunner(
        resultclass=Result, verbosity=verbose).run(tests)
    broken = at_end()
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
