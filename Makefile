# One verb per job, the same by hand and in CI; `make help` lists them.
#
# Everything is built into .venv by three stamped steps, each redone when what it reads has changed:
#   .venv/.python        the interpreter: prerequisites checked, environment created
#   .venv/.requirements  the pinned libraries, every download checked against its hash
#   .venv/.project       corequote itself, editable, with the C extension engine/_native*.so compiled in place
# A step's stamp appears last, so an interrupted one is simply redone, and carries the time of its beginning, so
# that a file saved while the step ran is seen by the next.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.ONESHELL:
.SHELLFLAGS := -euc
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
PYTHON_CANDIDATES := $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11)
# Most tests wait for processes more than they compute; a file's tests share what they start, in their order.
# Their directories have short names, because sockets are in them.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist loadfile
# Rivals are for `make perf` alone: an environment of their own, with the engine's libraries as pinned.
PERF_VENV := build/perf-venv
KAFKA_DIR := build/kafka
# The compiler that a caller names builds the extension too; otherwise setuptools asks the interpreter.
CC_NAMED := $(if $(filter default undefined,$(origin CC)),,$(firstword $(CC)))
UV := $(shell command -v uv 2>/dev/null)
INSTALL := $(if $(UV),$(UV) pip install --quiet --python $(VENV_PYTHON),\
    $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check)
NATIVE_FILES := $(wildcard native/*.c native/*.h native/*.py)
NATIVE_WARNINGS := -std=c11 -O2 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -ffp-contract=off -UNDEBUG

# Redo a step whose product is gone although its stamp is there: the interpreter was removed, the tree was moved
# (an environment holds its own absolute path), nothing can install (uv made it, without pip, and uv has left),
# the extension was deleted.
VENV_USABLE := $(and $(realpath $(VENV_PYTHON)),$(filter $(CURDIR),$(file <$(VENV)/.python)),\
    $(UV)$(wildcard $(VENV)/lib/python*/site-packages/pip/__main__.py))
VENV_LOST := $(if $(VENV_USABLE),,lost)
EXTENSION_LOST := $(if $(wildcard engine/_native*.so),,lost)

.PHONY: help venv demo test lint model race fuzz perf faults ambiguous limits interleavings scenarios kafka requirements clean lost

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r target text; do
	    printf '  make %-13s %s\n' "$$target" "$$text"
	done

venv: $(VENV)/.project ## build the environment and the C extension into .venv (PYTHON= picks the interpreter)

demo: venv ## run exchange, traders and engine: SECONDS= REPORT= MARKETS= FEED= FROM= SPEED= SEED=
	@exec $(VENV)/bin/corequote demo \
	    $(if $(SECONDS),--seconds '$(SECONDS)') $(if $(MARKETS),--markets '$(MARKETS)') \
	    $(if $(FEED),--feed '$(FEED)') $(if $(FROM),--from '$(FROM)') $(if $(SPEED),--speed '$(SPEED)') \
	    $(if $(SEED),--seed '$(SEED)') $(if $(REPORT),--report '$(REPORT)')

test: venv ## run every test that is quick, files side by side (ARGS= goes to pytest, one after another then)
	@$(if $(ARGS),exec $(VENV_PYTHON) -m pytest $(ARGS),
	folder=$$(mktemp -d -t cq.XXXXXX)
	trap 'rm -rf "$$folder" || :' EXIT
	$(VENV_PYTHON) -m pytest $(SIDE_BY_SIDE) --basetemp "$$folder")

