# make demo | test | check | docs | pictures | bench | bench-peers | fuzz | chaos | gpu-pack | gpu: each sets up all it needs from a bare checkout.
# PYTHON: the interpreter that makes the virtual environments. pip's own index settings are honoured.
PYTHON ?= python3
VENV   ?= .venv
PEERS  ?= .venv-peers
BIN     = $(VENV)/bin

.PHONY: demo test check docs pictures bench bench-peers fuzz chaos gpu gpu-pack clean

# One virtual environment, remade when pyproject.toml changes. The stamp is written last, so a killed install is redone.
$(VENV)/.full: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch>=2.9,<2.14"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train,eval,dev]"
	touch $@

# Data, then the contamination laboratory: two arms, a tiny model each, scores, detectors, one page.
demo: $(VENV)/.full
	$(BIN)/python -m steel_data sample runs/demo/data
	$(BIN)/python -m steel_data build recipes/demo.toml --data-root runs/demo/data --out runs/demo/mixture
	$(BIN)/python -m steel_data check runs/demo/mixture
	$(BIN)/python -m steel_eval study recipes/study-demo.toml --data runs/demo/data --out runs/demo/study --workers 2
	@echo "The data card: runs/demo/mixture/card.html. The study, dose-response plot on top: runs/demo/study/study.html"

# Ray ends the process that drives it, once in some six runs of all tests, when its cluster is shut down: those tests have a
# process of their own, and are asked once more where that one fell by a signal. A test that fails is status 1.
define on_a_cluster
$(BIN)/python -m pytest -m $(1) || { test $$? -ge 128 && $(BIN)/python -m pytest -m $(1); }
endef

test: $(VENV)/.full
	$(BIN)/python -m pytest -n 2 -m "not slow and not cluster"
	$(call on_a_cluster,"cluster and not slow")

check: $(VENV)/.full
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 -m "not cluster"
	$(call on_a_cluster,cluster)

# The documentation as a site, in an environment of its own: it needs no torch. A link that leads nowhere is an error.
$(VENV)-docs/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	touch $@

docs: $(VENV)-docs/.installed
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict
	@echo "To read it: python -m http.server --directory runs/site"

# The READMEs' pictures of card, report and study, from the demo's recipes. Needs a Chromium; minutes, as `make demo` does.
pictures: $(VENV)/.full
	$(BIN)/python docs/take_pictures.py runs/pictures docs/pictures

bench: $(VENV)/.full
	for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# Each peer in an environment of its own; one that cannot be installed is skipped, with a line. Versions are those of docs/results/peers.md.
comma := ,
define peer
test -f $(PEERS)/$(1)/.installed || ( $(PYTHON) -m venv $(PEERS)/$(1) \
  && $(PEERS)/$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2) && touch $(PEERS)/$(1)/.installed ) \
  || echo "skipped: $(1) could not be installed in $(PEERS)/$(1)"
endef

bench-peers: $(VENV)/.full
	@$(call peer,datatrove,"datatrove[processing]==0.10.1" spacy==3.8.18 jieba==0.42.1 orjson)
	@$(call peer,data-juicer,py-data-juicer==1.6.1 aiohttp fasttext-predict scipy ray "torch>=2.9$(comma)<2.14")
	$(BIN)/python bench/peers/compare.py --venvs $(PEERS)
	$(BIN)/python bench/peers/reading.py

# Damaged input of every kind, and commands whose processes are killed (docs/reliability.md). More: make fuzz CASES=100000.
CASES ?= 2000
KILLS ?= 20
OF    ?= build
fuzz: $(VENV)/.full
	$(BIN)/python bench/fuzz.py --cases $(CASES)
	if $(BIN)/python -c "import atheris" 2> /dev/null; then $(BIN)/python bench/fuzz_guided.py --cases $(CASES); \
	else echo "not led by coverage: $(BIN)/python -m pip install atheris"; fi

chaos: $(VENV)/.full
	$(BIN)/python bench/chaos.py --kills $(KILLS) --of $(OF)

# On the first GPU met (docs/kernels.md): pack here what a bare CUDA machine lacks, run there with its own Python.
gpu-pack: $(VENV)/.full
	PYTHONPATH=src $(BIN)/python -W ignore -m bench.gpu.pack

gpu:
	PYTHONPATH=src $(PYTHON) -W ignore -m bench.gpu

clean:
	rm -rf $(VENV) $(VENV)-docs $(PEERS) runs .cache
