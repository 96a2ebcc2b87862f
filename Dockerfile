# One image for the worker, the scheduler, the page and the Prefect server: the rooms run from the checkout in /app, which an
# editable install puts on Python's path (a wheel would hold the library only), with the versions of constraints.txt.
FROM python:3.11.15-slim-trixie

# Where torch and torchvision come from, both from one place: torch's CPU build does not load beside the registry's torchvision.
# For CUDA 13, as in constraints.txt: https://download.pytorch.org/whl/cu130
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# The user that all runs as: it has to be able to read the archive, and to write into the inbox.
ARG CONTAINER_UID=10001

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    DO_NOT_TRACK=1 HF_HUB_DISABLE_TELEMETRY=1 PREFECT_SERVER_ANALYTICS_ENABLED=false STREAMLIT_BROWSER_GATHER_USAGE_STATS=false

# For RADSEARCH_BLANK_TEXT=1.
RUN apt-get update && apt-get install --yes --no-install-recommends tesseract-ocr && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN pip install --no-deps --index-url "$TORCH_INDEX" --constraint constraints.txt torch torchvision \
    && pip install --constraint constraints.txt --editable . \
    && useradd --uid "$CONTAINER_UID" --home-dir /var/lib/radsearch --create-home radsearch
COPY . .
USER radsearch
