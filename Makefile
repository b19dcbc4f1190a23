# Everything a newcomer needs. `make` alone lists the targets.
# Go is all that build, test and bench need; check needs a network for staticcheck, lint one for ruff and mypy.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
PLATFORMS   := linux/amd64 linux/arm64 darwin/arm64
# Packages with goroutines of their own whose tests are quick enough under the race detector.
RACE        := ./internal/transport ./internal/store/... ./internal/launch ./internal/corpus ./internal/attach ./internal/island ./internal/cli ./checks/testrun
# Whole runs that between them go every way that goroutines of internal/serve meet; all of its tests
# take minutes under the race detector.
RACE_RUNS   := TestTwoUnlikeIslandsTrainOneModel TestB6InterruptAndResume TestIslandsFromOutside TestIslandOnAnotherHost \
	TestDeskKeepsToItself TestD5ExternalIsland TestD5ExternalIslandOnTwoHosts TestAnIslandOfThreeHosts TestD5CheckpointRecords \
	TestExternalBesideNative TestRankIsKilled TestD10OtherNumberOfRanks TestStateOfTwoHosts TestStateIsOfferedAgain \
	TestKilledAtTheGate TestHostsAnswerTogether TestC5JoinerDiesWhileItIsSeeded TestC5DonorDiesWhileItSeeds TestC10AnIslandLeaves \
	TestConnectionBreaksAgainAndAgain TestRollbackCallsOutsideIslandsBack TestB5RollsBackOnce TestLostRepliesOfTheStore \
	TestFullStorePausesMerges
empty       :=
space       := $(empty) $(empty)
BENCHTIME   ?= 1s
TESTFLAGS   ?=
PYTHON      ?= /usr/bin/python3
PYTESTFLAGS ?=
RUFF        := ruff==0.14.0
MYPY        := mypy==1.18.2
PIP         := PIP_ROOT_USER_ACTION=ignore $(PYTHON) -m pip install -q --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help build test python lint evidence-gpu oracle check bench compare race format vet static tidy generated platforms clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

build: ## build bin/mistura
	go build -o bin/mistura ./cmd/mistura

test: ## run all tests; what is not installed is skipped by name
	go run ./checks/testrun $(TESTFLAGS) ./...

python: ## the Python package's tests, against this program (PYTHON: one with torch, numpy and pytest; Debian's by default)
	OMP_NUM_THREADS=1 PYTHONPATH=python $(PYTHON) -m pytest -q $(PYTESTFLAGS) python/tests

lint: ## ruff and mypy find nothing in python/, at pinned versions (from PyPI, with pip)
	@test -x "checks/out/$(RUFF)/bin/ruff" || $(PIP) --target "checks/out/$(RUFF)" "$(RUFF)"
	@test -x "checks/out/$(MYPY)/bin/mypy" || $(PIP) --target "checks/out/$(MYPY)" "$(MYPY)"
	"checks/out/$(RUFF)/bin/ruff" check python
	"checks/out/$(RUFF)/bin/ruff" format --check python
	PYTHONPATH="checks/out/$(MYPY)" $(PYTHON) -m mypy --config-file python/pyproject.toml --cache-dir checks/out/mypy python/mistura

evidence-gpu: ## what only a machine with a CUDA device can show, as one JSON file under docs/evidence (PYTHON: one with such a torch)
	$(PYTHON) checks/evidence/gpu.py

oracle: ## everything that is compared with PyTorch, to the end, and the table of it (Debian's python3-torch; minutes)
	@mkdir -p checks/out
	go test -count 1 -timeout 30m ./internal/engine/oracle -table "$(CURDIR)/checks/out/oracle.md"
	@cat checks/out/oracle.md

check: format vet static tidy generated platforms ## all that a change must pass beside the tests

bench: ## run all benchmarks (BENCHTIME=1x: once each)
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

compare: ## side by side with OpenBLAS and PyTorch (Debian's libopenblas0-openmp, python3-numpy, python3-torch)
	go run ./bench/sgemm
	go run ./bench/engine

race: ## run the concurrent packages' tests under the race detector (needs a C compiler)
	go run ./checks/testrun $(TESTFLAGS) -race -count 1 $(RACE)
	go run ./checks/testrun $(TESTFLAGS) -race -count 1 -run '^($(subst $(space),|,$(strip $(RACE_RUNS))))$$' ./internal/serve

format: ## gofmt finds nothing to change
	@files=$$(gofmt -l .); test -z "$$files" || { echo "not formatted, run gofmt -w:" $$files; exit 1; }

vet: ## go vet, the generator's module included
	go vet ./...
	go -C internal/engine/kernel/gen vet ./...

static: ## staticcheck, at a pinned version
	go run $(STATICCHECK) ./...

tidy: ## go.mod and go.sum are as go mod tidy leaves them
	go mod tidy -diff
	go -C internal/engine/kernel/gen mod tidy -diff

generated: ## generated code is what the generators write (needs protoc)
	checks/generated

platforms: ## everything compiles, tests included, on the platforms that are supported
	@for p in $(PLATFORMS); do echo "go vet for $$p"; GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0 go vet ./... || exit 1; done

clean: ## remove what was built
	rm -rf bin checks/out
