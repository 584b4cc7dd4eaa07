#!/usr/bin/env python3
"""Mail servers side by side on loopback, in one interleaved run.

usage: peers.py --peers FOLDER [--servers smtpd,smtpd-one,opensmtpd,postfix] [--dest queued,relay,local]
                [--sessions 1,10,50] [--wire clear,tls] [--pipeline no,yes] [-n 2000] [--runs 3] [--one] [--out FILE.jsonl]

FOLDER was made by bench/setup.sh. Needs root. Each run starts one server with
an empty spool, warms it with 50 messages, sends N messages with smtpload and
stops it; the servers take turns, so that a busy machine hurts all alike.

With --wire tls each session begins with STARTTLS. OpenSMTPD takes no pipelining, and the 6.8 of Debian 12 has no TLS
("missing private key": OpenSSL 3 does not ask its process of keys); it is left out of both. A ratio is the rate of the first server to that of the one in the row.

smtpd runs as processes with users of their own, smtpd-one in one process.
CPU and memory are those of all processes of a server; memory is PSS.

queued  accepted and held: OpenSMTPD with its agents paused, Postfix with HOLD, smtpd started with -P mta -P mda
relay   accepted and sent on to a sink; end to end until the sink has all
local   accepted and written to the maildir of one user; end to end until all are there
users   the same with the maildirs of 1 000 users, each with an id of its own (with smtpd-one all have one id, for it can deliver for no other)

OpenSMTPD does not sync what it accepts; Postfix and smtpd do.
"""
import argparse, glob, fcntl, itertools, json, os, pwd, grp, re, shutil, signal, socket, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
PORT, SINK = 2525, 2600
USER = "benchuser"
HZ = os.sysconf("SC_CLK_TCK")


def tree(root):
    """The process and all its descendants."""
    kids = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = open(f"/proc/{p}/stat").read()
        except OSError:
            continue
        kids.setdefault(int(stat[stat.rindex(")") + 2:].split()[1]), []).append(int(p))
    out, todo = [], [root]
    while todo:
        p = todo.pop()
        out.append(p)
        todo += kids.get(p, [])
    return out


def usage(root):
    """CPU seconds of the tree with the children it reaped, and PSS in KB."""
    cpu = pss = 0
    for p in tree(root):
        try:
            stat = open(f"/proc/{p}/stat").read()
            f = stat[stat.rindex(")") + 2:].split()
            cpu += sum(map(int, f[11:15]))
            pss += int(re.search(r"^Pss:\s+(\d+)", open(f"/proc/{p}/smaps_rollup").read(), re.M).group(1))
        except (OSError, AttributeError):
            pass
    return cpu / HZ, pss


class Homes:
    """Homes of 1 000 users. None is removed before the end: ext4 looks at each
    inode that was freed in the last minutes before it makes a file."""
    count, made = 1000, []

    def __init__(self, scratch, one):
        self.dir = f"{scratch}/homes-{len(self.made)}"
        self.made.append(self.dir)
        os.makedirs(self.dir, 0o755)
        self.users = f"{self.dir}/users"
        owner = pwd.getpwnam(USER)
        with open(self.users, "w") as f:
            for i in range(self.count):
                self.uid = owner.pw_uid if one else 60000 + i
                os.mkdir(f"{self.dir}/u{i}", 0o700)
                os.chown(f"{self.dir}/u{i}", self.uid, self.uid)
                f.write(f"u{i} {self.uid}:{self.uid}:{self.dir}/u{i}\n")
        os.chown(self.dir, owner.pw_uid, owner.pw_gid)

    def messages(self):
        n = 0
        for i in range(self.count):
            try:
                n += len(os.listdir(f"{self.dir}/u{i}/Maildir/new"))
            except FileNotFoundError:
                pass
        return n


