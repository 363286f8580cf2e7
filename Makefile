# Everything a fresh machine needs: `make demo` and `make test`. Each target builds .venv first if it
# is missing or older than what it is made from.

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(RUN)/python -m pip --disable-pip-version-check -qq

# On Linux without a GPU the CPU build of torch is enough and much smaller. Where the default index has
# no CPU build, name one: make demo TORCH_INDEX="--index-url ..."
TORCH_INDEX ?=

.PHONY: demo chat test lint bench evidence models clean

demo: models
	@$(RUN)/overlay demo

chat: models
	@$(RUN)/overlay chat

test: models lint
	@$(RUN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	@$(RUN)/ruff check -q .
	@$(RUN)/ruff format -q --check .
	@$(RUN)/mypy --no-error-summary
	@$(RUN)/lint-imports --no-cache > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }

bench: models
	@$(RUN)/overlay bench engine

# Where files of LoCoMo and MuSiQue lie; without them recall and folds aren't measured.
DATA ?= ../shared/data

# The figures that the documentation quotes; a night on two cores.
evidence: models
	@$(RUN)/overlay axes build tenderness
	@$(RUN)/overlay axes calibrate tenderness --out docs/axes
	@for name in engine focus bans inner kills carryover emergent sweep nulls resumes frames memory memory_kills vault \
		adapters forgetting swaps microvariants probes teaching; do $(RUN)/overlay bench $$name || exit 1; done
	@$(RUN)/overlay bench anchoring --out docs/anchoring.png
	@for data in $(wildcard $(DATA)/locomo*.json $(DATA)/musique_questions.json); do \
		$(RUN)/overlay bench recall --data $$data || exit 1; $(RUN)/overlay bench folds --data $$data || exit 1; done
	@$(RUN)/overlay run scenarios/*.yaml --arms all --out .overlay/runs/evidence
	@for aim in spelling style; do $(RUN)/overlay map $$aim --out docs/maps/$$aim.md || exit 1; done
	@$(RUN)/overlay teach causes_and_rules --out docs/teaching/causes_and_rules.md
	@for name in british_spelling old_orthography misspelling terse_style causes; do \
		$(RUN)/overlay adapters train $$name && $(RUN)/overlay adapters drift $$name --out docs/drift/$$name.svg \
		|| exit 1; done
	@$(RUN)/overlay adapters variants "The bridge was closed for three weeks after the flood, and the ferry was full every day." \
		--count 40 --drift docs/drift/variants.svg
	@for treatment in adapter:british_spelling adapter:terse_style axis:tenderness; do \
		$(RUN)/overlay equivalence $$treatment --out docs/equivalence/$${treatment#*:}.md || exit 1; done
	@$(RUN)/overlay levels tenderness --out docs/levels/tenderness.md

models: $(STAMP)
	@$(RUN)/overlay models pull --missing

$(STAMP): pyproject.toml constraints.txt
	@echo "Making $(VENV): one to five minutes, once"
	@test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt torch $(TORCH_INDEX)
	@$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) .overlay
