# Everything that developers and CI run in this repository; `make` lists it.
#
# The tests need cargo, go, python3 and npm. The scripts in tools/ install everything else into .tools/, in the versions of
# tools/versions.sh and of the tests' lock files. Three exceptions: the packages of Node.js go into node_modules/ of the example, and
# apt-get installs grpc++ (as root or with sudo), iproute2, tmux, gcc, clang, valgrind, a JDK and Maven (as root; without them the tests in
# network namespaces, of `top` in a terminal, those of the C library that need them, and the client in Java are skipped).

SHELL         := bash
.SHELLFLAGS   := -euo pipefail -c
MAKEFLAGS     += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help
.SUFFIXES:

FUZZ_SECONDS := 60

CARGO  ?= cargo
GO     ?= go
NPM    ?= npm
PYTHON ?= python3
CXX    ?= g++
NODE   ?= node
JAVA   ?= java
MVN    ?= mvn
# Not exported: cargo's build scripts read CXX.
TOOL_VARS := CARGO='$(CARGO)' GO='$(GO)' NPM='$(NPM)' PYTHON='$(PYTHON)' CXX='$(CXX)' MVN='$(MVN)'

TOOLS  := $(CURDIR)/.tools
BIN    := $(TOOLS)/bin
STAMPS := $(TOOLS)/stamps
PY     := tests/interop/python
GOLANG := tests/interop/go
LOAD   := tests/interop/load
PROXIES := tests/interop/proxies
HELM_TESTS   := tests/helm
GO_EXAMPLE   := examples/go
BASELINE     := tests/proto-baseline/v1.binpb
PROTOS  := $(shell find proto/opflex -name '*.proto')
PY_CLIENT   := clients/python
GO_CLIENT   := clients/go
FUZZERS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

# Stubs of the API, for the tests.
PY_GEN  := $(STAMPS)/gen-python
PY_PACKAGE := $(STAMPS)/python-package
RPC_GEN := $(STAMPS)/gen-google-rpc
CPP_BIN := $(TOOLS)/cpp/life
JAVA_CLASSES := $(TOOLS)/java/classes

# The binary that the tests run. PEERSTATUS_BIN=… names another one, and nothing is built then.
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE := $(TARGET_DIR)/release/peerstatus
override PEERSTATUS_BIN := $(abspath $(or $(PEERSTATUS_BIN),$(RELEASE)))
export PEERSTATUS_BIN

.PHONY: help build test rust-test c-library install-c c-test gcc clang valgrind interop-java-run proto-lint proto-release go-stubs python-package interop interop-python interop-go interop-node interop-cpp interop-java load-go \
    load-test proxy-test web-test browser-test helm-test helm-snapshots cluster-test cluster-run chart-package pictures alert-series image-root image image-archive sbom image-test faults faults-test fleet fleet-test watch-go fmt lint deny \
    fuzz fuzz-corpus docs ci clean-tools release-binary iproute2 tmux grpc++ jdk maven FORCE $(FUZZERS:%=fuzz-%) \
    $(FUZZERS:%=fuzz-corpus-%)

help: ## List the targets
	@echo 'Usage: make TARGET'
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

build: | need-cargo ## Build the release binary, target/release/peerstatus
	@echo '==> Building the release binary'
	@$(CARGO) build --release --locked

STAGES := rust-test proto-lint interop-python interop-go interop-node interop-cpp interop-java c-test load-test proxy-test web-test browser-test faults-test fleet-test helm-test image-test

test: need-cargo need-go need-npm need-python ## Run every test there is
	@MAKE='$(MAKE)' tools/test.sh $(STAGES)

rust-test: $(STAMPS)/nats-server | need-cargo iproute2 tmux ## Run the Rust tests
	@echo '==> Running the Rust tests'
	@$(CARGO) test --locked --workspace

proto-lint: $(STAMPS)/buf ## Lint the API (buf's STANDARD rules), check its format, and that old clients go on working
	@tools/lint-proto.sh $(BASELINE)

