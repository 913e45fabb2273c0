# Sallyport. `make help` lists what there is; `make` and `make test-unit` need Go alone.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO        ?= go
TOOL      := $(GO) tool -modfile=contrib/tools/go.mod
HELM      := $(GO) tool -modfile=contrib/tools/helm/go.mod helm
BUILD     := build
KERNELS   ?= 6.1 6.12
NEWEST    ?= 7.3
FUZZTIME  ?= 10s

# The tiers. A folder that is not there yet is left out.
existing   = $(patsubst %,./%/...,$(wildcard $(1)))
PRIVILEGED := tests/bpf tests/privileged tests/oracle tests/gauntlet
# Tests that attach programs wait for packets most of the time, and one package at a time may; the others compute.
ATTACHING   = $(call existing,tests/privileged tests/gauntlet)
COMPUTING   = $(call existing,tests/bpf tests/oracle tests/victim tests/parse)
# The truth tables are about policies and not about kernels: 1,500 connections are too many for an emulated machine.
VM_TESTS    = $$($(GO) list $(call existing,tests/vm/selftest tests/victim $(PRIVILEGED)) | grep -Ev '/tests/privileged/truth$$$(LEFT_OUT_$(KERNEL))')
CONTAINERS  = $(call existing,tests/containers tests/features)
NODE_TESTS  = $(call existing,tests/node)
UNIT_TESTS  = $$($(GO) list ./... | grep -Ev '/tests/(bpf|privileged|oracle|containers|features|node|bench|gauntlet|victim|parse|vm/selftest)(/|$$)')

# What the race detector says nothing about: tests that only read this tree, and what -short leaves out under it.
UNRACED     = ./tests/arch ./tests/schema $$(grep -rl 'testing\.Short()' --include='*_test.go' agent policy probes runtime | xargs -r dirname | sort -u | sed 's,^,./,')

# What the guest of a VM test gets beside the test program. There is no compiler in it.
VMRUN_FLAGS ?= -f $(CURDIR)/$(BUILD)/victim:/bin/victim -env SALLYPORT_VICTIM=/bin/victim \
	-dyn /usr/bin/curl -dyn /usr/bin/openssl -dyn /usr/bin/gnutls-cli -dyn /usr/sbin/nginx -dyn /usr/bin/perl \
	-dyn $(CURDIR)/$(BUILD)/victim-tls:/bin/victim-tls -env SALLYPORT_VICTIM_TLS=/bin/victim-tls
VM_PARALLEL ?= 1

# Include paths are relative to where bpf2go runs, so that no path of this machine gets into an object. libbpf's headers
# include asm/types.h, which Debian keeps in a folder of the architecture.
BPF_CFLAGS := -O2 -g -mcpu=v3 -Wall -Wextra -Wno-unused-parameter -Wpadded -Werror \
	-I../../../bpf/include -idirafter /usr/include/$(shell uname -m)-linux-gnu

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build/sallyport and build/sallyport-hook, static, from the committed BPF objects
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -ldflags '-s -w' -o $(BUILD)/sallyport ./agent
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -ldflags '-s -w' -o $(BUILD)/sallyport-hook ./agent/hook

.PHONY: generate generate-hpack generate-bpf generate-api generate-schema
generate: generate-hpack generate-bpf generate-api generate-schema ## re-make the BPF objects, their Go, the API's Go, schema and CRDs (clang-19)
generate-bpf:
	@contrib/tools/setup.sh generate
	BPF2GO_CFLAGS='$(BPF_CFLAGS)' $(GO) generate ./probes/internal/bpfobj ./tests/internal/oracle
generate-api:
	$(GO) -C contrib/tools run ./protogen ../../agent/internal/api/v1 sallyport.proto
generate-schema:
	$(GO) -C contrib/tools run ./schemagen ../..
generate-hpack:
	$(GO) -C contrib/tools run ./hpackgen ../..

.PHONY: manifests
manifests: ## contrib/manifests from the Helm chart (builds helm once)
	$(HELM) template sallyport contrib/helm/sallyport --namespace sallyport >contrib/manifests/sallyport.yaml

.PHONY: verify-generated
verify-generated: ## re-make everything generated and fail if a byte changes
	@sums() { find bpf/include/parse/hpack_static.h probes/internal/bpfobj tests/internal/oracle agent/internal/api/v1 contrib/schema contrib/crds -type f 2>/dev/null | sort | xargs sha256sum; }; \
	before=$$(sums); $(MAKE) generate; \
	diff <(echo "$$before") <(sums) || { echo 'verify-generated: the files above were not what their sources make; commit the new ones' >&2; exit 1; }

.PHONY: fmt
fmt: ## format the Go sources
	$(TOOL) golangci-lint fmt ./...

