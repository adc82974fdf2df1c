# Build, test and measure etcd-dns. Everything here works from a clean clone with Go and git; the lab wants root on Debian.
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS = -X main.version=$(VERSION)
export CGO_ENABLED = 0

.PHONY: build test unit lab race fuzz lint bench clean

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/etcd-dns ./cmd/etcd-dns

# test is what CI runs: formatting, vet, unit, integration and lab tests. The lab says loudly when it has to skip.
test:
	@./lab/install.sh
	@test -z "$$(gofmt -l .)" || { echo 'gofmt wants to change:'; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) test -timeout 25m ./...

unit:
	$(GO) test $$($(GO) list ./... | grep -v /lab)

lab:
	@./lab/install.sh
	$(GO) test -timeout 25m -v ./lab

# race needs a C compiler.
race:
	CGO_ENABLED=1 $(GO) test -race $$($(GO) list ./... | grep -v /lab)

FUZZTIME ?= 20s
fuzz:
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

lint:
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0 run ./...

# bench boots this and stock etcd side by side and prints the medians and their ratio.
bench: build
	$(GO) test -run '^$$' -bench Boot -benchtime 10x -timeout 20m ./bench

clean:
	rm -rf bin