# Run it in the commit of a release, after its other changes. Before 1.0 also in a commit that breaks the API on purpose, with
# a line in CHANGELOG.md.
proto-release: $(STAMPS)/buf ## Make the present API the one that later versions must not break
	@echo '==> Writing $(BASELINE)'
	@$(BIN)/buf build proto --exclude-source-info --output $(BASELINE)

interop: interop-python interop-go interop-node interop-cpp interop-java ## Run clients in other languages against the release binary

IN_PYTHON := PYTHONPATH=$(TOOLS)/gen/python-package:$(TOOLS)/gen/python PYTHONDONTWRITEBYTECODE=1 GOOGLE_RPC=$(TOOLS)/gen/google-rpc $(BIN)/python

python-package: $(STAMPS)/python-clients ## Build the wheel and the source distribution of the client in Python, clients/python/dist
	@tools/build-python-package.sh $(PY_CLIENT)/dist

interop-python: release-binary $(PY_GEN) $(PY_PACKAGE) $(STAMPS)/grpcurl $(STAMPS)/h2spec $(STAMPS)/node-modules ## Run the clients in Python, grpcurl, h2spec and the examples
	@echo '==> Checking the package for Python'
	@cd $(PY_CLIENT) && PYTHONPATH=$(TOOLS)/gen/python-package $(BIN)/python-clients -m mypy -p opflex_peerstatus
	@cd $(PY_CLIENT) && $(IN_PYTHON) -m unittest discover -t . -s tests
	@echo '==> Building the example in Go'
	@cd $(GO_EXAMPLE) && $(GO) build -o $(BIN)/example-go .
	@cd $(GOLANG) && $(GO) build -o $(BIN)/many-go ./many
	@echo '==> Running the Python and grpcurl clients, and the examples'
	@cd $(PY) && GRPCURL=$(BIN)/grpcurl H2SPEC=$(BIN)/h2spec NODE=$(NODE) GO=$(GO) $(IN_PYTHON) -m unittest -v

interop-go: release-binary $(STAMPS)/buf | need-python ## Check the client in Go, and run one
	@echo '==> Checking the client in Go'
	@tools/generate-stubs.sh go-check
	@cd $(GO_CLIENT) && $(GO) vet ./... && $(GO) test -race ./watch
	@echo '==> Running the Go client'
	@cd $(GOLANG) && PYTHON=$(PYTHON) $(GO) test -count=1 -timeout 5m -v .

interop-node: release-binary $(STAMPS)/node-modules $(PY_GEN) $(RPC_GEN) ## Run the client in Node.js
	@echo '==> Running the Node.js client'
	@$(IN_PYTHON) $(PY)/stage.py $(NODE) tests/interop/node/life.js

interop-cpp: release-binary $(CPP_BIN) $(PY_GEN) ## Run the client in C++
	@echo '==> Running the C++ client'
	@$(IN_PYTHON) $(PY)/stage.py $(CPP_BIN)

interop-java: release-binary jdk maven $(PY_GEN) ## Run the client in Java
	@if type '$(MVN)' '$(JAVA)' javac >/dev/null 2>&1; then $(MAKE) interop-java-run; else echo 'SKIPPED: the client in Java needs a JDK and Maven'; fi

interop-java-run: $(JAVA_CLASSES)
	@echo '==> Running the Java client'
	@$(IN_PYTHON) $(PY)/stage.py $(JAVA) -cp '$(JAVA_CLASSES):$(TOOLS)/java/dependency/*' Life

# ---- the C library ----

C_BUILT := $(CURDIR)/target/c

c-library: | need-cargo ## Build the C library, shared and static, into target/c/lib
	@echo '==> Building the C library'
	@$(CARGO) build --release --locked --package opflex-peerstatus-c
	@tools/link-c-library.sh $(TARGET_DIR)/release/libopflex_peerstatus_c.a $(C_BUILT)

install-c: c-library ## Install the C library below PREFIX=/usr/local, in DESTDIR if that is set
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' LIBDIR='$(LIBDIR)' INCLUDEDIR='$(INCLUDEDIR)' tools/install-c-library.sh $(C_BUILT)

