# `make demo` shows skiff at work, `make test` is everything CI runs. Both need Rust, Go and root on
# Debian 12 or later; what else is missing is installed from Debian.

export CARGO_TARGET_DIR ?= $(CURDIR)/target
export SKIFF_LAB_DIR ?= /var/cache/skiff-lab
BIN := $(CARGO_TARGET_DIR)/bin
STATIC := x86_64-unknown-linux-gnu
DRIVERS := $(notdir $(basename $(wildcard integration/src/bin/*)))

.PHONY: all deps build lab demo test check fmt clippy walls deny unit parts suites clean

all: build

# What compiling and linking needs of Debian; the lab's set-up installs what it needs by itself.
deps:
	.ci/install gcc libc6-dev libseccomp-dev

# The shim runs in every pod's namespaces and skiff-oci in anybody's: neither may need a library
# of the host.
build: deps
	cargo build --release -p skiff-cri-server -p skiff-integration
	CARGO_PROFILE_RELEASE_LTO=thin RUSTFLAGS='-C target-feature=+crt-static' \
	  cargo build --release --target $(STATIC) -p skiff-shim -p skiff-runtime -p skiff-probe
	mkdir -p $(BIN)
	cd $(CARGO_TARGET_DIR)/release && install -t $(BIN) skiffd skiffctl $(DRIVERS)
	cd $(CARGO_TARGET_DIR)/$(STATIC)/release && install -t $(BIN) skiff-shim skiff-oci skiff-probe
	for i in runc-native no-network; do \
	  gcc -O2 -static -Wall -Wextra -o $(BIN)/$$i integration/perf/$$i.c || exit; done

lab:
	integration/lab/setup

# what a demonstration needs of the lab: the rest takes minutes to build
demo: build
	integration/lab/setup node images bin
	integration/demo

test: check unit suites

check: fmt clippy walls deny

fmt:
	cargo fmt --all --check

clippy: deps
	cargo clippy --workspace --all-targets -- -D warnings

walls:
	.ci/walls

deny: deps
	.ci/deny

unit: deps
	cargo test --workspace
	cargo test --locked --manifest-path fuzz/Cargo.toml

# Tests of single parts that need a node, for the suite of that name.
parts: deps
	rm -rf $(BIN)/parts
	mkdir -p $(BIN)/parts
	cargo test --workspace --test lab --test plugins --no-run 2>&1 | \
	  sed -n 's/.*Executable tests.* (\(.*\))/\1/p' | xargs install -t $(BIN)/parts

suites: build lab parts
	integration/run

clean:
	cargo clean
