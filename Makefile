# What is done often. Nothing here is needed to use the project: the README's
# two commands are plain go commands.

.PHONY: build pam test race vet portable lint fuzz golden bench soak ci

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

# Long runs: the daemon is killed under load and attacked, everything is fuzzed longer, and
# what smtpd -n says is compared with an OpenSMTPD that is installed.
soak:
	bench/kill.sh 60000 200
	QUEUE_KILLS=200 go test ./runtime/queue -run TestKill -count=1 -v -timeout 1h
	bench/attack.sh
	[ "$$(id -u)" != 0 ] || bench/chaos.sh
	$(MAKE) fuzz FUZZTIME=5m
	[ "$$(id -u)" != 0 ] || go test ./cmd/smtpd -run TestDeliveries -original.deliveries
	go test ./compile -run TestAgainstOriginal -timeout 2h -original.runs 50000 -original.seed $$(date +%s)

ci:
	.ci/run
