#!/usr/bin/env bash
# 16 clients for half an hour, or as many seconds as are given, some of them ill-behaved.
set -euo pipefail
cd "$(dirname "$0")/.."
CACHALOT_SOAK_SECONDS=${1:-1800} cargo test --release --test soak -- --nocapture
