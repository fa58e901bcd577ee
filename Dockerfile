# XuanYuan Serving in a container. Two targets, told apart by the engine inside:
#   docker build -t xuanyuan:cpu .                     (target cpu, the default)
#   docker build -t xuanyuan:cuda --target cuda .
# BASE is a Debian 12, CUDA_BASE the upstream image of the pinned engine. docs/image.md says how to run them.
ARG BASE=docker.io/library/debian:12-slim
ARG CUDA_BASE=docker.io/vllm/vllm-openai:v0.29.0

# ---- cuda: what upstream's image lacks, on top of it ----
FROM ${CUDA_BASE} AS cuda
USER 0:0
WORKDIR /tmp/xuanyuan
COPY requirements/cuda.txt requirements/
COPY deploy/image/complete.py deploy/image/
# Its own builds of the engine and of what that needs stay; the names are those that requirements/cuda.in pins.
RUN python3 deploy/image/complete.py requirements/cuda.txt vllm ray vllm-bnb-plugin > lacking.txt \
 && python3 -m pip install --no-cache-dir --no-deps --require-hashes -r lacking.txt
COPY . .
RUN python3 -m pip install --no-cache-dir --no-deps --no-build-isolation . \
 && install -m 755 deploy/image/healthcheck /usr/local/bin/xuanyuan-healthcheck \
 && rm -rf /tmp/xuanyuan \
 && groupadd --gid 10001 xuanyuan \
 && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin xuanyuan \
 && install -d -o 10001 -g 10001 /cache /etc/xuanyuan
ENV HOME=/home/xuanyuan \
    PYTHONUNBUFFERED=1 \
    XUANYUAN_CACHE=/cache/xuanyuan \
    XDG_CACHE_HOME=/cache \
    XDG_CONFIG_HOME=/cache/config \
    HF_HOME=/cache/huggingface \
    MODELSCOPE_CACHE=/cache/modelscope \
    VLLM_CACHE_ROOT=/cache/vllm \
    TRITON_CACHE_DIR=/cache/triton \
    FLASHINFER_WORKSPACE_BASE=/cache \
    NUMBA_CACHE_DIR=/cache/numba
LABEL org.opencontainers.image.title="XuanYuan Serving (CUDA)" \
      org.opencontainers.image.description="Serves the XuanYuan-6B family with vLLM behind an OpenAI-compatible API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
WORKDIR /home/xuanyuan
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=6s --start-period=30m --retries=3 CMD ["xuanyuan-healthcheck"]
ENTRYPOINT ["xuanyuan"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]

# ---- build: the engine for the CPU, this project and the demo checkpoint, in one folder ----
FROM ${BASE} AS build
# Debian keeps one version of a package: a pin would break the build at its next update.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends libnuma1 python3 python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/xuanyuan
ENV PATH=/opt/xuanyuan/bin:$PATH
WORKDIR /src
# PyTorch's own index has its CPU builds; the lock has everything else.
ARG TORCH_CPU=torch==2.13.0+cpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
# The argument has the version.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --no-deps --extra-index-url "$TORCH_CPU_INDEX" --retries 1 --timeout 15 "$TORCH_CPU"
COPY requirements/cpu.txt requirements/
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements/cpu.txt
COPY . .
# What only builds is taken out again. Without a compiler the engine runs eagerly: answers are slower, the image is safer.
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
 && install -m 755 deploy/image/healthcheck /opt/xuanyuan/bin/xuanyuan-healthcheck \
 && XUANYUAN_CACHE=/opt/xuanyuan/share/xuanyuan python -c "from serving.demo import demo_checkpoint; demo_checkpoint()" \
 && pip uninstall -y ninja pip

# ---- cpu ----
FROM ${BASE} AS cpu
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libnuma1 libtcmalloc-minimal4 python3 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 xuanyuan \
 && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin xuanyuan \
 && install -d -o 10001 -g 10001 /cache /etc/xuanyuan
COPY --from=build /opt/xuanyuan /opt/xuanyuan
ENV PATH=/opt/xuanyuan/bin:$PATH \
    HOME=/home/xuanyuan \
    PYTHONUNBUFFERED=1 \
    XUANYUAN_CACHE=/cache/xuanyuan \
    XDG_CACHE_HOME=/cache \
    XDG_CONFIG_HOME=/cache/config \
    HF_HOME=/cache/huggingface \
    MODELSCOPE_CACHE=/cache/modelscope \
    VLLM_CACHE_ROOT=/cache/vllm \
    NUMBA_CACHE_DIR=/cache/numba
LABEL org.opencontainers.image.title="XuanYuan Serving (CPU)" \
      org.opencontainers.image.description="Serves the XuanYuan-6B family with vLLM behind an OpenAI-compatible API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
WORKDIR /home/xuanyuan
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=6s --start-period=10m --retries=3 CMD ["xuanyuan-healthcheck"]
ENTRYPOINT ["xuanyuan"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
