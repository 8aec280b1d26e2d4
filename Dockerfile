# The pgshift image: worker by default, every other command by name (docker compose run --rm worker plan ...).
# Debian, not Alpine: Temporal's core and libpg-query's loader are built against glibc.
FROM node:20-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
RUN npm run build && npm prune --omit=dev

FROM node:20-bookworm-slim
# pg_dump must be at least as new as the servers it reads: 18 reads 13 to 18.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates postgresql-common \
 && /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y \
 && apt-get install -y --no-install-recommends postgresql-client-18 \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=build --chown=root:root /app/package.json ./
COPY --from=build --chown=root:root /app/node_modules ./node_modules
COPY --from=build --chown=root:root /app/dist ./dist
# Without the second line each thread of Temporal's core keeps freed memory to itself.
ENV NODE_ENV=production \
    MALLOC_ARENA_MAX=2 \
    PGSHIFT_METRICS_ADDRESS=0.0.0.0:9464 \
    PGSHIFT_POSTGRES_BIN=/usr/lib/postgresql/18/bin
# Nothing of the image is writable for the process that runs it.
USER node
EXPOSE 9464
# The page answers only while the worker process lives and serves the page.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=6 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9464/healthz').then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# A worker waits for Postgres nearly all of the time: its heap may be collected often (a third less memory, measured by npm run bench).
ENTRYPOINT ["node", "--max-semi-space-size=2", "--optimize-for-size", "dist/client/bin.js"]
CMD ["worker"]
