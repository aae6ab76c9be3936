# One image for API and workers. The default build has torch for CPUs; with --build-arg TORCH_INDEX=https://pypi.org/simple for CUDA.
FROM python:3.12.8-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --create-home --uid 10001 fflab \
    && install --directory --owner fflab --mode 0700 /state

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY fflab fflab
COPY ffengine ffengine
COPY service service
COPY workers workers
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" ".[worker,postgres]"

USER fflab
WORKDIR /state
VOLUME /state
CMD ["fflab", "api", "--host", "127.0.0.1"]
