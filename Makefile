# make demo   two loss surfaces, computed by two MPI ranks on bundled data, drawn as figures and as a page (three minutes)
# make test   the tests to run before every change: all markers of pyproject.toml but `full` (15 to 20 minutes on
#              two cores)
# make quick  those without a browser, ranks, pictures and other programs: three minutes
# make test-all  every test: also whole stories, torture, every command of the documentation, full counts; axe-core looks at
#              the pages where it lies in node_modules (npm install --no-save axe-core)
# make test-integrations  the callbacks for Lightning and Hugging Face, language models and adapters, with these packages in
#              .venv/integrations (1.6 GB; minutes to install and to run); part of make test-all
# make gallery  every kind of figure from the surfaces in docs/surfaces: docs/gallery.md; and a folder of interactive pages
#              for any static host: docs/_build/live
# make docs   the pages: docs/_build/html/index.html
# make bench  measures, and writes benchmarks/RESULTS.md (about an hour; LOSSES=FOLDER: see benchmarks/levels.py)
# make check  format, lint, types, import layers, and the tests of make test
# make mutants  deliberate faults, one by one: make test has to fail for each

PYTHON ?= python3
CELLS ?= 17
SAMPLES ?= 500
WORKERS ?= 2
INTEGRATIONS = tests/test_integrations.py tests/test_hugging_face.py tests/test_transformers.py tests/test_texts.py \
	tests/test_task_scores.py tests/test_adapters.py tests/test_offloaded.py
QUICK = not (browser or mpi or pictures or commands or slow or full)
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)
INSTALL = $(BIN)/python $(PIP_INSTALL)
BIOME = npx --yes @biomejs/biome@2.6.8
PLANE = --mpi --model resnet20 --dataset fashion_mnist_mini --limit $(SAMPLES) --x=-0.5:0.5:$(CELLS) --y=-0.5:0.5:$(CELLS) \
	--xnorm filter --xignore biasbn --ynorm filter --yignore biasbn --tolerance 0.05,0.01
NAMES = small_batch large_batch
LABELS = --labels "small batches (128)" "large batches (2048)"
SURFACES = $(NAMES:%=demo/%_$(CELLS)x$(CELLS)_$(SAMPLES).h5)

# Packages are installed without bytecode, which Python writes when it first imports them: where that is forbidden, every
# process of every test compiles torch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test quick test-all test-integrations check lint lint-page mutants bench gallery docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/run
	@mkdir -p demo
	@for name in $(NAMES); do \
	  out=demo/$${name}_$(CELLS)x$(CELLS)_$(SAMPLES); \
	  $(BIN)/mpirun -n 2 $(BIN)/python plot_surface.py $(PLANE) \
	    --model_file trained_nets/resnet20_$$name.safetensors --dir_file $${out}_directions.h5 \
	    --surf_file $$out.h5 || exit $$?; \
	done
	@$(BIN)/python plot_2D.py --surf_file $(SURFACES) $(LABELS) --out demo/landscapes
	@$(BIN)/python view_surface.py $(SURFACES) $(LABELS) --out demo/landscapes.html
	@$(BIN)/python -m lossatlas flatness --surf_file $(SURFACES) $(LABELS)
	@echo
	@echo "Two ResNet-20, trained on the same images with small and with large batches: the loss around each of them, on one scale."
	@echo "The figures: $(CURDIR)/demo/landscapes_train_loss_3dsurface.png, ..._2dcontour.png, ..._2dcontourf.png, ..._2dheat.png (and .pdf)"
	@echo "The page, to be opened in a browser: $(CURDIR)/demo/landscapes.html"

test: $(VENV)/dev
	$(BIN)/python -m pytest -n $(WORKERS) -m "not full" --durations=20

quick: $(VENV)/dev
	$(BIN)/python -m pytest -n $(WORKERS) -m "$(QUICK)"

test-all: $(VENV)/dev
	$(BIN)/python -m pytest -n $(WORKERS)
	@$(MAKE) --no-print-directory test-integrations

test-integrations: $(VENV)/integrations/ready
	$(VENV)/integrations/bin/python -m pytest $(INTEGRATIONS)

mutants: $(VENV)/dev
	$(BIN)/python tests/mutants.py

lint: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory lint-page

lint-page:
	@if $(BIOME) --version > /dev/null 2>&1; then cd lossatlas/viewer && $(BIOME) ci --error-on-warnings static; \
	else echo "no npm, or nothing to be had from it: the page's scripts are not checked"; fi

check: lint test

gallery: $(VENV)/dev
	$(BIN)/python docs/gallery.py

docs: $(VENV)/docs
	$(BIN)/python docs/options_page.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "The pages: $(CURDIR)/docs/_build/html/index.html"

bench: $(VENV)/dev
	$(INSTALL) loss-landscapes
	$(BIN)/python benchmarks/run.py $(if $(LOSSES),--grid_losses $(LOSSES))

$(BIN)/python:
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), sys.version' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

# mpich brings mpirun: a cluster has its own, and an environment for it holds requirements.txt alone.
# --no-compile: modules are compiled when they are first imported, which is faster than all of them.
$(VENV)/run: requirements.txt $(CONSTRAINTS) | $(BIN)/python
	$(INSTALL) --no-compile -r requirements.txt mpich
	@touch $@

# Dependency groups need pip 25.1; that of a new environment may be older.
$(VENV)/dev: pyproject.toml $(VENV)/run | $(BIN)/python
	$(INSTALL) "pip>=25.1"
	$(INSTALL) --group dev
	@touch $@

$(VENV)/integrations/ready: pyproject.toml requirements.txt $(CONSTRAINTS) | $(BIN)/python
	$(PYTHON) -m venv $(VENV)/integrations
	$(VENV)/integrations/bin/python $(PIP_INSTALL) "pip>=25.1"
	$(VENV)/integrations/bin/python $(PIP_INSTALL) -r requirements.txt mpich --group integrations
	@touch $@

$(VENV)/docs: pyproject.toml $(VENV)/run | $(BIN)/python
	$(INSTALL) "pip>=25.1"
	$(INSTALL) --group docs
	@touch $@

clean:
	rm -rf $(VENV) demo docs/_build .pytest_cache .mypy_cache .ruff_cache
