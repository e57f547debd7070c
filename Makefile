# Every target sets up .venv by itself; a second run skips what is already there.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
BOOK_READY := .venv/book-ready
READY := .venv/ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help book test test-fast run weights results bench lint lock repository clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## */\1	/p' $(MAKEFILE_LIST) | expand -t 14

book: $(BOOK_READY)  ## build the book from the committed outputs into _build/html
	$(BIN)/jupyter-book build . -W -n --keep-going --quiet
	@test -f _build/html/index.html
	@echo "The book is at $(CURDIR)/_build/html/index.html"

test: $(READY)  ## run every test: library, course, notebooks, book, browser
	$(BIN)/python -m pytest

test-fast: $(READY)  ## run the tests that need no training and no browser, in two minutes at most
	$(BIN)/python -m pytest tests -m "not slow and not browser"

run: $(READY)  ## execute the notebooks in place on MNIST (NOTEBOOKS=... for some)
	$(BIN)/python notebooks/run.py $(NOTEBOOKS)

weights: $(READY)  ## train the named recipes (RECIPES=... for some), store the weights and export them to the pages
	$(BIN)/python -m cvae_lib.course weights $(RECIPES)
	$(BIN)/python -m cvae_lib.course export book/_static/explorer/weights

results: $(READY)  ## run the long experiments (RESULTS=... for some) and store what they find
	$(BIN)/python -m cvae_lib.course results $(RESULTS)

bench: $(READY)  ## time things side by side
	for script in benchmarks/*.py; do TQDM_DISABLE=1 $(BIN)/python $$script || exit 1; done

lint: $(READY)  ## style, types and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

lock: LINUX := (platform_machine == 'aarch64' and sys_platform == 'linux') or (platform_machine == 'x86_64' and sys_platform == 'linux')
lock: MAC := (platform_machine == 'arm64' and sys_platform == 'darwin')
lock: WINDOWS := (platform_machine == 'AMD64' and sys_platform == 'win32')
lock: CPYTHON := implementation_name == 'cpython'
lock: COMPILE := uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock:  ## pin every package again (needs uv)
	$(COMPILE) --group book --output-file book/requirements.txt
	$(COMPILE) --group dev pyproject.toml --constraints book/requirements.txt --output-file all.tmp
	@# uv spells out all of pyproject's environments on every line; these shorten what is true anywhere.
	sed -i "s/ and platform_python_implementation != 'PyPy'//g; s/\( and\| ;\) $(CPYTHON) and ($(MAC) or $(LINUX) or $(WINDOWS))//; s/$(CPYTHON) and //; \
		s/($(MAC) or $(LINUX))/sys_platform != 'win32'/; s/($(LINUX))/sys_platform == 'linux'/" book/requirements.txt all.tmp
	(echo "-r book/requirements.txt"; grep -vxFf book/requirements.txt all.tmp) > requirements.txt
	rm all.tmp

repository:  ## name the repository everywhere: make repository URL=https://github.com/you/cvae-course
	$(PYTHON) book/_tools/repository.py $(URL)

clean:  ## remove what was built and installed
	rm -rf .venv _build

$(BOOK_READY): book/requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -r book/requirements.txt
	touch $@

$(READY): requirements.txt book/requirements.txt pyproject.toml $(BOOK_READY)
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@
