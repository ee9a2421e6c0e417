# Any image with Python 3.11 or newer, its venv module and CA certificates.
ARG BASE_IMAGE=python:3.12-slim

# Everything that a build needs stays in this stage.
# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS build
# Names of optional dependencies, each with a file in requirements/: EXTRAS=mssql,otel
ARG EXTRAS=""
ARG VERSION=0.0.0
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
COPY requirements requirements
# The secret `ca` (a CA bundle, for networks that open TLS) is used if it is given and leaves no trace in a layer; so is
# `pip` (a pip.conf, for an index that needs a password).
RUN --mount=type=secret,id=ca,required=false \
    --mount=type=secret,id=pip,required=false \
    if [ -f /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && if [ -f /run/secrets/pip ]; then export PIP_CONFIG_FILE=/run/secrets/pip; fi \
    && echo "-r requirements/runtime.txt" > locks \
    && IFS=, \
    && for extra in $EXTRAS; do \
         if [ ! -f "requirements/$extra.txt" ]; then echo "EXTRAS: no such extra: $extra" >&2; exit 2; fi; \
         echo "-r requirements/$extra.txt" >> locks; \
       done \
    && python3 -m venv /opt/etl \
    && python3 -m venv /opt/build \
    && xargs -a locks /opt/etl/bin/python -m pip install --quiet --no-compile --require-hashes \
    && /opt/build/bin/python -m pip install --quiet --no-compile --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY etl etl
COPY deploy/image deploy/image
# Without an index: whatever is not locked fails here. Byte code that names no time of a file is the same in every build.
RUN /opt/build/bin/python -m pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/etl/bin/python -m pip install --quiet --no-compile --no-index --no-deps dist/*.whl \
    && /opt/etl/bin/python -m pip check \
    && /opt/etl/bin/python -m pip uninstall --quiet --yes pip \
    && xargs -a locks /opt/etl/bin/python deploy/image/sbom.py --complete --version "$VERSION" > /opt/etl/sbom.cdx.json \
    && /opt/etl/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/etl/lib \
    && /opt/etl/bin/python deploy/image/slim.py /opt/etl/lib/python3.*/site-packages

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
ARG EXTRAS=""
# Libraries of the system that an extra's driver loads: Debian's packages in requirements/<extra>.apt. They have the
# versions that Debian has today, and what apt notes of the time of day goes again.
# hadolint ignore=DL3008
RUN --mount=type=bind,from=build,source=/build/requirements,target=/requirements \
    (IFS=,; for extra in $EXTRAS; do if [ -f "/requirements/$extra.apt" ]; then cat "/requirements/$extra.apt"; fi; done) \
      > /tmp/packages \
    && if [ -s /tmp/packages ]; then \
         apt-get update --quiet --quiet \
         && DEBIAN_FRONTEND=noninteractive xargs -a /tmp/packages apt-get install --quiet --quiet --yes --no-install-recommends \
         && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf /var/cache/ldconfig /var/log/apt /var/log/*.log; \
       fi \
    && rm /tmp/packages
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="etl" \
      org.opencontainers.image.description="A batch job that a scheduler can trust: dlt, SQLMesh, audited marts" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=build /opt/etl /opt/etl
COPY config /app/config
COPY sqlmesh /app/sqlmesh
# /data is the job's one durable place, dlt's state and SQLMesh's cache included; a volume mounted there must be
# writable for uid 10001. The root file system may be read-only: what libraries keep in a home goes to /tmp.
RUN mkdir /data && chown 10001:10001 /data
ENV PATH=/opt/etl/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    PYTHONUNBUFFERED=1 \
    ETL_PROJECT=/app \
    ETL_DATA_DIR=/data
WORKDIR /app
USER 10001:10001
VOLUME ["/data"]
# The process is PID 1 and handles its signals itself: SIGTERM ends a run cleanly with code 143; the next run goes on
# from there. Neither a shell nor an init is needed.
STOPSIGNAL SIGTERM
ENTRYPOINT ["etl"]
CMD ["run"]
