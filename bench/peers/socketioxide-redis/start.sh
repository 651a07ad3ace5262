#!/bin/sh
# usage: PORT=3000 REDIS_URL=redis://127.0.0.1:6379 [DRIVER=redis|fred] start.sh
# Built into $CARGO_TARGET_DIR (default: ../../target).
cd "$(dirname "$0")" || exit 1
exec "${CARGO_TARGET_DIR:-../../target}/release/peer-socketioxide-redis"
