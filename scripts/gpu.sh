#!/usr/bin/env bash
# All that only a GPU can show, within 15 minutes and without a download: full-size models with random weights.
#
#     bash scripts/gpu.sh [folder for the pages, default docs/benchmarks]
#
# The limits in seconds below add up to 860. Every page is written as soon as it is measured, so an interrupted run keeps what it has. PYTHON names the interpreter.
set -u
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
pages=${1:-docs/benchmarks}
gpu=$($python -c "import torch; print(torch.cuda.get_device_name().replace(' ', '-').lower())") || {
    echo "scripts/gpu.sh needs a CUDA device" >&2
    exit 2
}
day=$(date +%Y-%m-%d)
drafts=$(mktemp -d)
bench="$python -m vhs benchmark run --config configs/bench/sana_sprint_1.6b.yaml --random-weights device=cuda"

# page <theme> <seconds> <command>: one page, whatever became of the others. The last path on the line before the last
# of the output is the page that the command wrote.
page() {
    local theme=$1 limit=$2 log="$drafts/$1.log"
    shift 2
    mkdir -p "$drafts/$theme" "$pages"
    if timeout "$limit" "$@" "output_path=$drafts/$theme" > "$log" 2> "$log.err"; then
        cp "$drafts/$theme"/*.md "$pages/${theme}_${gpu}_${day}.md"
        tail -n 1 "$log"
    else
        echo "$theme: ended with $? ($(tail -n 1 "$log.err"))" >&2
    fi
}

hidden='verifiers={hidden_7: {architecture: hidden_7_qwen2.5-0.5b}}'
# Utilisation, best of 4 and of 32; the first calls compile for about a minute.
page compiled 140 $bench micro_batch=32 "num_samples=[4,32]" compile=true "$hidden"
# Hidden states against CLIP in latency, FLOPs and memory, at equal batches.
page latency 100 $bench "num_samples=[9]" repeats=5 warmup=1
# Memory at N = 2,048 against N = 32.
page memory 80 $bench "num_samples=[32,2048]" repeats=1 warmup=1 "$hidden"
page budget 140 $bench --budget 550ms 1100ms 1650ms repeats=1 "$hidden"
page profile 50 $bench --profile "$drafts/traces" "num_samples=[32]" "$hidden"

# What compiling and its parts save; each is compiled again without it.
page without 250 $bench micro_batch=32 "num_samples=[4]" compile=true "$hidden" \
    --without compile graphs padding grouped repeats=10

# Tests that need CUDA, and a run in several processes over NCCL where there are several GPUs.
timeout 100 $python -m pytest -q -m cuda tests || echo "tests marked cuda: see above" >&2
if [ "$($python -c 'import torch; print(torch.cuda.device_count())')" -gt 1 ]; then
    timeout 100 $python -m accelerate.commands.launch --multi_gpu -m vhs run --config configs/tiny_prod.yaml device=cuda \
        name=gpu_nccl "output_path=$drafts" || echo "NCCL: failed" >&2
fi
ls "$pages"
