# Every target sets up what it needs. `make` alone lists them.
#
#   PYTHON=python3.12   another interpreter           VENV=DIR  DEV_VENV=DIR  other virtual environments
#   PORT=8001           another port for the demo     SERVE=0   do not serve, print a few searches instead
#   DATA=DIR            where the demo's collections go
#   ARGS='-k index -x'  passed on to pytest
#   BENCH=DIR           where `make bench` writes its figures

VENV     ?= .venv
DEV_VENV ?= .venv-dev
DATA     ?= semblance-data
PORT     ?= 8000
SERVE    ?= 1
BENCH    ?= bench-results
EXAMPLE_IMAGE := examples/shop/images/road-bike.jpg
ARGS     ?=
PYTHON   ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do $$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
COMMA      := ,
DEV        := $(DEV_VENV)/bin/python
SEMBLANCE  := $(VENV)/bin/python -m cli

.DEFAULT_GOAL := help
.PHONY: help demo test check bench soak docs screenshots clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1@/' | column -t -s@ 2>/dev/null || grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST)

# --- virtual environments: made anew when missing, broken or moved, brought up to date when pyproject.toml changes ------

# A stamp holds the folder it was made for; one that is not true any more is removed before make looks at it.
define still_true
$(shell test "$$(cat '$(1)/.installed' 2>/dev/null)" = '$(CURDIR)' && '$(1)/bin/python' -c '' 2>/dev/null || rm -f '$(1)/.installed')
endef
$(call still_true,$(VENV))
$(call still_true,$(DEV_VENV))

define make_venv
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { \
	  echo "Semblance needs Python 3.11 or newer$(if $(PYTHON),$(COMMA) and $(PYTHON) is not): install one, or name it: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || { \
	  echo "Making the virtual environment $(1) with $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv --clear $(1) || { echo "$(PYTHON) cannot make virtual environments: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }; }
endef

define install
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-input -e '.[$(2)]' || { \
	  echo "pip could not install Semblance into $(1): its own words are above" >&2; exit 1; }
	@echo '$(CURDIR)' > $(1)/.installed
endef

$(VENV)/.installed: pyproject.toml
	$(call make_venv,$(VENV))
	@echo "Installing Semblance and what it needs into $(VENV) (once; some 250 MB to fetch)"
	$(call install,$(VENV),cpu)

$(DEV_VENV)/.installed: pyproject.toml
	$(call make_venv,$(DEV_VENV))
	@echo "Installing Semblance with torch and the test tools into $(DEV_VENV) (once; this takes some minutes)"
	$(call install,$(DEV_VENV),cpu$(COMMA)models$(COMMA)train$(COMMA)dev)

# --- the two commands --------------------------------------------------------------------------------------------------

demo: $(VENV)/.installed ## index the example shop and serve the search page
	@test "$(SERVE)" = 0 || $(VENV)/bin/python -c 'import socket, sys; socket.create_server(("127.0.0.1", int(sys.argv[1]))).close()' $(PORT) 2>/dev/null || { \
	  echo "Port $(PORT) is taken: stop what listens there, or choose another: make demo PORT=8001" >&2; exit 1; }
	@echo "Indexing the example shop and the emoji into $(DATA)"
	@$(SEMBLANCE) index examples/shop/products.csv --collection shop --data '$(DATA)'
	@$(SEMBLANCE) index examples/emoji/emoji.jsonl --collection emoji --data '$(DATA)'
ifeq ($(SERVE),0)
	@echo && echo 'semblance search -c shop -k 3 "a camera for travelling"'
	@$(SEMBLANCE) search -c shop -k 3 --data '$(DATA)' "a camera for travelling"
	@echo && echo 'semblance search -c shop -k 3 --image $(EXAMPLE_IMAGE)'
	@$(SEMBLANCE) search -c shop -k 3 --data '$(DATA)' --image $(EXAMPLE_IMAGE)
else
	@echo && echo "The search page: http://127.0.0.1:$(PORT)   (Ctrl-C stops it)" && echo
	@exec $(SEMBLANCE) serve --host 127.0.0.1 --port $(PORT) --data '$(DATA)'
endif

test: $(DEV_VENV)/.installed ## run every test
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || $(DEV) -m playwright install chromium || echo "note: no Chromium to be had: the browser tests cannot run" >&2
	@$(DEV) -m pytest -m "not soak" $(ARGS)

# --- for developers ----------------------------------------------------------------------------------------------------

check: $(DEV_VENV)/.installed ## style, types, layers and documentation
	@$(DEV) -m ruff check .
	@$(DEV) -m ruff format --check .
	@$(DEV) -m mypy
	@$(DEV_VENV)/bin/lint-imports
	@$(DEV) -m pytest -q tests/test_architecture.py tests/test_docs.py tests/test_packaging.py

# Small runs that need nothing but this checkout; what they write goes to BENCH. docs/performance.md names the runs behind its figures.
bench: $(DEV_VENV)/.installed ## measure indexing, the encoders, search, writing, the cache and memory: a small run of each
	@mkdir -p '$(BENCH)'
	$(DEV) -m benchmarks.indexing --rows 200 --repeats 1 --json '$(BENCH)/indexing.json'
	$(DEV) -m benchmarks.encoders --pictures 64 --json '$(BENCH)/encoders.json'
	$(DEV) -m benchmarks.search --rows 10000 --queries 100 --json '$(BENCH)/search.json'
	$(DEV) -m benchmarks.writes --rows 5000 --runs 1 --json '$(BENCH)/writes.json'
	$(DEV) -m benchmarks.cache --requests 20000 --keys 5000 --json '$(BENCH)/cache.json'
	$(DEV) -m benchmarks.memory --rows 20000 --every 5000 --json '$(BENCH)/memory.json'

soak: $(DEV_VENV)/.installed ## the long crash and load suites
	@$(DEV) -m pytest -m soak $(ARGS)

docs: $(DEV_VENV)/.installed ## write the reference pages of docs/ from the code
	@$(DEV) docs/generate.py

screenshots: $(DEV_VENV)/.installed ## take the pictures of the README (needs Chromium)
	@$(DEV) docs/screenshots.py

clean: ## remove the virtual environments and caches (never the collections)
	@rm -rf $(VENV) $(DEV_VENV) dist build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
