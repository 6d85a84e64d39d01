# Shared by check and bench: reads the device from the arguments, and builds and runs the program for it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
device=cuda carry=
while [ $# -gt 0 ]; do
    case $1 in
    --cuda | --vulkan | --wgpu | --rocm | --metal | --flex) device=${1#--}; shift ;;
    --carry) carry=$2; shift 2 ;;
    *) break ;;
    esac
done
target=${CARGO_TARGET_DIR:-$root/target}
build=(--release -p adamllm-gpu-check --features "$device")
cuda_build=$root/../shared/tools/cuda-build
program=("$target/release/adamllm-gpu-check")

build() {
    if [ "$device" = cuda ] && [ -x "$cuda_build" ]; then
        local folder=${carry:-$target/gpu-cuda}
        "$cuda_build" "$root" "$folder" "${build[@]}"
        program=("$folder/run" adamllm-gpu-check)
    else
        cargo build --locked --manifest-path "$root/Cargo.toml" "${build[@]}"
        [ -z "$carry" ] || pack "$carry"
    fi
}
# The executable as `cuda-build` leaves it, without libraries: for a machine with the same ones.
pack() {
    mkdir -p "$1"
    xz -T0 -3 -c "${program[0]}" > "$1/adamllm-gpu-check.xz"
    cat > "$1/run" <<'R'
#!/usr/bin/env bash
set -eu; d=$(cd "$(dirname "$0")" && pwd) n=$1; shift; t=${TMPDIR:-/tmp}/cuda-run; mkdir -p "$t"
[ -x "$t/$n" ] && [ "$t/$n" -nt "$d/$n.xz" ] || { xz -dc "$d/$n.xz" > "$t/$n"; chmod +x "$t/$n"; }
exec "$t/$n" "$@"
R
    chmod +x "$1/run"
}
run() { (cd "$root" && "${program[@]}" "$@"); }
