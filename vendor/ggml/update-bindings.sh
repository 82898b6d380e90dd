#!/usr/bin/env bash
# Makes src/bindings.rs anew from the headers of ggml's sources.
# Needs the program bindgen (`cargo install bindgen-cli`) and libclang.
# usage: update-bindings.sh [GGML_SOURCE_DIR]     default: the pinned package's folder
set -euo pipefail
cd "$(dirname "$0")"

dir=${1:-${GGML_SOURCE_DIR:-}}
if [ -z "$dir" ]; then
  manifest=$(CARGO_ENCODED_RUSTFLAGS=$'--cfg\x1fggml_sources' cargo metadata --locked --format-version=1 |
    grep -o '"manifest_path":"[^"]*llama-cpp-sys-2[^"]*"' | head -n1 | cut -d'"' -f4)
  dir=$(dirname "$manifest")/llama.cpp/ggml
fi

headers=$(mktemp --suffix=.h)
trap 'rm -f "$headers"' EXIT
for name in ggml gguf ggml-alloc ggml-backend ggml-cpu ggml-cuda; do
  echo "#include \"$name.h\""
done > "$headers"

bindgen "$headers" -o src/bindings.rs \
  --rust-target 1.85 --rust-edition 2024 \
  --allowlist-function 'ggml_.*' --allowlist-type 'ggml_.*' --allowlist-var 'GGML_.*' \
  --allowlist-function 'gguf_(init_from_file|free|get_version|get_alignment|get_n_kv|get_key|get_kv_type|get_n_tensors|get_tensor_(name|offset|size|type)|get_data_offset)' \
  --allowlist-type 'gguf_.*' --allowlist-var 'GGUF_.*' \
  --blocklist-function 'ggml_fopen' --blocklist-type 'FILE|_IO_.*|__off.*' \
  --default-enum-style consts --no-prepend-enum-name --no-doc-comments \
  --use-core --merge-extern-blocks --disable-header-comment \
  --raw-line '// Made by update-bindings.sh from the headers of ggml; do not edit.' \
  -- -I"$dir/include" -std=c11
echo "src/bindings.rs: $(wc -l < src/bindings.rs) lines from $dir; set BINDINGS_VERSION in build.rs if the version changed" >&2
