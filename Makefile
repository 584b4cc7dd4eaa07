# What is done often. Nothing here is needed to use the project: the README's
# two commands are plain go commands.

.PHONY: build pam test race vet portable lint fuzz golden bench web-test soak ci install deb package-test

build:
	go build -o bin/ ./cmd/...

# The program that asks PAM about passwords and name services about accounts; it needs a C compiler and the headers of PAM.
pam:
	go build -tags pam -o bin/ ./cmd/smtpd-pam

test:
	go test ./...

race:
	go test -race ./...

vet:
	go vet ./...

# Does it compile for the BSDs, macOS and 32 bits?
portable:
	go run ./internal/portable

lint: vet
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

# One minute of each target.
FUZZTIME ?= 1m
fuzz:
	.ci/fuzz $(FUZZTIME)

# Rewrite the golden files; look at the diff.
golden:
	go test ./lang/... ./compile/... -update

# The pages of smtpctl web in a headless Chromium; needs chromium, npm and root.
web-test:
	internal/web/browser/test.sh

# Long runs: the daemon is killed under load and attacked, everything is fuzzed longer, and
# what smtpd -n says is compared with an OpenSMTPD that is installed; the
# package is installed where Debian's tools are.
soak:
	bench/kill.sh 60000 200
	QUEUE_KILLS=200 go test ./runtime/queue -run TestKill -count=1 -v -timeout 1h
	bench/attack.sh
	[ "$$(id -u)" != 0 ] || bench/chaos.sh
	$(MAKE) web-test
	! command -v dpkg-deb >/dev/null || $(MAKE) package-test
	$(MAKE) fuzz FUZZTIME=5m
	[ "$$(id -u)" != 0 ] || go test ./cmd/smtpd -run TestDeliveries -original.deliveries
	go test ./compile -run TestAgainstOriginal -timeout 2h -original.runs 50000 -original.seed $$(date +%s)

ci:
	.ci/run

# make install puts programs, manuals and units below DESTDIR. Files of the
# administrator that are there already stay as they are.
DESTDIR    ?=
PREFIX     ?= /usr/local
SBINDIR    ?= $(PREFIX)/sbin
BINDIR     ?= $(PREFIX)/bin
MANDIR     ?= $(PREFIX)/share/man
DOCDIR     ?= $(PREFIX)/share/doc/smtpd
SYSCONFDIR ?= /etc
UNITDIR    ?= $(PREFIX)/lib/systemd/system
SYSUSERS   ?= $(PREFIX)/lib/sysusers.d
ROLES      := sendmail newaliases makemap

install: build
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(DOCDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERS) $(DESTDIR)$(SYSCONFDIR)/mail
	install -m 755 bin/smtpd bin/smtpctl $(DESTDIR)$(SBINDIR)
	install -m 755 bin/smtpd-check $(DESTDIR)$(BINDIR)
	for name in $(ROLES); do ln -sf smtpctl $(DESTDIR)$(SBINDIR)/$$name; done
	for name in mailq smtp; do ln -sf $(SBINDIR)/smtpctl $(DESTDIR)$(BINDIR)/$$name; done
	for page in man/*.[1578]; do \
		section=$(DESTDIR)$(MANDIR)/man$${page##*.}; \
		install -d $$section && install -m 644 $$page $$section || exit 1; \
	done
	install -m 644 docs/*.md README.md COMPATIBILITY.md CHANGES.md LICENSE $(DESTDIR)$(DOCDIR)
	# Asking PAM is opt-in: it is installed if "make pam" was run before.
	if [ -e bin/smtpd-pam ]; then \
		install -d $(DESTDIR)$(SYSCONFDIR)/pam.d && install -m 755 bin/smtpd-pam $(DESTDIR)$(SBINDIR) && \
		{ [ -e $(DESTDIR)$(SYSCONFDIR)/pam.d/smtpd ] || install -m 644 contrib/pam.d/smtpd $(DESTDIR)$(SYSCONFDIR)/pam.d; }; \
	fi
	install -m 644 contrib/systemd/smtpd.socket $(DESTDIR)$(UNITDIR)
	sed 's|/usr/sbin/|$(SBINDIR)/|g; s|/etc/smtpd.conf|$(SYSCONFDIR)/smtpd.conf|g' contrib/systemd/smtpd.service >$(DESTDIR)$(UNITDIR)/smtpd.service
	install -m 644 contrib/systemd/smtpd.sysusers $(DESTDIR)$(SYSUSERS)/smtpd.conf
	[ -e $(DESTDIR)$(SYSCONFDIR)/smtpd.conf ] || install -m 644 contrib/smtpd.conf $(DESTDIR)$(SYSCONFDIR)/smtpd.conf
	[ -e $(DESTDIR)$(SYSCONFDIR)/mail/aliases ] || install -m 644 contrib/aliases $(DESTDIR)$(SYSCONFDIR)/mail/aliases

# A Debian package in bin/.
VERSION ?= 0.1.0
NFPM    ?= go run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
deb:
	rm -rf bin/root
	$(MAKE) install DESTDIR=bin/root PREFIX=/usr
	ARCH=$$(go env GOARCH) VERSION=$(VERSION) $(NFPM) package --config contrib/debian/nfpm.yaml --packager deb --target bin/

# Installs that package into an empty root and sends a mail with what is there.
package-test: deb
	contrib/debian/test.sh bin/smtpd_$(VERSION)*.deb