# In the dev profile, with the artifacts of rust-test: the same packages and kinds of targets have the same features.
C_TEST := $(CURDIR)/target/c-test

c-test: release-binary gcc clang valgrind | need-cargo need-python ## Run programs in C, on the C library, beside a service and the recordings
	@echo '==> Building the C library, in the dev profile'
	@$(CARGO) build --locked --workspace --lib --tests
	@mkdir -p $(C_TEST) && strip --strip-debug -o $(C_TEST)/stripped.a $(TARGET_DIR)/debug/libopflex_peerstatus_c.a # which valgrind would read
	@tools/link-c-library.sh $(C_TEST)/stripped.a $(C_TEST)/built
	@echo '==> Building programs in C'
	@tools/build-c-tests.sh $(C_TEST)/built $(C_TEST)/programs
	@echo '==> Running programs in C'
	@cd tests/c && C_LIBRARY=$(C_TEST)/built C_PROGRAMS=$(C_TEST)/programs PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m unittest -v

# With LOAD_SECONDS=60 the tests also see the proxies' own timeouts.
IN_LOAD := PYTHONPATH=$(TOOLS)/gen/python:$(CURDIR)/$(PY):$(CURDIR)/$(LOAD) PYTHONDONTWRITEBYTECODE=1 PATH=$(BIN):$$PATH:/usr/sbin \
    LOAD_GO=$(BIN)/load-go NODE=$(NODE) $(BIN)/python

load-go: | need-go
	@cd $(GOLANG) && $(GO) build -o $(BIN)/load-go ./load

load-test: release-binary load-go $(PY_GEN) $(STAMPS)/node-modules $(STAMPS)/ghz $(STAMPS)/distro-tools ## Run clients at full speed beside watches, LOAD_SECONDS=2 each
	@echo '==> Running clients at full speed'
	@cd $(LOAD) && $(IN_LOAD) -m unittest -v

proxy-test: release-binary load-go $(PY_GEN) $(STAMPS)/caddy $(STAMPS)/envoy $(STAMPS)/distro-tools ## Run clients behind the proxies of docs/proxies.md, LOAD_SECONDS=2 each
	@echo '==> Running clients behind proxies'
	@cd $(PROXIES) && $(IN_LOAD) -m unittest -v

web-test: release-binary $(PY_GEN) $(STAMPS)/buf ## Run gRPC-Web clients
	@echo '==> Running gRPC-Web clients'
	@cd tests/interop/web && BUF=$(BIN)/buf $(IN_LOAD) -m unittest -v

# The service, twenty peers and fifty clients under faults that a seed chooses: SEED=17 or SEEDS=1-500, FAULTS_JOBS=3 at a time.
FAULTS      := tests/faults
FAULT_SEEDS := $(or $(SEED),$(SEEDS),1-100)
IN_FAULTS   := PYTHONPATH=$(TOOLS)/gen/python PYTHONDONTWRITEBYTECODE=1 WATCH_GO=$(BIN)/watch-go \
    LIBFAKETIME=$(TOOLS)/libfaketime/libfaketime.so $(BIN)/python
FAULT_TOOLS := release-binary watch-go iproute2 $(PY_GEN) $(STAMPS)/libfaketime

watch-go: | need-go
	@cd $(GOLANG) && $(GO) build -o $(BIN)/watch-go ./watch

faults-test: $(FAULT_TOOLS) ## Test the runner of faults, and run its first ten seeds
	@echo '==> Testing the model of the runner'
	@cd $(FAULTS) && $(IN_FAULTS) -m unittest -v
	@echo '==> Running ten seeds with faults'
	@cd $(FAULTS) && $(IN_FAULTS) run.py 1-10

faults: $(FAULT_TOOLS) ## Run the service, peers and clients under faults: SEED=17, SEEDS=1-500, or 1-100
	@cd $(FAULTS) && $(IN_FAULTS) run.py $(FAULT_SEEDS)