lint: venv ## ruff, strict mypy, and each native/*.c alone under gcc and clang with every warning an error
	@status=0
	$(VENV_PYTHON) -m ruff check . || status=1
	$(VENV_PYTHON) -m ruff format --check . || status=1
	$(VENV_PYTHON) -m mypy || status=1
	for compiler in gcc clang; do
	    if ! command -v $$compiler >/dev/null; then
	        echo "corequote: lint needs $$compiler, which is not on PATH: apt-get install $$compiler" >&2
	        status=1
	        continue
	    fi
	    clean=0
	    for source in $(wildcard native/*.c); do
	        $$compiler $(NATIVE_WARNINGS) -DCOREQUOTE_LAYOUT_HASH=0 -Inative -c "$$source" -o /dev/null \
	            && clean=$$((clean + 1)) || status=1
	    done
	    echo "$$compiler: $$clean of $(words $(wildcard native/*.c)) C files without a warning"
	done
	exit $$status

# A campaign is a module of its own. Until it exists the verb fails: it never claims a proof that did not run.
define campaign
	@test -f $(1) || { echo "make $@: there is no $(1) yet, so nothing was run" >&2; exit 1; }
endef

model: venv ## 200,000 random operations through the exchange's core against an obvious model (ARGS=), resumable
	$(call campaign,tests/paper/model_campaign.py)
	exec $(VENV_PYTHON) -m tests.paper.model_campaign $(ARGS)

race: venv ## memory-order proofs: the ring under relacy with its mutants, stress under TSan, ASan and UBSan
	$(call campaign,tests/native/race.py)
	missing=
	command -v g++ >/dev/null || missing="$$missing g++"
	command -v clang >/dev/null || missing="$$missing clang"
	test -f /usr/include/relacy/relacy.hpp || missing="$$missing relacy-dev"
	test -z "$$missing" || { echo "corequote: race needs more packages: apt-get install$$missing" >&2; exit 1; }
	exec $(VENV_PYTHON) -m tests.native.race $(ARGS)

fuzz: venv ## fuzz the C interfaces and the way from a frame to the ring for 60 s each, corpus kept (ARGS=)
	$(call campaign,tests/native/fuzz.py)
	command -v clang >/dev/null || { echo "corequote: fuzz needs clang: apt-get install clang libclang-rt-dev" >&2; exit 1; }
	exec $(VENV_PYTHON) -m tests.native.fuzz $(ARGS)

perf: venv $(PERF_VENV)/.rivals ## measure, with floor and rivals in the same run; results go to perf/results/
	$(call campaign,perf/__main__.py)
	exec $(PERF_VENV)/bin/python -m perf $(ARGS)

faults: venv ## kill and stop processes under load, then check every balance (QUICK=1 SEED= COUNT= RESUME=1)
	$(call campaign,tests/faults/campaign.py)
	exec $(VENV_PYTHON) -m tests.faults.campaign $(if $(filter-out 0,$(QUICK)),--quick) $(if $(SEED),--seed '$(SEED)') \
	    $(if $(COUNT),--count '$(COUNT)') $(if $(filter-out 0,$(RESUME)),--resume)

ambiguous: venv ## 10,000 requests without an intelligible answer, explained by both journals (COUNT= SEED=)
	$(call campaign,tests/faults/ambiguous.py)
	exec $(VENV_PYTHON) -m tests.faults.ambiguous $(if $(COUNT),--count '$(COUNT)') $(if $(SEED),--seed '$(SEED)')

limits: venv ## 50 markets on one account want more than its rate limits allow; 7 min (ARGS='--markets N --seconds S --seed S')
	$(call campaign,tests/faults/account_limits.py)
	exec $(VENV_PYTHON) -m tests.faults.account_limits $(ARGS)

interleavings: venv ## 20,000 random orders of fills, replies, supply, reconciliation, restart (COUNT= FIRST=)
	exec $(VENV_PYTHON) -m tests.property.interleavings $(if $(COUNT),--seeds '$(COUNT)') $(if $(FIRST),--first '$(FIRST)')

scenarios: venv ## defence on a live engine, then quoting quality on seeded flows; 15 min (SEED= ARGS='--resume --rivals --sweep --docs')
	$(call campaign,tests/scenarios/__main__.py)
	$(VENV_PYTHON) -m pytest -q -m live tests/scenarios
	exec $(VENV_PYTHON) -m tests.scenarios $(if $(SEED),--seed '$(SEED)') $(ARGS)

kafka: venv ## fills through a real Apache Kafka that is killed meanwhile (needs mvn and a JDK, 17 or newer)
	@missing=
	command -v mvn >/dev/null || missing="$$missing maven"
	command -v java >/dev/null || missing="$$missing openjdk-17-jre-headless"
	if [ -n "$$missing" ]; then
	    echo "corequote: kafka skipped, nothing was run: apt-get install$$missing"
	    exit 0
	fi
	mkdir -p $(KAFKA_DIR)
	test $(KAFKA_DIR)/classpath.txt -nt tests/kafka/pom.xml || mvn -q -B -f tests/kafka/pom.xml \
	    dependency:build-classpath -DincludeScope=runtime -Dmdep.outputFile='$(CURDIR)/$(KAFKA_DIR)/classpath.txt'
	COREQUOTE_KAFKA_CLASSPATH=$$(cat $(KAFKA_DIR)/classpath.txt) exec $(VENV_PYTHON) -m pytest tests/kafka $(ARGS)

requirements: ## pin the libraries of pyproject.toml anew, with hashes (needs uv; UPGRADE=1 takes newer versions)
	@test -n "$(UV)" || { echo "corequote: pinning needs uv on PATH" >&2; exit 1; }
	compile="$(UV) pip compile -q --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header $(if $(filter-out 0,$(UPGRADE)),--upgrade)"
	$$compile pyproject.toml -o requirements.txt
	$$compile --group dev -c requirements.txt -o requirements-dev.txt
	$$compile perf/rivals.in -c requirements.txt -o perf/rivals.txt

clean: ## remove everything that make built, .venv too; measurements and recordings stay
	rm -rf $(VENV) build dist ./*.egg-info engine/_native.c engine/_native*.so \
	    .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python: $(VENV_LOST)
	@missing=0
	tell() { echo "corequote: $$1" >&2; missing=1; }
	python=
	old=
	for candidate in $(PYTHON_CANDIDATES); do
	    version=$$("$$candidate" -c 'import sys; print(*sys.version_info[:3], sep=".")' 2>/dev/null) || continue
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
	        # The interpreter behind the name: an active environment may be the very one that is replaced here.
	        python=$$("$$candidate" -c 'import sys; print(sys._base_executable)')
	        package=$$(basename "$$candidate")
	        break
	    fi
	    old="$${old:+$$old, }$$candidate is $$version"
	done
	compilers='$(or $(CC_NAMED),cc)'
	if [ -n "$$python" ]; then
	    $(if $(CC_NAMED),,compilers="cc $$("$$python" -c 'import sysconfig; print((sysconfig.get_config_var("CC") or "cc").split()[0])')")
	    if ! "$$python" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null; then
	        tell "$$python has no Python.h to compile the extension against: apt-get install $$package-dev"
	    fi
	    if [ -z "$(UV)" ] && ! "$$python" -c 'import venv; from ensurepip import version' 2>/dev/null; then
	        tell "$$python cannot create an environment (no venv or ensurepip): apt-get install $$package-venv"
	    fi
	elif [ -n "$$old" ]; then
	    tell "needs Python 3.11 or newer ($$old): apt-get install python3.11 python3.11-dev python3.11-venv, or name another with PYTHON="
	elif [ -n "$(PYTHON)" ]; then
	    tell "PYTHON=$(PYTHON) does not start a Python: name one that does, 3.11 or newer"
	else
	    tell "needs Python 3.11 or newer, and finds no python3: apt-get install python3 python3-dev python3-venv"
	fi
	for compiler in $$compilers; do
	    if ! command -v "$$compiler" >/dev/null; then
	        tell "needs a C compiler, and $$compiler is not on PATH: apt-get install $(or $(CC_NAMED),gcc) libc6-dev"
	        break
	    elif ! echo '#include <stdio.h>' | "$$compiler" -x c -fsyntax-only - 2>/dev/null; then
	        tell "$$compiler finds no stdio.h: apt-get install libc6-dev"
	        break
	    fi
	done
	[ "$$missing" -eq 0 ] || exit 1
	echo "creating $(VENV) with $$python$(if $(UV), and uv)"
	$(if $(UV),$(UV) venv --quiet --clear --python "$$python" $(VENV),"$$python" -m venv --clear $(VENV)) || { rm -rf $(VENV); exit 1; }
	printf %s '$(CURDIR)' >$@

$(VENV)/.requirements: $(VENV)/.python requirements.txt requirements-dev.txt
	@echo "installing the pinned libraries"
	touch $@.begun
	$(INSTALL) --require-hashes -r requirements.txt -r requirements-dev.txt
	mv $@.begun $@

$(VENV)/.project: $(VENV)/.requirements pyproject.toml setup.py $(NATIVE_FILES) $(EXTENSION_LOST)
	@echo "building the C extension and installing corequote"
	touch $@.begun
	$(INSTALL) $(if $(UV),--reinstall-package corequote) --no-deps --no-build-isolation --editable .
	mv $@.begun $@

$(PERF_VENV)/.rivals: $(VENV)/.python requirements.txt perf/rivals.txt
	@echo "installing what is measured against into $(PERF_VENV)"
	$(if $(UV),$(UV) venv --quiet --clear --python $(VENV_PYTHON),$(VENV_PYTHON) -m venv --clear) $(PERF_VENV)
	$(if $(UV),$(UV) pip install --quiet --python $(PERF_VENV)/bin/python,$(PERF_VENV)/bin/python -m pip install --quiet) \
	    --require-hashes -r requirements.txt -r perf/rivals.txt
	touch $@
