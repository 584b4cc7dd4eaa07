#!/usr/bin/env python3
"""How many transactions a second smtpd-check explain --batch decides.

usage: bench/explain.py [LINES [RUNS]]        (500000 3)

Builds smtpd-check, writes configurations of one domain a rule and JSON lines
that hit all of them into a temporary folder, and prints a table: medians of
the wall time without the reading of the configuration, which is measured with
an empty input, and lines a second.
"""
import json, os, statistics, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def configuration(rules):
    yield 'listen on lo tag NET\naction in maildir\naction out relay host smtp://mx.example.net\n'
    for i in range(rules):
        yield f'match from any for domain "d{i}.example.org" action in\n'
    yield 'match auth from any for any action out\n'


def transactions(lines, rules):
    for i in range(lines):
        yield json.dumps({"source": "192.0.2.7", "tag": "NET", "tls": False, "auth": "carol" if i % 3 else "", "helo": "h",
                          "rdns": "client.invalid", "mail_from": "a@b.example", "rcpt_to": f"c@d{i * 7919 % (rules * 11 // 10)}.example.org",
                          "internal": False}) + "\n"


def decide(program, conf, path):
    start = time.time()
    with open(path) as lines:
        out = subprocess.run([program, "explain", "--batch", conf], stdin=lines, stdout=subprocess.PIPE, check=True).stdout
    return time.time() - start, out.count(b"\n")


def main():
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    print("| rules | lines | reading s | deciding s | lines a second |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as d:
        program = d + "/smtpd-check"
        subprocess.run(["go", "build", "-o", program, "./cmd/smtpd-check"], cwd=ROOT, check=True)
        for rules in (10, 1_000, 100_000):
            conf, path = d + "/smtpd.conf", d + "/transactions"
            with open(conf, "w") as f:
                f.writelines(configuration(rules))
            with open(path, "w") as f:
                f.writelines(transactions(lines, rules))
            empty = statistics.median(decide(program, conf, os.devnull)[0] for _ in range(runs))
            took = []
            for _ in range(runs):
                wall, verdicts = decide(program, conf, path)
                assert verdicts == lines, f"{verdicts} verdicts for {lines} lines"
                took.append(wall - empty)
            wall = statistics.median(took)
            print(f"| {rules} | {lines} | {empty:.3f} | {wall:.3f} | {lines / wall:.0f} |", flush=True)


main()