class Server:
    homes = None

    def __init__(self, a):
        self.a = a
        self.dir = f"{a.scratch}/{self.name}"

    def start(self, dest, tls=False):
        self.tls = tls
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir, 0o755)
        with socket.socket() as c:
            if c.connect_ex(("127.0.0.1", PORT)) == 0:
                sys.exit(f"somebody else listens on port {PORT}")
        argv, env = self.prepare(dest)
        self.log = open(f"{self.dir}/log", "wb")
        self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                     env=dict(os.environ, **env), start_new_session=True)
        end = time.time() + 60
        while True:
            if self.proc.poll() is not None or time.time() > end:
                sys.exit(f"{self.name} does not run: " + open(f"{self.dir}/log").read()[-800:])
            try:
                with socket.create_connection(("127.0.0.1", PORT), 1) as c:
                    c.settimeout(5)
                    ok = c.recv(3) == b"220"
                    c.sendall(b"QUIT\r\n")
                if ok:
                    break
            except OSError:
                time.sleep(0.05)
        self.hold(dest)

    def hold(self, dest):
        pass

    def stop(self):
        pids = tree(self.proc.pid)
        self.proc.terminate()
        try:
            self.proc.wait(20)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        end = time.time() + 10
        for p in pids:
            while os.path.exists(f"/proc/{p}") and time.time() < end:
                time.sleep(0.02)
            if os.path.exists(f"/proc/{p}"):
                os.kill(p, signal.SIGKILL)


def certificate(folder):
    """A key of its own for bench.test, and a certificate."""
    cert, key = f"{folder}/bench.test.crt", f"{folder}/bench.test.key"
    if not os.path.exists(key):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "365",
                        "-subj", "/CN=bench.test", "-keyout", key, "-out", cert], check=True, stderr=subprocess.DEVNULL)
        os.chmod(key, 0o600)
    return cert, key


CONF = f'''%slisten on 127.0.0.1 port {PORT} hostname bench.test%s
smtp limit max-mails 1000000
%saction "local" maildir
action "relay" relay host smtp://127.0.0.1:{SINK}
match from any for domain "local.test" action "local"
match from any for domain "relay.test" action "relay"
'''


def conf(server, tuning=""):
    """smtpd.conf of ours and of OpenSMTPD."""
    if server.homes:
        tuning += (f'table users file:{server.homes.users}\naction "users" maildir userbase <users>\n'
                   'match from any for domain "users.test" action "users"\n')
    if not server.tls:
        return CONF % ("", "", tuning)
    return CONF % ('pki bench.test cert "%s"\npki bench.test key "%s"\n' % certificate(server.a.peers), " tls pki bench.test", tuning)


class Smtpd(Server):
    name = "smtpd"
    more = []

    def prepare(self, dest):
        open(f"{self.dir}/smtpd.conf", "w").write(conf(self))
        hold = ["-P", "mta", "-P", "mda"] if dest == "queued" else []
        return [self.a.smtpd, "-d", "-f", f"{self.dir}/smtpd.conf", "--spool", f"{self.dir}/spool"] + self.more + hold, {}


class SmtpdOne(Smtpd):
    # One process as root becomes the user that it delivers for.
    name = "smtpd-one"
    more = ["--one-process", "--user", USER]


class OpenSMTPD(Server):
    name = "opensmtpd"
    tuning = ("mta limit max-conn-per-host 50 max-conn-per-route 50 max-conn-per-connector 50 "
              "conn-delay-relay 0 conn-delay-route 0 session-mail-max 1000000\n")

    def prepare(self, dest):
        for x in ("queue", "incoming", "corrupt", "purge", "temporary", "offline"):
            shutil.rmtree(f"/var/spool/smtpd/{x}", ignore_errors=True)
        open(f"{self.dir}/smtpd.conf", "w").write(conf(self, self.tuning))
        open(f"{self.dir}/resolv.conf", "w").write("lookup file bind\nnameserver 127.0.0.1\n")
        # Without "lookup file" it asks DNS even for the name of 127.0.0.1.
        return ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', f"{self.dir}/resolv.conf",
                "/usr/sbin/smtpd", "-F", "-f", f"{self.dir}/smtpd.conf"], {}

    def hold(self, dest):
        if dest == "queued":
            for agent in ("mta", "mda"):
                subprocess.run(["smtpctl", "pause", agent], check=True, stdout=subprocess.DEVNULL)