# Three NATS servers, fifty nodes, three replicas of the service of the fleet and their clients, likewise.
FLEET       := tests/fleet
FLEET_SEEDS := $(or $(SEED),$(SEEDS),1-50)
# Processes and clients are those of the runs with faults. One seed at a time: it has a hundred processes.
IN_FLEET    := PYTHONPATH=$(TOOLS)/gen/python:$(CURDIR)/$(FAULTS) PYTHONDONTWRITEBYTECODE=1 NATS_SERVER=$(BIN)/nats-server \
    FAULTS_JOBS=$(or $(FAULTS_JOBS),1) $(BIN)/python
FLEET_TOOLS := release-binary iproute2 $(PY_GEN) $(STAMPS)/nats-server

fleet-test: $(FLEET_TOOLS) ## Test the model of a fleet, and run its first ten seeds
	@echo '==> Testing the model of a fleet'
	@cd $(FLEET) && $(IN_FLEET) -m unittest -v
	@echo '==> Running ten seeds of a fleet with faults'
	@cd $(FLEET) && $(IN_FLEET) run.py 1-10

fleet: $(FLEET_TOOLS) ## Run a fleet, NATS servers and clients under faults: SEED=17, SEEDS=1-200, or 1-50
	@cd $(FLEET) && $(IN_FLEET) run.py $(FLEET_SEEDS)

browser-test: release-binary $(STAMPS)/chromium $(STAMPS)/nats-server ## Run the tests of the status page in chromium
	@echo '==> Running the tests of the status page'
	@cd tests/browser && $(NODE) --test --test-reporter=spec page.test.mjs

pictures: release-binary $(STAMPS)/chromium tmux ## Draw docs/pictures from a running service
	@echo '==> Drawing docs/pictures'
	@cd tests/browser && $(NODE) pictures.mjs

# These need no cluster: they compare the rendered chart with snapshots, Kubernetes' schemas and the service's configuration.
IN_HELM := PYTHONDONTWRITEBYTECODE=1 HELM=$(BIN)/helm PROMTOOL=$(BIN)/promtool $(BIN)/python-helm

helm-test: release-binary $(STAMPS)/helm $(STAMPS)/promtool $(STAMPS)/python-helm ## Run the tests of the Helm chart, its alerts and its dashboard
	@echo '==> Testing the Helm chart'
	@cd $(HELM_TESTS) && $(IN_HELM) -m unittest -v

# The chart on a Kubernetes of its own, in namespaces that end with it. CLUSTER_TESTS='test_owner test_reload.Reload' runs only these;
# CLUSTER_IMAGE_ROOT=FOLDER/root is the root folder of the image, if it is not to be built.
IN_CLUSTER := PYTHONPATH=$(TOOLS)/gen/python PYTHONDONTWRITEBYTECODE=1 \
    IMAGE_ROOT=$(abspath $(or $(CLUSTER_IMAGE_ROOT),target/quick/root)) $(BIN)/python

cluster-test: $(STAMPS)/cluster ## Run the chart on a Kubernetes of its own; needs root, and first builds that for a quarter of an hour
	@if [ "$$(id -u)" = 0 ] && [ -e $(STAMPS)/cluster ]; then $(MAKE) cluster-run; else echo 'SKIPPED: the tests on a cluster'; fi

cluster-run: $(STAMPS)/helm $(STAMPS)/helm4 $(STAMPS)/kube-router $(PY_GEN) | iproute2
ifndef CLUSTER_IMAGE_ROOT
	@echo '==> Building the static binary, quickly'
	@$(IMAGE_ROOT) target/quick target/quick/root $(QUICK)
endif
	@echo '==> Running the tests on a cluster'
	@cd tests/cluster && $(IN_CLUSTER) run.py $(CLUSTER_TESTS)

alert-series: | need-cargo ## Record the series of a running service on which helm-test tests the alerts (takes 3 minutes)
	@echo '==> Recording tests/helm/recorded-series.yaml'
	@$(CARGO) test --locked --test it -- --ignored --exact alert_series::record

