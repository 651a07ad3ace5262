#!/bin/sh
# usage: PORT=3000 REDIS_URL=redis://127.0.0.1:6379 [BUS=classic|sharded|streams] start.sh
cd "$(dirname "$0")" || exit 1
[ -d node_modules ] || npm ci --no-audit --no-fund >&2
exec node server.mjs