class Postfix(Server):
    name = "postfix"

    def virtual(self):
        """What main.cf says of the 1 000 users."""
        if not self.homes:
            return ""
        with open(f"{self.dir}/etc/boxes", "w") as boxes, open(f"{self.dir}/etc/ids", "w") as ids:
            for line in open(self.homes.users):
                name, account = line.split()
                boxes.write(f"{name}@users.test {name}/Maildir/\n")
                ids.write(f"{name}@users.test {account.split(':')[0]}\n")
        return f'''virtual_mailbox_domains = users.test
virtual_mailbox_base = {self.homes.dir}
virtual_mailbox_maps = texthash:{self.dir}/etc/boxes
virtual_uid_maps = texthash:{self.dir}/etc/ids
virtual_gid_maps = $virtual_uid_maps
'''

    def prepare(self, dest):
        d, r = self.dir, f"{self.a.peers}/postfix"
        owner, drop = pwd.getpwnam("bpostfix"), grp.getgrnam("bpostdrop").gr_gid
        for x in ("etc", "data", "q"):
            os.makedirs(f"{d}/{x}")
        os.chown(f"{d}/data", owner.pw_uid, owner.pw_gid)
        for x in "active bounce corrupt defer deferred flush hold incoming private saved trace".split():
            os.mkdir(f"{d}/q/{x}", 0o700)
            os.chown(f"{d}/q/{x}", owner.pw_uid, 0)
        os.mkdir(f"{d}/q/pid", 0o755)
        for x, mode in (("public", 0o710), ("maildrop", 0o730)):
            os.mkdir(f"{d}/q/{x}")
            os.chmod(f"{d}/q/{x}", mode)
            os.chown(f"{d}/q/{x}", owner.pw_uid, drop)
        hold = dest == "queued"
        tls = "smtpd_tls_security_level = none"
        if self.tls:
            tls = "smtpd_tls_security_level = may\nsmtpd_tls_cert_file = %s\nsmtpd_tls_key_file = %s" % certificate(self.a.peers)
        open(f"{d}/etc/main.cf", "w").write(f'''compatibility_level = 3.6
queue_directory = {d}/q
data_directory = {d}/data
daemon_directory = {r}/usr/lib/postfix/sbin
command_directory = {r}/usr/sbin
shlib_directory = {r}/usr/lib/postfix
meta_directory = {r}/etc/postfix
mail_owner = bpostfix
setgid_group = bpostdrop
import_environment = MAIL_CONFIG LD_LIBRARY_PATH TZ LANG=C
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = bench.test
mydestination = local.test
relay_domains = relay.test
mynetworks = 127.0.0.0/8
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_restrictions = permit_mynetworks{", check_client_access static:HOLD" if hold else ""}
{"smtpd_data_restrictions = check_client_access static:HOLD" if hold else ""}
transport_maps = inline:{{ relay.test=smtp:[127.0.0.1]:{SINK} }}
home_mailbox = Maildir/
{self.virtual()}alias_maps =
alias_database =
biff = no
smtp_tls_security_level = none
{tls}
maillog_file =
default_process_limit = 100
''')
        open(f"{d}/etc/master.cf", "w").write(f'''127.0.0.1:{PORT} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
local unix - n n - - local
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
''')
        return [f"{r}/usr/lib/postfix/sbin/master", "-c", f"{d}/etc", "-d"], \
            {"MAIL_CONFIG": f"{d}/etc", "LD_LIBRARY_PATH": f"{r}/usr/lib/postfix"}


