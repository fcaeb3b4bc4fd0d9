# Everything that is said with make; each line is also a plain command that can be run by itself.

.PHONY: build setup demo demo-down test bench
SHELL := /bin/sh

# The appliance's programs, the server, the command line and the rig, as they are shipped.
build: setup
	cargo build --locked --release --workspace

# Installs Debian packages that are missing (as root, or by sudo).
setup:
	tests/setup.sh

# The whole path on this machine: realm, server, guest, image, two kiosks, three sessions.
demo: build
	target/release/demo run

# Ends what a demo left running.
demo-down:
	target/release/demo down

# Formatting, lints, documentation, licences, unit, property and end-to-end tests.
test: setup
	cargo run --locked --release --bin suite

# Figures, as JSON in target/bench/.
bench: build
	mkdir -p target/bench
	cargo bench --locked --quiet --package parcel --bench seal -- --out target/bench/seal.json
	target/release/demo bench
