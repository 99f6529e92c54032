# `make bench` and `make test` do everything from nothing; the other targets are their steps.

VENV   := .venv
PYTHON := $(VENV)/bin/python
ZCB    := $(VENV)/bin/zcb
# asv must find virtualenv and the interpreters of the environment it runs in, not a pyenv shim.
ACTIVE := . $(VENV)/bin/activate &&

.PHONY: bench measure rust test test-quick test-python test-rust check docs lock asv-configs audit clean

# The main job: releases of zarr without and with #3004, on the embedded store, in a quick profile.
# What is there is kept: the store, its data, the environments, and results of releases measured before.
# `make bench FULL=1` measures every case and reader at every release, `REMEASURE=1` measures again, with `SAMPLES=15
# SECONDS=0` 15 samples of everything, and `LINK=lo` stays on loopback, where bytes on the wire cannot be counted.
RELEASES := 3.2.1,3.3.0,latest
LINK     := auto

bench: $(VENV)/.ready
	@$(ACTIVE) zcb bench --releases $(RELEASES) --link $(LINK) $(if $(FULL),--full) $(if $(REMEASURE),--remeasure) \
	  $(if $(SAMPLES),--samples $(SAMPLES)) $(if $(SECONDS),--seconds $(SECONDS))

# Every case and reader by an asv configuration of one's own, as on a VM.
measure: $(VENV)/.ready
	$(ACTIVE) asv machine --yes --config $(CONFIG)
	$(ACTIVE) ZCB_SAMPLES=$(or $(SAMPLES),21) ZCB_WORKLOAD_SECONDS=$(SECONDS) asv run --config $(CONFIG) \
	  --record-samples $(if $(REMEASURE),,--skip-existing-successful) ALL
	$(ACTIVE) asv publish --config $(CONFIG)
	$(ACTIVE) zcb table --by commit --config $(CONFIG)
	$(ACTIVE) zcb table --config $(CONFIG)
	@echo "Open html/index.html; asv's graphs need a server: $(PYTHON) -m http.server --bind 127.0.0.1 -d html"

# The store and the Rust reader.
rust:
	cd rust && cargo build --release --locked --workspace

# Test files are handed out whole, in their order, so that what a file shares is made once and the long ones come first.
# Two more at a time than two cores, since tests wait: for deadlines, for pauses of the store, for each other (`alone`).
WORKERS := 4
PYTEST  := pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(VENV)/.ready-dev
	@echo "make test: some 20 minutes on two cores, and at first some six more to compile; make test-quick: two"
	@$(MAKE) --no-print-directory test-rust test-python

# The programs first: a test may start either, and `cargo test` leaves the Rust reader unlinked.
test-python: $(VENV)/.ready-dev rust
	$(ACTIVE) $(PYTEST)

# For every day: what is quick of each room and of the store.
test-quick: $(VENV)/.ready-dev rust
	$(ACTIVE) $(PYTEST) -m "not slow" tests/unit tests/store

test-rust:
	cd rust && cargo test --locked --release

check: $(VENV)/.ready-dev
	$(ACTIVE) ruff format --check .
	$(ACTIVE) ruff check .
	$(ACTIVE) mypy
	$(ACTIVE) lint-imports
	cd rust && cargo fmt --check && cargo clippy --locked --release --all-targets -- -D warnings

# The tables in README.md and docs/ that come from lists in the code.
docs: $(VENV)/.ready-dev
	$(PYTHON) -m studies.document

# uv installs in parallel, from pip's index if pip was told of one; where uv cannot, pip does.
define install
	@index=$${PIP_INDEX_URL:-$$($(PYTHON) -m pip config get global.index-url 2>/dev/null)}; \
	$${index:+env UV_DEFAULT_INDEX="$$index"} $(VENV)/bin/uv pip install --quiet --system-certs --python $(PYTHON) \
	  --require-hashes --requirement $(1) || $(PYTHON) -m pip install --quiet --require-hashes --requirement $(1)
endef

# .python-version lets pyenv, uv and virtualenv find 3.13; elsewhere python3 has to be 3.12 or newer.
$(VENV)/.ready: requirements.lock pyproject.toml
	@command -v cargo >/dev/null || { echo "make: cargo is missing: install Rust (https://rustup.rs)" >&2; exit 2; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 12))' || { echo "make: python3 is older than 3.12" >&2; exit 2; }
	@echo "make: installing what is needed into $(VENV), half a minute"
	@python3 -m venv --clear $(VENV)
	@$(PYTHON) -m pip install --quiet --require-hashes --requirement requirements-uv.lock
	$(call install,requirements.lock)
	@$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# What tests and checks need besides.
$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.lock
	$(call install,requirements-dev.lock)
	@touch $@

# Resolve the direct dependencies of pyproject.toml. What is locked stays as it is; `make lock UPGRADE=1` takes the newest.
COMPILE = pip-compile --quiet $(if $(UPGRADE),--upgrade) --generate-hashes --allow-unsafe --strip-extras \
	  --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
lock: $(VENV)/.ready-dev
	$(ACTIVE) $(COMPILE) --output-file requirements.lock pyproject.toml
	$(ACTIVE) $(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	$(ACTIVE) echo uv | $(COMPILE) --output-file requirements-uv.lock -
	$(MAKE) --no-print-directory asv-configs

# asv*.conf.json, with the versions of requirements.lock: needs them installed, to know what requires what.
asv-configs: $(VENV)/.ready-dev
	$(ACTIVE) python -m harness.asv.configurations

# Known vulnerabilities of everything pinned (docs/security.md). It asks PyPI and RustSec, so it needs the network;
# `make audit ADVISORIES=DIR` reads the databases in a folder instead. A package that could not be looked up fails the
# audit too: --strict.
AUDIT := .zcb/audit
ifdef ADVISORIES
audit: $(VENV)/.ready-dev
	$(ACTIVE) python -m studies.audit $(ADVISORIES)
else
audit:
	python3 -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet pip-audit
	$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements-dev.lock
	cargo install --quiet --locked --root $(AUDIT) cargo-audit
	$(AUDIT)/bin/cargo-audit audit --file rust/Cargo.lock
endif

clean:
	rm -rf $(VENV) .asv html results rust/target