def load(a, args):
    p = subprocess.run([a.smtpload] + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if p.returncode:
        sys.exit(f"smtpload {' '.join(args)}: {p.stderr[-400:]}")
    return {k: float(v) for k, v in (x.split("=") for x in p.stdout.split())}


def maildir():
    return os.path.join(pwd.getpwnam(USER).pw_dir, "Maildir")


def one(a, server, dest, sessions, wire, pipeline):
    if os.path.exists(maildir()):  # not removed, for the reason that Homes has
        os.rename(maildir(), f"{maildir()}.{time.time_ns()}")
    if dest == "users":
        server.homes = Homes(a.scratch, server.name == "smtpd-one")
    server.start(dest, wire == "tls")
    to = {"local": f"{USER}@local.test", "users": "u@users.test"}.get(dest, "u@relay.test")
    # OpenSMTPD resets connections when its accept queue overflows: the load goes on.
    args = ["send", "--addr", f"127.0.0.1:{PORT}", "--rcpt", to, "--reconnect", "60s"]
    args += [word for word, on in (("--one", a.one), ("--pipeline", pipeline), ("--tls", wire == "tls")) if on]
    if dest == "users":
        args += ["--users", str(Homes.count)]
    sink = None
    try:
        if dest == "relay":
            sink = subprocess.Popen([a.smtpload, "sink", "--addr", f"127.0.0.1:{SINK}", "-n", str(a.n + 50)], stdout=subprocess.PIPE, text=True)
            time.sleep(0.2)
        load(a, args + ["-n", "50"])
        time.sleep(0.3)
        cpu0, _ = usage(server.proc.pid)
        start = time.time()
        r = load(a, args + ["-n", str(a.n), "-s", str(sessions)])
        if dest == "relay":
            sink.wait(300)
        if dest == "local":
            while len(os.listdir(maildir() + "/new")) < a.n + 50 and time.time() < start + 300:
                time.sleep(0.02)
        if dest == "users":
            while server.homes.messages() < a.n + 50 and time.time() < start + 300:
                time.sleep(0.1)
        total = time.time() - start
        cpu, pss = usage(server.proc.pid)
    finally:
        if sink:
            sink.kill()
        server.stop()
    return {"server": server.name, "dest": dest, "sessions": sessions, "one": a.one, "wire": wire, "pipeline": pipeline, "n": a.n,
            "accept": r["rate"], "end_to_end": None if dest == "queued" else a.n / total,
            "cpu_per_1000": (cpu - cpu0) * 1000 / a.n, "pss_mb": pss / 1024, "p99_ms": r["p99_us"] / 1000}


def table(rows):
    print("| destination | wire | pipelined | sessions | server | accept msg/s | end to end msg/s | CPU s per 1000 | PSS MB | p99 ms | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    med = lambda rs, k: statistics.median(r[k] for r in rs)
    case = lambda r: (r["dest"], r["wire"], r["pipeline"], r["sessions"])
    for c in sorted({case(r) for r in rows}):
        group = [r for r in rows if case(r) == c]
        dest, wire, pipeline, sessions = c
        key = "accept" if dest == "queued" else "end_to_end"
        base = None
        for name in dict.fromkeys(r["server"] for r in group):
            rs = [r for r in group if r["server"] == name]
            base = base or med(rs, key)
            e2e = "-" if dest == "queued" else "%.0f" % med(rs, "end_to_end")
            print("| %s | %s | %s | %d | %s | %.0f (%.0f–%.0f) | %s | %.2f | %.0f | %.1f | %.1f |" % (
                dest, wire, "yes" if pipeline else "no", sessions, name,
                med(rs, "accept"), min(r["accept"] for r in rs), max(r["accept"] for r in rs), e2e,
                med(rs, "cpu_per_1000"), med(rs, "pss_mb"), med(rs, "p99_ms"), base / med(rs, key)))


def prepare(a):
    """Builds what is measured, and what it is measured with. One measures at a time."""
    a.peers = os.path.abspath(a.peers)
    a.lock = open(a.peers + "/lock", "w")
    fcntl.flock(a.lock, fcntl.LOCK_EX)
    a.scratch = a.peers + "/run"
    a.smtpd, a.smtpload = a.peers + "/bin/smtpd", a.peers + "/bin/smtpload"
    subprocess.run(["go", "build", "-o", a.peers + "/bin/", "./cmd/smtpd", "./bench/smtpload"], cwd=os.path.dirname(HERE), check=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--peers", required=True)
    p.add_argument("--servers", default="smtpd,smtpd-one,opensmtpd,postfix")
    p.add_argument("--dest", default="queued")
    p.add_argument("--sessions", default="10")
    p.add_argument("-n", type=int, default=2000)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--one", action="store_true")
    p.add_argument("--wire", default="clear")
    p.add_argument("--pipeline", default="no")
    p.add_argument("--out")
    a = p.parse_args()
    prepare(a)
    kinds = {c.name: c for c in (Smtpd, SmtpdOne, OpenSMTPD, Postfix)}
    rows = []
    cases = itertools.product(range(a.runs), a.dest.split(","), a.wire.split(","), a.pipeline.split(","),
                              map(int, a.sessions.split(",")), a.servers.split(","))
    for _, dest, wire, pipeline, sessions, name in cases:
        if name == "opensmtpd" and (pipeline == "yes" or wire == "tls"):
            continue
        r = one(a, kinds[name](a), dest, sessions, wire, pipeline == "yes")
        rows.append(r)
        print(json.dumps(r), file=sys.stderr)
        if a.out:
            print(json.dumps(r), file=open(a.out, "a"))
    table(rows)
    for d in Homes.made + glob.glob(maildir() + "*"):
        shutil.rmtree(d, ignore_errors=True)


if __name__ == "__main__":
    main()
