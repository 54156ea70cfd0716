# Each target first fetches what it needs from package registries (tools/bootstrap.mjs says what), then runs the
# package.json script's program. `make test ONLY="unit kafka"` runs a part.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
BOOTSTRAP = node tools/bootstrap.mjs
export JOBS SEED HISTORIES FROM FAULT NARROWING PROPERTY_SEED PROPERTY_PATH

.PHONY: demo test bench build check cluster properties simulate planted release clean
demo:
	@$(BOOTSTRAP) postgres:17
	@bun src/main.ts demo $(ARGS)

test:
	@$(BOOTSTRAP) all
	@bun tests/run.ts $(ONLY)

bench:
	@$(BOOTSTRAP) postgres:17 kafka nats
	@bun bench/main.ts $(ARGS)

build:
	@$(BOOTSTRAP)
	@bun tools/build.ts

check:
	@$(BOOTSTRAP)
	@bun tests/run.ts static

# make cluster ARGS="nats --port-base 21000"
cluster:
	@$(BOOTSTRAP)
	@bun tools/cluster.ts $(ARGS)

# make properties RUNS=1000000
properties:
	@$(BOOTSTRAP)
	@PROPERTY_RUNS=$(RUNS) bun test --timeout=86400000 ./tests/property

# make simulate HISTORIES=1000000; make simulate SEED=7
simulate:
	@$(BOOTSTRAP)
	@bun tests/simulation/run.ts

planted:
	@$(BOOTSTRAP)
	@bun tests/simulation/run.ts --planted

release:
	@$(BOOTSTRAP)
	@bun tools/release.ts

clean:
	rm -rf dist .cache
