# The two commands: `make demo` runs the main job, `make test` passes the tests. Both make what they need.
# `make pi-lab` runs a part of the tests, and the commands, on emulated Raspberry Pis: `LAB_FLAGS=--help` says what it takes.
# `PYTHON=python3.11 make test` chooses the interpreter (3.10 or later); only its venv and pip are assumed.

PYTHON ?= python3
VENVS ?= .venv
WORKSTATION := $(VENVS)/workstation
DEVICE := $(VENVS)/device
TF_KERAS := $(VENVS)/tf-keras
MEDIAPIPE := $(VENVS)/mediapipe
# The interpreter's version is part of the stamp: another `PYTHON=` makes the environments anew.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
READY := ready-$(VERSION)
# tflite-runtime has no wheel after Python 3.11.
OLD_PYTHON := $(shell $(PYTHON) -c 'import sys; print("yes" if sys.version_info < (3, 12) else "")')
# Most of the workstation's tests wait for TensorFlow: two at a time. A file stays with one worker, and makes its models once.
TEST_WORKERS ?= 2
# Twice quiet: errors only.
PIP_FLAGS := -qq --disable-pip-version-check

.PHONY: demo camera-demo test test-workstation test-device pi-lab lint environments clean

demo: $(WORKSTATION)/$(READY) $(DEVICE)/$(READY)
	@$(WORKSTATION)/bin/python demos/digits.py --device-python $(DEVICE)/bin/python $(DEMO_FLAGS)

# Without a camera: a street of the shared test data where it is here, else the digits of `make demo` as a video.
STREET := $(wildcard $(EDGEINFER_TEST_DATA)/video/one-by-one-person-detection.mp4)
ifneq ($(STREET),)
SHOWN := $(EDGEINFER_TEST_DATA)/detection/ssd_mobilenet_v1_coco_quant_detect.tflite --source $(STREET) \
    --labels $(EDGEINFER_TEST_DATA)/coral/coco_labels.txt
else
SHOWN := demos/output/digits.tflite --source demos/output/digits.mp4
endif

camera-demo: $(WORKSTATION)/$(READY)
ifeq ($(STREET),)
	@test -e demos/output/digits.tflite || $(MAKE) --no-print-directory demo
	@$(WORKSTATION)/bin/python demos/digits_video.py demos/output/digits-validation.npz demos/output/digits.mp4
endif
	@$(WORKSTATION)/bin/python demos/pi_camera.py $(SHOWN) --repeat --open $(CAMERA_FLAGS)

test: test-workstation test-device

test-workstation: $(WORKSTATION)/$(READY) $(DEVICE)/$(READY) $(TF_KERAS)/$(READY) $(MEDIAPIPE)/$(READY)
	EDGEINFER_DEVICE_PYTHON=$(abspath $(DEVICE))/bin/python \
	EDGEINFER_TF_KERAS_PYTHON=$(abspath $(TF_KERAS))/bin/python \
	EDGEINFER_MEDIAPIPE_PYTHON=$(abspath $(MEDIAPIPE))/bin/python \
	$(WORKSTATION)/bin/python -m pytest tests -n $(TEST_WORKERS) --dist loadfile

test-device: $(DEVICE)/$(READY)
	EDGEINFER_DEVICE_ENVIRONMENT=$(if $(OLD_PYTHON),tflite-runtime,litert) \
	$(DEVICE)/bin/python -m pytest tests/edgeinfer tests/test_tiny_models.py
ifeq ($(OLD_PYTHON),)
	@echo "***************************************************************************************"
	@echo "*** tflite-runtime was NOT tested: it has no wheel for this Python. The device       ***"
	@echo "*** environment took LiteRT instead. PYTHON=python3.11 make test  tests both.        ***"
	@echo "***************************************************************************************"
endif

pi-lab: $(WORKSTATION)/$(READY)
	@$(WORKSTATION)/bin/python -m tools.pi_lab $(LAB_FLAGS)

lint: $(WORKSTATION)/$(READY)
	$(WORKSTATION)/bin/ruff check .
	$(WORKSTATION)/bin/ruff format --check .
	$(WORKSTATION)/bin/mypy

environments: $(WORKSTATION)/$(READY) $(DEVICE)/$(READY) $(TF_KERAS)/$(READY) $(MEDIAPIPE)/$(READY)

# The workstation: TensorFlow 2.21, Keras 3, LiteRT, NumPy 2.
$(WORKSTATION)/$(READY): pyproject.toml setup.cfg
	@echo "Setting up $(WORKSTATION): TensorFlow, Keras, LiteRT (a few minutes and 3 GB the first time) ..."
	@test -e $@ || rm -rf $(WORKSTATION)
	@$(PYTHON) -m venv $(WORKSTATION)
	@$(WORKSTATION)/bin/python -m pip install $(PIP_FLAGS) --upgrade pip
	@$(WORKSTATION)/bin/python -m pip install $(PIP_FLAGS) -e '.[convert,headless,demo,dev]'
	@touch $@

# A device: no TensorFlow and, up to Python 3.11, no LiteRT either; the slim line of the README plus the test tools.
$(DEVICE)/$(READY): pyproject.toml setup.cfg
	@echo "Setting up $(DEVICE): what a device has, without TensorFlow ..."
	@test -e $@ || rm -rf $(DEVICE)
	@$(PYTHON) -m venv $(DEVICE)
	@$(DEVICE)/bin/python -m pip install $(PIP_FLAGS) --upgrade pip
ifneq ($(OLD_PYTHON),)
	@$(DEVICE)/bin/python -m pip install $(PIP_FLAGS) 'tflite-runtime==2.14.0' 'numpy<2' pillow \
	    'opencv-python-headless<4.12' pytest pytest-timeout hypothesis pooch
else
	@echo "*** This Python has no tflite-runtime: the device environment takes LiteRT instead. ***"
	@$(DEVICE)/bin/python -m pip install $(PIP_FLAGS) ai-edge-litert numpy pillow opencv-python-headless \
	    pytest pytest-timeout hypothesis pooch
endif
	@$(DEVICE)/bin/python -m pip install $(PIP_FLAGS) --no-deps -e .
	@touch $@

# Keras 2 for old SavedModels: tf-keras alone in an environment of its own, everything else seen through a path file.
$(TF_KERAS)/$(READY): $(WORKSTATION)/$(READY)
	@echo "Setting up $(TF_KERAS): Keras 2 for old models ..."
	@test -e $@ || rm -rf $(TF_KERAS)
	@$(PYTHON) -m venv $(TF_KERAS)
	@$(TF_KERAS)/bin/python -m pip install $(PIP_FLAGS) --no-deps 'tf-keras==2.21.0'
	@$(WORKSTATION)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	    > "$$($(TF_KERAS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/workstation.pth"
	@touch $@

# MediaPipe opens our files, too: in an environment of its own, because it brings other packages than ours.
$(MEDIAPIPE)/$(READY):
	@echo "Setting up $(MEDIAPIPE): another reader of the metadata, for the tests ..."
	@test -e $@ || rm -rf $(MEDIAPIPE)
	@$(PYTHON) -m venv $(MEDIAPIPE)
	@$(MEDIAPIPE)/bin/python -m pip install $(PIP_FLAGS) 'mediapipe==1.2.2' \
	    && touch $@ \
	    || echo "*** MediaPipe could not be installed: the tests that need it are skipped this time. ***"

clean:
	rm -rf $(VENVS) build dist *.egg-info demos/output .mypy_cache .ruff_cache .pytest_cache .hypothesis
