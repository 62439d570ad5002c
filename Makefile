# What a person does with Gantry. On Debian 12, as root: `make run`, then `docker run …` in another terminal.
# Everything that is missing is installed with apt-get; nothing here needs a docker daemon.

CARGO   ?= cargo
APT     ?= apt-get
PREFIX  ?= /usr
DESTDIR ?=
FLAGS   ?=
TARGET  := $(abspath $(or $(CARGO_TARGET_DIR),target))
VENV    := $(TARGET)/venv
# More e2e workers than processors: every test has an engine of its own, and much of a test is waiting.
WORKERS ?= $(shell echo $$(($$(nproc) + 1)))
# One build graph for tests, examples and the e2e binaries, so that nothing is built twice.
GRAPH   := --locked --workspace --features gantry-daemon/failpoints

COMPANIONS := gantry-stdio gantry-netd gantry-logship gantry-init
# containerd wants this name for a shim; its package is gantry-shim.
SHIM       := containerd-shim-gantry-v1
PROGRAMS   := $(COMPANIONS) $(SHIM)
RUN_PACKAGES  := containerd runc protobuf-compiler nftables iproute2 busybox-static ca-certificates gcc libc6-dev
TEST_PACKAGES := $(RUN_PACKAGES) debootstrap tini skopeo docker-registry crun python3-venv iptables procps util-linux \
                 e2fsprogs openssl curl socat dnsutils strace

.PHONY: help build run test unit e2e soak memory bench spec spec-check lint fmt vm-test install packages-run packages-test \
        debug venv coverage

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ —/'

packages-run:
	@scripts/packages.sh $(RUN_PACKAGES)

packages-test:
	@scripts/packages.sh $(TEST_PACKAGES)
	@scripts/docker_cli.sh $(TARGET)/tools
	@PATH="$(TARGET)/tools:$$PATH" scripts/docker_compose.sh $(TARGET)/tools
	@PATH="$(TARGET)/tools:$$PATH" scripts/docker_buildx.sh $(TARGET)/tools

build: packages-run ## release binaries in target/release, the companions and the shim built small
	$(CARGO) build --release --locked -p gantry-daemon
	$(CARGO) build --profile companion --locked $(COMPANIONS:%=-p %) -p gantry-shim
	@for name in $(PROGRAMS); do install -m 755 $(TARGET)/companion/$$name $(TARGET)/release/$$name; done

run: build ## build, and run gantryd with a containerd of its own (FLAGS="-D" for more)
	exec $(TARGET)/release/gantryd $(FLAGS)

debug: packages-test
	$(CARGO) build $(GRAPH) --bins --tests --examples

# Each crate's tests with the others' binaries at hand.
unit: debug
	$(CARGO) test $(GRAPH) --no-fail-fast

$(VENV)/ready: tests/requirements.txt
	python3 -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

venv: packages-test
	@$(MAKE) --no-print-directory $(VENV)/ready

e2e: debug venv
	PATH="$(TARGET)/tools:$$PATH" GANTRY_BIN=$(TARGET)/debug $(VENV)/bin/python -m pytest tests/e2e \
	  -n $(WORKERS) --dist loadfile --junitxml=$(TARGET)/e2e.xml -m "not soak" $(PYTEST_FLAGS)

test: unit e2e ## everything: cargo's tests, then the end-to-end tests with the docker CLI

soak: debug venv ## a thousand cycles of run and rm: what is left must be what was there
	PATH="$(TARGET)/tools:$$PATH" GANTRY_BIN=$(TARGET)/debug $(VENV)/bin/python -m pytest tests/e2e -m soak $(PYTEST_FLAGS)

memory: build venv ## what an idle engine keeps resident, on release binaries
	PATH="$(TARGET)/tools:$$PATH" GANTRY_BIN=$(TARGET)/release $(VENV)/bin/python -m pytest tests/e2e/test_memory.py

bench: build venv ## the table of speeds; DOCKERD=/path/to/dockerd to compare in turn
	@if [ ! -f bench/bench.py ]; then echo "bench/bench.py is not there yet"; exit 1; fi
	PATH="$(TARGET)/tools:$$PATH" GANTRY_BIN=$(TARGET)/release DOCKERD="$(DOCKERD)" $(VENV)/bin/python bench/bench.py

$(TARGET)/openapi.yaml: packages-run
	$(CARGO) build $(GRAPH) --examples
	$(TARGET)/debug/examples/openapi > $@

spec: $(TARGET)/openapi.yaml ## write api-spec/openapi.yaml anew from the routes and types
	cp $(TARGET)/openapi.yaml api-spec/openapi.yaml

spec-check: $(TARGET)/openapi.yaml
	@diff -u api-spec/openapi.yaml $(TARGET)/openapi.yaml \
	  || { echo "api-spec/openapi.yaml is stale: run 'make spec' and commit it"; exit 1; }

coverage:
	python3 scripts/check_coverage.py api-spec/coverage.toml $(TARGET)/e2e.xml

lint: packages-run ## format and clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(GRAPH) --all-targets -- -D warnings

fmt:
	$(CARGO) fmt --all

vm-test: build packages-test ## the binaries in a virtual machine with systemd, cgroup v2, AppArmor and a power cut
	@scripts/packages.sh qemu-system-x86 seabios
	PATH="$(TARGET)/tools:$$PATH" scripts/vm_test.sh $(TARGET)/release $(TARGET)/vm

install: build ## gantryd, its companions and the systemd units under $(DESTDIR)$(PREFIX)
	install -D -m 755 $(TARGET)/release/gantryd $(DESTDIR)$(PREFIX)/sbin/gantryd
	@for name in $(PROGRAMS); do \
	  install -D -m 755 $(TARGET)/release/$$name $(DESTDIR)$(PREFIX)/libexec/gantry/$$name; done
	install -D -m 644 dist/systemd/gantry.service $(DESTDIR)/lib/systemd/system/gantry.service
	install -D -m 644 dist/systemd/gantry.socket $(DESTDIR)/lib/systemd/system/gantry.socket
	sed -i 's|/usr/sbin/gantryd|$(PREFIX)/sbin/gantryd|' $(DESTDIR)/lib/systemd/system/gantry.service
	@if [ -z "$(DESTDIR)" ] && ! getent group docker >/dev/null; then groupadd --system docker; fi
