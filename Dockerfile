# The service in a slim image. Build: docker build -t position-sizing .
# With every extra (gateway, traces, FIX, plug-ins, reports, models of trees, calendars):
# docker build --build-arg REQUIREMENTS=requirements-extras.txt -t position-sizing .
#
# It needs a PostgreSQL (SIZING_DSN); compose.yaml brings one. The root file system may be
# read-only: /data (compiled kernels) and /tmp are all it writes to.
ARG PYTHON=python:3.11.13-slim-bookworm

FROM ${PYTHON} AS build
ARG REQUIREMENTS=requirements.txt
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
WORKDIR /src
COPY requirements.txt requirements-extras.txt ./
RUN /opt/venv/bin/pip install --require-hashes -r ${REQUIREMENTS}
COPY pyproject.toml README.md ./
COPY protos/python protos/python
COPY compute compute
COPY storage storage
COPY server server
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation ./protos/python .

FROM ${PYTHON}
RUN useradd --system --uid 10001 --home-dir /data sizing && install -d -o sizing /data
COPY --from=build /opt/venv /opt/venv
COPY examples /opt/examples
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SIZING_DATA_DIR=/data \
    SIZING_LISTEN_HOST=0.0.0.0 \
    SIZING_AUTH=required \
    SIZING_LOG_JSON=true
USER sizing
WORKDIR /data
VOLUME /data
EXPOSE 50051
# The first start compiles the first kernels for this processor.
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
  CMD ["sizing", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["sizing"]
CMD ["serve"]
