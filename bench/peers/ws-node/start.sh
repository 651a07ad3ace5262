#!/bin/sh
# usage: PORT=3000 [DEFLATE=1] start.sh
cd "$(dirname "$0")" || exit 1
[ -d node_modules ] || npm ci --no-audit --no-fund >&2
exec "${NODE:-node}" server.mjs
