# make demo | test | check | bench: each sets up all it needs from a bare checkout.
# PYTHON: the interpreter that makes the virtual environments. pip's own index settings are honoured.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

.PHONY: demo test check bench clean

# One virtual environment a purpose, remade when pyproject.toml changes. The stamp is written last, so a killed install is redone.
$(VENV)/.base: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.full: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch>=2.9,<2.14"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train,eval,dev]"
	touch $@ $(VENV)/.base

demo: $(VENV)/.base
	$(BIN)/python -m steel_data sample runs/demo/data
	$(BIN)/python -m steel_data build recipes/demo.toml --data-root runs/demo/data --out runs/demo/mixture
	$(BIN)/python -m steel_data check runs/demo/mixture
	$(BIN)/python -m steel_data show runs/demo/mixture -n 2

test: $(VENV)/.full
	$(BIN)/python -m pytest -n 2 -m "not slow"

check: $(VENV)/.full
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

bench: $(VENV)/.full
	for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) runs .cache
