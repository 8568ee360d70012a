# Each target first installs what it needs: Debian packages through apt (as root
# or with sudo), Python packages into .venv. Tests run in more processes than there
# are cores, since a third of their time is waiting (ARGS='--numprocesses 2').

PYTHON = python3
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env)
PROCESSES := $(shell expr $$(nproc) + 2)
WHOLE = --verbose --numprocesses $(PROCESSES)

# Or each of many processes would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help deb dist demo unit test test-all bench fuzz clean

help:
	@echo "make deb       build the package into dist/ (needs stdeb and shtab from PyPI)"
	@echo "make dist      make the tool's own wheel, sdist and Debian package in dist/"
	@echo "make demo      serve a map from a throw-away container until Ctrl-C"
	@echo "make unit      run the tests that need no container and no build, in seconds"
	@echo "make test      run all tests, also in booted containers (ARGS='--suite trixie -k NAME')"
	@echo "make test-all  run also the tests that take too long for each change"
	@echo "make bench     measure it beside the other ways to run QGIS Server, 85 minutes (QUICK=1: 6)"
	@echo "make fuzz      send it generated requests, half an hour on each release (ARGS='--seconds 60 --seed 7')"
	@echo "make clean     remove what was built here"

deb:
	$(PYTHON) tests/prepare.py deb
	.venv/bin/python -m qgis_server_systemd build --output dist

dist:
	$(PYTHON) tests/prepare.py dist
	.venv/bin/python contrib/builder/make.py --output dist

demo:
	$(PYTHON) tests/prepare.py demo
	@$(AS_ROOT) .venv/bin/python tests/demo.py $(ARGS)

unit:
	$(PYTHON) tests/prepare.py unit
	.venv/bin/python -m pytest tests/unit --numprocesses 2 $(ARGS)

test:
	$(PYTHON) tests/prepare.py test
	$(AS_ROOT) .venv/bin/python -m pytest $(WHOLE) $(ARGS)

test-all:
	$(PYTHON) tests/prepare.py test-all
	$(AS_ROOT) .venv/bin/python -m pytest $(WHOLE) --all --fuzz-seconds 1800 $(ARGS)

bench:
	@$(PYTHON) tests/prepare.py bench
	@$(AS_ROOT) env PYTHONPATH=tests .venv/bin/python -m bench $(if $(QUICK),--quick) $(ARGS)

fuzz:
	@$(PYTHON) tests/prepare.py bench
	@$(AS_ROOT) env PYTHONPATH=tests .venv/bin/python -m fuzz $(ARGS)

clean:
	rm -rf .venv build deb_dist dist rendered demo.png *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
