# Two commands on a machine with Python and nothing else: `make demo` and `make test`.

PYTHON ?= python3
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test test-oldest smoke lint types bench bench-posteriors docs docs-execute gallery clean

demo: .venv/with-plot  ## fit a flow to real data, compare, plot, save, serve
	.venv/bin/python examples/quickstart.py --output out

test: .venv/with-test lint types  ## all tests, in two processes
	$(call pytest,.venv)

test-oldest: .venv-oldest/with-test  ## all tests on the oldest versions that setup.py promises
	$(call pytest,.venv-oldest)

# In parts, since a process keeps every program that TensorFlow has compiled: two had 19 GB after half of the tests.
define pytest
	@failed=0; for part in '[a-c]' d e '[f-o]' '[p-z]'; do \
		echo $(1)/bin/python -m pytest -n 2 tests/test_$$part*.py; \
		$(1)/bin/python -m pytest -n 2 tests/test_$$part*.py || failed=1; \
	done; exit $$failed
endef

smoke: .venv/with-test  ## wheel and sdist, and tests/smoke.txt on the wheel, on each Python that is found
	PYTHON=.venv/bin/python bash tests/smoke.sh

docs: .venv/with-docs  ## the site, in docs/_build/html; a warning is an error
	.venv/bin/python -m sphinx -W --keep-going -b html docs docs/_build/html

docs-execute: .venv/with-docs  ## run the pages again, and keep what they print and draw
	.venv/bin/python docs/execute.py

gallery: .venv/with-docs  ## draw the pictures of all presets again
	.venv/bin/python docs/gallery.py

bench: .venv/with-test  ## every flow beside other libraries, about an hour: benchmarks/results.md
	.venv/bin/python benchmarks/bench.py

lint: .venv/with-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: .venv/with-test  ## the examples against the package's type hints
	.venv/bin/mypy

bench-posteriors: .venv/with-bench  ## C2ST on six public problems of simulation-based inference; hours
	.venv/bin/python benchmarks/posteriors.py --folder out/sbibm

.venv/with-%: setup.py
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[$*]'
	@touch $@

.venv-oldest/with-test: setup.py tests/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --editable '.[test]' --constraint tests/oldest.txt
	@touch $@

clean:
	rm -rf .venv .venv-oldest out docs/_build docs/notebooks
