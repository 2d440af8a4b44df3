# Each target makes what it needs: a .venv, by uv when there is one, else by pip. Nothing is to be activated.
.DEFAULT_GOAL := help
.PHONY: help demo dashboard test faults check bench docs links lint types format clean

BIN := .venv/bin
DEMO := .venv/.ready-demo
DEV := .venv/.ready-dev
# Passed on to pytest, to the benchmarks: make test ARGS="-k outbox"
ARGS ?=

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# With servers the demo needs their drivers, which the development environment has.
demo: $(if $(STORAGE)$(BROKER)$(ENGINES),$(DEV),$(DEMO)) ## Watch events flow, no server needed; on servers: STORAGE=url BROKER=url, or ENGINES=1
	@FLIGHTS='$(FLIGHTS)' DAYS='$(DAYS)' STORAGE='$(STORAGE)' BROKER='$(BROKER)' \
		$(BIN)/python -m examples.flights $(if $(ENGINES),--engines)

dashboard: $(DEV) ## See the demo in the browser while make demo runs in another terminal; with its settings
	@FLIGHTS='$(FLIGHTS)' DAYS='$(DAYS)' STORAGE='$(STORAGE)' BROKER='$(BROKER)' \
		$(BIN)/headrace dashboard examples.flights:app --allow-actions

test: $(DEV) ## Run every test; ARGS="-k outbox" goes to pytest
	@$(BIN)/python $(if $(ARGS),-m pytest $(ARGS),scripts/check.py tests)

faults: $(DEV) ## Kill processes for longer: SECONDS=60 a test; HEADRACE_SEED=n repeats the plan of a run
	@HEADRACE_FAULTS_SECONDS=$(or $(SECONDS),60) $(BIN)/python -m pytest -s tests/faults $(ARGS)

check: $(DEV) ## Do all that CI does: format, lint, types, tests, docs
	@$(BIN)/python scripts/check.py

bench: $(DEV) ## Measure against the same work by hand; ARGS goes to the benchmarks
	@$(BIN)/python -m benchmarks $(ARGS)

docs: $(DEV) ## Build the documentation into site/
	@$(BIN)/python scripts/check.py docs

links: $(DEV) ## Ask for every link of the documentation that leads elsewhere; needs the network
	@$(BIN)/python scripts/links.py $(ARGS)

lint: $(DEV) ## Check style and formatting
	@$(BIN)/python scripts/check.py format lint

types: $(DEV) ## Check types with mypy and pyright, both strict
	@$(BIN)/python scripts/check.py mypy pyright

format: $(DEV) ## Format the code and mend what can be mended
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

clean: ## Remove what make made
	rm -rf .venv site build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests scripts benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(DEMO): pyproject.toml scripts/setup.sh
	@scripts/setup.sh demo

$(DEV): pyproject.toml scripts/setup.sh
	@scripts/setup.sh dev
