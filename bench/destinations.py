#!/usr/bin/env python3
"""Mail to many destinations, some of them dead: speed and memory of smtpd.

usage: destinations.py [--domains 10000] [--dead 100] [--sessions 20] [--smtpd FILE] [--keep FOLDER]

Needs root; runs in a network of its own, with a name server that knows one
host for each domain, a sink that is all the hosts, and dead hosts that answer
nothing at all. One mail goes to each domain: first with no domain dead, then
with the dead ones among them. Printed are the mails a second to the hosts that
live, until the last of them has its mail, and the most memory (PSS) of all
processes and of mta alone.
"""
import argparse, os, re, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from peers import tree, load  # noqa: E402

SUFFIX = "bench.test"


def answer(query, dead):
    """What the name server says to a query, as bytes."""
    labels, i = [], 12
    while query[i]:
        labels.append(query[i + 1:i + 1 + query[i]].decode().lower())
        i += query[i] + 1
    question, kind = query[12:i + 5], struct.unpack(">H", query[i + 1:i + 3])[0]
    m = re.fullmatch(r"(mx\.)?d(\d+)\.bench\.test", ".".join(labels))
    data = b""
    if m and kind == 15 and not m.group(1):
        data = struct.pack(">HHHIH", 0xC00C, 15, 1, 3600, 7) + struct.pack(">H", 10) + b"\x02mx\xc0\x0c"
    if m and kind == 1:
        n = int(m.group(2))
        ip = bytes([10, 9, n >> 8, n & 255]) if n < dead else bytes([127, 1 + (n >> 16), n >> 8 & 255, n & 255])
        data = struct.pack(">HHHIH", 0xC00C, 1, 1, 3600, 4) + ip
    code = 0 if m else 3
    return query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, 1 if data else 0, 0, 0) + question + data


def serve(sock, state):
    while True:
        try:
            query, peer = sock.recvfrom(1500)
        except OSError:
            return
        sock.sendto(answer(query, state["dead"]), peer)


def pss(pid):
    total, mta = 0, 0
    for p in tree(pid):
        try:
            n = int(re.search(r"^Pss:\s+(\d+)", open(f"/proc/{p}/smaps_rollup").read(), re.M).group(1))
            total += n
            if "--role=mta" in open(f"/proc/{p}/cmdline").read():
                mta = n
        except (OSError, AttributeError):
            pass
    return total / 1024, mta / 1024


def run(a, dns, state, dead):
    state["dead"] = dead
    d = f"{a.dir}/{dead}"
    os.makedirs(d)
    open(f"{d}/smtpd.conf", "w").write('''listen on 127.0.0.1 port 2525 hostname bench.test
smtp limit max-mails 1000000
action "out" relay
match from any for any action "out"
''')
    log = open(f"{d}/log", "wb")
    daemon = subprocess.Popen([a.smtpd, "-d", "-f", f"{d}/smtpd.conf", "--spool", f"{d}/spool", "--resolver", dns],
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    live = a.domains - dead
    sink = subprocess.Popen([a.smtpload, "sink", "--addr", "0.0.0.0:25", "-n", str(live)], stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", 2525), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        start = time.time()
        peak = [0.0, 0.0]
        sending = threading.Thread(target=load, args=(a, ["send", "--addr", "127.0.0.1:2525", "--rcpt", "u@" + SUFFIX, "-n", str(a.domains),
                                                          "-s", str(a.sessions), "--domains", str(a.domains)]))
        sending.start()
        while sink.poll() is None and time.time() < start + 600:
            peak = [max(x, y) for x, y in zip(peak, pss(daemon.pid))]
            time.sleep(0.1)
        took = time.time() - start
        sending.join()
        if sink.poll() is None:
            sys.exit(f"{dead} dead: the sink did not get all mail; see {d}/log")
    finally:
        sink.kill()
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
    print(f"| {a.domains} | {dead} | {live / took:.0f} | {peak[0]:.0f} | {peak[1]:.0f} |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--domains", type=int, default=10000)
    p.add_argument("--dead", type=int, default=100)
    p.add_argument("--sessions", type=int, default=20)
    p.add_argument("--smtpd")
    p.add_argument("--keep")
    a = p.parse_args()
    if not os.environ.get("BENCH_NETNS"):
        os.environ["BENCH_NETNS"] = "1"
        os.execvp("unshare", ["unshare", "-n", sys.executable] + sys.argv)
    # What goes to a dead host leaves by a device that nobody reads.
    for command in ("link set lo up", "tuntap add dev dead mode tun", "link set dead up", "addr add 10.9.255.1/16 dev dead"):
        subprocess.run(["ip"] + command.split(), check=True)
    a.dir = a.keep or tempfile.mkdtemp(prefix="destinations")
    os.makedirs(a.dir, exist_ok=True)
    os.chmod(a.dir, 0o755)
    build = not a.smtpd
    if build:
        subprocess.run(["go", "build", "-o", a.dir + "/", "./cmd/smtpd", "./bench/smtpload"], cwd=os.path.dirname(HERE), check=True)
        a.smtpd = a.dir + "/smtpd"
    else:
        subprocess.run(["go", "build", "-o", a.dir + "/", "./bench/smtpload"], cwd=os.path.dirname(HERE), check=True)
    a.smtpload = a.dir + "/smtpload"
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 5300))
    state = {"dead": 0}
    threading.Thread(target=serve, args=(sock, state), daemon=True).start()
    print("| domains | dead | mails a second to the living | PSS MB | of it mta |\n|---|---|---|---|---|", flush=True)
    for dead in (0, a.dead):
        run(a, "127.0.0.1:5300", state, dead)
    if not a.keep:
        shutil.rmtree(a.dir)


if __name__ == "__main__":
    main()
