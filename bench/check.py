#!/usr/bin/env python3
"""What checking a big configuration costs, beside OpenSMTPD's -n on the same file in the same run.

usage: bench/check.py [RUNS]        (3)

Builds smtpd, writes the configurations into a temporary folder, and prints a
table: CPU seconds and peak resident memory of each program, medians, and the
ratio of OpenSMTPD's figure to ours in this run: more than 1 is better for us.
The programs take turns. OpenSMTPD's is /usr/sbin/smtpd where it is installed.
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
        programs = {"smtpd": ours} | ({"OpenSMTPD": PEER} if os.path.exists(PEER) else {})
        print("| configuration | CPU s, smtpd | OpenSMTPD | ratio | peak MB, smtpd | OpenSMTPD | ratio |\n|---|---|---|---|---|---|---|")
        for name, lines in CASES:
            conf = d + "/smtpd.conf"
            with open(conf, "w") as f:
                f.writelines(lines)
            got = {p: [] for p in programs}
            for _ in range(runs):
                for p, path in programs.items():
                    got[p].append(run([path, "-n", "-f", conf]))
            print(f"| {name} | {columns(got, 1, '.3f')} | {columns(got, 2, '.0f')} |", flush=True)


def columns(got, i, form):
    """The medians of figure i, ours and theirs, and their ratio."""
    ours = statistics.median(r[i] for r in got["smtpd"])
    if any(r[3] for r in got["smtpd"]):
        return "failed | |"
    theirs = got.get("OpenSMTPD")
    if theirs is None:
        return f"{ours:{form}} | |"
    if any(r[3] for r in theirs):
        return f"{ours:{form}} | refused |"
    median = statistics.median(r[i] for r in theirs)
    return f"{ours:{form}} | {median:{form}} | {median / ours:.1f}"


main()
