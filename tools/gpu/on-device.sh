#!/usr/bin/env bash
# Everything of this folder on a machine that has a GPU but neither a network nor cargo, in under six minutes: the check in f32, the
# measurements, transformers' on the same folder, and the check in bf16. Run in the repository's root, with executables that
# `tools/gpu/check --carry FOLDER` built elsewhere:
#
#   tools/gpu/on-device.sh FOLDER [PART...]     PART: check-f32, bench, peers, check-bf16 (all of them, in this order), profile
#
# JSON files and logs.tar.gz go to $OUT (default: gpu-results); what passes is in the log alone. With KEEP_KERNELS=1 the compiled kernels go
# there too, and KERNELS=FILE begins with those of an earlier run of the same executable. Each part has its own time limit, and none stops another.
set -uo pipefail
carried=$(cd "${1:-.cuda}" && pwd) || exit 2
fixtures=$PWD/crates/adamllm-model/tests/fixtures
# The scripts may have been carried beside the executables.
root=$(cd "$(dirname "$0")/../.." && pwd)
shift; parts=${*:-check-f32 bench peers check-bf16}
out=${OUT:-gpu-results}; mkdir -p "$out"; out=$(cd "$out" && pwd)
work=${WORK:-/tmp/adamllm-gpu}; mkdir -p "$work/logs"; cd "$work" || exit 2
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
started=$SECONDS
say() { echo; echo "== $* (at $((SECONDS - started)) s)"; }
shown() { awk -v width="$1" '/^(\.\.\.|PASS) |Warning|[Ll]oading weights|^(stack backtrace| +[0-9]+: | +at )/ {next} {print substr($0, 1, width); fflush()}'; }
limited() { local s=$1; shift; timeout --kill-after=5 "$s" "$@"; local rc=$?; [ $rc -lt 124 ] || echo "ended after $s s"; return $rc; }

# What was compiled and chosen is kept in one folder, and comes back packed, for another machine of the kind: KERNELS is such a pack.
kernels=$work/kernels; mkdir -p "$kernels"
[ -z "${KERNELS:-}" ] || tar -C "$kernels" -xJf "$KERNELS" || exit 2
# With the backend's own log: which kernels were compiled, and which ones were chosen after which trials.
cat > cubecl.toml <<T
[compilation]
cache = true
[compilation.logger]
level = "basic"
file = "$work/logs/compilation.log"
append = true
[environment.path]
directory = "$kernels"
[autotune]
level = "${AUTOTUNE:-minimal}"
[autotune.logger]
level = "minimal"
file = "$work/logs/autotune.log"
append = true
T
program() { "$carried/run" adamllm-gpu-check "$@"; }
export -f program; export carried
# In pieces, where large files may not come back: cat them together again.
pack_kernels() {
    rm -f "$out"/kernels.tar.xz*
    tar -C "$kernels" -cf - . | xz -T0 -2 > "$out/kernels.tar.xz"
    [ "$(stat -c %s "$out/kernels.tar.xz")" -le 15000000 ] || { split -b 15000000 -d -a 1 "$out/kernels.tar.xz" "$out/kernels.tar.xz."; rm "$out/kernels.tar.xz"; }
    du -sh "$kernels" "$out"/kernels.tar.xz*
}
if ! command -v xz > /dev/null; then # `run` unpacks with xz
    mkdir -p "${TMPDIR:-/tmp}/cuda-run"
    python3 - "$carried/adamllm-gpu-check.xz" "${TMPDIR:-/tmp}/cuda-run/adamllm-gpu-check" <<'P'
import lzma, os, shutil, sys
with lzma.open(sys.argv[1]) as packed, open(sys.argv[2], "wb") as plain: shutil.copyfileobj(packed, plain)
os.chmod(sys.argv[2], 0o755)
P
fi

