# One image for every role; the command selects it: `headgate ingest`, `headgate dispatcher`, `headgate gateway`,
# `headgate init`, `headgate dev`. Nothing is written outside /var/lib/headgate, so the root may be read-only.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Two environments: what builds the wheel never reaches the image that runs.
RUN python -m venv /tools && python -m venv --without-pip /opt/headgate
COPY requirements/image.lock requirements/release.lock requirements/
RUN /tools/bin/python -m pip --python /opt/headgate/bin/python install \
      --require-hashes --only-binary :all: --no-compile -r requirements/image.lock \
 && /tools/bin/python -m pip install --require-hashes --only-binary :all: -r requirements/release.lock
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY headgate headgate
COPY ingest ingest
COPY dispatcher dispatcher
COPY gateway gateway
COPY examples/chat examples/chat
COPY clients/python clients/python
# Compiled here: a read-only root cannot take .pyc files later, and a start without them costs a second.
# -s: file times of another machine must not make two builds of one tree differ.
RUN /tools/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . ./clients/python \
 && /tools/bin/python -m pip --python /opt/headgate/bin/python install --no-deps --no-index --no-compile /wheels/*.whl \
 && find /opt/headgate -type d -name tests -prune -exec rm -rf {} + \
 && /opt/headgate/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/headgate/lib

# The list of what is in this image, from what is installed; the build ends where it is not what the lock file says.
COPY release release
RUN /tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
      --output-file /opt/headgate/sbom.cdx.json /opt/headgate/bin/python \
 && /tools/bin/python -m release.sbom /opt/headgate/sbom.cdx.json

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
LABEL org.opencontainers.image.title="headgate" \
      org.opencontainers.image.description="Brings Kafka's events to people: HTTP publish, WebSocket and SSE fan-out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/${PYTHON_IMAGE}"
ENV PATH=/opt/headgate/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/headgate /opt/headgate
COPY --chmod=0555 compose/livez.py /opt/headgate/bin/livez
RUN install -d -o 10001 -g 10001 -m 0750 /var/lib/headgate
USER 10001:10001
WORKDIR /var/lib/headgate
EXPOSE 8080 8081 8090 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["livez"]
CMD ["headgate", "--help"]
# Last, because each commit has others: `make image` says which.
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"
