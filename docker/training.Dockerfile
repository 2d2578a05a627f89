# An image to train in, on one machine's GPUs or in a job on several. Build it from the root of the repository:
#   docker build -f docker/training.Dockerfile -t IMAGE .
#   docker run --gpus all --volume /data:/data IMAGE attparse-train --data /data/out --to /data/runs/attparsenet
# CUDA's libraries come with torch; the machine needs NVIDIA's driver and container toolkit.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm

# What OpenCV loads from the system, and the compiler that torch.compile calls (--compile).
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# The libraries first: this layer stays as it is while only our code changes.
WORKDIR /opt/attparse
COPY setup.py constraints.txt ./
RUN mkdir pipeline regions training \
    && pip install --no-cache-dir -c constraints.txt ".[training]" \
    && pip uninstall --yes attparse

COPY pipeline pipeline/
COPY regions regions/
COPY training training/
RUN pip install --no-cache-dir --no-deps .

# Fails the build, not the job, where a library is missing.
RUN useradd --create-home attparse
USER attparse
WORKDIR /home/attparse
RUN python -c "import training.train, training.evaluate, training.predict, training.export"
CMD ["attparse-train", "--help"]
