# make demo   set up, index the Python library's documentation, ask it a question: make demo Q="..."
# make serve  serve it on http://127.0.0.1:8080
# make test   set up and run the one check
PYTHON ?= python3
Q ?= How do I parse a date from a string?
HOME_DIR ?= .kvasir
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo serve test check format clean

demo: $(STAMP)
	@$(BIN)/kvasir demo "$(Q)" --home $(HOME_DIR)

serve: $(STAMP)
	@$(BIN)/kvasir serve --home $(HOME_DIR)

test: $(STAMP)
	@sh .ci/check $(BIN)

# uv reads neither pip's configuration nor PIP_FIND_LINKS; plain pip is the way where uv cannot install.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	@echo "setting up .venv, a minute or two"
	@$(PYTHON) -m venv .venv || { echo "the venv module is missing; install it: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet uv 2>/dev/null; \
	UV_FIND_LINKS="$$PIP_FIND_LINKS" $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[dev]' 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .kvasir
