#!/bin/sh
# Every command of tfp-flows, from a table to a server that answers.
#
#     sh examples/commands.sh table.csv out [options of `tfp-flows fit`]
set -eu
table=$1
out=$2
shift 2
mkdir -p "$out"

tfp-flows fit "$table" --out "$out/model.keras" --test 0.2 --seed 1 "$@"
tfp-flows info "$out/model.keras"
tfp-flows report "$out/model.keras" "$table" --test 0.2 --seed 1 --out "$out/report.html"
tfp-flows sample "$out/model.keras" -n 1000 --seed 1 --out "$out/drawn.csv"
tfp-flows score "$out/model.keras" "$out/drawn.csv" --out "$out/scores.csv"
tfp-flows export "$out/model.keras" --out "$out/model"

tfp-flows serve "$out/model" --port "${PORT:-8000}" &
trap 'kill $!' EXIT
url=http://localhost:${PORT:-8000}
curl --silent --retry 60 --retry-delay 1 --retry-connrefused "$url/health"
curl --silent --fail "$url/sample" --data '{"n": 3, "seed": 1}'
