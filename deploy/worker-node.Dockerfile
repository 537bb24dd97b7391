# A Node worker: docker build -f deploy/worker-node.Dockerfile -t manyhands-worker .
# The stage "build" is the same, line by line, as that of coordinator.Dockerfile: it is built once for both.
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
LABEL org.opencontainers.image.title="manyhands worker" \
      org.opencontainers.image.description="Trains one transformer on many borrowed machines: a Node worker" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /app
COPY --from=build /out/worker-node ./
COPY --from=build /src/LICENSE /src/sbom.cdx.json ./
# MALLOC_ARENA_MAX: the allocator keeps memory for two threads instead of one set per thread. MALLOC_MMAP_THRESHOLD_: payloads and
# pieces of shards go back to the system when they are freed, instead of leaving holes.
ENV NODE_ENV=production MANYHANDS_LOG=json MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=65536
USER 1000:1000
STOPSIGNAL SIGTERM
# Not fetch: loading it more than doubles what this costs, which was 6 % of a worker that has 0.15 of a processor.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "-e", "require('node:http').get('http://127.0.0.1:9091/healthz', (r) => process.exit(r.statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]
ENTRYPOINT ["node", "--external-memory-accounted-in-global-limit", "--max-semi-space-size=2", "worker-node/main.js", "--health-port", "9091"]
