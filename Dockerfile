# syntax=docker/dockerfile:1
# Two stages: wheels are built where a compiler is, the gateway's own compiled (setup.py), and installed where none is.

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ARG GATEWAY_COMPILE=1
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
WORKDIR /src
COPY setup.py setup.cfg pyproject.toml README.md LICENSE ./
COPY gateway gateway
RUN pip wheel --no-cache-dir --wheel-dir /wheels ".[openapi,http2]"

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="edge-gateway" \
      org.opencontainers.image.description="An edge API gateway: TOML in, traffic through" \
      org.opencontainers.image.licenses="Apache-2.0"

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# The wheels are mounted, not copied: they leave no layer behind. pip compiles bytecode as it installs, for a quick start.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index /wheels/*.whl \
 && pip uninstall --yes pip \
 && groupadd --system --gid 10001 gateway \
 && useradd --system --uid 10001 --gid gateway --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gateway

# Configuration is yours to mount: -v ./config:/etc/gateway:ro. [listen] needs host = "0.0.0.0" to be reached from outside; the admin
# listener stays on the container's own 127.0.0.1:9901 unless the file says otherwise, and is where the health check asks. The files
# are read as user 10001: make the directory with `install -d -m 2750 -g 10001 config`, and what `gateway keys create` makes in it can
# be read. Or run it as yourself, with --user "$(id -u):$(id -g)": nothing depends on the user.
WORKDIR /etc/gateway
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=5s --retries=3 \
    CMD ["gateway", "status", "--ready", "--config", "/etc/gateway/gateway.toml"]
ENTRYPOINT ["gateway"]
CMD ["run", "--config", "/etc/gateway/gateway.toml"]
