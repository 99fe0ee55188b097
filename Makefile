# The commands: `make quickstart`, `make test`, `make test-slow` and `make docs`. Each
# installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install quickstart test test-slow test-gpu check-wheel docs lint clean

install: $(VENV)/.installed

# Python is checked before anything is made; the stamp is written last, so that an
# interrupted installation starts over (python is there before pip is).
$(VENV)/.installed: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else 'Python 3.10 to 3.13 is needed, but $(PYTHON) is %d.%d; run: make PYTHON=python3.11 ...' % v)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo 'Installing the pinned packages into $(VENV) (a few minutes, once) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e '.[docs]'
	@touch $@

$(VENV)/.det: $(VENV)/.installed .ci/install_det.sh mmcim/dependencies.py
	@.ci/install_det.sh $(CURDIR)/$(BIN)/python
	@touch $@

# The documentation as a website in site/.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# DATA=DIR pre-trains on a folder of images instead; RESUME=1 resumes either.
quickstart: install
	@$(BIN)/python $(if $(DATA),mmcim_cli.py pretrain "$(DATA)",tools/quickstart.py) $(if $(RESUME),--resume)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --quiet --check mmcim tools tests configs .dev setup.py mmcim_cli.py
	$(BIN)/mypy

# One thread per worker: the tests' models are small, and two workers use two cores.
# In the order of the names, so that no long file is left for the end. Without GPUs, on
# all machines: many tests compare a run with a model on the CPU, or fork.
PYTEST := CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 \
	--dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST) -m 'not slow'

# Whole trainings, soaks and everything else that cannot fit into a few minutes, and all
# that needs mmdetection.
test-slow: $(VENV)/.docs $(VENV)/.det
	$(PYTEST) -m slow
	$(PYTEST) -m 'not slow' tests/detection tests/test_mmcv_ops.py

# What only a GPU can show; all are skipped without one.
test-gpu: install
	$(BIN)/python -m pytest -m gpu

# The wheel, in a fresh environment outside this folder.
check-wheel: install
	.ci/check_wheel.sh $(CURDIR)/$(BIN)/python

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache build *.egg-info mmcim/.mim
