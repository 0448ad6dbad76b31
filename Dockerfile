# The service and the indexing job in one image; which of them runs is the command's business.
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/semblance
ENV PATH=/opt/semblance/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# EXTRAS=gpu builds the image for NVIDIA cards (with torch and faiss-gpu, several GB).
ARG EXTRAS=cpu
COPY pyproject.toml README.md LICENSE ./
COPY engine engine
COPY indexer indexer
COPY api api
COPY cli cli
RUN pip install ".[${EXTRAS}]"

FROM python:3.12-slim
# libgomp1: FAISS and OpenVINO compute with OpenMP.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data --no-create-home semblance \
    && install -d -o semblance -g semblance /data
COPY --from=build /opt/semblance /opt/semblance
ENV PATH=/opt/semblance/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SEMBLANCE_DATA=/data SEMBLANCE_HOST=0.0.0.0
USER semblance
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('SEMBLANCE_PORT', '8000')}/readyz\", timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["semblance"]
CMD ["serve"]
