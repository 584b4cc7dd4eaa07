#!/usr/bin/env python3
"""What checking a big configuration costs, beside OpenSMTPD's -n on the same file in the same run.

usage: bench/check.py [RUNS]        (3)

Builds smtpd, writes the configurations into a temporary folder, and prints a
table: wall and CPU seconds and peak resident memory, medians. OpenSMTPD's is
/usr/sbin/smtpd where it is installed.
"""
import os, statistics, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEER = "/usr/sbin/smtpd"


def rules(n):
    yield 'listen on lo\n'
    for i in range(n):
        yield f'action "a{i}" relay host smtp://mx{i}.example.net\n'
    for i in range(n):
        yield f'match from any for domain "d{i}.example.org" action "a{i}"\n'


def inline(n):
    yield 'table t { ' + ", ".join(f'"d{i}.example.org"' for i in range(n)) + ' }\n'
    yield 'action "a" relay\nmatch from any for domain <t> action "a"\n'


CASES = [("1 000 lines", rules(500)), ("100 000 actions, 100 000 rules", rules(100_000)),
         ("list of 1 000 000 elements", inline(1_000_000)), ("1 000 000 lines", rules(500_000))]


def run(argv):
    start = time.time()
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=[
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)])
    _, status, use = os.wait4(pid, 0)
    return time.time() - start, use.ru_utime + use.ru_stime, use.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as d:
        ours = d + "/smtpd"
        subprocess.run(["go", "build", "-o", ours, "./cmd/smtpd"], cwd=ROOT, check=True)
        programs = [("smtpd", ours)] + ([("OpenSMTPD", PEER)] if os.path.exists(PEER) else [])
        print("| configuration | program | wall s | CPU s | peak MB | exit |\n|---|---|---|---|---|---|")
        for name, lines in CASES:
            conf = d + "/smtpd.conf"
            with open(conf, "w") as f:
                f.writelines(lines)
            got = {p: [] for p, _ in programs}
            for _ in range(runs):
                for p, path in programs:
                    got[p].append(run([path, "-n", "-f", conf]))
            for p, _ in programs:
                wall, cpu, peak, _ = (statistics.median(x) for x in zip(*got[p]))
                print(f"| {name} | {p} | {wall:.3f} | {cpu:.3f} | {peak:.0f} | {got[p][0][3]} |")


main()