.PHONY: lint
lint: ## golangci-lint, formatting included
	$(TOOL) golangci-lint run ./...

.PHONY: vuln
vuln: ## known vulnerabilities in what is really called (needs the network)
	$(TOOL) govulncheck ./...

.PHONY: test-unit
test-unit: ## tier 1: no root, no clang, no network
	$(GO) test $(UNIT_TESTS)

.PHONY: test-race
test-race: ## tier 1 with the race detector (cgo)
	CGO_ENABLED=1 $(GO) test -race -short $$(printf '%s\n' $(UNIT_TESTS) | grep -Ev '/tests/(arch|schema)$$')

.PHONY: test-unraced
test-unraced: ## tier 1 that test-race leaves out
	$(GO) test $(UNRACED)

.PHONY: test-bpf
test-bpf: ## tier 2: BPF on this machine's kernel (root)
	@contrib/tools/setup.sh test
	@export CGO_ENABLED=0 REQUIRE_PRIVILEGED=1; status=0; \
	$(GO) test -count=1 -p 1 $(COMPUTING) & computing=$$!; \
	$(GO) test -count=1 -p 1 $(ATTACHING) || status=1; \
	wait $$computing || status=1; exit $$status

# vmrun, and what its guests get that is made here.
.PHONY: guests
guests: setup-test
	CGO_ENABLED=0 $(GO) build -o $(BUILD)/vmrun ./tests/vm/vmrun
	cc -static -O2 -pthread -Wall -Wextra -o $(BUILD)/victim tests/victim/*.c
	cc -O2 -Wall -Wextra -o $(BUILD)/victim-tls tests/victim/tls/*.c

.PHONY: test-vm
test-vm: build guests ## tier 3: BPF, and the demo, on stock 6.1 and 6.12 kernels in QEMU; what may differ on 7.3
	for version in $(KERNELS) $(NEWEST); do tests/vm/kernels.sh "$$version" >/dev/null; done
	@status=0; for version in $(KERNELS); do \
	  $(MAKE) test-vm-kernel KERNEL="$$version" >"$(BUILD)/vm-$$version.log" 2>&1 & \
	  echo "== kernel $$version: $(BUILD)/vm-$$version.log, shown when it is done"; \
	done; \
	for job in $$(jobs -p); do wait "$$job" || status=1; done; \
	$(MAKE) test-vm-newest >"$(BUILD)/vm-$(NEWEST).log" 2>&1 || status=1; \
	for version in $(KERNELS) $(NEWEST); do echo "== kernel $$version"; cat "$(BUILD)/vm-$$version.log"; done; \
	exit $$status

# One kernel of test-vm. They run side by side: an emulated machine is one thread most of the time. Of the steps of the ladder that
# stop something each is tested on one kernel: fmod_ret is what Debian's of 6.1 has, without a word on its command line. What
# has no hook, but the gate, or computes alone, is tested on the newer one, and so is what a program makes of answers, pieces and
# full tables, in which kernels do not differ. `make test-vm STEPS_6.1= STEPS_6.12= LEFT_OUT_6.1= SKIPPED_6.1=` tests all on both.
LADDER_6.1  = first
LADDER_6.12 = last
STEPS_6.1  = fmod_ret,report
STEPS_6.12 = lsm,report
SKIPPED_6.1 = ^Test(Clients|Details.*|NoDetails|FrontingOverTLS|ProgramsBeforeTheyRun|ForgottenConnections|DeniedAmidAnAnswer|PortComesAgain|Answer.+|OtherEnds|HellosInPieces|ServerNames.+|.*AtEveryPlace|HostileResponses.*|ResponsesOf(Pipelines|Servers)|Nginx.*|FullRings|ContainersComeAndGo|SwapOfManyRulesUnderLoad|SamePort|FloodOfForks)$$
LEFT_OUT_6.1 = |/tests/(bpf/gate|oracle|privileged/(gate|names))$$
.PHONY: test-vm-kernel
test-vm-kernel:
	status=0; kernel=$$(tests/vm/kernels.sh "$(KERNEL)"); \
	$(if $(filter $(KERNEL),$(lastword $(KERNELS))),VMRUN_KERNEL="$$kernel" CGO_ENABLED=0 REQUIRE_PRIVILEGED=1 $(GO) test -count=1 -run '^TestBoot$$' ./tests/vm/vmrun || status=1;) \
	GO='$(GO)' VM_PARALLEL=$(VM_PARALLEL) STEPS='$(STEPS_$(KERNEL))' SKIPPED='$(SKIPPED_$(KERNEL))' LADDER='$(LADDER_$(KERNEL))' tests/vm/packages.sh "$(CURDIR)/$(BUILD)/vmrun" "$$kernel" $(VM_TESTS) -- $(VMRUN_FLAGS) || status=1; \
	for step in lsm fmod_ret; do \
	  tests/vm/demo.sh $(BUILD)/vmrun "$$kernel" $(BUILD)/sallyport "$$step" || status=1; \
	done; \
	$(if $(filter 6.12,$(KERNEL)),tests/vm/features.sh $(BUILD)/vmrun "$$kernel" $(BUILD)/sallyport $(BUILD)/victim $(WITHOUT_LSM) || status=1;) \
	exit $$status

# The LSMs of a kernel that was not told of bpf.
WITHOUT_LSM = -lsm lockdown,yama
.PHONY: features
features: build guests ## what the agent does on kernels that lack something, as a table (root)
	@status=0; log=$(BUILD)/features.log; export FEATURES=all; \
	tests/vm/features.sh $(BUILD)/vmrun "$$(tests/vm/kernels.sh 6.12)" $(BUILD)/sallyport $(BUILD)/victim $(WITHOUT_LSM) | tee $$log || status=1; \
	for version in 6.12 6.1; do \
	  tests/vm/features.sh $(BUILD)/vmrun "$$(tests/vm/kernels.sh $$version)" $(BUILD)/sallyport $(BUILD)/victim | tee -a $$log || status=1; \
	done; \
	CGO_ENABLED=0 REQUIRE_PRIVILEGED=1 $(GO) test -count=1 -v ./tests/features | tee -a $$log || status=1; \
	grep '^|' $$log >$(BUILD)/features.md || status=1; echo '== $(BUILD)/features.md holds the rows'; exit $$status

# A kernel that is newer than what most nodes have: the programs load, their hooks are called, requests are read, and the
# kernel's own TLS is refused. Alone on the machine, as nothing of it is tried twice.
NEWEST_TESTS = ^(TestKernel.*|TestBPF.*|TestEveryProgramLoads|TestStarWars|TestHTTP2|TestGRPC|TestHandMadeKernelTLS|TestLibraryDoesWithoutTheKernel|TestBorrowing)$$
.PHONY: test-vm-newest
test-vm-newest:
	kernel=$$(tests/vm/kernels.sh "$(NEWEST)"); clients=$$(tests/vm/clients.sh); \
	CGO_ENABLED=0 REQUIRE_PRIVILEGED=1 $(GO) test -count=1 -timeout 40m -p 1 -run '$(NEWEST_TESTS)' \
	  -exec "$(CURDIR)/$(BUILD)/vmrun -kernel $$kernel $(VMRUN_FLAGS) $$clients" \
	  ./tests/vm/selftest ./tests/bpf/loadgate ./tests/privileged/read ./tests/privileged/tls ./tests/privileged/ladder

.PHONY: test-containers
test-containers: demo ## tier 4: the demo on this kernel, a real containerd, podman, runc and crun (root)
	@contrib/tools/setup.sh test
	$(if $(CONTAINERS),CGO_ENABLED=0 REQUIRE_PRIVILEGED=1 $(GO) test -count=1 -p 1 -timeout 30m $(CONTAINERS),@echo 'there is no tests/containers')

.PHONY: test-node
test-node: ## tier 5: pods over the CRI of containerd 1.6 and 2.3, and Kubernetes (root; builds them once)
	@contrib/tools/setup.sh test node
	@tests/node/kubernetes/release/build.sh >/dev/null
	@$(HELM) version >/dev/null
	$(if $(NODE_TESTS),CGO_ENABLED=0 REQUIRE_PRIVILEGED=1 $(GO) test -count=1 -p 1 -timeout 30m $(NODE_TESTS),@echo 'test-node: there is no tests/node in this tree')

.PHONY: test-node-vm
test-node-vm: build guests ## tier 5 in a guest: pods over the CRI of containerd 1.6, cgroup v2 alone, BPF LSM (root for apt)
	@contrib/tools/setup.sh node
	tests/vm/node.sh $(BUILD)/vmrun "$$(tests/vm/kernels.sh 6.12)" $(BUILD)/sallyport $(BUILD)/sallyport-hook $(BUILD)/victim \
	  ./tests/node '^(TestMainAndExec|TestFirstInstructionIsGoverned)$$'
	tests/vm/node.sh $(BUILD)/vmrun "$$(tests/vm/kernels.sh 6.12)" $(BUILD)/sallyport $(BUILD)/sallyport-hook $(BUILD)/victim \
	  ./tests/containers/agent '^TestStarWarsOverTLS$$'

.PHONY: test
test: setup-test test-unraced test-race test-bpf test-vm test-containers ## all tiers (root)

.PHONY: setup-test
setup-test:
	@contrib/tools/setup.sh test

.PHONY: fuzz-short
fuzz-short: ## every fuzz target for a few seconds each
	FUZZTIME=$(FUZZTIME) contrib/tools/fuzz.sh

RUNS ?= 1000000
.PHONY: fuzz-parsers
fuzz-parsers: ## libFuzzer on each parser of the kernel, RUNS (1000000) executions under the sanitizers (clang-19)
	@contrib/tools/setup.sh fuzz
	RUNS=$(RUNS) contrib/tools/fuzzparsers.sh

.PHONY: bench
bench: guests ## what it costs, as tables against a no-op natively and against no agent in the VM (root)
	$(GO) test -run '^$$' -bench . -benchmem ./policy/...
	CGO_ENABLED=0 REQUIRE_PRIVILEGED=1 $(GO) test -count=1 -v ./tests/bench
	for version in $(KERNELS); do \
	  kernel=$$(tests/vm/kernels.sh "$$version"); \
	  echo "== kernel $$version"; \
	  CGO_ENABLED=0 REQUIRE_PRIVILEGED=1 $(GO) test -count=1 -v -timeout 20m \
	    -exec "$(CURDIR)/$(BUILD)/vmrun -icount -smp 1 -kernel $$kernel $(VMRUN_FLAGS)" ./tests/bench; \
	done

.PHONY: gauntlet
gauntlet: guests ## every attack against every step of the ladder, and every fault, as tables; fails where a row got worse (root)
	@status=0; \
	CGO_ENABLED=0 REQUIRE_PRIVILEGED=1 $(GO) test -count=1 -v ./tests/gauntlet | tee $(BUILD)/gauntlet.log || status=1; \
	CGO_ENABLED=0 REQUIRE_PRIVILEGED=1 $(GO) test -count=1 -v -run '^TestFault' ./tests/containers/agent | tee $(BUILD)/faults.log || status=1; \
	for file in gauntlet faults; do grep '^|' $(BUILD)/$$file.log >$(BUILD)/$$file.md || status=1; done; \
	echo '== $(BUILD)/gauntlet.md and $(BUILD)/faults.md hold the tables'; \
	for version in $(KERNELS); do \
	  kernel=$$(tests/vm/kernels.sh "$$version"); \
	  echo "== kernel $$version"; \
	  CGO_ENABLED=0 REQUIRE_PRIVILEGED=1 $(GO) test -count=1 -v -timeout 20m \
	    -exec "$(CURDIR)/$(BUILD)/vmrun -kernel $$kernel $(VMRUN_FLAGS)" ./tests/gauntlet || status=1; \
	done; exit $$status

.PHONY: bpf-stats
bpf-stats: guests ## how much of each program the verifiers look at: makes tests/bpf/loadgate/stats.md (root)
	@test='$(GO) test -count=1 -v -run ^TestEveryProgramLoads$$'; export CGO_ENABLED=0 REQUIRE_PRIVILEGED=1; \
	{ $$test ./tests/bpf/loadgate; for version in $(KERNELS) $(NEWEST); do \
	  $$test -exec "$(CURDIR)/$(BUILD)/vmrun -kernel $$(tests/vm/kernels.sh "$$version")" ./tests/bpf/loadgate; \
	done; } >$(BUILD)/bpf-stats.log || true # what is not in the table yet, or has grown, fails
	contrib/tools/bpfstats.sh <$(BUILD)/bpf-stats.log >$(BUILD)/stats.md
	@mv $(BUILD)/stats.md tests/bpf/loadgate/stats.md; git diff --stat -- tests/bpf/loadgate/stats.md

SOAK ?= 30m
.PHONY: soak soak-vm
soak: ## an agent under mixed load for SOAK (30m): memory, files and tables must not grow (root)
	@contrib/tools/setup.sh test
	SOAK=$(SOAK) CGO_ENABLED=0 REQUIRE_PRIVILEGED=1 $(GO) test -count=1 -v -timeout 3h -run '^TestSoak$$' ./tests/containers/agent

soak-vm: build guests ## the same in a guest with BPF LSM, for 10 minutes
	@contrib/tools/setup.sh node
	SOAK=10m GUEST_MINUTES=25 tests/vm/node.sh $(BUILD)/vmrun "$$(tests/vm/kernels.sh 6.12)" \
	  $(BUILD)/sallyport $(BUILD)/sallyport-hook $(BUILD)/victim ./tests/containers/agent '^TestSoak$$'

.PHONY: check
check: lint verify-generated test-unit ## what must hold before a commit

.PHONY: demo
demo: build ## a shell in a real container is stopped by the kernel, and told to syslog (root)
	@contrib/tools/setup.sh demo
	$(BUILD)/sallyport demo

.PHONY: setup
setup: ## install with apt what the targets above need and this machine lacks (root)
	@contrib/tools/setup.sh test generate

.PHONY: clean
clean: ## remove what was built here
	rm -rf $(BUILD)
