#!/usr/bin/env python3
"""Names the tests that failed, and prints the line that ends `make test`: N passed, N failed.

    count.py [--broken N] [--status S] RESULTS.xml... OUTPUT.log

Swift Testing's xUnit file is the truth. A crash leaves none, and a name with a quotation mark one that can't be read; then the
output is read instead, where a test that started and never ended has failed, unless the whole run says that it passed. Skipped tests are neither; they are named on a line before. Exits 1 unless all passed.
"""
import argparse
import os
import re
import sys
import xml.etree.ElementTree as tree

# Symbols differ between terminals; what follows them does not.
STARTED = re.compile(r"^\S+ +Test (?!case |run )(.+) started\.$")
ENDED = re.compile(r"^\S+ +Test (?!case |run )(.+?)(?: with \d+ test cases?)? (passed|failed|cancelled) after ")
ALL_PASSED = re.compile(r"^\S+ +Test run with (\d+) tests? .*passed after ")
SKIPPED = re.compile(r"^\S+ +Test (?!case |run )(.+?) skipped(?:: .*|\.)$")


ISSUE = re.compile(r"^\S+ +Test .+ recorded an issue")
# Enough to see what is wrong where the output above is not at hand.
MOST_ISSUES = 20
MOST_CHARACTERS = 600


def show_issues(path):
    """Once more what went wrong, each with its first line of explanation."""
    shown, wanted = 0, False
    with open(path, errors="replace") as lines:
        for line in lines:
            is_issue = ISSUE.match(line) is not None
            if is_issue and shown < MOST_ISSUES or wanted and line.startswith("↳"):
                print("failed: " * is_issue + "    " * (not is_issue) + line.strip()[:MOST_CHARACTERS])
            shown += is_issue
            wanted = is_issue


def from_xml(path):
    passed = failed = skipped = 0
    for case in tree.parse(path).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def from_output(path):
    started, results, skipped = [], [], 0
    with open(path, errors="replace") as lines:
        for line in lines:
            line = line.rstrip("\n")
            if match := STARTED.match(line):
                started.append(match[1])
            elif match := ENDED.match(line):
                results.append(match[2] == "passed")
            elif SKIPPED.match(line):
                skipped += 1
            elif match := ALL_PASSED.match(line):
                return int(match[1]) - skipped, 0, skipped
    return sum(results), results.count(False) + max(0, len(started) - len(results)), skipped


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--broken", type=int, default=0, help="steps that failed before the tests")
    parser.add_argument("--status", type=int, default=0, help="exit status of swift test")
    parser.add_argument("results", nargs="+")
    arguments = parser.parse_args()
    *documents, log = arguments.results
    passed, failed, skipped = 0, 0, 0
    found = [path for path in documents if os.path.exists(path)]
    try:
        for counts in [from_xml(path) for path in found] or [from_output(log)]:
            passed, failed, skipped = (a + b for a, b in zip((passed, failed, skipped), counts))
    except tree.ParseError:                     # torn off by a crash
        passed, failed, skipped = from_output(log)
    if arguments.status and not failed:         # for whatever reason: never call that a success
        failed = 1
    failed += arguments.broken
    if not passed and not failed:
        print("no test ran")
        failed = 1
    if failed and os.path.exists(log):
        show_issues(log)
    if skipped:
        print(f"{skipped} skipped")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
