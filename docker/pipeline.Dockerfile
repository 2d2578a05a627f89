# The image of Dataflow's workers. Build it from the root of the repository:
#   docker build -f docker/pipeline.Dockerfile -t IMAGE .
# The minor version of Python must be the one that launches the job: --build-arg PYTHON=3.12 for another.
ARG PYTHON=3.11
FROM apache/beam_python${PYTHON}_sdk:2.72.0

# What OpenCV loads from the system; mediapipe brings its own libraries.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

# The libraries first: this layer stays as it is while only our code changes.
WORKDIR /opt/attparse
COPY setup.py constraints.txt ./
RUN mkdir pipeline regions training \
    && pip install --no-cache-dir -c constraints.txt ".[gcp]" \
    && pip uninstall --yes attparse

COPY pipeline pipeline/
COPY regions regions/
COPY training training/
RUN pip install --no-cache-dir --no-deps .

# Fails the build, not the job, where a library is missing. The entrypoint stays that of Beam's image.
WORKDIR /
RUN python -c "import pipeline.building.graph; from pipeline.detection.detectors import open_detectors; \
from pipeline.records import DetectorSettings; detectors = open_detectors(DetectorSettings()); \
detectors.mesh; detectors.faces"