# `run` looks for the driver in the usual places; where it is elsewhere, the linker's cache knows.
driver=$(ldconfig -p 2> /dev/null | awk '/libcuda\.so\.1 /{print $NF; exit}')
case ${driver%/*} in
"" | /usr/local/nvidia/lib64 | /usr/local/nvidia/lib | /usr/local/cuda/lib64 | /usr/lib/x86_64-linux-gnu) ;;
*) ln -sf "${driver%/*}"/libcuda.so* "${driver%/*}"/libnvidia-*.so* "$carried/lib/" ;;
esac

if [ ! -e logs/machine.txt ]; then
    say "the machine"
    {
        nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
        nproc; python3 -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
    } | tee logs/machine.txt
fi

# Made while the check runs: random weights of the sizes of Qwen2-VL-2B.
model=$work/2b
make_model() { python3 "$root/tools/peers/make_model.py" 2b "$model.part" --dtype bf16 "$@" && mv "$model.part" "$model"; }
if [[ $parts = *bench* || $parts = *peers* ]] && [ ! -d "$model" ]; then
    { make_model --device cuda || { rm -rf "$model.part"; make_model; }; } > "$work/logs/make_model.log" 2>&1 &
    making=$!
fi
model_is_there() {
    [ -z "${making:-}" ] || wait "$making"; making=
    [ -d "$model" ] || { echo "no model:"; tail -3 "$work/logs/make_model.log"; return 1; }
}

for part in $parts; do
    say "$part"
    case $part in
    check-f32 | check-bf16)
        dtype=${part#check-} limit=$([ "$part" = check-f32 ] && echo "${CHECK_LIMIT:-120}" || echo "${BF16_LIMIT:-35}")
        limited $((limit + 20)) bash -c 'program "$@"' program check --device "${DEVICE:-cuda}" --dtype "$dtype" \
            --fixtures "$fixtures" --time-limit "$limit" --json "$out/$part.json" ${CHECK_ARGS:-} 2>&1 |
            tee "$work/logs/$part.log" | shown 300
        ;;
    bench)
        model_is_there && limited "${BENCH_LIMIT:-120}" bash -c 'program "$@"' program bench --device "${DEVICE:-cuda}" --model "$model" \
            --steps "${STEPS:-3}" --part-limit "${PART_LIMIT:-30}" --time-limit $((${BENCH_LIMIT:-120} - 25)) --write-batch "$work/batch.json" --json "$out/bench.json" ${BENCH_ARGS:-} 2>&1 |
            tee "$work/logs/bench.log" | shown 500
        ;;
    peers)
        model_is_there && limited "${PEERS_LIMIT:-75}" python3 "$root/tools/gpu/bench_transformers.py" --model "$model" --batch "$work/batch.json" \
            --steps "${STEPS:-3}" --part-limit 12 --json "$out/transformers.json" ${PEERS_ARGS:-} 2>&1 | tee "$work/logs/transformers.log" | shown 500
        ;;
    profile) # Every kernel by itself, in one steady step: slower than without, but it says what the time goes into.
        mkdir -p profiled
        { cat cubecl.toml; printf '[profiling.logger]\nlevel = "basic"\nfile = "%s"\n' "$work/profiled/kernels.log"; } > profiled/cubecl.toml
        model_is_there && (cd profiled && limited "${PROFILE_LIMIT:-60}" bash -c 'program "$@"' program bench --device "${DEVICE:-cuda}" --model "$model" \
            --steps 2 --part-limit 50 --json "$out/profile.json" --only "${PROFILE:-training, LoRA}" 2>&1) | shown 300
        python3 "$root/tools/gpu/kernels.py" profiled/kernels.log | tee "$work/logs/kernels.txt"
        ;;
    *) echo "no part $part" ;;
    esac
    # After every part, for the case that this is ended from outside; one file, since few may come back.
    tar -C "$work" -czf "$out/logs.tar.gz" logs
done

[ -z "${KEEP_KERNELS:-}" ] || pack_kernels
say "summary"
wc -l "$work"/logs/*.log | sed '$d'
python3 "$root/tools/gpu/table.py" "$out"
echo "$((SECONDS - started)) s in all"