helm-snapshots: $(STAMPS)/helm $(STAMPS)/python-helm ## Update the snapshots of the rendered chart, and the table in its README
	@cd $(HELM_TESTS) && $(IN_HELM) snapshots.py

chart-package: $(STAMPS)/helm | need-python ## Package the Helm chart into target/chart, REPOSITORY=https://… being its home
	@mkdir -p target/chart
	@$(PYTHON) tools/package-chart.py $(BIN)/helm target/chart $(REPOSITORY)

# ---- the image ----

# Linked statically, so that the image needs no libc. glibc's resolver works in a static binary since 2.34, musl's always does:
# STATIC_TARGET=x86_64-unknown-linux-musl, where rustup has it.
STATIC_TARGET ?= $(shell $(CARGO) -vV | sed -n 's/^host: //p')
# For the tests: without optimisation across crates the build takes half the time. Such a binary has many more functions, so its
# symbols are stripped; `make image` keeps them.
QUICK       := --config 'profile.release.lto="off"' --config profile.release.codegen-units=16 --config profile.release.strip=true
VERSION     := $(shell sed -n '/^version = /{s/.*"\(.*\)"/\1/p;q}' Cargo.toml)
REVISION    ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
IMAGE       ?= opflex-peerstatus:$(VERSION)
BUILDER     ?= $(firstword $(foreach builder,buildah docker podman,$(shell command -v $(builder) 2>/dev/null)))

IMAGE_ROOT  := $(TOOL_VARS) STATIC_TARGET=$(STATIC_TARGET) tools/build-image-root.sh

image-root: | need-cargo ## Make the root folder of the image, target/image/root
	@echo '==> Building the static binary'
	@$(IMAGE_ROOT) $(TARGET_DIR) target/image/root

image: image-root ## Make the container image IMAGE, with buildah, docker or podman
	@test -n '$(BUILDER)' || { echo 'make: Neither buildah nor docker nor podman is there; make image-archive needs none of them.' >&2; exit 1; }
	@$(BUILDER) $(if $(filter %podman %docker,$(BUILDER)),build,bud) --file image/Dockerfile --tag $(IMAGE) \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) target/image \
	    || { echo 'make: $(BUILDER) made no image. If it does not run: BUILDER=… names another one, and make image-archive needs none.' >&2; exit 1; }

image-archive: image-root | need-python ## Write the container image IMAGE to target/image/opflex-peerstatus.tar, without these tools
	@$(PYTHON) image/archive.py --tag $(IMAGE) --arg VERSION=$(VERSION) --arg REVISION=$(REVISION) \
	    --output target/image/opflex-peerstatus.tar target/image

# The crates in the binary. The static one also contains the distribution's C library, which is not listed.
sbom: $(STAMPS)/cargo-cyclonedx ## Write the list of crates in the binary (CycloneDX), target/opflex-peerstatus.cdx.json
	@echo '==> Writing target/opflex-peerstatus.cdx.json'
	@$(BIN)/cargo-cyclonedx cyclonedx --quiet --format json --spec-version 1.5 --no-build-deps \
	    --target $(STATIC_TARGET) --override-filename opflex-peerstatus.cdx
	@mkdir -p target && mv opflex-peerstatus.cdx.json target/ && rm -f clients/c/opflex-peerstatus.cdx.json # one for each member

image-test: $(STAMPS)/helm $(STAMPS)/python-helm | need-cargo iproute2 ## Run the root folder of the image as a container runtime would
	@echo '==> Building the static binary, quickly'
	@$(IMAGE_ROOT) target/quick target/quick/root $(QUICK)
	@echo '==> Testing the image'
	@cd $(HELM_TESTS) && IMAGE_ROOT=$(abspath target/quick/root) $(IN_HELM) -m unittest discover -v -p 'image_test.py'

fmt: $(STAMPS)/buf | need-cargo ## Format the Rust code and the API
	@$(CARGO) fmt --all
	@$(BIN)/buf format --write proto

lint: | need-cargo ## Check the format and run clippy, warnings denied
	@echo '==> Checking the format and running clippy'
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@$(CARGO) clippy --no-default-features --features client --locked -- -D warnings

