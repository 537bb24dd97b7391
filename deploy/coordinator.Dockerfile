# The coordinator: docker build -f deploy/coordinator.Dockerfile -t manyhands-coordinator .
# The stage "build" is the same, line by line, as that of worker-node.Dockerfile: it is built once for both.
ARG BASE_IMAGE=node:24-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund
COPY . .
RUN npm sbom --package-lock-only --omit=dev --sbom-format=cyclonedx >/src/sbom.cdx.json \
 && node worker-browser/build.ts \
 && node deploy/bundle.ts coordinator /out/coordinator \
 && node deploy/bundle.ts worker-node /out/worker-node

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="manyhands coordinator" \
      org.opencontainers.image.description="Trains one transformer on many borrowed machines: the coordinator" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /app
# What it computes itself: the examination of workers, and a sample of text at the end.
COPY --from=build /out/worker-node ./
COPY --from=build /out/coordinator ./
COPY --from=build /src/dist/pages ./dist/pages
COPY --from=build /src/LICENSE /src/sbom.cdx.json ./
# Runs and corpora: the only place that is written to. Whoever mounts nothing here is told so instead of losing a run.
RUN mkdir /data && chown 1000:1000 /data
# MALLOC_ARENA_MAX: the allocator keeps memory for two threads instead of one set per thread.
ENV NODE_ENV=production MANYHANDS_LOG=json MANYHANDS_VOLUME=/data MALLOC_ARENA_MAX=2
USER 1000:1000
EXPOSE 8080
STOPSIGNAL SIGTERM
# Not fetch: loading it more than doubles what this costs, which was 6 % of a worker that has 0.15 of a processor.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "-e", "require('node:http').get('http://127.0.0.1:8080/healthz', (r) => process.exit(r.statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]
ENTRYPOINT ["node", "--external-memory-accounted-in-global-limit", "--max-semi-space-size=2", "coordinator/main.js", "--host", "0.0.0.0", "--port", "8080", "--workers", "0", "--runs-dir", "/data/runs", "--data-dir", "/data/corpora"]
