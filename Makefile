# Martlet's commands. Each installs what it lacks, without questions; a second run finds everything in place.

ARGS         ?=
SET          ?= core
ROUNDS       ?= 5
BROKERS      ?= mosquitto mosquitto-nodelay martlet
BENCH_ARGS   ?=
SOAK_SECONDS ?= 1800
SECONDS      ?= 60
FUZZ_ARGS    ?=
SOURCES      := Sources Tests Package.swift

.PHONY: run build test dist format lint bench bench-rest bench-firmware sanitize soak fuzz clean

## Builds release and starts the broker; `make run ARGS='-p 1884 -v'` passes flags on.
run: build
	@exec .build/release/martlet serve $(ARGS)

build:
	@Tests/Support/install build
	@Tests/Support/embed
	@swift build -c release --product martlet --quiet

## Every test; the last line reads `N passed, N failed`.
test:
	@Tests/Support/install build test
	@Tests/Support/test

## dist/: one executable that needs only glibc, and its Debian package, tried on a bare Debian where there is root.
dist:
	@Tests/Support/install build dist
	@Tests/Support/embed
	@packaging/build
	@packaging/smoke "$$(packaging/deb dist/martlet dist)"

format:
	@swift format format -i -r $(SOURCES)

lint:
	@swift format lint --strict -r $(SOURCES)

## Martlet beside Debian's Mosquitto; `make bench SET=scale ROUNDS=3 BENCH_ARGS='--pin --nice -15'`.
bench: build
	@Tests/Support/install bench
	@$(MAKE) --no-print-directory -C bench
	@PATH="$(CURDIR)/.tools/bin:$$PATH:/usr/sbin" MARTLET="$(CURDIR)/.build/release/martlet" \
		bench/compare.py --set $(SET) --rounds $(ROUNDS) $(BENCH_ARGS) \
		$(addprefix --broker ,$(BROKERS))

## What a REST request costs; `make bench-rest BENCH_ARGS='--rounds 5 --fleet'`.
bench-rest: build
	@Tests/Support/install bench rest
	@$(MAKE) --no-print-directory -C bench
	@MARTLET="$(CURDIR)/.build/release/martlet" bench/rest.py $(BENCH_ARGS)

## What it costs that a fleet loads firmware; `make bench-firmware BENCH_ARGS='--rounds 2 --fleet'`.
bench-firmware: build
	@Tests/Support/install bench
	@$(MAKE) --no-print-directory -C bench
	@MARTLET="$(CURDIR)/.build/release/martlet" bench/firmware.py $(BENCH_ARGS)

## The socket suite against binaries that watch for races and for memory errors.
sanitize:
	@Tests/Support/install build test
	@Tests/Support/sanitize thread address

## 100,000 programs beside the reference model; fuzzing; load for SOAK_SECONDS: no growth in the release binary, no report
## from the thread sanitizer's.
soak: build
	@Tests/Support/install bench
	@$(MAKE) --no-print-directory -C bench
	@SOAK_SECONDS=$(SOAK_SECONDS) Tests/Support/soak

## The codec under libFuzzer, guided by coverage, for SECONDS; `make fuzz FUZZ_ARGS=.build/fuzz/crash-...` repeats a finding.
fuzz:
	@Tests/Support/install build
	@FUZZ_SECONDS=$(SECONDS) Tests/Support/fuzz $(FUZZ_ARGS)

clean:
	@rm -rf .build .venv .tools dist
	@$(MAKE) --no-print-directory -C bench clean
