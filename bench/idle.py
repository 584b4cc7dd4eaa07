#!/usr/bin/env python3
"""What an idle session costs: memory of smtpd beside OpenSMTPD.

usage: idle.py --peers FOLDER [--servers smtpd,smtpd-one,opensmtpd] [--sessions 10000] [--runs 1] [--clear | --tls]

FOLDER was made by bench/setup.sh. Needs root: OpenSMTPD takes half as many sessions
as there may be open files. A client in another process opens the sessions, says EHLO,
and no more; the memory is the PSS of all processes of the server, less what
they had with one session, divided by the sessions. Kernel buffers of sockets
are no part of it.

It fails if an idle session of smtpd costs more than 25 KiB, or 50 KiB under TLS.
"""
import argparse, os, resource, subprocess, sys, time
import peers

MOST = {False: 25, True: 50}  # KiB


def settled(pid):
    """PSS in KB once it does not shrink any more."""
    last = peers.usage(pid)[1]
    for _ in range(60):
        time.sleep(1)
        now = peers.usage(pid)[1]
        if now >= last * 0.995:
            return now
        last = now
    return last


def hold(a, tls, sessions):
    args = [a.smtpload, "idle", "--addr", f"127.0.0.1:{peers.PORT}", "-s", str(sessions)] + (["--tls"] if tls else [])
    client = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if not client.stdout.readline().startswith("open="):
        sys.exit("the sessions are not opened")
    return client


def open_files(wanted):
    """Raises the limit of open files as far as that goes."""
    for most in (max(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]), resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            return most
        except ValueError:
            pass
    sys.exit("the limit of open files cannot be set")


def measure(a, kind, tls, sessions):
    server = kind(a)
    server.start("queued", tls)
    try:
        first = hold(a, tls, 1)
        base = settled(server.proc.pid)
        rest = hold(a, tls, sessions)
        full = settled(server.proc.pid)
        for c in (first, rest):
            c.stdin.close()
            c.wait()
    finally:
        server.stop()
    return base / 1024, (full - base) / sessions


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--peers", required=True)
    p.add_argument("--servers", default="smtpd,smtpd-one,opensmtpd")
    p.add_argument("--sessions", type=int, default=10000)
    p.add_argument("--clear", action="store_true", help="without TLS only")
    p.add_argument("--tls", action="store_true", help="with TLS only")
    a = p.parse_args()
    peers.prepare(a)
    files = open_files(2 * a.sessions + 1000)
    kinds = {c.name: c for c in (peers.Smtpd, peers.SmtpdOne, peers.OpenSMTPD)}
    failed = False
    print("| session | server | sessions | MB before | KiB a session |\n|---|---|---|---|---|")
    for tls in ([False] if a.clear else [True] if a.tls else [False, True]):
        for name in a.servers.split(","):
            if tls and name == "opensmtpd":
                continue  # see peers.py
            sessions = min(a.sessions, files // 2 - 100) if name == "opensmtpd" else a.sessions
            base, each = measure(a, kinds[name], tls, sessions)
            print("| %s | %s | %d | %.0f | %.1f |" % ("TLS" if tls else "clear", name, sessions, base, each), flush=True)
            failed |= name.startswith("smtpd") and each > MOST[tls]
    sys.exit(failed)


if __name__ == "__main__":
    main()
