#!/usr/bin/env python3
"""What a large queue costs: memory, restart, and listing it.

usage: queue.py [--envelopes 50000,100000,1000000] [--dir FOLDER]

Fills the store of a queue with messages of 1 KB that wait for their next try,
starts the daemon on it (as processes if run by root), and measures

fill      envelopes a second that the store took, each durable
restart   seconds until the daemon serves; until a mail is accepted
memory    resident MB of the queue's process, after the start and after all
list      seconds until smtpctl show queue has printed the first line, and all

FOLDER should be on a disk; it is removed.
"""
import argparse, glob, os, pwd, re, shutil, signal, socket, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
PORT = 2589


def rss(pid):
    text = open(f"/proc/{pid}/status").read()
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024


def queue_process(daemon):
    """The queue's own process, or the daemon if all is one."""
    for p in glob.glob("/proc/[0-9]*/cmdline"):
        pid = int(p.split("/")[2])
        try:
            args = open(p).read().split("\0")
            parent = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1]
        except OSError:
            continue
        if "--role=queue" in args and int(parent) == daemon:
            return pid
    return daemon


def accept():
    with socket.create_connection(("127.0.0.1", PORT), 5) as c:
        f = c.makefile("rwb")
        f.readline()
        for line in ("EHLO bench.test", "MAIL FROM:<a@b.test>", "RCPT TO:<u@relay.test>", "DATA", "Subject: x\r\n\r\nx\r\n."):
            f.write(line.encode() + b"\r\n")
            f.flush()
            while (answer := f.readline())[3:4] == b"-":
                pass
        return answer.startswith(b"250")


def one(a, bin, n):
    dir = tempfile.mkdtemp(prefix="queue", dir=a.dir)
    os.chmod(dir, 0o755)
    spool = dir + "/spool"
    os.makedirs(spool + "/store")
    start = time.time()
    subprocess.run(["go", "test", "./runtime/queue", "-run", "^TestFill$", "-count=1", "-timeout", "1h"], cwd=os.path.dirname(HERE), check=True,
                   stdout=subprocess.DEVNULL, env=dict(os.environ, BENCH_FILL=spool + "/store", BENCH_ENVELOPES=str(n)))
    filled = time.time() - start
    user = []
    if os.geteuid() == 0:
        who = pwd.getpwnam("nobody")
        user = ["--user", "nobody", "--queue-user", "nobody"]
        for top, _, files in os.walk(spool + "/store"):
            for name in [top] + [top + "/" + f for f in files]:
                os.chown(name, who.pw_uid, who.pw_gid)
    open(dir + "/smtpd.conf", "w").write(f'''listen on 127.0.0.1 port {PORT} hostname bench.test
action "out" relay host smtp://127.0.0.1:9
match from any for domain "relay.test" action "out"
''')
    log = open(dir + "/log", "wb")
    start = time.time()
    p = subprocess.Popen([bin + "/smtpd", "-d", "-P", "mta", "-f", dir + "/smtpd.conf", "--spool", spool] + user, stdout=log, stderr=log)
    try:
        while "smtpd serving" not in open(dir + "/log").read():
            if p.poll() is not None or time.time() > start + 120:
                sys.exit("smtpd does not run: " + open(dir + "/log").read()[-800:])
            time.sleep(0.01)
        serving = time.time() - start
        if not accept():
            sys.exit("no mail was accepted")
        accepted = time.time() - start
        pid = queue_process(p.pid)
        time.sleep(2)  # what goes on in the background after a start is counted too
        after_start = rss(pid)
        start = time.time()
        ctl = subprocess.Popen([bin + "/smtpctl", "show", "queue"], stdout=subprocess.PIPE, env=dict(os.environ, SMTPD_SPOOL=spool))
        ctl.stdout.readline()
        first = time.time() - start
        lines = 1 + sum(1 for _ in ctl.stdout)
        listed = time.time() - start
        if ctl.wait() or lines != n + 1:
            sys.exit(f"show queue printed {lines} lines of {n + 1}")
        start = time.time()
        out = subprocess.run([bin + "/smtpctl", "queue", "where", "tries > 3 and age > 1h", "count"], stdout=subprocess.PIPE, check=True, text=True,
                             env=dict(os.environ, SMTPD_SPOOL=spool)).stdout
        where = time.time() - start
        print("| %d | %.0f | %.2f | %.2f | %.0f | %.0f | %.2f | %.2f | %.2f |" % (
            n, n / filled, serving, accepted, after_start, rss(pid), first, listed, where), flush=True)
    finally:
        p.send_signal(signal.SIGTERM)
        p.wait()
        shutil.rmtree(dir)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--envelopes", default="50000,100000,1000000")
    p.add_argument("--dir", help="default: the system's for temporary files")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as bin:
        os.chmod(bin, 0o755)
        subprocess.run(["go", "build", "-o", bin + "/", "./cmd/smtpd", "./cmd/smtpctl"], cwd=os.path.dirname(HERE), check=True)
        print("| envelopes | filled a second | serving after s | accepts after s | MB after start | MB after lists | first line s | show queue s | queue where s |")
        print("|---|---|---|---|---|---|---|---|---|")
        for n in map(int, a.envelopes.split(",")):
            one(a, bin, n)


if __name__ == "__main__":
    main()