deny: $(STAMPS)/cargo-deny ## Check the dependencies: bans, licences, sources
	@echo '==> Checking the dependencies'
	@$(BIN)/cargo-deny --locked --log-level error check --hide-inclusion-graph bans licenses sources

# No sanitizer: what is fuzzed has no unsafe code, and the stable compiler supports none.
fuzz: $(FUZZERS:%=fuzz-%) ## Fuzz, FUZZ_SECONDS=60 per target

$(FUZZERS:%=fuzz-%): fuzz-%: $(STAMPS)/cargo-fuzz
	@echo '==> Fuzzing $* for $(FUZZ_SECONDS) s, once it is built'
	@mkdir -p fuzz/corpus/$*
	@$(BIN)/cargo-fuzz fuzz run --sanitizer none $* fuzz/corpus/$* tests/corpus/$* -- \
	    -max_total_time=$(FUZZ_SECONDS) -dict=fuzz/opflex.dict -timeout=10 -verbosity=0 -print_final_stats=1

fuzz-corpus: $(FUZZERS:%=fuzz-corpus-%) ## Add inputs that `make fuzz` found and that reach new code to tests/corpus/

$(FUZZERS:%=fuzz-corpus-%): fuzz-corpus-%: $(STAMPS)/cargo-fuzz
	@mkdir -p fuzz/corpus/$*
	@$(BIN)/cargo-fuzz fuzz run --sanitizer none $* tests/corpus/$* fuzz/corpus/$* -- -set_cover_merge=1 -use_counters=0 -verbosity=0

docs: | need-cargo ## Build the documentation of the crate, warnings denied
	@echo '==> Building the documentation'
	@RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --no-deps --workspace --locked

ci: ## Run what CI runs
	@.ci/run

clean-tools: ## Remove .tools/, the example's node_modules and its stubs
	rm -rf $(TOOLS) examples/node/node_modules

ifeq ($(PEERSTATUS_BIN),$(RELEASE))
release-binary: build
else
release-binary:
	@test -x '$(PEERSTATUS_BIN)' || { echo 'make: PEERSTATUS_BIN: $(PEERSTATUS_BIN) is not an executable file.' >&2; exit 1; }
endif

# ---- tools ----

# Each script checks what is installed and does nothing if that is the right version (tools/versions.sh and the lock
# files of the tests). Its stamp changes only when it installs something, which rebuilds what depends on it.
$(STAMPS)/%: FORCE
	@$(TOOL_VARS) tools/install.sh $*
$(STAMPS)/envoy: $(STAMPS)/python

FORCE:

iproute2 tmux grpc++ gcc clang valgrind jdk maven:
	@$(TOOL_VARS) tools/install.sh $@

need-%:
	@$(TOOL_VARS) tools/need.sh $*

# ---- stubs of the API, for the tests alone ----

$(PY_GEN): $(STAMPS)/python $(PROTOS)
	@tools/generate-stubs.sh python && touch $@

$(PY_PACKAGE): $(STAMPS)/python-clients $(PROTOS) $(shell find $(PY_CLIENT) -name '*.py' -not -path '*/opflex/*') $(PY_CLIENT)/pyproject.toml
	@tools/build-python-package.sh $(TOOLS)/python-package && touch $@

go-stubs: $(STAMPS)/buf | need-go ## Generate the stubs of the client in Go, which are part of the repository
	@tools/generate-stubs.sh go $(CURDIR)/$(GO_CLIENT)

$(RPC_GEN): $(STAMPS)/python
	@tools/generate-stubs.sh google-rpc && touch $@

$(CPP_BIN): tests/interop/cpp/life.cc $(PROTOS) $(RPC_GEN) | grpc++
	@$(TOOL_VARS) tools/build-cpp-client.sh $(PROTOS)

$(JAVA_CLASSES): tests/interop/java/pom.xml $(wildcard tests/interop/java/src/main/java/*.java) $(PROTOS)
	@$(TOOL_VARS) tools/build-java-client.sh && touch $@
