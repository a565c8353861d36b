# Everything runs in .venv, which the first target that needs it creates. Python 3.11 and pip are enough to start.
PYTHON ?= python3.11
VENV ?= .venv
PY := $(VENV)/bin/python
CONFIG ?= configs/tiny.yaml
RUN := $(PY) inference_scripts/run.py --config $(CONFIG)

.PHONY: help demo test test-all test-mmdet install clean
help:
	@echo "make demo      the tiny world end to end: best-of-8 in dev, the same in prod, and what the early exit saved"
	@echo "make test      every test that is not marked slow"
	@echo "make test-all  every test"
	@echo "make test-mmdet  our detector against mmdet 3.3 itself, in .venv-mmdet (5 GB, two minutes to install)"
	@echo "make install   .venv with requirements-dev.txt"
	@echo "make clean     remove outputs/"

$(PY):
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

demo: $(VENV)/.run
	$(RUN)
	$(RUN) generation_mode=prod name=tiny_prod
	$(PY) inference_scripts/compare.py outputs/tiny outputs/tiny_prod

test: $(VENV)/.dev
	$(PY) -m pytest -m "not slow" tests

test-all: $(VENV)/.dev
	$(PY) -m pytest tests

# mmdet 3.3 and today's torch share no wheels of mmcv: mmcv-lite and --no-deps, see requirements-mmdet.txt.
MMDET := .venv-mmdet
$(MMDET)/.done: requirements-mmdet.txt
	@echo "installing mmdet 3.3 into $(MMDET) (5 GB, about two minutes)"
	@$(PYTHON) -m venv $(MMDET)
	@$(MMDET)/bin/python -m pip install -q -r requirements-mmdet.txt
	@$(MMDET)/bin/python -m pip install -q --no-deps mmdet==3.3.0 mmcv-lite==2.1.0
	@touch $@

test-mmdet: $(MMDET)/.done
	$(MMDET)/bin/python -m pytest -p no:warnings -rP tests/geneval/test_mmdet_parity.py

clean:
	rm -rf outputs
