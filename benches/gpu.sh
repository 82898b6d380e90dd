#!/usr/bin/env bash
# One GPU and the CPU beside llama.cpp, in turns, for two mixes: with all routed experts in RAM, half of them, and none.
#
#   benches/gpu.sh CACHALOT LLAMA_BENCH FOLDER
#
# Both programs are built with CUDA. FOLDER takes the models (44 GB at most at a time) and the results, a file a stage;
# stages whose result is there are not repeated. All together take some ten minutes on an H200.
set -euo pipefail
[ $# = 3 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2; }
cachalot=$(realpath "$1") peer=$(realpath "$2") folder=$3
mkdir -p "$folder" && cd "$folder"

# stage NAME COMMAND…: its output is the result, once it has ended well.
stage() {
  local name=$1; shift
  [ -e "$name.txt" ] && return
  echo "== $name"
  "$@" > "$name.part" && mv "$name.part" "$name.txt"
  cat "$name.txt"
}
ours() { "$cachalot" bench "$mix.gguf" -q -r 2 --batch 4096 --pin 'blk.*.rest=gpu0' --pin head=gpu0 "$@"; }
theirs() { "$peer" -m "$mix.gguf" -r 2 -fa 1 -t "$(nproc)" -ngl 99 -lm none -b 4096 -ub 4096 "$@"; }

in_ram=(--pin 'blk.*.experts=ram')
half=(--pin 'blk.1-5.experts=ram' --pin 'blk.6-10.experts=gpu0')
all=(--pin 'blk.*=gpu0')
prompts=32,128,512,2048,4096,16384
for mix in IQ1_S Q2_K_XL; do
  [ -e "$mix-cpu-llama.cpp.txt" ] && continue
  [ -e "$mix.gguf" ] || "$cachalot" synth --like deepseek-v3 --layers 11 --mix "$mix" -o "$mix.gguf"
  cat "$mix.gguf" > /dev/null # into the page cache
  stage "$mix-ram" ours -p "$prompts" -n 64 -d 0,8192 "${in_ram[@]}"
  stage "$mix-ram-llama.cpp" theirs -p "$prompts" -n 64 -ot exps=CPU
  stage "$mix-ram-deep-llama.cpp" theirs -p 0 -n 64 -d 8192 -ot exps=CPU
  stage "$mix-ram-none" ours -p "$prompts" -n 64 -d 0 "${in_ram[@]}" --send none
  stage "$mix-half" ours -p 512,4096 -n 64 -d 0 "${half[@]}"
  stage "$mix-half-llama.cpp" theirs -p 512,4096 -n 64 -ncmoe 6
  stage "$mix-gpu" ours -p 512,4096 -n 64 -d 0,8192 "${all[@]}"
  stage "$mix-gpu-llama.cpp" theirs -p 512,4096 -n 64
  stage "$mix-cpu" "$cachalot" bench "$mix.gguf" -q -r 2 -p 128,512 -n 32 -d 0 --gpu-layers 0
  stage "$mix-cpu-llama.cpp" env CUDA_VISIBLE_DEVICES= \
    "$peer" -m "$mix.gguf" -r 2 -fa 1 -t "$(nproc)" -ngl 0 -lm none --repack 0 -p 128,512 -n 32
  rm "$mix.gguf"
done
