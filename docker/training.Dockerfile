# Image for training on the GPUs of one machine, or of several in one job. Build it from the repository's root:
#   docker build -f docker/training.Dockerfile -t IMAGE .
#   docker run --gpus all --volume /data:/data IMAGE attparse-train --data /data/out --output /data/runs/attparsenet
# CUDA's libraries come with torch; the machine needs NVIDIA's driver and container toolkit.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm

# Libraries that OpenCV loads, and the compiler that torch.compile calls (--compile).
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# Libraries first: this layer stays cached while only the code of attparse changes.
WORKDIR /opt/attparse
COPY setup.py constraints.txt ./
RUN mkdir pipeline regions training \
    && pip install --no-cache-dir -c constraints.txt ".[training]" \
    && pip uninstall --yes attparse

COPY pipeline pipeline/
COPY regions regions/
COPY training training/
RUN pip install --no-cache-dir --no-deps .

# A missing library fails the build, not the job.
RUN useradd --create-home attparse
USER attparse
WORKDIR /home/attparse
RUN python -c "import training.loop, training.evaluation, training.prediction, training.onnx_export"
CMD ["attparse-train", "--help"]
