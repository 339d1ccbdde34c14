# `make demo`, `make test`, `make lint` and `make docs` make .venv themselves, once; PYTHON chooses the interpreter for it.
PYTHON ?= python3
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
BIN := .venv/bin

.PHONY: demo test lint docs

demo: .venv/installed
	$(BIN)/gammer demo

test: .venv/installed
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "the documentation is in site/index.html"

.venv/installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv .venv \
		|| { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev,docs]'
	$(BIN)/python -m pip install -c constraints.txt --force-reinstall --no-deps opencv-contrib-python-headless
	@touch $@
