# Two commands for everyone: `make demo` (see it work) and `make test` (know that it works).
# Both do all their set-up on a Debian 12 with Rust 1.95 or later. The rest is for those who change the code.

SHELL := /bin/bash
export CARGO_TERM_COLOR ?= never
NEXTEST := cargo nextest run --no-fail-fast

.PHONY: demo test check fmt lint doc doc-tests unit scenarios peers bench bench-index bench-access bench-forward bench-wan bench-poison mutants fuzz fuzz-smoke soak-kill soak-powerloss soak-memory deb setup setup-build soak-sim soak-week \
	setup-tests skipped help

help:                 ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup-build:          ## what building needs, from Debian
	@packaging/setup.sh build

setup-tests: setup-build ## the test runner: cargo-nextest
	@packaging/setup.sh runner

setup: setup-tests    ## what the tests need besides: DICOM, XML and SOAP peers, PostgreSQL
	@packaging/setup.sh peers

demo: setup-build     ## both programs, a throw-away PKI, studies of test persons, the whole path; KEEP=1 leaves it running
	cargo build --release --locked -p idr-site -p idr-central -p idr-tests --bin idr-site --bin idr-central --bin demo
	target/release/demo

fmt:                  ## format
	cargo fmt --all

lint: setup-build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

doc: setup-build
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

doc-tests: setup-build
	cargo test --doc --workspace --locked --quiet

unit: setup-tests
	$(NEXTEST) --locked --workspace --exclude idr-tests

check: lint doc doc-tests unit ## fmt, clippy, docs, doc, unit and contract tests

test: setup lint doc doc-tests skipped ## everything: lint, docs, unit, contract, scenarios, peers; ends with the runner's summary
	cargo build --locked -p idr-site -p idr-central -p idr-tests --bins
	$(NEXTEST) --locked --workspace

skipped:              # the runner shows no output of tests that pass, also of those that skip themselves
	@[[ -f $${IDR_SHARED:-../shared}/README.md ]] || echo "no test data at $${IDR_SHARED:-../shared}: the tests that need it are skipped"

scenarios: setup-tests ## stories over both real programs
	cargo build --locked -p idr-site -p idr-central -p idr-tests --bins
	$(NEXTEST) --locked -p idr-tests --test scenarios

peers: setup          ## DCMTK, pynetdicom, Orthanc, zeep, node-soap, xmlsec1, xmllint, dciodvfy against both programs
	cargo build --locked -p idr-site -p idr-central -p idr-tests --bins
	$(NEXTEST) --locked -p idr-tests --test peers

soak-kill: setup-build ## N=200 SEED=1: kill -9 of site and central at random moments of a transfer
	cargo build --release --locked -p idr-site -p idr-central -p idr-tests --bins
	target/release/soak-kill --moments $${N:-200} --seed $${SEED:-1}

soak-powerloss: setup-build ## N=10000 SEED=1: lives of a spool over a simulated disk, ended by power cuts, kills, failing disks
	IDR_SEEDS=$${N:-10000} IDR_SEED=$${SEED:-1} cargo test --locked -p idr-site --lib -- --nocapture spool::lives::

soak-sim: setup-build ## N=5000 SEED=1: whole lives of a site in a simulated world (docs/simulation.md); SEED=<seed> N=1 repeats one
	IDR_SEEDS=$${N:-5000} IDR_SEED=$${SEED:-1} cargo test --locked -p idr-site --lib -- --nocapture forward::simulation::every

soak-week: setup-build ## PER_DAY=20000: seven simulated days without the centre, and the drain; TMPDIR: 2 GB, the faster the better
	IDR_PER_DAY=$${PER_DAY:-20000} TMPDIR=$${TMPDIR:-/dev/shm} cargo test --locked -p idr-site --lib -- --nocapture forward::simulation::week

soak-memory: setup-build ## 1 GiB on each of four associations at once: peak memory of both programs
	cargo build --release --locked -p idr-site -p idr-central -p idr-tests --bins
	target/release/soak-memory

bench: setup          ## ingest beside the Debian peers: ratios with their command
	cargo build --release --locked -p idr-site -p idr-tests --bins
	target/release/bench-ingest

bench-forward: setup  ## site to centre over TLS beside Orthanc to Orthanc: from the first C-STORE to the last durable object
	cargo build --release --locked -p idr-site -p idr-central -p idr-tests --bins
	target/release/bench-forward

bench-access: setup-build ## PAIRS=1000: cost of a decision; time of omitted against absent
	cargo build --release --locked -p idr-site -p idr-central -p idr-tests --bins
	target/release/bench-access --pairs $${PAIRS:-1000}

# Each changes one condition, operator or result and runs the tests of access and assertions; needs `cargo install cargo-mutants`.
mutants: setup-build  ## SHARD=0/1: are wrong decisions and wrong verdicts found by the tests (an hour and more)
	cargo mutants --shard $${SHARD:-0/1} --timeout 300 --cargo-test-arg=--lib \
	  -f crates/profile/src/access/decide.rs -f crates/profile/src/access/denial.rs -f crates/profile/src/access/outsourced.rs \
	  -f crates/profile/src/xua/verify.rs -f crates/profile/src/xua/claims.rs -- -- access:: xua::

bench-index: setup-build ## N=1000000: a spool of N records beside one of 1000, sled and redb
	cargo build --release --locked -p idr-site -p idr-tests --bin idr-site --bin bench-index
	target/release/bench-index --records $${N:-1000000}

bench-wan: setup-build ## FOR=60: objects over a socket at wan.bytes_per_second; within 5 %
	IDR_SECONDS=$${FOR:-60} cargo test --release --locked -p idr-site --lib -- --nocapture forward::pacing::tests::over_a_socket

bench-poison: setup-build ## N=10000: a queue with one poisoned instance, on a clock moved by hand: when the others are through
	IDR_INSTANCES=$${N:-10000} cargo test --release --locked -p idr-site --lib -- --nocapture forward::tests::poison

fuzz-smoke: setup-build ## a minute on each fuzz target
	$(MAKE) fuzz MIN=1

fuzz: setup-build     ## T=target MIN=minutes: libFuzzer on stable (no address sanitizer)
	tests/fuzz/run.sh "$${T:-all}" "$${MIN:-5}"

deb: setup-build      ## target/debian/*.deb of both programs
	packaging/build-deb.sh
