# Everything runs in .venv, which the first target that needs it creates. Any Python from 3.11, and pip, are enough.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
PY := $(VENV)/bin/python

.PHONY: help demo tables tinyworld test test-all test-mmdet lint mutate install clean
help:
	@echo "make demo      the tiny world end to end: best-of-8 in dev, the same in prod, and what the early exit saved;"
	@echo "               WORLD=pixart: in the second tiny world"
	@echo "make tables    the paper's tables on the tiny world, into docs/results/tiny.md; goes on where it stopped"
	@echo "make tinyworld  the tiny world's weights from nothing (hours; goes on where it stopped)"
	@echo "make test      every test that is not marked slow"
	@echo "make test-all  every test"
	@echo "make test-mmdet  our detector against mmdet 3.3 itself, in .venv-mmdet (5 GB, two minutes to install)"
	@echo "make lint      ruff over the whole tree: format and rules"
	@echo "make mutate    mutants of the modules in pyproject.toml against their tests, and the share that was killed (tens of minutes)"
	@echo "make install   .venv with requirements-dev.txt"
	@echo "make clean     remove the runs in outputs/ and what a build leaves; keep what was trained or collected"

$(PY):
	@{ $(PYTHON) -c '$(NEW_ENOUGH)'; } 2>/dev/null || { echo "no Python from 3.11 ($(or $(PYTHON),none is on the PATH));" \
		"name one: make PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "venv has no pip of its own: using that of $(PYTHON)"; \
		$(PYTHON) -m venv --clear --without-pip $(VENV); }

# A venv without pip (Debian splits ensurepip off) is filled by the pip of the Python that made it.
PIP = $(PY) -m pip --version >/dev/null 2>&1 && PIP="$(PY) -m pip" || PIP="$(PYTHON) -m pip --python $(PY)"; $$PIP install -q

$(VENV)/.run: requirements.txt | $(PY)
	@echo "installing requirements.txt into $(VENV) (several GB the first time)"
	@$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run | $(PY)
	@$(PIP) -r requirements-dev.txt
	@touch $@

install: $(VENV)/.dev

WORLD ?= sana
DEMO := $(if $(filter sana,$(WORLD)),tiny,tiny_$(WORLD))
demo: $(VENV)/.run
	@echo "dev: every candidate is finished, decoded and judged, so that the verifier's pick can be held against the others"
	@echo "prod: the same choice, but only the winner is finished: what the method itself costs"
	$(PY) inference_scripts/run.py --config configs/$(DEMO).yaml --config configs/$(DEMO)_prod.yaml
	$(PY) inference_scripts/compare.py outputs/$(DEMO) outputs/$(DEMO)_prod

tables: $(VENV)/.run
	[ -d outputs/tiny_teacher ] || $(PY) -m vhs.tinyworld.teacher_pipeline
	$(PY) inference_scripts/tables.py --table all --world tiny --run --out docs/results/tiny.md

tinyworld: $(VENV)/.run
	$(PY) -m vhs.tinyworld.build $(WORLD)

# One test process per core with one thread each: two threads that share two cores with other processes wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile

test: $(VENV)/.dev
	$(PYTEST) -m "not slow" tests

test-all: $(VENV)/.dev
	$(PYTEST) tests

lint: $(VENV)/.dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

# mutmut works on a copy, in mutants/; what it has done stays, so the same command goes on. MUTANTS="vhs.select*" picks.
MUTANTS ?=
mutate: $(VENV)/.dev requirements-mutate.txt
	@$(PIP) -r requirements-mutate.txt
	OMP_NUM_THREADS=1 $(PY) -m mutmut run $(MUTANTS)
	$(PY) tests/mutants.py

# mmdet 3.3 and today's torch share no wheels of mmcv: mmcv-lite and --no-deps, see requirements-mmdet.txt.
# It wants numpy 1, which Python 3.13 has no wheels of.
MMDET := .venv-mmdet
MMDET_PYTHON ?= python3.11
$(MMDET)/.done: requirements-mmdet.txt
	@echo "installing mmdet 3.3 into $(MMDET) (5 GB, about two minutes)"
	@$(MMDET_PYTHON) -m venv $(MMDET)
	@$(MMDET)/bin/python -m pip install -q -r requirements-mmdet.txt
	@$(MMDET)/bin/python -m pip install -q --no-deps mmdet==3.3.0 mmcv-lite==2.1.0
	@touch $@

test-mmdet: $(MMDET)/.done
	$(MMDET)/bin/python -m pytest -p no:warnings -rP tests/geneval/test_mmdet_parity.py

# A run of vhs has run.json; what was trained or collected has not, or stands beside it.
clean:
	@for run in outputs/*/run.json; do \
		folder="$${run%/run.json}"; \
		if [ -e "$$run" ] && [ ! -e "$$folder/train.json" ]; then echo "removes $$folder"; rm -r "$$folder"; fi; \
	done
	@rm -rf build *.egg-info
	@[ ! -d outputs ] || rmdir outputs 2>/dev/null || { echo "keeps:"; ls -d outputs/*; }
