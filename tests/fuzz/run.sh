#!/usr/bin/env bash
# run.sh TARGET|all MINUTES: each target for so long, from its own seeds and the corpus of earlier runs.
# libFuzzer on stable Rust: coverage comes from LLVM's own pass. Stable has no address sanitizer, so that only panics,
# overflows, failed assertions, hangs (> 10 s) and memory (> 1 GiB) are found; `unsafe` code of dependencies is not watched.
# Exit 1 after a finding; its input stays in artifacts/TARGET/. Replay: target/*/release/TARGET artifacts/TARGET/FILE
set -euo pipefail
cd "$(dirname "$0")"

all=(pdu command_set storage_commitment completeness query hl7 scanner part10 archive soap_envelope stored_query mtom ebxml assertion manifest jwt)
targets=("${1:-all}")
minutes=${2:-5}
[[ ${targets[0]} == all ]] && targets=("${all[@]}")
for target in "${targets[@]}"; do
    [[ " ${all[*]} " == *" $target "* ]] || { echo "run.sh: no target '$target'; there are: ${all[*]}" >&2; exit 2; }
done
seconds=$(awk -v minutes="$minutes" 'BEGIN { s = int(minutes * 60); print s < 1 ? 1 : s }')

../../packaging/setup.sh fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=$PWD/target
# Naming the target keeps these flags away from build scripts and macros.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
bins=()
for target in "${targets[@]}"; do bins+=(--bin "$target"); done
cargo build --locked --release --target "$host" "${bins[@]}"
echo "fuzz: libFuzzer on stable Rust, without address sanitizer; $seconds s for each of: ${targets[*]}"

failed=()
for target in "${targets[@]}"; do
    program=target/$host/release/$target
    mkdir -p "corpus/$target" "artifacts/$target"
    # libFuzzer says which sanitizer functions it misses; that there is none is said above.
    IDR_FUZZ_SEEDS=corpus/$target "$program" > /dev/null 2> >(grep -v "^WARNING: Failed to find function" >&2 || true)
    log=artifacts/$target/last.log
    if "$program" "corpus/$target" -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 -len_control=20 \
        -print_final_stats=1 -artifact_prefix="artifacts/$target/" >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        coverage=$(sed -n 's/.*cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
        printf '%-14s %10s runs, %5s edges, no finding\n' "$target" "$runs" "$coverage"
    else
        failed+=("$target")
        printf '%-14s FINDING\n' "$target"
        grep -E "panicked at|^thread|assertion|ERROR: |SUMMARY: |Test unit written" -A1 "$log" | head -20
        artifact=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
        [[ -n $artifact ]] && { echo "input in hex:"; od -An -v -tx1 "$artifact" | tr -d ' \n' | cut -c1-4096; echo; }
    fi
done
if ((${#failed[@]})); then
    echo "fuzz: findings in ${failed[*]}; make each a named unit test, then fix it" >&2
    exit 1
fi
