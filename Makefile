# Build, test and measure etcd-dns. Everything here works from a clean clone with Go and git; the lab wants root on Debian.
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS = -X main.version=$(VERSION)
export CGO_ENABLED = 0

.PHONY: build test unit lab campaign race fuzz lint bench bench-Boot bench-DNS bench-Null bench-Large bench-Publish bench-Rack clean

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/etcd-dns ./cmd/etcd-dns

# test is what CI runs: formatting, vet, unit, integration and lab tests. The lab says loudly when it has to skip.
test:
	@./lab/install.sh
	@test -z "$$(gofmt -l .)" || { echo 'gofmt wants to change:'; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) test -timeout 28m ./...

unit:
	$(GO) test $$($(GO) list ./... | grep -v /lab)

lab:
	@./lab/install.sh
	$(GO) test -timeout 28m -v ./lab

# campaign torments racks of real processes with random faults, see docs/campaign.md. The same SEED is the same sequence; FIRST goes
# on where another run ended, STOCK=true torments stock etcd. A line of JSON for every round goes to LOG.
SEED ?= 1
ROUNDS ?= 50
RACKS ?= 2
FIRST ?= 0
STOCK ?= false
LOG ?= campaign.log
campaign:
	@./lab/install.sh
	$(GO) test -c -o bin/lab.test ./lab
	cd lab && ../bin/lab.test -test.v -test.timeout 0 -test.run '^TestCampaign$$' -campaign.seed $(SEED) -campaign.rounds $(ROUNDS) \
	  -campaign.racks $(RACKS) -campaign.first $(FIRST) -campaign.stock=$(STOCK) -campaign.log $(abspath $(LOG))

# race needs a C compiler.
race:
	CGO_ENABLED=1 $(GO) test -race $$($(GO) list ./... | grep -v /lab)

FUZZTIME ?= 20s
fuzz:
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s $$pkg || exit 1; \
	  done; \
	done

lint:
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0 run ./...

# bench measures side by side, on loopback: the boot beside stock etcd, then DNS beside other name servers. BENCH picks
# (Boot, DNS, Large, Publish, Rack, or Null, which compares NSD with itself), and BENCHFLAGS go to the benchmark; see docs/benchmarks.md:
#   make bench BENCH=DNS BENCHFLAGS='-servers etcd-dns,NSD -cases SRV,TCP -rounds 1'
BENCH ?= Boot DNS
BENCHFLAGS ?=
bench: $(addprefix bench-,$(BENCH))

bench-Boot: build
	$(GO) test -run '^$$' -bench '^BenchmarkBoot$$' -benchtime 10x -timeout 20m ./bench

bench-DNS bench-Null bench-Large: build
	@./lab/install.sh bench
	$(GO) test -run '^$$' -bench '^Benchmark$(@:bench-%=%)$$' -benchtime 1x -timeout 30m ./bench $(BENCHFLAGS)

# Rack times a rack of real processes, 20 rounds each; about 40 minutes, ten of them with all cores taken.
bench-Rack:
	@./lab/install.sh
	$(GO) test -run '^$$' -bench '^BenchmarkRack' -benchtime 20x -timeout 90m ./lab $(BENCHFLAGS)

bench-Publish:
	$(GO) test -run '^$$' -bench '^BenchmarkPublish$$' -benchtime 300x -timeout 20m ./zone

clean:
	rm -rf bin
