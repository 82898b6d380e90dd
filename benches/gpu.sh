#!/usr/bin/env bash
# Experts in RAM and the rest on one GPU, beside llama.cpp: generation and prompts, in turns, for two mixes.
#
#   benches/gpu.sh CACHALOT LLAMA_BENCH FOLDER
#
# Both programs are built with CUDA. FOLDER takes the models (44 GB at most at a time) and the results, a file a stage;
# stages whose result is there are not repeated.
set -euo pipefail
[ $# = 3 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2; }
cachalot=$(realpath "$1") peer=$(realpath "$2") folder=$3
mkdir -p "$folder" && cd "$folder"
place=(--pin 'blk.*.rest=gpu0' --pin head=gpu0 --pin 'blk.*.experts=ram')

# stage NAME COMMAND…: its output is the result, once it has ended well.
stage() {
  local name=$1; shift
  [ -e "$name.txt" ] && return
  echo "== $name"
  "$@" > "$name.part" && mv "$name.part" "$name.txt"
  cat "$name.txt"
}
ours() { "$cachalot" bench "$mix.gguf" -q -p 32,128,512,4096 --batch 4096 -n 64 -d 0 -r 2 "${place[@]}" "$@"; }
theirs() { "$peer" -m "$mix.gguf" -p 32,128,512,4096 -n 64 -r 2 -fa 1 -t "$(nproc)" -ngl 99 -ot exps=CPU -lm none -b 4096 -ub 4096; }

for mix in IQ1_S Q2_K_XL; do
  [ -e "$mix-last.txt" ] && continue
  [ -e "$mix.gguf" ] || "$cachalot" synth --like deepseek-v3 --layers 11 --mix "$mix" -o "$mix.gguf"
  cat "$mix.gguf" > /dev/null # into the page cache
  stage "$mix-ours" ours
  stage "$mix-llama.cpp" theirs
  stage "$mix-none" ours --send none
  stage "$mix-last" ours
  rm "$mix.gguf"
done
