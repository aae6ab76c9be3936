# One image for API and workers. pip takes PyTorch from its usual index, which has the build for CUDA. For the much smaller
# build for CPUs give PyTorch's index of CPU builds; its address is on PyTorch's own installation page ("CPU", "pip"):
#   docker build --build-arg PIP_EXTRA_INDEX_URL=ADDRESS .
FROM python:3.12.8-slim-bookworm

# Where pip looks beside its usual index; it has no default.
ARG PIP_EXTRA_INDEX_URL

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --create-home --uid 10001 fflab \
    && install --directory --owner fflab --mode 0700 /state

WORKDIR /app
# Exactly the locked versions, and in a layer that a change of the code does not build again.
COPY requirements requirements
RUN pip install --no-cache-dir --require-hashes --requirement requirements/server.txt \
    && pip install --no-cache-dir --requirement requirements/torch.txt
COPY pyproject.toml README.md LICENSE ./
COPY fflab fflab
COPY ffengine ffengine
COPY service service
COPY workers workers
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

USER fflab
WORKDIR /state
VOLUME /state
CMD ["fflab", "api", "--host", "127.0.0.1"]
